//! The `openssl.cnf` in force: where it is, whether OpenSSL takes it, and what its policy says.
//!
//! OpenSSL passes over a missing, unreadable or broken file in silence, and over lines it does not
//! like. Here all of that is found and named. Nothing is made up for: the policy in force is what
//! OpenSSL made of the file. What the settings put on top of it is in `policy`.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Once;

use openssl::ssl::{SslContext, SslContextBuilder, SslMethod};
use ossl_ext::conf::{self, Applied, Configuration, ParseError, Side};

use crate::error::{Chain, Code, Error, Result};

/// Who says which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// `OPENSSL_CONF`.
    Environment,
    /// OpenSSL itself: `openssl.cnf` in OPENSSLDIR.
    Library,
    /// Nobody: an OpenSSL that was built in has none of its own, and this is the distribution's.
    Distribution,
}

/// What became of the file.
#[derive(Debug)]
enum State {
    /// `OPENSSL_CONF` is set to nothing, which is OpenSSL's way of saying "no file".
    Disabled,
    Missing,
    Unreadable(io::Error),
    Broken(ParseError),
    Read(Policy),
}

/// What is read of a file.
#[derive(Debug, Default)]
struct Policy {
    /// The lines of the section that `system_default` names.
    lines: Vec<(String, String)>,
    /// What OpenSSL does not take.
    faults: Vec<Fault>,
}

/// Something in the file that has no effect, although its author meant it to have one.
#[derive(Debug)]
struct Fault {
    error: Error,
    /// Only some distribution's own OpenSSL knows it: no mistake of whoever wrote it.
    foreign: bool,
}

/// The configuration file of this process.
#[derive(Debug)]
pub(super) struct OpensslCnf {
    path: PathBuf,
    named_by: NamedBy,
    state: State,
}

/// Where distributions keep the file, besides the OPENSSLDIR of their own OpenSSL.
const PLACES: [&str; 3] =
    ["/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/usr/lib/ssl/openssl.cnf"];

/// Words that some distribution's patched OpenSSL knows, and no other.
const FOREIGN: [(&str, &str); 4] = [
    ("rh-allow-sha1-signatures", "Fedora and RHEL"),
    ("RHNoEnforceEMSinFIPS", "Fedora and RHEL"),
    ("PROFILE=", "Fedora and RHEL"),
    ("DEFAULT_SUSE", "SUSE"),
];

/// What `alg_section` may hold in every OpenSSL.
const ALGORITHM_OPTIONS: [&str; 2] = ["default_properties", "fips_mode"];

/// Lets an OpenSSL that was built in read the distribution's file, once, as the distribution's own
/// would have at its first use. That changes the process for everybody in it who uses this copy of
/// OpenSSL; the copy is ours. A linked one has read its file itself.
pub(crate) fn establish() {
    static ONCE: Once = Once::new();
    openssl::init();
    ONCE.call_once(|| {
        if let Some((path, NamedBy::Distribution)) = locate() {
            conf::load_modules(&path);
        }
    });
}

/// The file that counts, whether it exists or not; `None` if `OPENSSL_CONF` is set to nothing.
fn locate() -> Option<(PathBuf, NamedBy)> {
    if let Some(path) = env::var_os("OPENSSL_CONF") {
        return (!path.is_empty()).then(|| (path.into(), NamedBy::Environment));
    }
    let own = Path::new(super::library::directory()).join("openssl.cnf");
    if cfg!(feature = "vendored") && is_absent(&own) {
        let found = PLACES.iter().map(Path::new).find(|place| !is_absent(place));
        if let Some(place) = found {
            return Some((place.to_owned(), NamedBy::Distribution));
        }
    }
    Some((own, NamedBy::Library))
}

/// The path of the file that counts, for messages.
pub(super) fn path() -> PathBuf {
    locate().map(|(path, _)| path).unwrap_or_default()
}

