//! A relay between raw clients and a collector that demands its certificate, in one process.
//!
//! Remembers every message that reaches the collector with the call it came in. Tests run on the
//! fixture's own runtime, since stopping an engine blocks.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use skytls::cli::certs;
use skytls::config::{IdentitySource, Loader, Source};
use skytls::engine::{Engine, Purpose};
use skytls::protocol::frame::Message;
use skytls::relay::Relay;
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls, Counts, Fault};
use skytls::uplink::Snapshot;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Far longer than anything takes: it only keeps a broken test from hanging.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A message as the collector saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: &'static str,
    pub call: u64,
    pub connection: u64,
    pub metadata: HeaderMap,
    pub compressed: bool,
    pub data: Bytes,
}

pub struct Fixture {
    pub runtime: Runtime,
    pub collector: Option<Collector>,
    pub engine: Option<Engine>,
    pub relay: Option<Relay>,
    pub folder: TempDir,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(&[], |_| {})
    }

    /// Settings of the relay beyond the obvious ones, and a hand on those of the collector.
    pub fn with(settings: &[(&str, &str)], change: impl FnOnce(&mut CollectorSettings)) -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        mint(folder.path());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut collector = collector_settings(folder.path(), &seen);
        change(&mut collector);
        let collector = runtime.block_on(Collector::start(collector)).unwrap();
        let mut fixture =
            Self { runtime, collector: Some(collector), engine: None, relay: None, folder, seen };
        let backend = fixture.collector().address().to_string();
        fixture.start_relay(&backend, settings);
        fixture
    }

    pub fn start_relay(&mut self, backend: &str, settings: &[(&str, &str)]) {
        let ca = self.folder.path().join("ca");
        let file = |name: &str| ca.join(name).display().to_string();
        let mut loader = Loader::new()
            .environment([])
            .relay(true)
            .directory(self.folder.path())
            .set("relay.listen", "127.0.0.1:0")
            .set("collector.backend_service", backend)
            .set("agent.ssl_trusted_ca_path", file("ca.crt"))
            .set("agent.ssl_cert_chain_path", file("client.crt"))
            .set("agent.ssl_key_path", file("client.pem"));
        for (key, value) in settings {
            loader = loader.set(*key, *value);
        }
        let settings = loader.load().unwrap().settings;
        let engine = Engine::start(&settings, Purpose::Relay).unwrap();
        let handle = engine.handle().unwrap().clone();
        let relay =
            Relay::start(&settings, engine.uplink().clone(), engine.transport().clone(), &handle);
        self.relay = Some(relay.unwrap());
        self.engine = Some(engine);
    }

    pub fn collector(&self) -> &Collector {
        self.collector.as_ref().unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.relay.as_ref().unwrap().addresses()[0]
    }

    pub fn books(&self) -> Snapshot {
        self.engine.as_ref().unwrap().uplink().books()
    }

    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.collector().set_faults(faults);
    }

    /// Waits until the collector's counts are as wanted.
    pub async fn until(&self, wanted: impl Fn(&Counts) -> bool + Send) -> Counts {
        let met = self.collector().wait_for(wanted, DEADLINE).await;
        let counts = self.collector().counts();
        assert!(met, "still waiting: {counts:?}, books {:?}", self.books());
        // The collector counts a message before it shows it.
        while (self.seen.lock().unwrap().len() as u64) < counts.received {
            tokio::task::yield_now().await;
        }
        counts
    }

    /// The settings of the same collector, to start it once more on its port.
    pub fn collector_again(&self, listen: SocketAddr) -> CollectorSettings {
        CollectorSettings { listen, ..collector_settings(self.folder.path(), &self.seen) }
    }

    /// Waits until nothing is pending.
    pub async fn settled(&self) -> Snapshot {
        let uplink = self.engine.as_ref().unwrap().uplink();
        assert_eq!(uplink.flush(DEADLINE).await, 0, "{:?}", uplink.books());
        let books = uplink.books();
        assert_balanced(&books);
        books
    }

    /// The messages of a method, in the order of arrival.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }

    /// Drains and stops relay and engine; says how many records were left.
    pub fn stop(mut self, limit: Duration) -> u64 {
        let (relay, engine) = (self.relay.take().unwrap(), self.engine.take().unwrap());
        let handle = engine.handle().unwrap().clone();
        handle.block_on(relay.drain(limit));
        engine.stop(limit)
    }
}

pub fn assert_balanced(books: &Snapshot) {
    let total = books.total;
    assert_eq!(
        total.accepted + total.recovered,
        total.acknowledged + total.dropped.total() + total.pending,
        "{books:?}"
    );
}

fn mint(folder: &Path) {
    let options = certs::Options {
        out: folder.join("ca"),
        hosts: Vec::new(),
        days: 1,
        algorithm: skytls::pki::Algorithm::default(),
        force: false,
    };
    certs::write(&options).unwrap();
}

fn collector_settings(folder: &Path, seen: &Arc<Mutex<Vec<Seen>>>) -> CollectorSettings {
    let file = |name: &str| Source::File(folder.join("ca").join(name));
    let seen = seen.clone();
    CollectorSettings {
        tls: Some(CollectorTls {
            identity: IdentitySource {
                chain: file("server.crt"),
                key: file("server.pem"),
                passphrase: None,
            },
            client_ca: Some(file("ca.crt")),
        }),
        observer: Some(Arc::new(move |call: &CallInfo, message: &Message| {
            seen.lock().unwrap().push(Seen {
                path: call.path,
                call: call.call,
                connection: call.connection,
                metadata: call.metadata.clone(),
                compressed: message.compressed,
                data: message.data.clone(),
            });
        })),
        ..CollectorSettings::default()
    }
}
