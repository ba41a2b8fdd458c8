//! A link with an uplink on it, a cable to the backend that can be spoilt, and the proof that what was
//! accepted has arrived.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skytls::config::{IdentitySource, Loader, Mode, OnFull, Settings, Source};
use skytls::error::Error;
use skytls::protocol::{find, frame::Message};
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls};
use skytls::tls::Generation;
use skytls::transport::{BackendState, Target, Transport, Upkeep, targets};
use skytls::uplink::{Passport, Snapshot, Uplink, UplinkSettings};
use socket2::SockRef;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use crate::transport_fixture::*;

pub const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
/// Not sent again once it may have arrived.
pub const METERS: &str = "/skywalking.v3.MeterReportService/collectBatch";

/// What collectors have received: how often each record, and when the last new one came.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<Vec<u8>>>, Arc<Notify>);

/// A transport with an uplink that is fed all the time.
pub struct Link {
    pub transport: Transport,
    pub uplink: Uplink,
    pub received: Received,
    next: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    feeder: Option<JoinHandle<()>>,
}

/// Certificates of one CA, and settings and collectors that use them.
pub struct Tls(TempDir);

/// A way to a backend through a port of its own.
pub struct Cable {
    pub address: SocketAddr,
    manner: watch::Sender<Manner>,
    to: Arc<Mutex<SocketAddr>>,
    accepted: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Passes everything on.
    Passes,
    /// Neither reads nor writes any more; new connections are accepted and treated alike. When this
    /// ends, connections that have been through it stay dead.
    BlackHole,
    /// Breaks every connection by RST, new ones too.
    Resets,
    /// Spoils what goes to the backend from now on.
    Garbles,
}

// === impl Received ===

impl Received {
    /// What goes into a collector's settings.
    pub fn settings(&self, listen: SocketAddr) -> CollectorSettings {
        let Self(records, changed) = self.clone();
        let observer = move |call: &CallInfo, message: &Message| {
            if ![SEGMENTS, METERS].contains(&call.path) {
                return;
            }
            let id = u64::from_be_bytes(message.data[..8].try_into().unwrap());
            let mut records = records.lock().unwrap();
            let at = usize::try_from(id).unwrap();
            if records.len() <= at {
                records.resize(at + 1, 0);
            }
            records[at] = records[at].saturating_add(1);
            drop(records);
            changed.notify_waiters();
        };
        CollectorSettings {
            listen,
            observer: Some(Arc::new(observer)),
            ..CollectorSettings::default()
        }
    }

