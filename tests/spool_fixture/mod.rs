//! A relay of its own process, with a spool, that can be killed; the backend's place, where a
//! collector stands or does not; what arrived there, by number.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use skytls::cli::certs;
use skytls::config::{IdentitySource, Source};
use skytls::protocol::frame::Message;
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::grpc_client::{Client, framed, request};
use crate::support::process::{Process, Skytls};

/// Far longer than anything takes: it only keeps a broken test from hanging.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct World {
    pub runtime: Runtime,
    pub folder: TempDir,
    /// Where the backend is, whether it runs or not.
    pub backend: SocketAddr,
    pub arrivals: Arc<Arrivals>,
}

/// What the collectors have seen, in its order.
#[derive(Default)]
pub struct Arrivals {
    /// Method, call, number.
    seen: Mutex<Vec<(&'static str, u64, u64)>>,
    moved: Notify,
}

impl World {
    pub fn new() -> Self {
        Self::on(Runtime::new().unwrap())
    }

    /// On one thread, so that calls are counted in the order in which they come. The collector
    /// moves only while something is waited for on this runtime.
    pub fn in_order() -> Self {
        Self::on(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap())
    }

    fn on(runtime: Runtime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certs::write(&certs::Options {
            out: folder.path().join("ca"),
            hosts: Vec::new(),
            days: 1,
            algorithm: skytls::pki::Algorithm::default(),
            force: false,
        })
        .unwrap();
        let arrivals = Arc::new(Arrivals::default());
        let backend = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = Self { runtime, folder, backend, arrivals };
        // A port that is known to be free, and stays this collector's.
        let collector = world.collector();
        world.backend = collector.address();
        world.runtime.block_on(collector.shutdown(Duration::ZERO));
        world
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// A collector in the backend's place.
    pub fn collector(&self) -> Collector {
        let file = |name: &str| Source::File(self.folder.path().join("ca").join(name));
        let arrivals = self.arrivals.clone();
        let settings = CollectorSettings {
            listen: self.backend,
            tls: Some(CollectorTls {
                identity: IdentitySource {
                    chain: file("server.crt"),
                    key: file("server.pem"),
                    passphrase: None,
                },
                client_ca: Some(file("ca.crt")),
            }),
            observer: Some(Arc::new(move |call: &CallInfo, message: &Message| {
                arrivals.note(call.path, call.call, number(&message.data));
            })),
            ..CollectorSettings::default()
        };
        self.runtime.block_on(Collector::start(settings)).unwrap()
    }

    /// A relay of its own process with the spool of this world.
    pub fn relay(&self, settings: &[&str]) -> Process {
        self.skytls(&[&["spool.path=spool"], settings].concat()).start()
    }

    pub fn skytls(&self, settings: &[&str]) -> Skytls {
        let backend = format!("collector.backend_service={}", self.backend);
        let usual = [
            backend.as_str(),
            "relay.listen=127.0.0.1:0",
            "agent.ssl_trusted_ca_path=ca/ca.crt",
            "agent.ssl_cert_chain_path=ca/client.crt",
            "agent.ssl_key_path=ca/client.pem",
        ];
        let run = Skytls::new(["run"]).in_folder(self.folder.path());
        usual.iter().chain(settings).fold(run, |run, pair| run.arg("--set").arg(pair))
    }
}

/// Where a relay listens.
pub fn address(relay: &Process) -> SocketAddr {
    relay.line("listening on ").trim_start_matches("listening on ").trim().parse().unwrap()
}

/// A record of this number, of the usual length.
pub fn record(number: u64) -> Bytes {
    let mut data = vec![b'x'; 700];
    data[..8].copy_from_slice(&number.to_be_bytes());
    framed(&data)
}

fn number(data: &[u8]) -> u64 {
    data.get(..8).map_or(u64::MAX, |head| u64::from_be_bytes(head.try_into().unwrap()))
}

/// Reports records in one stream; `true` if the relay took them over.
pub async fn report(client: &mut Client, path: &str, numbers: std::ops::Range<u64>) -> bool {
    let reply = client.call(request(path, &[]), numbers.map(record)).await;
    reply.is_ok_and(|reply| reply.status == Some(0))
}

impl Arrivals {
    pub fn note(&self, path: &'static str, call: u64, number: u64) {
        self.seen.lock().unwrap().push((path, call, number));
        self.moved.notify_waiters();
    }

    /// How often each number has arrived by this method.
    pub fn of(&self, path: &str) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        for number in self.in_order(path) {
            *times.entry(number).or_default() += 1;
        }
        times
    }

    /// In the order in which they were sent: several calls may be under way at a time.
    pub fn in_order(&self, path: &str) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        let mut seen: Vec<_> = seen.iter().filter(|(of, ..)| *of == path).collect();
        seen.sort_by_key(|(_, call, _)| *call);
        seen.into_iter().map(|(.., number)| *number).collect()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits until what has arrived is as wanted.
    pub async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        let met = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if wanted(self) {
                    return;
                }
                moved.await;
            }
        };
        if tokio::time::timeout(DEADLINE, met).await.is_err() {
            panic!("still waiting; {} records have arrived", self.count());
        }
    }
}

/// The files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}
