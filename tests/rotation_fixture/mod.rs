//! An engine whose certificates lie in a folder, a collector that demands the client's, and what each
//! end says about which ones are in use.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use skytls::config::{IdentitySource, Loader, Secret, Settings, Source};
use skytls::engine::{Engine, Purpose};
use skytls::error::Error;
use skytls::pki::{Authority, Identity, Leaf, Profile};
use skytls::protocol::{find, frame::Message};
use skytls::rotation::{Failure, Rotation, Rotator};
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls};
use skytls::transport::State;
use skytls::uplink::{Passport, Reporter, Snapshot};

use crate::support::DEADLINE;
use crate::support::folder::Folder;

pub const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_millis(20);
/// Longer than any test.
pub const AMPLE: Duration = Duration::from_secs(60);

/// What has arrived, and who showed himself with it.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<(BTreeSet<u64>, BTreeSet<String>)>>);

pub struct Bed {
    pub ca: Authority,
    /// `ca.crt`, `client.crt`, `client.pem`, and what a test puts there.
    pub folder: Folder,
    pub seen: Seen,
    /// Absent while it is being replaced.
    pub collector: Option<Collector>,
    pub engine: Engine,
    reporter: Reporter,
    next: u64,
}

/// A CA of its own key.
pub fn authority(name: &str) -> Authority {
    Authority::new(&Profile::new(name).unwrap()).unwrap()
}

pub fn client(ca: &Authority, name: &str) -> Identity {
    ca.issue(&Leaf::client(name).unwrap()).unwrap()
}

pub fn server(ca: &Authority) -> Identity {
    ca.issue(&Leaf::server(["localhost", "127.0.0.1"]).unwrap()).unwrap()
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}

// === impl Bed ===

impl Bed {
    /// With a client certificate of the CA, for `agent 1`.
    pub async fn new() -> Self {
        Self::with(|_, _| {}, |_| {}).await
    }

    /// `prepare` may change the files before the start, and `change` the settings.
    pub async fn with(
        prepare: impl FnOnce(&Folder, &Authority),
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::set(&[], prepare, change).await
    }

    /// The same with more settings; `FOLDER` in them is the folder.
    pub async fn set(
        more: &[(&str, &str)],
        prepare: impl FnOnce(&Folder, &Authority),
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let ca = authority("ca 1");
        let own = client(&ca, "agent 1");
        let folder = Folder::empty()
            .file("ca.crt", ca.certificate_pem(), 0o644)
            .file("client.crt", own.chain_pem(), 0o644)
            .file("client.pem", own.key_pem(), 0o600);
        prepare(&folder, &ca);
        let seen = Seen::default();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let collector = seen.collector(any, &server(&ca), ca.certificate_pem()).await;
        let path = |name: &str| folder.join(name).display().to_string();
        let mut loader = Loader::new()
            .environment([])
            .directory(folder.path())
            .set("collector.backend_service", collector.address().to_string())
            .set("agent.ssl_trusted_ca_path", path("ca.crt"))
            .set("agent.ssl_cert_chain_path", path("client.crt"))
            .set("agent.ssl_key_path", path("client.pem"));
        for (key, value) in more {
            let folder = folder.path().display().to_string();
            loader = loader.set(*key, value.replace("FOLDER", &folder));
        }
        let mut settings = loader.load().unwrap().settings;
        settings.tls.reload_interval = Some(LOOK);
        settings.tls.drain_timeout = AMPLE;
        change(&mut settings);
        let engine = Engine::start(&settings, Purpose::Relay).unwrap();
        let reporter = engine.uplink().reporter(Passport::new(find(SEGMENTS).unwrap()));
        Self { ca, folder, seen, collector: Some(collector), engine, reporter, next: 0 }
    }

    pub fn rotator(&self) -> Rotator {
        self.engine.rotator().unwrap().clone()
    }

    pub fn status(&self) -> Rotation {
        self.rotator().status()
    }

    /// Waits for a state of the rotation.
    pub async fn until(&self, wanted: impl Fn(&Rotation) -> bool) -> Rotation {
        let mut rotator = self.rotator();
        let met = tokio::time::timeout(DEADLINE, async {
            while !wanted(&rotator.status()) {
                rotator.changed().await;
            }
            rotator.status()
        });
        met.await.unwrap_or_else(|_| panic!("still waiting: {:?}", self.status()))
    }