    pub async fn collector(&self, listen: SocketAddr) -> Collector {
        Collector::start(self.settings(listen)).await.unwrap()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|times| **times > 0).count()
    }

    /// Waits until records arrive that have not been seen before.
    pub async fn fresh(&self) {
        let before = self.count();
        within(async {
            loop {
                let changed = self.1.notified();
                if self.count() > before {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

// === impl Link ===

impl Link {
    pub fn over(backends: &[SocketAddr], more: &[(&str, &str)]) -> Self {
        let settings = settings(backends, more);
        let targets = targets(&settings.link, &settings.tls, None).unwrap();
        Self::with(&settings, targets, Received::default())
    }

    pub fn with(settings: &Settings, targets: Vec<Arc<Target>>, received: Received) -> Self {
        let transport = Transport::with(targets, Upkeep::from(&settings.link));
        let timeout = settings.link.upstream_timeout;
        let limits = UplinkSettings::new(&settings.buffer, timeout, OnFull::Block);
        let uplink = Uplink::new(limits.bounded_by_bytes(), transport.clone());
        let (stop, _) = watch::channel(false);
        Self { transport, uplink, received, next: Arc::default(), stop, feeder: None }
    }

    /// Reports records of a method, without a pause but for what the uplink needs.
    pub async fn report(&self, path: &str, count: u64) {
        let mut reporter = self.uplink.reporter(Passport::new(find(path).unwrap()));
        for _ in 0..count {
            reporter.report(self.record()).await.unwrap();
        }
    }

    /// Reports segments from now on, one every few milliseconds.
    pub fn feed(&mut self) {
        let mut reporter = self.uplink.reporter(Passport::new(find(SEGMENTS).unwrap()));
        self.stop.send_replace(false);
        let (next, stop) = (self.next.clone(), self.stop.subscribe());
        self.feeder = Some(tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(3));
            while !*stop.borrow() {
                tick.tick().await;
                reporter.report(record(next.fetch_add(1, SeqCst))).await.unwrap();
            }
        }));
    }

    /// Waits until a backend has failed, and gives the reason. It is there to be seen until the backend
    /// works again, unlike the state of the link, which may rest for a moment only.
    pub async fn given_up(&self, backend: SocketAddr) -> Error {
        let backend = backend.to_string();
        let mut transport = self.transport.clone();
        within(async {
            loop {
                for status in transport.backends() {
                    if let BackendState::Resting { reason, .. } = status.state
                        && status.backend == backend
                    {
                        return reason;
                    }
                }
                transport.backends_changed().await;
            }
        })
        .await
    }

    /// Ends the feeding and waits until everything is settled: all that was accepted has arrived, and
    /// the books say so.
    pub async fn everything_arrived(mut self) -> Snapshot {
        self.stop_feeding().await;
        assert_eq!(self.uplink.flush(DEADLINE).await, 0, "{:?}", self.uplink.books());
        let books = self.uplink.books();
        let accepted = self.next.load(SeqCst);
        assert_eq!(books.total.accepted, accepted, "{books:?}");
        assert_eq!(books.total.acknowledged, accepted, "{books:?}");
        assert_eq!(books.total.dropped.total() + books.total.pending, 0, "{books:?}");
        let received = self.received.0.lock().unwrap();
        let times = |id: usize| received.get(id).copied().unwrap_or_default();
        let missing: Vec<_> =
            (0..usize::try_from(accepted).unwrap()).filter(|id| times(*id) == 0).collect();
        assert!(missing.is_empty(), "acknowledged, but never received: {missing:?}");
        books
    }

    pub async fn stop_feeding(&mut self) {
        self.stop.send_replace(true);
        if let Some(feeder) = self.feeder.take() {
            within(feeder).await.unwrap();
        }
    }

    fn record(&self) -> Message {
        record(self.next.fetch_add(1, SeqCst))
    }
}

fn record(id: u64) -> Message {
    Message { compressed: false, data: Bytes::copy_from_slice(&id.to_be_bytes()) }
}

// === impl Tls ===

impl Tls {
    /// For the loopback addresses, and one more name.
    pub fn new(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = skytls::cli::certs::Options {
            out: folder.path().join("ca"),
            hosts: vec![host.to_owned(), "127.0.0.1".to_owned()],
            days: 1,
            algorithm: skytls::pki::Algorithm::default(),
            force: false,
        };
        skytls::cli::certs::write(&options).unwrap();
        Self(folder)
    }

    /// Puts the CA of another set beside this one.
    pub fn trust_also(&self, other: &Self) {
        let mut both = std::fs::read(self.file("ca.crt")).unwrap();
        both.extend(std::fs::read(other.file("ca.crt")).unwrap());
        std::fs::write(self.file("ca.crt"), both).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("ca").join(name)
    }

    /// Settings that trust this CA, with more on top.
    pub fn settings(&self, backends: &[&str], more: &[(&str, &str)]) -> Settings {
        let mut loader = Loader::new()
            .environment([])
            .directory(self.0.path())
            .set("collector.backend_service", backends.join(","))
            .set("agent.ssl_trusted_ca_path", self.file("ca.crt").display().to_string());
        for (key, value) in more {
            loader = loader.set(*key, *value);
        }
        loader.load().unwrap().settings
    }

    pub fn targets(settings: &Settings) -> Vec<Arc<Target>> {
        let generation = Generation::load(&settings.tls).unwrap();
        targets(&settings.link, &settings.tls, Some(&generation)).unwrap()
    }

    /// The same for settings that may say plaintext.
    pub fn targets_if_any(settings: &Settings) -> Vec<Arc<Target>> {
        match settings.tls.mode {
            Mode::Plaintext(_) => targets(&settings.link, &settings.tls, None).unwrap(),
            _ => Self::targets(settings),
        }
    }

    /// A collector that shows this CA's certificate.
    pub async fn collector(&self, received: &Received, listen: SocketAddr) -> Collector {
        Collector::start(self.served(received, listen)).await.unwrap()
    }

    /// The settings of such a collector.
    pub fn served(&self, received: &Received, listen: SocketAddr) -> CollectorSettings {
        let identity = IdentitySource {
            chain: Source::File(self.file("server.crt")),
            key: Source::File(self.file("server.pem")),
            passphrase: None,
        };
        let tls = Some(CollectorTls { identity, client_ca: None });
        CollectorSettings { tls, ..received.settings(listen) }
    }
}

// === impl Cable ===

impl Cable {
    pub async fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind(any()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, told) = watch::channel(Manner::Passes);
        let to = Arc::new(Mutex::new(backend));
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, told, to.clone(), accepted.clone()));
        Self { address, manner, to, accepted, task }
    }

    pub fn set(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// When each connection was accepted.
    pub fn accepted(&self) -> Vec<Instant> {
        self.accepted.lock().unwrap().clone()
    }

    /// Closes the port.
    pub async fn close(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

async fn serve(
    listener: TcpListener,
    told: watch::Receiver<Manner>,
    to: Arc<Mutex<SocketAddr>>,
    accepted: Arc<Mutex<Vec<Instant>>>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        accepted.lock().unwrap().push(Instant::now());
        let to = *to.lock().unwrap();
        connections.spawn(pass(near, to, told.clone()));
        // What has ended leaves: `ci/soak` looks at the memory.
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut near: TcpStream, to: SocketAddr, told: watch::Receiver<Manner>) {
    if *told.borrow() == Manner::Passes {
        let Ok(mut far) = TcpStream::connect(to).await else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let stopped = |manner: &Manner| matches!(manner, Manner::BlackHole | Manner::Resets);
        tokio::select! {
            () = both_ways(&mut near, &mut far, &told) => {}
            Ok(_) = async { told.clone().wait_for(stopped).await.map(|_| ()) } => {}
        }
    }
    let manner = *told.borrow();
    treat(&near, manner).await;
}

async fn treat(near: &TcpStream, manner: Manner) {
    match manner {
        Manner::Passes | Manner::Garbles => {}
        Manner::BlackHole => std::future::pending().await,
        Manner::Resets => SockRef::from(near).set_linger(Some(Duration::ZERO)).unwrap(),
    }
}

async fn both_ways(near: &mut TcpStream, far: &mut TcpStream, told: &watch::Receiver<Manner>) {
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
    let there = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = near_in.read(&mut buffer).await {
            if *told.borrow() == Manner::Garbles {
                buffer[length / 2] ^= 0x55;
            }
            if far_out.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
        let _ = far_out.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut far_in, &mut near_out).await;
        let _ = near_out.shutdown().await;
    };
    tokio::join!(there, back);
}
