//! Providers of OpenSSL: what a configuration file gives them, and where their modules lie.
//!
//! Takes the provider sections of `openssl.cnf` and nothing else: its `ssl_conf` is the policy of the
//! whole process, which OpenSSL has applied already. Loads nothing into the default library context.

use std::env;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ossl_ext::conf::Configuration;
use ossl_ext::context::{Context, Draft};

use super::openssl_cnf;
use crate::error::{Code, Error, Result};

/// What a configuration file gives a provider.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// The file it stands in.
    pub(super) file: PathBuf,
    /// Its lines, but for `activate`: what is loaded is decided here.
    lines: Vec<(String, String)>,
}

/// A configuration file as far as providers are concerned.
pub(super) struct Providers {
    file: Configuration,
    path: PathBuf,
}

/// A context that was made for key URIs.
struct Known {
    description: String,
    context: &'static Context,
}

/// Where distributions keep modules: an OpenSSL that was built in knows no place of its own.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/ossl-modules",
    "/usr/lib/aarch64-linux-gnu/ossl-modules",
    "/usr/lib64/ossl-modules",
    "/usr/lib/ossl-modules",
];

/// The provider for PKCS#11.
const TOKENS: &str = "pkcs11";
/// A token that comes back has to be logged in to again. Without a PIN at hand the provider would ask
/// for one on the terminal, in the middle of a handshake.
const KEEP_PIN: (&str, &str) = ("pkcs11-module-cache-pins", "cache");

/// A private library context with OpenSSL's default provider and these. One for each set of
/// providers and their configuration: a context is never freed.
pub(super) fn context(providers: &[String]) -> Result<&'static Context> {
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    let path = openssl_cnf::path();
    // Whether it can be read at all is judged elsewhere.
    let file = Providers::parse(&path).ok();
    let mut sections = Vec::new();
    for provider in providers {
        let mut section = file.as_ref().and_then(|file| file.section(provider));
        if provider == TOKENS {
            section.get_or_insert_with(|| Section::empty(&path)).set_unless(KEEP_PIN);
        }
        sections.extend(section.map(|section| (provider.as_str(), section)));
    }
    let text = text(&sections);
    let description = format!("{providers:?}\n{text}");
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.iter().find(|known| known.description == description) {
        return Ok(known.context);
    }
    let failed = |error| Error::new(Code::OpenSslFailed).because(error);
    let mut draft = Draft::new().map_err(failed)?;
    if let Some(folder) = modules() {
        draft.search(&folder).map_err(failed)?;
    }
    draft
        .configure(&text)
        .map_err(|error| Error::new(Code::ProviderFailed).file(&path).because(error))?;
    for provider in std::iter::once("default").chain(providers.iter().map(String::as_str)) {
        draft.load(provider).map_err(|error| {
            Error::new(Code::ProviderFailed)
                .key("agent.ssl_provider")
                .found(format_args!("{provider}, which cannot be loaded"))
                .expected("an installed provider")
                .because(error)
        })?;
    }
    let context = draft.keep();
    known.push(Known { description, context });
    Ok(context)
}

/// Where modules are looked for, if OpenSSL does not know by itself.
pub(super) fn modules() -> Option<PathBuf> {
    let named = env::var_os("OPENSSL_MODULES").is_some_and(|value| !value.is_empty());
    if named || !cfg!(feature = "vendored") {
        return None;
    }
    PLACES.iter().map(PathBuf::from).find(|place| place.is_dir())
}

/// The text of a configuration with these sections, and with nothing that is loaded by itself.
pub(super) fn text(sections: &[(&str, Section)]) -> String {
    let mut text = "openssl_conf = init\n[init]\nproviders = providers\n[providers]\n".to_owned();
    // Writing to a String does not fail.
    for (name, _) in sections {
        let _ = writeln!(text, "{name} = section_{name}");
    }
    for (name, section) in sections {
        let _ = writeln!(text, "[section_{name}]");
        for (name, value) in &section.lines {
            let _ = writeln!(text, "{name} = {}", quoted(value));
        }
    }
    text
}

