//! What skytls makes of a TLS server: connected, or the id of the refusal.
//!
//! Settings are given as `key=value`; the backend is the server, as `localhost`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use skytls::Connector;
use skytls::config::{Loader, TlsSettings};
use skytls::error::Error;
use skytls::tls::Generation;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::openssl::Server;
use super::process::{Process, clean};

/// A setting.
pub(crate) type Pair = (&'static str, String);

/// The test of a file that uses [`with_system`]; see [`answer`].
const CHILD: &str = "the_verdict_of_a_process_of_its_own";
const PORT: &str = "VERDICT_PORT";
const PAIRS: &str = "VERDICT_PAIRS";

/// The settings of these pairs, in an environment without any.
pub(crate) fn settings<K: Into<String>>(
    pairs: impl IntoIterator<Item = (K, String)>,
) -> Result<TlsSettings, Error> {
    let loader = Loader::new().environment([]).set("collector.backend_service", "localhost:1");
    let loader = pairs.into_iter().fold(loader, |loader, (key, value)| loader.set(key, value));
    loader.load().map(|loaded| loaded.settings.tls)
}

/// Loads the material and connects, in this process.
pub(crate) fn connect(server: &Server, pairs: &[Pair]) -> Result<(), Error> {
    dial(server.port(), &settings(pairs.iter().cloned())?)
}

/// `connected`, or the id.
pub(crate) fn of(server: &Server, pairs: &[Pair]) -> String {
    word(connect(server, pairs))
}

/// The same with a trust store of the system of our own. That is a matter of the environment, which
/// a process of many tests must not change: the test runs itself again, as [`answer`].
pub(crate) fn with_system(server: &Server, system: &Path, pairs: &[Pair]) -> String {
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let mut command = Command::new(std::env::current_exe().expect("it is running"));
    clean(&mut command);
    command.args(["--exact", CHILD, "--nocapture"]);
    command.env("SSL_CERT_FILE", system).env("SSL_CERT_DIR", folder.path());
    let lines: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    command.env(PORT, server.port().to_string()).env(PAIRS, lines.join("\n"));
    let finished = Process::start(command, Stdio::null()).finish();
    let verdict = finished.stdout.lines().find_map(|line| line.split_once("verdict: "));
    verdict.unwrap_or_else(|| panic!("{finished:?}")).1.to_owned()
}

/// The other end of [`with_system`], for a test of that name; without its variables it does nothing.
pub(crate) fn answer() {
    let (Ok(port), Ok(pairs)) = (std::env::var(PORT), std::env::var(PAIRS)) else { return };
    let pairs = pairs.lines().filter_map(|line| line.split_once('='));
    let settings = settings(pairs.map(|(key, value)| (key, value.to_owned())));
    let port = port.parse().expect("it is a port");
    let verdict = word(settings.and_then(|settings| dial(port, &settings)));
    // Past the test harness, which would keep it to itself.
    writeln!(std::io::stdout(), "\nverdict: {verdict}").expect("stdout is open");
}

fn dial(port: u16, settings: &TlsSettings) -> Result<(), Error> {
    let mut connector = Connector::from_generation(&Generation::load(settings)?);
    if let Some(name) = &settings.server_name {
        connector = connector.server_name(name)?;
    }
    let uri: http::Uri = format!("https://localhost:{port}").parse().expect("it is a URI");
    let runtime = Runtime::new().expect("there are threads");
    runtime.block_on(connector.oneshot(uri)).map(|_| ())
}

fn word(result: Result<(), Error>) -> String {
    result.map_or_else(|error| error.id(), |()| "connected".to_owned())
}