/// Not there, as opposed to there and out of reach.
fn is_absent(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A folder can be opened, and OpenSSL takes it for an empty file.
fn try_reading(path: &Path) -> io::Result<()> {
    File::open(path)?.read(&mut [0; 1]).map(drop)
}

// === impl OpensslCnf ===

impl OpensslCnf {
    /// Looks at the file that is in force, having it read first if it is a built-in OpenSSL's.
    pub(super) fn in_force() -> Self {
        establish();
        let Some((path, named_by)) = locate() else {
            let state = State::Disabled;
            return Self { path: PathBuf::new(), named_by: NamedBy::Environment, state };
        };
        let state = match try_reading(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::Missing,
            Err(error) => State::Unreadable(error),
            Ok(()) => match Configuration::parse(&path) {
                Err(error) => State::Broken(error),
                Ok((file, skipped)) => {
                    let mut policy = Policy::default();
                    for error in skipped.errors() {
                        let detail = error.data().unwrap_or_default().to_owned();
                        let reason = error.reason().unwrap_or("an include is missing");
                        policy.fault(
                            Error::new(Code::PolicyLineRefused)
                                .file(&path)
                                .found(format_args!("{reason} {detail}"))
                                .hint("see whether the included file should be there: OpenSSL goes on without it"),
                            // Files are included where they are, and optional where they are not.
                            true,
                        );
                    }
                    policy.examine(&file, &path);
                    State::Read(policy)
                }
            },
        };
        super::policy::forget_errors();
        Self { path, named_by, state }
    }

    /// What is worth a warning. A default file that does not exist is nothing.
    ///
    /// # Errors
    ///
    /// When no policy is in force although there should be one, and when the file that
    /// `OPENSSL_CONF` names has lines without effect: whoever set that meant them.
    pub(super) fn judge(self) -> Result<Vec<String>> {
        let meant = self.named_by == NamedBy::Environment;
        let error = |code| {
            let error = Error::new(code).file(&self.path);
            if meant { error.key("OPENSSL_CONF") } else { error }
        };
        match self.state {
            State::Disabled => Ok(Vec::new()),
            State::Missing if meant => {
                Err(error(Code::ConfigurationUnreadable).found("nothing there"))
            }
            State::Missing => Ok(Vec::new()),
            State::Unreadable(cause) => Err(error(Code::ConfigurationUnreadable).because(cause)),
            State::Broken(ParseError { line, errors }) => {
                let error = error(Code::ConfigurationBroken);
                let error = if let Some(line) = line { error.line(line) } else { error };
                Err(error.because(errors))
            }
            State::Read(policy) => {
                let mut warnings = Vec::new();
                for Fault { error, foreign } in policy.faults {
                    if meant && !foreign {
                        return Err(error);
                    }
                    warnings.push(Chain(&error).to_string());
                }
                Ok(warnings)
            }
        }
    }

    /// The path, empty if `OPENSSL_CONF` is set to nothing.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is there and can be opened.
    pub(super) fn is_readable(&self) -> bool {
        matches!(self.state, State::Broken(_) | State::Read(_))
    }

    /// Who says that it is this file, as a stable word.
    pub(super) fn named_by(&self) -> &'static str {
        match self.named_by {
            NamedBy::Environment => "OPENSSL_CONF",
            NamedBy::Library => "default",
            NamedBy::Distribution => "distribution",
        }
    }

    /// What became of the file, as a stable word.
    pub(super) fn state(&self) -> &'static str {
        match self.state {
            State::Disabled => "disabled",
            State::Missing => "missing",
            State::Unreadable(_) => "unreadable",
            State::Broken(_) => "broken",
            State::Read(_) => "read",
        }
    }

    /// The lines of the policy for TLS, in the order of the file.
    pub(super) fn system_default(&self) -> &[(String, String)] {
        match &self.state {
            State::Read(policy) => &policy.lines,
            _ => &[],
        }
    }

    /// Everything [`Self::judge`] would name.
    pub(super) fn findings(self) -> Vec<String> {
        if let State::Read(policy) = &self.state {
            return policy.faults.iter().map(|fault| Chain(&fault.error).to_string()).collect();
        }
        match self.judge() {
            Ok(warnings) => warnings,
            Err(error) => vec![Chain(&error).to_string()],
        }
    }
}

// === impl Policy ===

impl Policy {
    /// Follows `openssl_conf` → `ssl_conf` → `system_default`, and has OpenSSL judge every line.
    fn examine(&mut self, file: &Configuration, path: &Path) {
        let Some(root) = file.value("default", "openssl_conf") else { return };
        if file.section(&root).is_none() {
            return self.dangling(path, "openssl_conf", &root);
        }
        let culprit = self.examine_algorithms(file, &root, path);
        let Some(ssl) = file.value(&root, "ssl_conf") else { return };
        let Some(names) = file.section(&ssl) else {
            return self.dangling(path, "ssl_conf", &ssl);
        };
        let named = names.into_iter().rev().find(|(name, _)| name == "system_default");
        let Some((_, section)) = named else { return };
        match file.section(&section) {
            None => self.dangling(path, "system_default", &section),
            Some(lines) => {
                self.lines = lines;
                self.examine_lines(path, &section, culprit);
            }
        }
    }

