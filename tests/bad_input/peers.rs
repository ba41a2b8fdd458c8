//! Backends that cannot be reached, do not speak TLS, speak too old a TLS or something else than HTTP/2.
//!
//! Each is tried twice: by the library's connector, whose error has id and exit code, and by `skytls run`,
//! which logs the same id, tries again, and goes on accepting reports of local agents.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, thread};

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use skytls::Connector;
use skytls::config::Loader;
use skytls::error::{Chain, Error};
use skytls::server::{Collector, CollectorSettings};
use skytls::tls::Generation;
use skytls::transport::Deadlines;
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::grpc_client::{Client, SEGMENTS};
use crate::support::openssl::{Peer as OpenSsl, Server};
use crate::support::peers::Peer;
use crate::support::pki::{self, Files};
use crate::support::process::{Process, Skytls};
use crate::support::script::Script;

struct Row {
    name: &'static str,
    /// `localhost` and a port, or what else is dialled.
    backend: String,
    id: &'static str,
    exit: u8,
    /// What the error says besides.
    says: &'static str,
    /// What `run` says at the start.
    warns: Option<&'static str>,
    files: Arc<Files>,
    peer: Fake,
}

/// What is kept while the row runs, and asked afterwards whether it saw what it must not see.
enum Fake {
    Nobody,
    Bound { _socket: Socket },
    Tcp(Peer),
    OpenSsl { _server: Server },
    Chooser,
    Collector { _runtime: Runtime, collector: Collector },
    Recorder(Recorder),
}

/// Takes down the first byte of every connection and closes it.
struct Recorder {
    address: SocketAddr,
    first: Arc<Mutex<Vec<u8>>>,
}

/// Checks all rows, each in a thread of its own: most of the time they wait.
pub(crate) fn check() {
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for row in rows() {
            let failures = &failures;
            scope.spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| row.check())).is_err() {
                    failures.lock().unwrap().push(row.name);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}

fn rows() -> Vec<Row> {
    let files = Arc::new(pki::proper().write());
    let old_root = Arc::new(pki::expired_root().write());
    let row = |name, id, exit, says, port: u16, peer| Row {
        name,
        backend: format!("localhost:{port}"),
        id,
        exit,
        says,
        warns: None,
        files: files.clone(),
        peer,
    };
    let tcp = |name, id, peer: Peer| row(name, id, 4, "", peer.port(), Fake::Tcp(peer));
    let openssl = |name, id, says, server: OpenSsl| {
        let server = server.listen();
        row(name, id, 4, says, server.port(), Fake::OpenSsl { _server: server })
    };
    let server = || OpenSsl::server(&files.server, &files.server_key);
    let (collector, runtime) = plaintext_collector();
    let collector_port = collector.address().port();
    let recorder = Recorder::start();
    let recorder_port = recorder.address.port();
    let chooser_port = chooser(&files);
    let (vacant_port, vacant) = vacant();
    let expired = OpenSsl::server(&old_root.server, &old_root.server_key).h2();
    let old_script = Arc::new(Script::CaExpired.mint().write());
    let script = OpenSsl::server(&old_script.server, &old_script.server_key).h2();
    vec![
        tcp("a plaintext server that greets", "SKT-502", Peer::garbage()),
        tcp("a plaintext web server", "SKT-502", Peer::http()),
        row(
            "a plaintext gRPC server",
            "SKT-502",
            4,
            "SW_RECEIVER_GRPC_SSL_ENABLED",
            collector_port,
            Fake::Collector { _runtime: runtime, collector },
        ),
        row(
            "a server that closes",
            "SKT-506",
            4,
            "check that the port speaks TLS",
            recorder_port,
            Fake::Recorder(recorder),
        ),
        tcp("a server that closes at once", "SKT-506", Peer::closing()),
        tcp("a silent server", "SKT-501", Peer::silent()),
        openssl("TLS 1.1", "SKT-503", "TLS 1.2 or newer", server().h2().tls_1_1()),
        openssl("no ALPN", "SKT-520", "expected h2", server()),
        openssl("http/1.1", "SKT-520", "expected h2", server().option("-alpn", "http/1.1")),
        row(
            "http/1.1 that was not offered",
            "SKT-520",
            4,
            // Older OpenSSL leaves it to us to notice.
            "expected h2",
            chooser_port,
            Fake::Chooser,
        ),
        row(
            "nobody listening",
            "SKT-402",
            3,
            "127.0.0.1",
            vacant_port,
            Fake::Bound { _socket: vacant },
        ),
        Row {
            backend: "no-such-host.invalid:11800".into(),
            ..row("unknown host", "SKT-401", 3, "no-such-host.invalid:11800", 0, Fake::Nobody)
        },
        Row {
            files: old_root.clone(),
            warns: Some("SKT-214"),
            ..openssl("an expired CA", "SKT-511", "valid from ", expired)
        },
        Row {
            files: old_script.clone(),
            warns: Some("SKT-214"),
            ..openssl("an expired CA of SkyWalking's script", "SKT-511", "has expired", script)
        },
    ]
}

// === impl Row ===

