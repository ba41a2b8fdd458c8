//! FIPS that is proven: a library context in which a FIPS provider does all the work, and the proof.
//!
//! OpenSSL "loads" a provider that is missing or was tampered with, and a property string says
//! nothing about who does the work. So everything is asked for and seen, at the start and whenever
//! material is read again. What is approved for TLS on top of that is in `fips_policy`.

use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use openssl::pkey::{HasPublic, PKeyRef};
use ossl_ext::context::{Context, Draft, ProviderInfo, key_provider};
use serde::Serialize;

use super::openssl_cnf;
use super::provider::{self, Providers, Section};
use super::read;
use crate::error::{Code, Error, Result};

/// The FIPS provider that was proven to do the work, and what proves it. A provider's name and
/// version are its own words; whether that version has a certificate is for its vendor to show.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FipsInfo {
    /// Such as `OpenSSL FIPS Provider`.
    pub provider: String,
    /// Such as `3.1.2`.
    pub version: String,
    /// What the provider says about its build.
    pub build: String,
    /// The file that configures it; absent where the distribution built that in.
    pub configuration: Option<PathBuf>,
    /// The module that was loaded; absent where the system does not tell.
    pub module: Option<PathBuf>,
    /// What was proven.
    pub proofs: Vec<&'static str>,
    /// The provider that the own private key is a URI of, such as `pkcs11`: that key is used there, and
    /// the proofs say nothing about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_outside: Option<String>,
}

/// A FIPS provider as the configuration describes it.
struct Installation {
    /// Absent where the distribution built the configuration in.
    section: Option<Section>,
    /// If the configuration or the environment says where it is; else OpenSSL finds it.
    module: Option<PathBuf>,
}

/// A context that was proven once.
struct Known {
    text: String,
    /// As it was asked for.
    module: Option<PathBuf>,
    loaded: Loaded,
    context: &'static Context,
}

/// The module's file by both of its names, and how it was: the name that is configured, which may be
/// none, and the one that it was opened by. A self-test reads one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loaded([Option<(PathBuf, Option<Stamp>)>; 2]);

/// Whether the self-test is run. It was passed at the start in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SelfTest {
    Anew,
    /// It would read a file that may be another by now.
    AsBefore,
}

/// Tells whether a file is still the one it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp([u64; 2], [i64; 3]);

/// What has to hold. The last one holds for objects as they are loaded.
const PROOFS: [&str; 8] = [
    "fips=yes is the default property of the private library context",
    "the provider fips is active there",
    "its self-test passes",
    "it says that it runs, and of which version it is",
    "no provider but fips and base is active there",
    "MD5 cannot be had there",
    "SHA-256 is its own",
    "random generators, keys, certificates and revocation lists are its own",
];

/// The name of the provider.
pub(super) const FIPS: &str = "fips";

/// Finds the provider, loads it into a library context of its own, and proves that it does the work.
///
/// # Errors
///
/// Says which proof failed.
pub(super) fn establish(config: Option<&Path>) -> Result<(&'static Context, FipsInfo)> {
    /// A context is never freed, so there is one for each installation; and a module stays in the
    /// process as it was loaded.
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    let installation = find(config)?;
    let sections: Vec<_> = installation.section.iter().map(|s| (FIPS, s.clone())).collect();
    let text = provider::text(&sections);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.iter().find(|known| known.module == installation.module) {
        // The module in memory is the one that was proven. A self-test reads the file, and would
        // put a good module out of service because of a bad file.
        if known.loaded != known.loaded.now() || known.text != text {
            return Err(failed(3, "module or configuration changed after they were loaded")
                .hint("start the process again: a module that is in use cannot be exchanged"));
        }
        // Of a file that nobody can name, nobody knows whether it changed.
        let test = if known.loaded.is_seen() { SelfTest::Anew } else { SelfTest::AsBefore };
        let info = prove(known.context, &installation, test)?;
        return Ok((known.context, info));
    }
    let draft = load(&installation, &text)?;
    // Before the self-test: a file that is exchanged in between has to pass it.
    let loaded = Loaded::of(installation.module.clone(), draft.module(FIPS));
    let info = prove(&draft, &installation, SelfTest::Anew)?;
    let context = draft.keep();
    known.push(Known { text, module: installation.module, loaded, context });
    Ok((context, info))
}

/// The eighth proof for one key, private or of a certificate.
pub(super) fn serves<T: HasPublic>(key: &PKeyRef<T>) -> bool {
    key_provider(key).as_deref() == Some(FIPS)
}

/// The eighth proof fails because of this.
pub(super) fn not_served(what: impl fmt::Display) -> Error {
    failed(8, what)
}

/// A proof, counted from 1, fails.
fn failed(number: usize, why: impl fmt::Display) -> Error {
    Error::new(Code::FipsNotProven)
        .key("agent.ssl_fips")
        .found(format_args!("{why}"))
        .expected(format_args!("proof {number} of 8: {}", PROOFS[number - 1]))
}