    /// Waits for a generation, and until the connections of the ones before are gone.
    pub async fn in_use(&self, generation: u64) -> Rotation {
        let status = self.until(|status| status.generation >= generation).await;
        within(self.engine.transport().retired_before(generation)).await;
        status
    }

    /// Waits until the files have been refused, so often altogether.
    pub async fn refused(&self, times: u64) -> Failure {
        let wanted = |status: &Rotation| status.failure.is_some() && status.refused >= times;
        self.until(wanted).await.failure.unwrap()
    }

    /// Writes chain and key of `name`, in one moment as far as each file goes.
    pub fn renew(&self, ca: &Authority, name: &str) -> Identity {
        let own = client(ca, name);
        self.folder.replace("client.crt", own.chain_pem(), 0o644);
        self.folder.replace("client.pem", own.key_pem(), 0o600);
        own
    }

    /// Reports one record and waits until it has arrived; says as whom.
    pub async fn report(&mut self) -> String {
        self.seen.forget_names();
        self.accept(1).await;
        self.settled().await;
        self.seen.names().pop_first().unwrap()
    }

    /// Reports without waiting for anything but room.
    pub async fn accept(&mut self, count: u64) {
        for _ in 0..count {
            let data = Bytes::copy_from_slice(&self.next.to_be_bytes());
            self.next += 1;
            within(self.reporter.report(Message { compressed: false, data })).await.unwrap();
        }
    }

    /// Waits until everything that was accepted has been acknowledged and has arrived.
    pub async fn settled(&self) -> Snapshot {
        let uplink = self.engine.uplink();
        assert_eq!(uplink.flush(DEADLINE).await, 0, "{:?}", self.engine.transport().state());
        let books = uplink.books();
        let total = books.total;
        assert_eq!((total.accepted, total.acknowledged), (self.next, self.next), "{books:?}");
        assert_eq!((total.dropped.total(), total.pending), (0, 0), "{books:?}");
        assert_eq!(self.seen.count(), self.next);
        books
    }

    /// Another collector in the place of this one, which demands certificates of the first CA.
    pub async fn replace_collector(&mut self, identity: &Identity) {
        let old = self.collector.take().unwrap();
        let address = old.address();
        old.shutdown(Duration::ZERO).await;
        self.collector =
            Some(self.seen.collector(address, identity, self.ca.certificate_pem()).await);
    }

    pub fn connections(&self) -> u64 {
        self.collector.as_ref().unwrap().counts().connections
    }

    /// Waits until the link is down for a reason that a human has to look at.
    pub async fn misconfigured(&self) -> Error {
        let mut transport = self.engine.transport().clone();
        within(async {
            loop {
                if let State::Misconfigured { reason, .. } = transport.state() {
                    return reason;
                }
                transport.changed().await;
            }
        })
        .await
    }
}

// === impl Seen ===

impl Seen {
    async fn collector(
        &self,
        listen: SocketAddr,
        identity: &Identity,
        client_ca: &str,
    ) -> Collector {
        let bytes = |pem: &str| Source::Bytes(Secret::new(pem.as_bytes().to_vec()));
        let seen = self.clone();
        let observer = move |call: &CallInfo, message: &Message| {
            if call.path != SEGMENTS {
                return;
            }
            let mut seen = seen.0.lock().unwrap();
            // Others may report as well.
            seen.0.extend(message.data.first_chunk().map(|id| u64::from_be_bytes(*id)));
            seen.1.insert(call.client_certificate.as_deref().unwrap_or("nobody").to_owned());
        };
        Collector::start(CollectorSettings {
            listen,
            tls: Some(CollectorTls {
                identity: IdentitySource {
                    chain: bytes(identity.chain_pem()),
                    key: bytes(identity.key_pem()),
                    passphrase: None,
                },
                client_ca: Some(bytes(client_ca)),
            }),
            observer: Some(Arc::new(observer)),
            ..CollectorSettings::default()
        })
        .await
        .unwrap()
    }

    pub fn count(&self) -> u64 {
        self.0.lock().unwrap().0.len() as u64
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().1.clone()
    }

    pub fn forget_names(&self) {
        self.0.lock().unwrap().1.clear();
    }
}
