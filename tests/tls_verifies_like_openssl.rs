//! A server's chain is judged as `openssl s_client -verify_return_error -verify_hostname NAME -partial_chain
//! -CAfile FILE` judges it on the same server, by verdict and by error number, but for the differences that
//! `docs/verification.md` lists. The table is in `tests/oracle/`.
//!
//! `ORACLE_OPENSSL=/path/to/openssl` names another judge than the machine's command.

mod oracle;
mod support;
mod tls_client;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;

use oracle::{Case, Demand, Line, Verdict, cases};
use skytls::config::Loader;
use skytls::error::{Chain, Error};
use skytls::tls::Generation;
use skytls::transport::Connector;
use support::command::openssl;
use support::openssl::{Peer, Server};
use support::process::{Process, Skytls, clean};
use tempfile::TempDir;

/// A case on disk, and its server.
struct Stage {
    folder: TempDir,
    server: Server,
}

/// One in so many cases is also put to `skytls check`.
const SAMPLE: usize = 12;
/// The reasons for differences that `docs/verification.md` gives.
const REASONS: usize = 10;

#[test]
fn every_chain_is_judged_as_s_client_judges_it() {
    let cases = cases();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let checked = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { break };
            let stage = Stage::of(case);
            let mut wrong = try_out(case, &stage);
            // A process for each would take too long.
            if number.is_multiple_of(SAMPLE) || case.deliberate.is_some() {
                checked.fetch_add(1, Ordering::Relaxed);
                wrong.extend(check(case, &stage));
            }
            let mut faults = faults.lock().expect("nobody panics with it");
            faults.extend(wrong.into_iter().map(|wrong| format!("{case}: {wrong}")));
        }
    };
    thread::scope(|scope| {
        // Most of the time is spent waiting for processes to start.
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    let faults = faults.into_inner().expect("all threads have ended");
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));

    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, reason) in cases.iter().filter_map(|case| case.deliberate) {
        *reasons.entry(reason).or_default() += 1;
    }
    let deliberate: usize = reasons.values().sum();
    let (all, checked) = (cases.len(), checked.into_inner());
    let mut summary = format!(
        "\noracle: {all} handshakes, 0 disagreements ({deliberate} deliberate differences); \
         {checked} of them by skytls check too\n"
    );
    for (reason, count) in &reasons {
        summary.push_str(&format!("  {count} × {reason}\n"));
    }
    // Past the test harness, which would keep it to itself.
    std::io::stdout().write_all(summary.as_bytes()).expect("stdout is open");
    assert!(all >= 500 && reasons.len() == REASONS, "{all} cases, {reasons:?}");
}

/// What is not as the table says, of the judge and of skytls.
fn try_out(case: &Case, stage: &Stage) -> Vec<String> {
    let (judge, ours) = (judge(case, stage), skytls(case, stage));
    let mut wrong = Vec::new();
    let table = case.verdict_of(line_of_judge());
    if judge != table {
        wrong.push(format!("openssl says {judge:?}, and the table {table:?}"));
    }
    if ours != case.expected(line_linked()) {
        wrong.push(format!("skytls says {ours:?}, and openssl {judge:?}"));
    }
    wrong
}

// === impl Stage ===

impl Stage {
    fn of(case: &Case) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a temporary folder");
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file can be written");
            path
        };
        put("ca.crt", &case.trusted);
        let (chain, key) = (put("server.crt", &case.sent), put("server.pem", &case.key.pem()));
        for demand in &case.demands {
            if let Demand::Lists(lists) = demand {
                put("lists.pem", lists);
                // s_client takes one list by -CRL, and any number out of this file.
                put("ca-and-lists.crt", &format!("{}{lists}", case.trusted));
            }
        }
        // Weak certificates need the lowest level to be sent.
        let peer = Peer::server(&chain, &key).h2().option("-cipher", "DEFAULT:@SECLEVEL=0");
        let peer = case.server.iter().fold(peer, |peer, argument| peer.flag(argument));
        Self { server: peer.listen(), folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

// === the judge ===

fn judge(case: &Case, stage: &Stage) -> Verdict {
    let name = case.name_of_judge.as_ref().unwrap_or(&case.name);
    let kind = if name.parse::<IpAddr>().is_ok() { "-verify_ip" } else { "-verify_hostname" };
    let mut arguments: Vec<String> =
        ["s_client", "-connect", &stage.server.address.to_string(), "-verify_return_error"]
            .map(str::to_owned)
            .to_vec();
    let mut say = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    say(&[kind, name]);
    let (mut partial, mut ca) = (true, "ca.crt");
    for demand in &case.demands {
        match demand {
            Demand::Strict => say(&["-x509_strict"]),
            Demand::Depth(depth) => say(&["-verify_depth", &depth.to_string()]),
            Demand::Level(level) => say(&["-cipher", &format!("DEFAULT:@SECLEVEL={level}")]),
            Demand::NoPartialChain => partial = false,
            Demand::Lists(_) => {
                ca = "ca-and-lists.crt";
                say(&["-crl_check_all"]);
            }
            Demand::OfJudge(words) => say(words),
        }
    }
    say(&["-CAfile", &stage.file(ca)]);
    if partial {
        say(&["-partial_chain"]);
    }
    let mut command = Command::new(program());
    clean(&mut command);
    command.args(arguments);
    let finished = Process::start(command, Stdio::null()).finish();
    if finished.code == 0 {
        Verdict::Trusted
    } else {
        Verdict::Refused(number(&finished.stderr, "verify error:num="))
    }
}

fn program() -> &'static Path {
    static PROGRAM: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
        std::env::var_os("ORACLE_OPENSSL").map_or_else(|| openssl().to_owned(), Into::into)
    });
    &PROGRAM
}