/// Where the provider is: in the file that is named, through `openssl.cnf`, in OPENSSL_MODULES, or
/// nowhere, which distributions with a FIPS set-up of their own understand.
fn find(config: Option<&Path>) -> Result<Installation> {
    let system = openssl_cnf::path();
    let system = if system.as_os_str().is_empty() || !system.is_file() {
        None
    } else {
        Some(Providers::parse(&system)?)
    };
    if let Some(system) = &system {
        contradiction(system)?;
    }
    let modules = env::var_os("OPENSSL_MODULES").filter(|value| !value.is_empty());
    let modules = modules.map(PathBuf::from);
    let section = match config {
        Some(path) => {
            read::has_end(path, "agent.ssl_fips_config", path.display())?;
            let file = Providers::parse(path)?;
            contradiction(&file)?;
            // Either a whole configuration, or the file that `openssl fipsinstall` writes.
            let section = file.section(FIPS).or_else(|| file.named("fips_sect"));
            Some(section.ok_or_else(|| {
                Error::new(Code::FipsNotFound)
                    .key("agent.ssl_fips_config")
                    .file(path)
                    .found("neither a provider fips nor a section [fips_sect]")
                    .expected(
                        "the fipsmodule.cnf of `openssl fipsinstall`, or a file that includes it",
                    )
            })?)
        }
        None => match system.and_then(|system| system.section(FIPS)) {
            Some(section) => Some(section),
            None => {
                let beside = modules.as_ref().map(|folder| folder.join("fipsmodule.cnf"));
                let beside = beside.filter(|path| path.is_file());
                beside
                    .map(|path| Providers::parse(&path))
                    .transpose()?
                    .and_then(|f| f.named("fips_sect"))
            }
        },
    };
    Ok(Installation::of(section, modules))
}

/// Whoever wrote `fips=no` as the default property does not mean FIPS.
fn contradiction(file: &Providers) -> Result<()> {
    let Some(properties) = file.default_properties() else { return Ok(()) };
    let no = properties.split(',').map(|one| one.replace(char::is_whitespace, "")).any(|one| {
        let one = one.trim_start_matches('?');
        one.starts_with("-fips") || (one.starts_with("fips") && one != "fips" && one != "fips=yes")
    });
    if !no {
        return Ok(());
    }
    Err(failed(1, format_args!("default_properties = {properties}"))
        .file(file.path())
        .hint("remove the line, or write default_properties = fips=yes"))
}

/// Loads the provider, and base, which reads and writes files and computes nothing.
fn load(installation: &Installation, text: &str) -> Result<Draft> {
    let openssl = |error| Error::new(Code::OpenSslFailed).because(error);
    let mut draft = Draft::new().map_err(openssl)?;
    let folder = installation.module.as_deref().and_then(Path::parent).map(Path::to_owned);
    if let Some(folder) = folder.or_else(provider::modules) {
        draft.search(&folder).map_err(openssl)?;
    }
    draft.configure(text).map_err(openssl)?;
    if let Some(module) = installation.module.as_deref().filter(|module| !module.is_file()) {
        return Err(failed(2, format_args!("no module at {}", module.display()))
            .hint("install the provider there, or correct the configuration that names it"));
    }
    draft.load(FIPS).map_err(|error| {
        let found = installation.describe();
        match installation.section {
            Some(_) => failed(3, found).because(error),
            // Nobody configured it, and no distribution has it built in.
            None => Error::new(Code::FipsNotFound)
                .key("agent.ssl_fips")
                .found(found)
                .expected("an installed provider")
                .because(error),
        }
    })?;
    draft.load("base").map_err(|error| failed(5, "base cannot be loaded").because(error))?;
    draft.ask_for_fips().map_err(|error| failed(1, "it cannot be set").because(error))?;
    Ok(draft)
}

/// Goes through the proofs.
fn prove(context: &Context, installation: &Installation, test: SelfTest) -> Result<FipsInfo> {
    if !context.asks_for_fips() {
        return Err(failed(1, "it is not"));
    }
    if !context.is_available(FIPS) {
        return Err(failed(2, "it is not"));
    }
    if test == SelfTest::Anew && !context.self_test(FIPS) {
        return Err(failed(3, installation.describe()));
    }
    let providers = context.providers();
    let fips = providers.iter().find(|provider| provider.id == FIPS);
    let Some(fips) = fips.filter(|fips| fips.running && !fips.version.is_empty()) else {
        return Err(failed(4, format_args!("{fips:?}")));
    };
    // A distribution with a FIPS set-up of its own may list `default` beside it; that nothing is had
    // from there is what the next two proofs are about.
    let allowed = |provider: &&ProviderInfo| {
        [FIPS, "base"].contains(&provider.id.as_str())
            || (provider.id == "default" && installation.section.is_none())
    };
    if let Some(other) = providers.iter().find(|provider| !allowed(provider)) {
        return Err(failed(5, format_args!("{} is", other.id)));
    }
    if let Some(provider) = context.digest_provider("MD5") {
        return Err(failed(6, format_args!("{provider} has it")));
    }
    let digest = context.digest_provider("SHA2-256");
    if digest.as_deref() != Some(FIPS) {
        return Err(failed(7, format_args!("{} has it", digest.as_deref().unwrap_or("nobody"))));
    }
    let random = context.random_provider();
    if random.as_deref() != Some(FIPS) {
        let whose = random.as_deref().unwrap_or("nobody");
        return Err(failed(8, format_args!("random generators are of {whose}")));
    }
    Ok(FipsInfo {
        provider: fips.name.clone(),
        version: fips.version.clone(),
        build: fips.build.clone(),
        configuration: installation.section.as_ref().map(|section| section.file.clone()),
        module: context.module(FIPS).or_else(|| installation.module.clone()),
        proofs: PROOFS.to_vec(),
        key_outside: None,
    })
}

