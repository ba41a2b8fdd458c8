//! What is in force and why: every key with its value as text and its origin, and warnings.
//!
//! For people and for `skytls config`; the other rooms use the typed settings. Secrets never get
//! in here.

use std::fmt;
use std::path::PathBuf;

use super::keys::{Key, Status};

/// Every setting with its origin, and the lines of the file that mean nothing here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Effective {
    /// In the order of [`Key::ALL`].
    pub entries: Vec<Entry>,
    /// Keys of the file that no setting has, in the order of the file.
    pub unused: Vec<Unused>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// One setting in force.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry {
    /// The setting.
    pub key: Key,
    /// Its value in canonical form; [`MASK`] for a secret that is set.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What this version does with the key.
    pub status: Status,
    /// Whether the value is hidden.
    pub secret: bool,
    /// The file that the path was taken for, where there was something to choose.
    pub resolved: Option<PathBuf>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The default of the table.
    BuiltIn,
    /// The built-in placeholder, filled by these environment variables.
    Environment(Vec<String>),
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The environment variables that its placeholders used.
        environment: Vec<String>,
    },
    /// `--set` or a call.
    Override,
}

/// A line of the file that no setting of skytls has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unused {
    /// The key as it is written. The value is not kept: it may be a secret.
    pub key: String,
    /// The line, counted from 1.
    pub line: usize,
}

/// Something that works, but perhaps not as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// What kind of oddity it is.
    pub kind: WarningKind,
    /// The key as it is written.
    pub key: String,
    /// What was found, as one clause.
    pub text: String,
    /// The file and line, if it stands in the file.
    pub place: Option<(PathBuf, usize)>,
}

/// The kinds of warnings; their words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WarningKind {
    /// A blank line of the file keeps an environment variable from acting.
    BlankHidesEnvironment,
    /// HTTP/2 pings are more frequent than SkyWalking's backend allows.
    KeepaliveTooFrequent,
    /// A name is longer than allowed and was cut.
    NameCut,
    /// The relay takes reports from anyone who reaches it.
    OpenListener,
    /// A passphrase is set, but no key.
    PassphraseUnused,
    /// Records travel unprotected to another machine.
    Plaintext,
    /// An address stands twice in a list.
    RepeatedAddress,
    /// A key that looks like one of ours is none.
    UnknownKey,
}

/// Stands for a secret that is set.
pub const MASK: &str = "********";

// === impl Effective ===

impl Effective {
    /// The entry of a key.
    pub fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

// === impl Origin ===

impl Origin {
    /// The origin as a stable word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::BuiltIn => "built_in",
            Self::Environment(_) => "environment",
            Self::File { .. } => "file",
            Self::Override => "override",
        }
    }

    /// The environment variables that took part.
    pub fn environment(&self) -> &[String] {
        match self {
            Self::Environment(names) | Self::File { environment: names, .. } => names,
            Self::BuiltIn | Self::Override => &[],
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::Environment(names) => write!(f, "environment {}", names.join(", ")),
            Self::File { path, line, environment } => {
                write!(f, "{}:{line}", path.display())?;
                if environment.is_empty() {
                    Ok(())
                } else {
                    write!(f, " with {}", environment.join(", "))
                }
            }
            Self::Override => f.write_str("override"),
        }
    }
}

// === impl Warning ===

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)?;
        match &self.place {
            Some((path, line)) => write!(f, " ({}:{line})", path.display()),
            None => Ok(()),
        }
    }
}

// === impl WarningKind ===

impl WarningKind {
    /// The kind as a stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::BlankHidesEnvironment => "blank_hides_environment",
            Self::KeepaliveTooFrequent => "keepalive_too_frequent",
            Self::NameCut => "name_cut",
            Self::OpenListener => "open_listener",
            Self::PassphraseUnused => "passphrase_unused",
            Self::Plaintext => "plaintext",
            Self::RepeatedAddress => "repeated_address",
            Self::UnknownKey => "unknown_key",
        }
    }
}

// === impl Status ===

impl Status {
    /// The status as a stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Later => "later",
            Self::NoEffect => "no_effect",
        }
    }
}