fn line_of_judge() -> Line {
    static LINE: LazyLock<Line> = LazyLock::new(|| {
        let output = Command::new(program()).arg("version").output().expect("it runs");
        Line::of(&String::from_utf8_lossy(&output.stdout))
    });
    *LINE
}

fn line_linked() -> Line {
    Line::of(openssl::version::version())
}

// === skytls ===

/// As a host program would: settings, material, a handshake.
fn skytls(case: &Case, stage: &Stage) -> Verdict {
    match dial(case, stage) {
        Ok(()) => Verdict::Trusted,
        Err(error) => Verdict::Refused(number(&Chain(&error).to_string(), "verify error ")),
    }
}

fn dial(case: &Case, stage: &Stage) -> Result<(), Error> {
    let mut loader = Loader::new()
        .environment([])
        .set("collector.backend_service", stage.server.address.to_string())
        .set("agent.ssl_trusted_ca_path", stage.file("ca.crt"))
        .set("agent.ssl_server_name", &case.name);
    for (key, value) in settings(case, stage) {
        loader = loader.set(key, value);
    }
    let tls = loader.load()?.settings.tls;
    let connector = Connector::from_generation(&Generation::load(&tls)?);
    let name = tls.server_name.as_deref().expect("it was set");
    tls_client::dial(connector.server_name(name)?, "127.0.0.1", stage.server.port()).map(|_| ())
}

fn settings(case: &Case, stage: &Stage) -> Vec<(&'static str, String)> {
    let setting = |demand: &Demand| match demand {
        Demand::Strict => Some(("agent.ssl_strict", "true".to_owned())),
        Demand::Depth(depth) => Some(("agent.ssl_verify_depth", depth.to_string())),
        Demand::Level(level) => Some(("agent.ssl_security_level", level.to_string())),
        Demand::NoPartialChain => Some(("agent.ssl_partial_chain", "off".to_owned())),
        Demand::Lists(_) => Some(("agent.ssl_crl_path", stage.file("lists.pem"))),
        Demand::OfJudge(_) => None,
    };
    case.demands.iter().filter_map(setting).collect()
}

/// As people would: what the exit code and the number in the JSON of `skytls check` say of it.
fn check(case: &Case, stage: &Stage) -> Option<String> {
    let mut check = Skytls::new(["check", "--tls-only", "--json"])
        .in_folder(stage.folder.path())
        .env("SW_AGENT_SSL_TRUSTED_CA_PATH", stage.file("ca.crt"))
        .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", stage.server.address.to_string())
        .env("SW_AGENT_SSL_SERVER_NAME", &case.name);
    for (key, value) in settings(case, stage) {
        check = check.arg("--set").arg(format!("{key}={value}"));
    }
    let finished = check.run();
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
    let number = report["backends"][0]["tls"]["verify_code"].as_i64();
    let right = match case.expected(line_linked()) {
        Verdict::Trusted => finished.code == 0 && number == Some(0),
        // For another reason than the chain: a setting, a file or the handshake.
        Verdict::Refused(0) => matches!(finished.code, 2 | 4) || case.server.contains(&"-alpn"),
        Verdict::Refused(code) => finished.code == 4 && number == Some(code.into()),
    };
    (!right).then(|| format!("skytls check: exit code {}, number {number:?}", finished.code))
}

/// The number behind a text; 0 if it is not there.
fn number(text: &str, before: &str) -> i32 {
    let rest = text.split_once(before).map_or("", |(_, rest)| rest);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().unwrap_or(0)
}
