//! The checks behind `skytls check`: what holds on the way from the settings to the backend, as a typed
//! report.
//!
//! It prints nothing and heals nothing. It goes the way an agent goes, by the same layers, once: each
//! backend gets one connection, and at its end one call that leaves no trace. Where all was well, one
//! handshake more shows whether the session is resumed.

mod certificates;
mod explain;
mod files;
mod fips;
mod probe;
mod session;
mod settings;
mod trust;
mod wire;

use std::error::Error as _;

use crate::config::{Loaded, Settings};
use crate::error::{Code, Error, Result};
use crate::tls::{CertificateInfo, Description, Generation, Library};
use crate::transport::targets;

/// All that was found out.
#[derive(Debug)]
pub(crate) struct Report {
    /// Which OpenSSL.
    pub(crate) library: Library,
    /// What holds for every backend: settings, files, OpenSSL.
    pub(crate) common: Vec<Check>,
    /// In the order of the settings; empty when these did not get as far.
    pub(crate) backends: Vec<BackendReport>,
}

/// What was found out about one backend.
#[derive(Debug)]
pub(crate) struct BackendReport {
    /// As it was set.
    pub(crate) address: String,
    /// In the order of the wire.
    pub(crate) checks: Vec<Check>,
    /// `None` when no handshake was begun.
    pub(crate) tls: Option<TlsReport>,
}

/// What TLS showed, whether or not it came to a good end.
#[derive(Debug, Default)]
pub(crate) struct TlsReport {
    pub(crate) protocol: Option<String>,
    pub(crate) cipher: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) alpn: Option<String>,
    /// OpenSSL's `X509_V_…`.
    pub(crate) verify_code: i32,
    pub(crate) verify_text: String,
    pub(crate) matched_name: Option<String>,
    /// As the backend presents it, its own certificate first.
    pub(crate) chain: Vec<CertificateInfo>,
    /// The CAs whose client certificates the backend says it accepts.
    pub(crate) client_ca_names: Vec<String>,
    /// Whether a second connection resumed the session; `None` when that could not be tried.
    pub(crate) resumed: Option<bool>,
    /// Whether the client certificate was asked for and shown.
    identity_shown: bool,
}

/// One fact.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// A stable word: `docs/check.md` lists them all.
    pub(crate) id: String,
    pub(crate) level: Level,
    /// What should be true.
    pub(crate) fact: String,
    /// What was found.
    pub(crate) value: String,
    /// Only of what is not ok.
    pub(crate) why: Option<String>,
    /// Only of what is not ok.
    pub(crate) remedy: Option<String>,
    /// The exit code that an error means.
    exit: u8,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warning,
    Error,
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// To the end of the handshake. That the backend does not choose HTTP/2 is only a warning.
    Tls,
    /// To an answer of the backend.
    Full,
}

/// Certificates that end within so many days are worth a warning.
const SOON: i64 = 30;

/// Checks everything that the settings mean. `listener` is what a relay would be refused for.
pub(crate) async fn run(loaded: Result<Loaded>, listener: Option<Error>, depth: Depth) -> Report {
    let library = Library::inspect();
    let mut report = Report { library, common: Vec::new(), backends: Vec::new() };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            report.common.push(settings::refused(&error));
            return report;
        }
    };
    report.common.extend(settings::checks(&loaded, listener.as_ref(), depth));
    let tls = &loaded.settings.tls;
    report.common.extend(files::paths(&loaded));
    report.common.extend(openssl(&report.library));
    if tls.mode.is_tls() && !report.fails() {
        report.common.extend(fips::checks(tls));
    }
    if report.fails() {
        return report;
    }
    let generation = match tls.mode.is_tls().then(|| Generation::load(tls)).transpose() {
        Ok(generation) => generation,
        Err(error) => {
            report.common.push(files::refused(&error));
            return report;
        }
    };
    if let Some(generation) = &generation {
        report.common.extend(files::material(tls, generation.description()));
    }
    let targets = match targets(&loaded.settings.link, tls, generation.as_ref()) {
        Ok(targets) => targets,
        Err(error) => {
            report.common.push(settings::refused(&error));
            return report;
        }
    };
    let nothing = Description::default();
    let description = generation.as_ref().map_or(&nothing, Generation::description);
    for target in targets {
        let ours = Ours { settings: &loaded.settings, description };
        report.backends.push(wire::check(&target, ours, depth).await);
    }
    report
}