impl Row {
    fn check(&self) {
        let error = self.connect();
        let text = Chain(&error).to_string();
        let shown = format!("{}: {text}", self.name);
        assert_eq!(error.id(), self.id, "{shown}");
        assert_eq!(error.exit_code(), self.exit, "{shown}");
        assert!(text.contains(&format!("peer {}", self.backend)), "{shown}");
        assert!(text.contains(self.says), "{shown}");
        assert!(!error.remedy().is_empty(), "{shown}");

        let process = self.start();
        let address = process.line("listening on ");
        let address = address.trim_start_matches("listening on ").parse().unwrap();
        // At the start, before a reason or after it: a report of a local agent is taken.
        assert_eq!(report(address), Some(0), "{}", self.name);
        if let Some(id) = self.warns {
            process.line(id);
        }
        // The first of them, though the second may have come already.
        let line = process.lines(&format!(" {} ", self.id), 1).remove(0);
        assert!(line.contains(&self.backend) && line.contains("; do: "), "{line}");
        assert!(line.contains("trying again"), "{line}");
        match &self.peer {
            // Its deadline is long: the next attempt shows in the connection.
            Fake::Tcp(peer) if self.id == "SKT-501" => peer.accepted(3),
            _ => _ = process.line("(attempt 2)"),
        }
        assert_eq!(report(address), Some(0), "{}", self.name);

        process.terminate();
        let finished = process.finish();
        let output = format!("{}\n{}", finished.stdout, finished.stderr);
        // The reports could not be delivered anywhere, and that is said.
        assert_eq!(finished.code, 1, "{}: {output}", self.name);
        assert!(output.contains("SKT-803") && output.contains("2 records"), "{output}");
        assert!(!output.contains("panicked") && !output.contains("connected to"), "{output}");
        let key = fs::read_to_string(&self.files.client_key).unwrap();
        for line in key.lines().filter(|line| !line.starts_with("---")) {
            assert!(!output.contains(line), "a line of the key: {output}");
        }
        self.peer.saw_no_plaintext();
    }

    fn connect(&self) -> Error {
        let loaded = self.loader().load().unwrap();
        let generation = Generation::load(&loaded.settings.tls).unwrap();
        let mut deadlines = Deadlines::default();
        if self.id == "SKT-501" {
            deadlines.handshake = Duration::from_millis(200);
        }
        let connector = Connector::from_generation(&generation).deadlines(deadlines);
        let uri: http::Uri = format!("https://{}", self.backend).parse().unwrap();
        let runtime = Runtime::new().unwrap();
        match runtime.block_on(connector.oneshot(uri)) {
            Ok(_) => panic!("{}: connected", self.name),
            Err(error) => error,
        }
    }

    fn settings(&self) -> [(&'static str, String); 6] {
        let path = |path: &std::path::Path| path.display().to_string();
        [
            ("relay.listen", "127.0.0.1:0".into()),
            ("relay.drain_timeout", "0".into()),
            ("collector.backend_service", self.backend.clone()),
            ("agent.ssl_trusted_ca_path", path(&self.files.ca)),
            ("agent.ssl_cert_chain_path", path(&self.files.client)),
            ("agent.ssl_key_path", path(&self.files.client_key)),
        ]
    }

    fn loader(&self) -> Loader {
        let loader = Loader::new().environment([]);
        self.settings().into_iter().fold(loader, |loader, (key, value)| loader.set(key, value))
    }

    fn start(&self) -> Process {
        let sets = self.settings().map(|(key, value)| format!("{key}={value}"));
        let arguments = sets.iter().flat_map(|pair| ["--set", pair]);
        let skytls = Skytls::new(["run"].into_iter().chain(arguments));
        skytls.in_folder(self.files.folder()).start()
    }
}

/// One segment from a local agent; the status of the answer.
fn report(address: SocketAddr) -> Option<u8> {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async { Client::plain(address).await.report(SEGMENTS, 1).await.status })
}

// === impl Fake ===

impl Fake {
    fn saw_no_plaintext(&self) {
        match self {
            Self::Collector { collector, .. } => {
                let counts = collector.counts();
                assert_eq!(counts.received, 0, "{counts:?}");
            }
            Self::Recorder(recorder) => {
                let first = recorder.first.lock().unwrap();
                assert!(first.len() >= 3, "{first:?}");
                // A record of the handshake (RFC 8446 section 5.1).
                assert!(first.iter().all(|&byte| byte == 22), "{first:?}");
            }
            _ => {}
        }
    }
}

// === impl Recorder ===

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let first = Arc::new(Mutex::new(Vec::new()));
        let noted = first.clone();
        // Ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut bytes = [0; 4096];
                if stream.is_ok_and(|mut stream| stream.read(&mut bytes).is_ok_and(|n| n > 0)) {
                    noted.lock().unwrap().push(bytes[0]);
                }
            }
        });
        Self { address, first }
    }
}

fn plaintext_collector() -> (Collector, Runtime) {
    let runtime = Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start(CollectorSettings::default())).unwrap();
    (collector, runtime)
}

/// A TLS server that chooses http/1.1 without having been offered it.
fn chooser(files: &Files) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate_chain_file(&files.server).unwrap();
    acceptor.set_private_key_file(&files.server_key, SslFiletype::PEM).unwrap();
    acceptor.set_alpn_select_callback(|_, _| Ok(b"http/1.1"));
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever notices what was chosen is gone by now.
            if let Ok(mut stream) = acceptor.accept(stream) {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                let _ = stream.shutdown();
            }
        }
    });
    port
}

/// A port that is taken, so that nobody else gets it, and not listened on.
fn vacant() -> (u16, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (address.port(), socket)
}
