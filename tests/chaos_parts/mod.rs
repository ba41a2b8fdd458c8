//! What chaos is made of: a collector in a process of its own that writes down what it sees, a link
//! that can be cut, and agents that remember what they got an answer for.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skytls::config::{IdentitySource, Source};
use skytls::protocol::frame::Message;
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::grpc_client::Client;
use crate::spool_fixture::{World, report};
use crate::support::process::{Process, clean};

const FOLDER: &str = "SKYTLS_CHAOS_FOLDER";
const LISTEN: &str = "SKYTLS_CHAOS_LISTEN";

/// A collector in a process of its own.
pub struct Backend {
    process: Option<Process>,
    seen: PathBuf,
}

impl Backend {
    pub fn start(world: &World) -> Self {
        let seen = world.folder.path().join("seen");
        let mut backend = Self { process: None, seen };
        backend.again(world);
        backend
    }

    pub fn again(&mut self, world: &World) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        clean(&mut command);
        command
            .args(["--exact", "collector_child", "--nocapture"])
            .env(FOLDER, world.folder.path())
            .env(LISTEN, world.backend.to_string());
        let process = Process::start(command, Stdio::null());
        process.line("collector is ready");
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            process.finish();
        }
    }

    /// How often each number was seen.
    pub fn arrived(&self) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        for number in std::fs::read(&self.seen).unwrap().chunks_exact(8) {
            *times.entry(u64::from_be_bytes(number.try_into().unwrap())).or_default() += 1;
        }
        times
    }
}

/// Runs a collector until it is killed, if this is its process: each number is written to a file
/// before the call is answered, and a written byte outlives a killed process.
pub fn collector_child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let listen = std::env::var(LISTEN).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = OpenOptions::new().append(true).create(true).open(folder.join("seen")).unwrap();
    let settings = collector_settings(&folder, listen, file);
    let _collector = runtime.block_on(async {
        loop {
            // The port of the one that was killed may take a moment to be free.
            match Collector::start(settings.clone()).await {
                Ok(collector) => return collector,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    println!("collector is ready");
    loop {
        std::thread::park();
    }
}

fn collector_settings(folder: &Path, listen: SocketAddr, file: File) -> CollectorSettings {
    let source = |name: &str| Source::File(folder.join("ca").join(name));
    let file = Mutex::new(file);
    CollectorSettings {
        listen,
        tls: Some(CollectorTls {
            identity: IdentitySource {
                chain: source("server.crt"),
                key: source("server.pem"),
                passphrase: None,
            },
            client_ca: Some(source("ca.crt")),
        }),
        observer: Some(Arc::new(move |_: &CallInfo, message: &Message| {
            file.lock().unwrap().write_all(&message.data[..8]).unwrap();
        })),
        ..CollectorSettings::default()
    }
}

/// TCP between relay and collector.
pub struct Link {
    address: SocketAddr,
    /// Counts the cuts; connections of an older count end.
    cuts: watch::Sender<u64>,
    closed: Arc<AtomicBool>,
}

impl Link {
    pub fn start(world: &World, to: SocketAddr) -> Self {
        let (cuts, cut) = watch::channel(0);
        let closed = Arc::new(AtomicBool::new(false));
        let listener = world.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shut = closed.clone();
        world.runtime.spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut cut = cut.clone();
                cut.mark_unchanged();
                if shut.load(Ordering::Relaxed) {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut onwards) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut onwards) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts, closed }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts it, and lets nobody through until it is opened again.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
        self.cut();
    }
}

/// Agents that report for as long as they are let.
pub struct Fleet {
    agents: Vec<JoinHandle<Vec<u64>>>,
    stopped: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
}

/// What agents have done.
pub struct Reported {
    /// Numbers the relay has answered for.
    pub answered: Vec<u64>,
    /// All numbers below were sent, or meant to be.
    pub sent: u64,
}

/// Records of one stream.
const BATCH: u64 = 50;

impl Fleet {
    pub fn start(world: &World, relay: SocketAddr, agents: usize, path: &'static str) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let agent = |_| world.runtime.spawn(agent(relay, path, next.clone(), stopped.clone()));
        let agents = (0..agents).map(agent).collect();
        Self { agents, stopped, next }
    }

    pub fn stop(self, world: &World) -> Reported {
        self.stopped.store(true, Ordering::Relaxed);
        let mut answered = Vec::new();
        for agent in self.agents {
            answered.extend(world.runtime.block_on(agent).unwrap());
        }
        Reported { answered, sent: self.next.load(Ordering::Relaxed) }
    }
}

async fn agent(
    relay: SocketAddr,
    path: &'static str,
    next: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
) -> Vec<u64> {
    let mut answered = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(relay).await else {
            // It was killed and is about to be there again.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let Some(mut client) = Client::try_over(stream).await else { continue };
        while !stopped.load(Ordering::Relaxed) {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if !report(&mut client, path, first..first + BATCH).await {
                break;
            }
            answered.extend(first..first + BATCH);
        }
    }
    answered
}

/// What agents and collector say, held against each other.
pub struct Tally {
    pub missing: usize,
    pub invented: usize,
    pub repeated: usize,
}

impl Tally {
    pub fn of(reported: &Reported, arrived: &HashMap<u64, u32>) -> Self {
        let answered: HashSet<u64> = reported.answered.iter().copied().collect();
        Self {
            missing: answered.iter().filter(|number| !arrived.contains_key(number)).count(),
            invented: arrived.keys().filter(|number| **number >= reported.sent).count(),
            repeated: arrived.values().filter(|times| **times > 1).count(),
        }
    }
}
