//! The way from nothing to settings: choose the file, read the environment, resolve every key.
//!
//! The rules themselves stand in the other files of this room; this one only puts them in order.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::assemble::Assembly;
use super::effective::{Effective, Warning};
use super::environment::{self, Environment};
use super::keys::Key;
use super::layers::{Layers, Overrides};
use super::paths;
use super::properties::Properties;
use super::settings::Settings;
use crate::error::{Code, Error, Result};

/// Loads settings.
///
/// ```
/// use skytls::config::Loader;
/// let loaded = Loader::new()
///     .environment([])
///     .set("collector.backend_service", "oap:11800")
///     .set("agent.force_tls", "true")
///     .load()?;
/// assert_eq!(loaded.settings.tls.mode.name(), "tls");
/// # Ok::<(), skytls::error::Error>(())
/// ```
#[must_use]
pub struct Loader {
    file: Choice,
    environment: Option<Vec<(OsString, OsString)>>,
    directory: Option<PathBuf>,
    overrides: Vec<(String, String)>,
    relay: bool,
}

/// Settings with everything that is to be said about them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// What the other rooms work with.
    pub settings: Settings,
    /// Every key with its origin, for people.
    pub effective: Effective,
    /// What works, but perhaps not as meant.
    pub warnings: Vec<Warning>,
}

/// Which file is read.
enum Choice {
    None,
    Discover,
    Explicit(PathBuf),
}

/// Where `agent.config` is looked for, in this order.
const USUAL_PLACES: [&str; 2] = ["config/agent.config", "agent.config"];

// === impl Loader ===

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl Loader {
    /// Built-in values and the environment of the process, no file.
    pub fn new() -> Self {
        Self {
            file: Choice::None,
            environment: None,
            directory: None,
            overrides: Vec::new(),
            relay: false,
        }
    }

    /// Reads this file; it is an error if it does not exist.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Choice::Explicit(path.into());
        self
    }

    /// Reads `$SW_AGENT_CONFIG`, else `./config/agent.config`, else `./agent.config`, else nothing.
    pub fn discover(mut self) -> Self {
        self.file = Choice::Discover;
        self
    }

    /// Takes these variables in place of the environment of the process.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        self.environment = Some(variables.into_iter().collect());
        self
    }

    /// Takes this folder in place of the working directory of the process.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Sets a key above file and environment; the value is taken as it is, without placeholders.
    /// Of several for one key the last counts.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.push((key.into(), value.into()));
        self
    }

    /// Checks one override by itself, for whoever sets one after the other: the key exists, and the value
    /// is of its type. What values mean together, [`load`](Self::load) judges.
    pub fn check(key: &str, value: &str) -> Result<()> {
        let mut overrides = Overrides::default();
        overrides.insert(key, value)?;
        let layers = Layers { environment: Environment::new(Vec::new())?, file: None, overrides };
        // `key#length` has been accepted by its name.
        let key = Key::from_name(key);
        key.map_or(Ok(()), |key| layers.resolve(key, &mut Vec::new()).map(drop))
    }

    /// Loads the settings of a relay: `relay.backend_service` goes before
    /// `collector.backend_service`, and the listen addresses are judged.
    pub fn relay(mut self, relay: bool) -> Self {
        self.relay = relay;
        self
    }

    /// Loads and checks everything. Apart from configuration and passphrase file nothing is read.
    pub fn load(self) -> Result<Loaded> {
        let mut overrides = Overrides::default();
        for (key, value) in &self.overrides {
            overrides.insert(key, value)?;
        }
        let variables = self.environment.unwrap_or_else(|| env::vars_os().collect());
        let environment = Environment::new(variables)?;
        // Without a working directory everything still works that is named absolutely.
        let directory =
            self.directory.or_else(|| env::current_dir().ok()).unwrap_or_else(|| ".".into());

        let path = match self.file {
            Choice::None => None,
            Choice::Explicit(path) => Some(path),
            Choice::Discover => discover(&environment, &directory)?,
        };
        let file = path.as_ref().map(|path| Properties::read(&directory.join(path))).transpose()?;
        let folder = match environment.home()? {
            Some(home) => agent_home(&directory.join(home))?,
            None => paths::agent_folder(path.as_deref(), &directory),
        };

        let layers = Layers { environment, file, overrides };
        let mut warnings = Vec::new();
        let mut values = Vec::with_capacity(Key::ALL.len());
        for &key in Key::ALL {
            values.push(layers.resolve(key, &mut warnings)?);
        }
        let unused = layers.unknown(&mut warnings);
        let file = layers.file.as_ref().map(|file| file.path().to_owned());
        Assembly { values, folder, relay: self.relay, warnings }.finish(unused, file)
    }
}

/// Whatever is at one of the usual places is the file, even if it then cannot be read: going on
/// without it could mean plaintext.
fn discover(environment: &Environment, directory: &Path) -> Result<Option<PathBuf>> {
    if let Some(path) = environment.config()? {
        return Ok(Some(path));
    }
    let there = |place: &&&str| {
        !fs::symlink_metadata(directory.join(place))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    Ok(USUAL_PLACES.iter().find(there).map(PathBuf::from))
}

/// A misspelt agent folder has no CA file and would mean plaintext.
fn agent_home(path: &Path) -> Result<PathBuf> {
    let error = |code| Error::new(code).key(environment::HOME).file(path);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(path.to_owned()),
        Ok(_) => Err(error(Code::BadValue).found("something else").expected("a folder")),
        Err(cause) => Err(error(Code::FileMissing)
            .expected("a folder")
            .because(cause)
            .hint("set SW_AGENT_HOME to the agent folder, or remove it")),
    }
}
