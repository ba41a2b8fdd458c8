//! `skytls check`: its arguments, and its report as lines for people or as one JSON document.
//!
//! What is checked and what it means is decided in the check room.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::{env, io};

use clap::Args;
use serde_json::{Value, json};

use super::{SettingsArgs, out};
use crate::check::{BackendReport, Check, Depth, Level, Report, TlsReport, run};
use crate::config::{Key, Loaded};
use crate::error::{Code, Error, Result};

/// Arguments of `skytls check`.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// End after the TLS handshake; the backend need not know HTTP/2
    #[arg(long)]
    tls_only: bool,
    /// Exit with 1 if there are warnings
    #[arg(long)]
    strict: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Whether marks are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Coloured,
}

/// Checks, prints the report, and gives the exit code.
pub(super) fn check(args: &CheckArgs) -> Result<u8> {
    let (loaded, listener) = load(&args.settings)?;
    let depth = if args.tls_only { Depth::Tls } else { Depth::Full };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Bug).found("no threads to be had").because(error))?;
    let report = runtime.block_on(run(loaded, listener, depth));
    // A look-up of a name that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    let text = match args.json {
        true => format!("{:#}\n", document(&report, args.strict)),
        false => lines(&report, args.strict, style()),
    };
    out::print(&text)?;
    Ok(report.exit(args.strict))
}

/// The settings that a relay would use, except that what is wrong with its listener is no reason not
/// to look at its backend.
#[allow(clippy::type_complexity, reason = "both halves are what the checks take")]
fn load(args: &SettingsArgs) -> Result<(Result<Loaded>, Option<Error>)> {
    let refused = match args.loader()?.load() {
        Ok(loaded) => return Ok((Ok(loaded), None)),
        Err(error) => error,
    };
    let Ok(agent) = args.loader()?.relay(false).load() else { return Ok((Err(refused), None)) };
    let own = agent.effective.get(Key::RelayBackendService).map(|entry| entry.value.clone());
    let loaded = match own.filter(|own| !own.is_empty()) {
        Some(own) => args.loader()?.relay(false).set(Key::BackendService.name(), own).load(),
        None => Ok(agent),
    };
    Ok((loaded, Some(refused)))
}

fn style() -> Style {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match io::stdout().is_terminal() && !unwanted {
        true => Style::Coloured,
        false => Style::Plain,
    }
}

// === lines ===

fn lines(report: &Report, strict: bool, style: Style) -> String {
    let mut text = String::new();
    for check in &report.common {
        line(&mut text, check, style);
    }
    for backend in &report.backends {
        // Writing to a String does not fail.
        let _ = writeln!(text, "\nbackend {}", printable(&backend.address));
        for check in &backend.checks {
            line(&mut text, check, style);
        }
    }
    let count = |level| report.checks().filter(|check| check.level == level).count();
    let _ = writeln!(
        text,
        "\nerrors: {}, warnings: {}, exit code: {}",
        count(Level::Error),
        count(Level::Warning),
        report.exit(strict)
    );
    text
}

fn line(text: &mut String, check: &Check, style: Style) {
    let (mark, colour) = match check.level {
        Level::Info => ("ok", "32"),
        Level::Warning => ("warning", "33"),
        Level::Error => ("error", "31"),
    };
    let mark = match style {
        Style::Plain => format!("{mark:<7}"),
        Style::Coloured => format!("\u{1b}[{colour}m{mark:<7}\u{1b}[0m"),
    };
    let (fact, value) = (printable(&check.fact), printable(&check.value));
    let _ = writeln!(text, "{mark} {:<22} {fact}: {value}", check.id);
    for (what, detail) in [("why", &check.why), ("do", &check.remedy)] {
        if let Some(detail) = detail {
            let _ = writeln!(text, "        {:<5}{}", format!("{what}:"), printable(detail));
        }
    }
}

/// Names come from certificates and peers: control characters must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
        out
    })
}

// === JSON ===

fn document(report: &Report, strict: bool) -> Value {
    let exit = report.exit(strict);
    // What holds for all backends is said of each; without a backend there is still somebody to say
    // it of.
    let common = || report.common.iter();
    let backends: Vec<Value> = match report.backends.as_slice() {
        [] => vec![json!({ "address": null, "checks": checks(common()), "tls": null })],
        backends => backends.iter().map(|backend| entry(backend, common())).collect(),
    };
    json!({ "ok": exit == 0, "exit": exit, "backends": backends, "openssl": report.library })
}

fn entry<'a>(backend: &'a BackendReport, common: impl Iterator<Item = &'a Check>) -> Value {
    json!({
        "address": backend.address,
        "checks": checks(common.chain(&backend.checks)),
        "tls": backend.tls.as_ref().map(tls),
    })
}

fn checks<'a>(checks: impl Iterator<Item = &'a Check>) -> Vec<Value> {
    let one = |check: &Check| {
        json!({
            "id": check.id,
            "ok": check.level == Level::Info,
            "level": check.level.word(),
            "fact": check.fact,
            "value": check.value,
            "why": check.why,
            "do": check.remedy,
        })
    };
    checks.map(one).collect()
}

fn tls(tls: &TlsReport) -> Value {
    let chain: Vec<Value> = tls
        .chain
        .iter()
        .map(|certificate| {
            json!({
                "subject": certificate.subject,
                "issuer": certificate.issuer,
                "not_after": certificate.not_after,
                "serial": certificate.serial,
                "days_left": certificate.days_left,
            })
        })
        .collect();
    json!({
        "protocol": tls.protocol,
        "cipher": tls.cipher,
        "group": tls.group,
        "alpn": tls.alpn,
        "verify_code": tls.verify_code,
        "verify_text": tls.verify_text,
        "matched_name": tls.matched_name,
        "chain": chain,
        "client_ca_names": tls.client_ca_names,
        "resumed": tls.resumed,
    })
}
