//! An agent with TLS material in its folder, and the dialling of one peer with it.
//!
//! It judges nothing: what has to come out is said in the tests.

// Every test file uses a part of it.
#![allow(dead_code)]

use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;

use skytls::config::{Loader, Settings};
use skytls::error::{Code, Error, Result};
use skytls::tls::Generation;
use skytls::transport::{Connector, Deadlines, Io};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::support::DEADLINE;
use crate::support::folder::Folder;
use crate::support::openssl::Peer;
use crate::support::pki::{Files, Set};
use crate::support::process::Skytls;

/// An agent's folder and the settings in it.
pub(crate) struct Agent {
    pub(crate) folder: Folder,
    settings: Vec<(&'static str, String)>,
}

const RUNS: &str = "the runtime runs";

// === impl Agent ===

impl Agent {
    /// With these certificates as `ca/ca.crt`, and so with TLS.
    pub(crate) fn trusting(ca: impl AsRef<[u8]>) -> Self {
        Self { folder: Folder::new("").file("ca/ca.crt", ca, 0o644), settings: Vec::new() }
    }

    /// Without a CA file: TLS with the system's trust store.
    pub(crate) fn trusting_the_system() -> Self {
        let agent = Self { folder: Folder::new(""), settings: Vec::new() };
        agent.set("agent.force_tls", "true")
    }

    /// Shows the client's certificate of the set to whoever asks.
    pub(crate) fn showing(self, set: &Set) -> Self {
        self.folder.replace("ca/client.crt", &set.client, 0o644);
        self.folder.replace("ca/client.pem", &set.client_key, 0o600);
        self.set("agent.ssl_cert_chain_path", "/ca/client.crt")
            .set("agent.ssl_key_path", "/ca/client.pem")
    }

    /// One setting more.
    pub(crate) fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((key, value.into()));
        self
    }

    /// As the agent itself would load them, by its file and nothing else.
    pub(crate) fn settings(&self) -> Settings {
        self.write_config();
        let nothing: [(OsString, OsString); 0] = [];
        let loader = Loader::new().environment(nothing).file(self.folder.config());
        loader.load().expect("the settings are sound").settings
    }

    /// The material that the settings name.
    pub(crate) fn generation(&self) -> Generation {
        Generation::load(&self.settings().tls).expect("the material is sound")
    }

    /// Dials `host:port` and verifies the host.
    pub(crate) fn dial(&self, host: &str, port: u16) -> Result<Io> {
        dial(Connector::from_generation(&self.generation()), host, port)
    }

    /// Dials 127.0.0.1 and verifies this name.
    pub(crate) fn dial_as(&self, name: &str, port: u16) -> Result<Io> {
        let connector = Connector::from_generation(&self.generation());
        dial(connector.server_name(name).expect("it is a name"), "127.0.0.1", port)
    }

    /// `skytls run` in this folder, to be started.
    pub(crate) fn relay(&self, backend: impl Into<String>) -> Skytls {
        self.write_config();
        Skytls::new(["run"])
            .in_folder(self.folder.path())
            .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", backend.into())
            .env("SW_RELAY_LISTEN", "127.0.0.1:0")
    }

    /// `skytls check` in this folder, to be run.
    pub(crate) fn check(&self, backend: impl Into<String>) -> Skytls {
        self.write_config();
        Skytls::new(["check"])
            .in_folder(self.folder.path())
            .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", backend.into())
    }

    fn write_config(&self) {
        let lines: String =
            self.settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        self.folder.replace("config/agent.config", lines, 0o644);
    }
}

/// Dials until TLS and HTTP/2 are agreed on.
pub(crate) fn dial(connector: Connector, host: &str, port: u16) -> Result<Io> {
    let uri = format!("https://{host}:{port}").parse().expect("it is a URI");
    runtime().block_on(async {
        let dialling = connector.deadlines(patient()).oneshot(uri);
        tokio::time::timeout(DEADLINE * 2, dialling).await.expect("it keeps its own deadlines")
    })
}

/// Deadlines that a loaded machine keeps.
pub(crate) fn patient() -> Deadlines {
    deadlines(DEADLINE)
}

/// Deadlines of which the handshake's is this.
pub(crate) fn deadlines(handshake: Duration) -> Deadlines {
    let mut deadlines = Deadlines::default();
    (deadlines.resolve, deadlines.connect) = (DEADLINE, DEADLINE);
    deadlines.handshake = handshake;
    deadlines
}

/// One for all tests of a file: connections outlive the call that made them.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect(RUNS)
    })
}

/// An `s_server` that shows the server's certificate of these files and chooses `h2`.
pub(crate) fn h2_server(files: &Files) -> Peer {
    Peer::server(&files.server, &files.server_key).h2()
}

/// The code of a refusal, which must be TLS's fault and so end a command with exit code 4.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T>) -> Code {
    let error: Error = result.expect_err("it is refused");
    assert_eq!(error.exit_code(), 4, "{error:?}");
    error.code()
}
