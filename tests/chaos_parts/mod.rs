//! What chaos is made of: a collector in a process of its own that writes down what it sees, and a link
//! that can be cut.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod certificates;
mod disk;
mod fleet;
mod relay;

use skytls::config::{IdentitySource, Source};
use skytls::protocol::frame::Message;
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls};
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::grpc_client::SEGMENTS;
use crate::spool_fixture::World;
use crate::support::process::{Process, clean};

pub use certificates::Certificates;
pub use disk::Disk;
pub use fleet::{Fleet, Reported, Tally};
pub use relay::{Relay, log};

/// Metrics whose messages are as opaque to the relay as segments are.
pub const METRICS: &str = "/skywalking.v3.ServiceMeshMetricService/collect";

const FOLDER: &str = "SKYTLS_CHAOS_FOLDER";
const LISTEN: &str = "SKYTLS_CHAOS_LISTEN";

/// A collector in a process of its own.
pub struct Backend {
    process: Option<Process>,
    folder: PathBuf,
}

impl Backend {
    pub fn start(world: &World) -> Self {
        let folder = world.folder.path().to_owned();
        let mut backend = Self { process: None, folder };
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
    pub fn arrived(&self, path: &str) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        for number in std::fs::read(self.folder.join(seen(path))).unwrap().chunks_exact(8) {
            *times.entry(u64::from_be_bytes(number.try_into().unwrap())).or_default() += 1;
        }
        times
    }

    /// The subjects of the client certificates with which records came.
    pub fn names(&self) -> HashSet<String> {
        let names = std::fs::read_to_string(self.folder.join(NAMES)).unwrap();
        names.lines().map(str::to_owned).collect()
    }
}

const NAMES: &str = "names";

/// Where the numbers are that came by this method.
fn seen(path: &str) -> &'static str {
    if path == METRICS { "metrics" } else { "segments" }
}

/// Runs a collector until it is killed, if this is its process: each number is written to a file
/// before the call is answered, and a written byte outlives a killed process.
pub fn collector_child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let listen = std::env::var(LISTEN).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = collector_settings(&folder, listen);
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

fn collector_settings(folder: &Path, listen: SocketAddr) -> CollectorSettings {
    let source = |name: &str| Source::File(folder.join("backend").join(name));
    let file = |name: &str| {
        Mutex::new(OpenOptions::new().append(true).create(true).open(folder.join(name)).unwrap())
    };
    let (segments, metrics, names) = (file(seen(SEGMENTS)), file(seen(METRICS)), file(NAMES));
    let last = Mutex::new(String::new());
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
        observer: Some(Arc::new(move |call: &CallInfo, message: &Message| {
            let file = if call.path == METRICS { &metrics } else { &segments };
            write(file, &message.data[..8]);
            let name = call.client_certificate.as_deref().unwrap_or("nobody");
            let mut last = last.lock().unwrap();
            if *last != name {
                name.clone_into(&mut last);
                write(&names, format!("{name}\n").as_bytes());
            }
        })),
        ..CollectorSettings::default()
    }
}

/// In one piece, whoever is killed meanwhile.
fn write(file: &Mutex<File>, bytes: &[u8]) {
    file.lock().unwrap().write_all(bytes).unwrap();
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