/// What this end brings along.
#[derive(Debug, Clone, Copy)]
struct Ours<'a> {
    settings: &'a Settings,
    description: &'a Description,
}

/// Which OpenSSL is at work, and by which configuration.
fn openssl(library: &Library) -> Vec<Check> {
    let version = format!("{}, {}", library.version, library.origin);
    let path = library.configuration.display().to_string();
    let fact = "OpenSSL reads its configuration";
    vec![
        Check::ok("openssl.library", "OpenSSL 3 or later is in use", version),
        if library.configuration_readable {
            Check::ok("openssl.configuration", fact, path)
        } else {
            Check::warning("openssl.configuration", fact, path)
                .why("the file cannot be read, so OpenSSL's built-in policy is in force")
                .remedy("set OPENSSL_CONF to the openssl.cnf of this system, or make it readable")
        },
    ]
}

// === impl Report ===

impl Report {
    /// 0 ok, 1 warnings if these count; else that of the first backend that fails, at its earliest
    /// stage.
    pub(crate) fn exit(&self, strict: bool) -> u8 {
        let failed = self.checks().find(|check| check.level == Level::Error);
        match failed {
            Some(check) => check.exit,
            None if strict && self.checks().any(|check| check.level == Level::Warning) => 1,
            None => 0,
        }
    }

    /// Every check, in order.
    pub(crate) fn checks(&self) -> impl Iterator<Item = &Check> {
        self.common.iter().chain(self.backends.iter().flat_map(|backend| &backend.checks))
    }

    fn fails(&self) -> bool {
        self.checks().any(|check| check.level == Level::Error)
    }
}

// === impl Check ===

impl Check {
    fn new(id: impl Into<String>, level: Level, fact: &str, value: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            level,
            fact: fact.to_owned(),
            value: value.into(),
            why: None,
            remedy: None,
            exit: 0,
        }
    }

    fn ok(id: &str, fact: &str, value: impl Into<String>) -> Self {
        Self::new(id, Level::Info, fact, value)
    }

    fn warning(id: impl Into<String>, fact: &str, value: impl Into<String>) -> Self {
        Self::new(id, Level::Warning, fact, value)
    }

    /// An error of the catalogue: its id is the value, its facts are the reason.
    fn error(id: &str, fact: &str, error: &Error) -> Self {
        let mut check = Self::new(id, Level::Error, fact, error.id());
        check.exit = error.exit_code();
        check.why = Some(reason(error));
        check.remedy = Some(error.remedy().to_owned());
        check
    }

    fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Adds to the reason.
    fn also(mut self, why: &str) -> Self {
        self.why = Some(match self.why {
            Some(first) => format!("{first}; {why}"),
            None => why.to_owned(),
        });
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same as a warning.
    fn mild(mut self) -> Self {
        self.level = Level::Warning;
        self.exit = 0;
        self
    }
}

/// An error with its sources, without id and remedy: these stand elsewhere.
fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = plain(&source.to_string());
        // Some errors, OpenSSL's among them, print their source themselves; and OpenSSL words an
        // alert, which is among the facts, in another way with each version.
        let alert = text.contains("found alert ") && more.contains(" alert ");
        if !text.contains(&more) && !alert {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

/// OpenSSL's reasons without number, function, file and line, which differ from build to build:
/// `error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:../ssl/x.c:1:…`.
fn plain(text: &str) -> String {
    let piece = |piece: &str| match piece.split(':').collect::<Vec<_>>().as_slice() {
        ["error", _, _, _, reason, _, ..] => (*reason).to_owned(),
        _ => piece.to_owned(),
    };
    text.split(", ").map(piece).collect::<Vec<_>>().join(", ")
}

/// `17 days left`, `ended 3 days ago`: whole days, so that the output changes once a day at most.
fn days(left: i64) -> String {
    match left {
        i64::MIN..=-2 => format!("ended {} days ago", -left - 1),
        -1 => "ended less than a day ago".to_owned(),
        0 => "less than a day left".to_owned(),
        1 => "1 day left".to_owned(),
        _ => format!("{left} days left"),
    }
}

impl Level {
    /// The level as a stable word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What every check of this room that has no better error uses.
fn call_failed(found: impl std::fmt::Display) -> Error {
    Error::new(Code::CallFailed).found(found)
}