// === impl Installation ===

impl Installation {
    fn of(section: Option<Section>, modules: Option<PathBuf>) -> Self {
        let Some(mut section) = section else {
            let module = modules.map(|folder| folder.join("fips.so")).filter(|path| path.is_file());
            return Self { section: None, module };
        };
        // TLS 1.2 without the extended master secret is refused by the provider itself, where it
        // knows how; after the handshake it is looked at again.
        section.set("tls1-prf-ems-check", "1");
        let named = section.value("module").map(PathBuf::from);
        let beside = || section.file.parent().map(|folder| folder.join("fips.so"));
        let module = match named {
            Some(path) if path.is_absolute() => Some(path),
            // OpenSSL looks for it in its folder of modules.
            Some(_) => None,
            None => modules
                .map(|folder| folder.join("fips.so"))
                .or_else(|| beside().filter(|path| path.is_file())),
        };
        Self { section: Some(section), module }
    }

    fn describe(&self) -> String {
        let file = self.section.as_ref().map(|section| section.file.display().to_string());
        match (&self.module, file) {
            (Some(module), Some(file)) => format!("{} as {file} configures it", module.display()),
            (Some(module), None) => format!("{} without a configuration", module.display()),
            (None, Some(file)) => format!("the module that {file} configures"),
            (None, None) => "no provider fips in openssl.cnf".to_owned(),
        }
    }
}

// === impl Loaded ===

impl Loaded {
    fn of(configured: Option<PathBuf>, opened: Option<PathBuf>) -> Self {
        Self([configured, opened].map(|path| path.map(Self::stamped)))
    }

    /// The same files as they are by now.
    fn now(&self) -> Self {
        Self(
            self.0
                .each_ref()
                .map(|file| file.as_ref().map(|(path, _)| Self::stamped(path.clone()))),
        )
    }

    /// Whether a change would be noticed.
    fn is_seen(&self) -> bool {
        self.0.iter().flatten().any(|(_, stamp)| stamp.is_some())
    }

    fn stamped(path: PathBuf) -> (PathBuf, Option<Stamp>) {
        let stamp = Stamp::of(&path);
        (path, stamp)
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let size = i64::try_from(file.size()).unwrap_or(i64::MAX);
        Some(Self([file.dev(), file.ino()], [size, file.mtime(), file.mtime_nsec()]))
    }
}

// === impl FipsInfo ===

impl fmt::Display for FipsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {} of 8 proofs", self.provider, self.version, self.proofs.len())?;
        match &self.key_outside {
            Some(provider) => {
                write!(f, "; the own private key is used outside of it, by {provider}")
            }
            None => Ok(()),
        }
    }
}

#[cfg(all(test, feature = "test-fips"))]
mod tests {
    use super::*;

    /// Nobody else can unload it from a private context; if it is gone all the same, it is seen.
    #[test]
    fn a_provider_that_is_gone_is_seen_at_the_next_proof() {
        let folder = env::var_os("SKYTLS_FIPS_DIR").expect("ci/fips says where a provider is");
        let config = Path::new(&folder).join("fips.cnf");
        let installation = find(Some(&config)).unwrap();
        let section = installation.section.clone().unwrap();
        let mut draft = load(&installation, &provider::text(&[(FIPS, section)])).unwrap();
        assert_eq!(prove(&draft, &installation, SelfTest::Anew).unwrap().proofs, PROOFS);
        draft.unload();
        let error = prove(&draft, &installation, SelfTest::Anew).unwrap_err();
        assert_eq!(error.code(), Code::FipsNotProven);
        assert!(error.to_string().contains("proof 2 of 8"), "{error}");
    }

    /// A distribution with a set-up of its own may have `default` there too, and only such a one: what
    /// is had by default is FIPS's all the same.
    #[test]
    fn default_may_stand_beside_it_where_nobody_configured_the_provider() {
        let folder = env::var_os("SKYTLS_FIPS_DIR").expect("ci/fips says where a provider is");
        let installation = find(Some(&Path::new(&folder).join("fips.cnf"))).unwrap();
        let section = installation.section.clone().unwrap();
        let mut draft = load(&installation, &provider::text(&[(FIPS, section)])).unwrap();
        draft.load("default").unwrap();
        let error = prove(&draft, &installation, SelfTest::Anew).unwrap_err();
        assert!(error.to_string().contains("proof 5 of 8"), "{error}");
        let built_in = Installation { section: None, module: installation.module };
        assert_eq!(prove(&draft, &built_in, SelfTest::Anew).unwrap().proofs, PROOFS);
    }
}