    fn examine_lines(&mut self, path: &Path, section: &str, culprit: Option<Error>) {
        // One for both sides: options of servers in a file for both are no fault, although OpenSSL
        // itself refuses them for a client.
        let mut context = match SslContext::builder(SslMethod::tls()) {
            Ok(context) => context,
            // With config_diagnostics newer versions make no context at all when a line is refused.
            Err(errors) => {
                let all = self.lines.iter().map(|(_, value)| value.as_str()).collect::<String>();
                let error = Error::new(Code::PolicyLineRefused)
                    .file(path)
                    .found(format_args!("[{section}] with config_diagnostics"))
                    .because(errors);
                return self.fault(hinted(error, foreign_to(&all)), false);
            }
        };
        super::policy::forget_errors();
        for at in 0..self.lines.len() {
            let (name, value) = &self.lines[at];
            // As OpenSSL does, so that `TLS.MinProtocol` and `DTLS.MinProtocol` can stand together.
            let command = name.split_once('.').map_or(name.as_str(), |(_, command)| command);
            let line = format!("{name} = {value}");
            if let Some(error) = judge_line(&mut context, command, value) {
                let error = error.file(path).found(format_args!("{line} in [{section}]"));
                let who = foreign_to(&line);
                self.fault(hinted(error, who), who.is_some());
            }
        }
        if self.lines.is_empty() {
            // OpenSSL takes an empty section for a fault of its own; there is nothing to lose.
            return;
        }
        if matches!(conf::apply_section(&mut context, "system_default"), Applied::Unknown) {
            let error = Error::new(Code::PolicyLineRefused)
                .file(path)
                .found(format_args!("[{section}] is not in force"))
                .hint("put ssl_conf first, and look at what stands before it: OpenSSL stops at the first section it cannot set up; a program that set OpenSSL up without its file looks like this too");
            let error = if let Some(culprit) = culprit { error.because(culprit) } else { error };
            self.fault(error, false);
        }
    }

    /// Where `alg_section` comes before `ssl_conf`, a line that is refused ends it all there: it is
    /// given back for that case.
    fn examine_algorithms(
        &mut self,
        file: &Configuration,
        root: &str,
        path: &Path,
    ) -> Option<Error> {
        let section = file.value(root, "alg_section")?;
        let Some(lines) = file.section(&section) else {
            self.dangling(path, "alg_section", &section);
            return None;
        };
        let mut culprit = None;
        for (name, value) in lines {
            if ALGORITHM_OPTIONS.contains(&name.as_str())
                || conf::takes_algorithm_option(&name, &value)
            {
                continue;
            }
            let who = foreign_to(&name);
            let error = Error::new(Code::PolicyLineRefused)
                .file(path)
                .found(format_args!("{name} = {value} in [{section}]"));
            let error = hinted(error, who);
            culprit = culprit.or_else(|| Some(error.clone()));
            self.fault(error, who.is_some());
        }
        culprit
    }

    fn dangling(&mut self, path: &Path, name: &str, section: &str) {
        let error = Error::new(Code::ConfigurationBroken)
            .file(path)
            .found(format_args!("{name} = {section}"))
            .expected(format_args!("a section [{section}]"));
        self.fault(error, false);
    }

    fn fault(&mut self, error: Error, foreign: bool) {
        self.faults.push(Fault { error, foreign });
    }
}

/// What OpenSSL has against a line, if anything. Commands for servers are none of our business.
fn judge_line(context: &mut SslContextBuilder, command: &str, value: &str) -> Option<Error> {
    let error = Error::new(Code::PolicyLineRefused);
    match conf::apply_command(context, Side::Both, command, value) {
        Applied::Yes => None,
        Applied::Unknown if conf::is_command(command) => None,
        Applied::Unknown => Some(error.expected("a command this OpenSSL knows")),
        Applied::Refused(errors) => Some(error.because(errors)),
    }
}

/// Whose OpenSSL alone knows a line, if that is known.
fn foreign_to(line: &str) -> Option<&'static str> {
    FOREIGN.iter().find(|(word, _)| line.contains(word)).map(|(_, who)| *who)
}

fn hinted(error: Error, foreign_to: Option<&str>) -> Error {
    let Some(who) = foreign_to else { return error };
    let way = if cfg!(feature = "vendored") {
        "use a build that links the system's OpenSSL, or say it"
    } else {
        "say it"
    };
    error.hint(format!(
        "only the OpenSSL of {who} knows this, so it is not in force here: {way} in words that every OpenSSL knows, or by agent.ssl_ciphers and agent.ssl_security_level"
    ))
}