/// A value as it is written in a configuration file: without variables, comments and quotes.
fn quoted(value: &str) -> String {
    let mut quoted = String::new();
    for c in value.chars().filter(|c| !c.is_control()) {
        if matches!(c, '\\' | '$' | '#' | '"' | '\'' | '`') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

// === impl Section ===

impl Section {
    /// The last value of a name.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().rev().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    fn empty(file: &Path) -> Self {
        Self { file: file.to_owned(), lines: Vec::new() }
    }

    /// Adds a line of a name that nobody has given a value.
    fn set_unless(&mut self, (name, value): (&str, &str)) {
        if self.value(name).is_none() {
            self.set(name, value);
        }
    }

    /// Lets a line stand last.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.lines.retain(|(of, _)| of != name);
        self.lines.push((name.to_owned(), value.to_owned()));
    }
}

// === impl Providers ===

impl Providers {
    /// Reads a file.
    pub(super) fn parse(path: &Path) -> Result<Self> {
        let parsed = Configuration::parse(path);
        super::policy::forget_errors();
        match parsed {
            Ok((file, _)) => Ok(Self { file, path: path.to_owned() }),
            Err(error) => {
                let fault = Error::new(Code::ConfigurationBroken).file(path);
                let fault = if let Some(line) = error.line { fault.line(line) } else { fault };
                Err(fault.because(error.errors))
            }
        }
    }

    /// What the file gives a provider: `openssl_conf` → `providers` → its section.
    pub(super) fn section(&self, provider: &str) -> Option<Section> {
        let root = self.file.value("default", "openssl_conf")?;
        let providers = self.file.value(&root, "providers")?;
        self.named(&self.file.value(&providers, provider)?)
    }

    /// A section by its own name, in a file that is included by others.
    pub(super) fn named(&self, section: &str) -> Option<Section> {
        let mut lines = self.file.section(section)?;
        lines.retain(|(name, _)| name != "activate");
        Some(Section { file: self.path.clone(), lines })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `default_properties` of the algorithm section.
    pub(super) fn default_properties(&self) -> Option<String> {
        let root = self.file.value("default", "openssl_conf")?;
        let algorithms = self.file.value(&root, "alg_section")?;
        self.file.value(&algorithms, "default_properties")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parse(text: &str) -> (tempfile::TempDir, Providers) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openssl.cnf");
        fs::write(&path, text).unwrap();
        let providers = Providers::parse(&path).unwrap();
        (folder, providers)
    }

    #[test]
    fn a_section_is_found_through_the_file_and_written_as_it_was() {
        let (_folder, file) = parse(
            "openssl_conf = init\n[init]\nproviders = p\nssl_conf = ssl\nalg_section = a\n[p]\n\
             pkcs11 = mine\n[mine]\nactivate = 1\nmodule = /opt/it's\\ \\#1/x.so\n\
             [ssl]\nsystem_default = policy\n[policy]\nMinProtocol = TLSv1.3\n[a]\n\
             default_properties = fips=no\n",
        );
        assert!(file.section("fips").is_none() && file.named("nowhere").is_none());
        assert_eq!(file.default_properties().as_deref(), Some("fips=no"));
        let mut section = file.section("pkcs11").unwrap();
        section.set("more", "a $b");
        let written = text(&[("pkcs11", section.clone())]);
        assert!(!written.contains("\nssl_conf") && !written.contains("activate"), "{written}");
        let (_folder, again) = parse(&written);
        let again = again.section("pkcs11").unwrap();
        assert_eq!(again.value("module"), section.value("module"));
        assert_eq!(again.value("more"), Some("a $b"));
    }

    #[test]
    fn a_provider_that_is_not_there_is_named() {
        let error = context(&["no-such-provider".to_owned()]).unwrap_err();
        assert_eq!(error.code(), Code::ProviderFailed);
        assert!(error.to_string().contains("no-such-provider"), "{error}");
    }

    #[test]
    fn contexts_are_made_once() {
        let one = context(&["base".to_owned()]).unwrap();
        assert!(std::ptr::eq(one, context(&["base".to_owned()]).unwrap()));
        assert!(!std::ptr::eq(one, context(&[]).unwrap()));
        assert!(one.is_available("default") && one.is_available("base"));
    }
}
