//! Compiles C programs against the library and runs them beside a collector.
//!
//! `SKYTLS_TEST_FIPS` names a provider's fips.cnf, with which FIPS is required (`ci/fips`).
//! `SKYTLS_TEST_CFLAGS` adds flags of the compiler (a sanitizer's), `SKYTLS_TEST_WRAPPER` puts a command in
//! front of the programs (valgrind), `SKYTLS_TEST_LIBRARY` names another build of the library: `ci/capi`
//! sets them.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::{HashMap, VecDeque};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use skytls::config::{IdentitySource, Secret, Source};
use skytls::pki::{Authority, Leaf, Profile};
use skytls::protocol::v3::{Command as Order, Commands, KeyStringValuePair};
use skytls::server::{Collector, CollectorSettings, CollectorTls, Counts, Observer, Responder};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A collector with TLS, what its clients trust, and every segment that it has seen.
pub(crate) struct Backend {
    runtime: Runtime,
    collector: Collector,
    folder: TempDir,
    segments: Arc<Mutex<HashMap<Vec<u8>, u64>>>,
    orders: Orders,
}

/// What the backend orders with the next answers of a method.
type Orders = Arc<Mutex<HashMap<&'static str, VecDeque<Commands>>>>;

/// A C program that has been compiled.
pub(crate) struct Program {
    path: PathBuf,
    _folder: TempDir,
}

/// What a program needs to know about the backend.
const ENVIRONMENT: [&str; 2] = ["SKYTLS_TEST_BACKEND", "SKYTLS_TEST_CA"];

const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// What a machine that builds this can do.
const WORKS: &str = "files, certificates and loopback work";

// === impl Backend ===

impl Backend {
    pub(crate) fn start() -> Self {
        let ca = Authority::new(&Profile::new("C test root").expect(WORKS)).expect(WORKS);
        let server =
            ca.issue(&Leaf::server(["localhost", "127.0.0.1"]).expect(WORKS)).expect(WORKS);
        let folder = tempfile::tempdir().expect(WORKS);
        fs::write(folder.path().join("ca.crt"), ca.certificate_pem()).expect(WORKS);
        let bytes = |text: &str| Source::Bytes(Secret::new(text.as_bytes().to_vec()));
        let identity = IdentitySource {
            chain: bytes(server.certificate_pem()),
            key: bytes(server.key_pem()),
            passphrase: None,
        };
        let segments = Arc::new(Mutex::new(HashMap::new()));
        let seen = segments.clone();
        let observer: Observer = Arc::new(move |call, message| {
            if call.path == SEGMENTS {
                *seen.lock().expect(WORKS).entry(message.data.to_vec()).or_default() += 1;
            }
        });
        let orders = Orders::default();
        let given = orders.clone();
        let responder: Responder = Arc::new(move |call, _| {
            let next = given.lock().expect(WORKS).get_mut(call.path)?.pop_front()?;
            Some(next.encode_to_vec().into())
        });
        let settings = CollectorSettings {
            tls: Some(CollectorTls { identity, client_ca: None }),
            observer: Some(observer),
            responder: Some(responder),
            ..CollectorSettings::default()
        };
        let runtime = Runtime::new().expect(WORKS);
        let collector = runtime.block_on(Collector::start(settings)).expect(WORKS);
        Self { runtime, collector, folder, segments, orders }
    }

    pub(crate) fn address(&self) -> String {
        format!("localhost:{}", self.collector.address().port())
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub(crate) fn counts(&self) -> Counts {
        self.collector.counts()
    }

    /// What was reported as a segment, with how often it came.
    pub(crate) fn segments(&self) -> HashMap<Vec<u8>, u64> {
        self.segments.lock().expect(WORKS).clone()
    }

    /// Answers the next call of a method with an order, or with none.
    pub(crate) fn order(&self, path: &'static str, order: Option<(&str, &[(&str, &str)])>) {
        let pair = |(key, value): &(&str, &str)| KeyStringValuePair {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let command = order.map(|(command, args)| Order {
            command: command.to_owned(),
            args: args.iter().map(pair).collect(),
        });
        let commands = Commands { commands: command.into_iter().collect() };
        self.orders.lock().expect(WORKS).entry(path).or_default().push_back(commands);
    }

    /// Waits until the counts satisfy a condition.
    pub(crate) fn wait_for(&self, condition: impl Fn(&Counts) -> bool + Send) {
        let reached = self.collector.wait_for(condition, Duration::from_secs(30));
        assert!(self.runtime.block_on(reached), "{:?}", self.counts());
    }
}

// === impl Program ===

impl Program {
    /// Compiles a file, by its path from the crate, with threads and against the library.
    pub(crate) fn compile(source: &str, flags: &[&str]) -> Self {
        let library = library();
        let rpath =
            format!("-Wl,-rpath,{}", library.parent().expect("it is in a folder").display());
        let mut linked = vec![library.to_str().expect("a path of ours"), &rpath];
        linked.extend(flags);
        // What the static library needs beyond C's own.
        linked.push("-lm");
        Self::compile_with(source, &linked)
    }

    /// Compiles a file without the library.
    pub(crate) fn compile_alone(source: &str) -> Self {
        Self::compile_with(source, &["-ldl"])
    }

    fn compile_with(source: &str, linked: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect(WORKS);
        let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = folder.path().join("program");
        let source = crate_root.join(source);
        let cpp = source.extension().is_some_and(|extension| extension == "cpp");
        let mut command = Command::new(if cpp { "c++" } else { "cc" });
        command
            .arg(if cpp { "-std=c++17" } else { "-std=c11" })
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1", "-pthread"])
            .arg("-D_GNU_SOURCE")
            .args(more("SKYTLS_TEST_CFLAGS"))
            .arg("-I")
            .arg(crate_root.join("include"))
            .arg(&source)
            .arg("-o")
            .arg(&path)
            .args(linked);
        let output = command.output().expect("there is a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { path, _folder: folder }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs it, knowing nothing of settings that the caller's environment may hold.
    pub(crate) fn command(&self) -> Command {
        let wrapper = more("SKYTLS_TEST_WRAPPER");
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.path);
                command
            }
            None => Command::new(&self.path),
        };
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("SW_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs it beside a backend, until it ends, and gives what it printed.
    pub(crate) fn run(&self, backend: &Backend, arguments: &[&str]) -> String {
        let mut command = self.command();
        command
            .args(arguments)
            .env(ENVIRONMENT[0], backend.address())
            .env(ENVIRONMENT[1], backend.ca());
        told(&command.output().expect("it was just compiled"))
    }
}

/// Standard output of a program that has succeeded.
pub(crate) fn told(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The shared library that cargo has built beside this test.
pub(crate) fn library() -> PathBuf {
    if let Some(path) = env::var_os("SKYTLS_TEST_LIBRARY") {
        return path.into();
    }
    let test = env::current_exe().expect(WORKS);
    let folder = test.parent().and_then(Path::parent).expect("target/debug/deps/test");
    // Only `cargo build` puts a copy where one would look for it.
    folder.join("deps").join("libskytls_capi.so")
}

/// A number that `ci/capi` sets higher than a quick test needs.
pub(crate) fn count(name: &str, otherwise: u32) -> u32 {
    env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Shows what was measured, for those who ask by `--nocapture`.
#[expect(clippy::disallowed_macros, reason = "a test has nobody else to tell")]
pub(crate) fn figures(line: &str) {
    eprintln!("{line}");
}

fn more(name: &str) -> Vec<String> {
    let text = env::var(name).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}
