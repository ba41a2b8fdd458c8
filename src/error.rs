//! The one public error type: what failed, at which stage, with which facts, and why.
//!
//! An [`Error`] never carries a secret and never prints its source: [`Error`]'s `Display` is one
//! clause, [`Chain`] joins it with everything underneath and the remedy.

mod catalogue;

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use catalogue::{Code, Kind, Stage};

/// What goes wrong in skytls: a [`Code`] of the catalogue, facts, and a source.
///
/// The id ([`Code::id`]) stays the same for ever; the wording may change.
///
/// Cheap to clone: one failure may answer many waiting callers.
#[derive(Clone)]
pub struct Error(Box<Inner>);

/// A result whose error is skytls's own.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone)]
struct Inner {
    code: Code,
    facts: Vec<(Fact, String)>,
    hint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The name of a fact an [`Error`] carries beside its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// The setting the fault was found in.
    Key,
    /// The file the fault was found in.
    File,
    /// The line of that file, counted from 1.
    Line,
    /// The peer, as it was dialled.
    Peer,
    /// What was found.
    Found,
    /// What was expected instead.
    Expected,
}

/// Prints an error with all its sources on one line, led by the id and closed by the remedy.
///
/// ```
/// use skytls::error::{Chain, Code, Error};
/// let error = Error::new(Code::BackendMissing).key("collector.backend_service");
/// assert!(Chain(&error).to_string().starts_with("SKT-"));
/// ```
pub struct Chain<'a>(pub &'a Error);

// === impl Error ===

impl Error {
    /// An error of this code, without facts yet.
    pub fn new(code: Code) -> Self {
        Self(Box::new(Inner { code, facts: Vec::new(), hint: None, source: None }))
    }

    /// Names the setting.
    #[must_use]
    pub fn key(self, key: impl fmt::Display) -> Self {
        self.fact(Fact::Key, key)
    }

    /// Names the file.
    #[must_use]
    pub fn file(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().display().to_string();
        self.fact(Fact::File, path)
    }

    /// Names the line, counted from 1.
    #[must_use]
    pub fn line(self, line: usize) -> Self {
        self.fact(Fact::Line, line)
    }

    /// Names the peer as it was dialled.
    #[must_use]
    pub fn peer(self, peer: impl fmt::Display) -> Self {
        self.fact(Fact::Peer, peer)
    }

    /// Says what was found.
    #[must_use]
    pub fn found(self, found: impl fmt::Display) -> Self {
        self.fact(Fact::Found, found)
    }

    /// Says what was expected instead.
    #[must_use]
    pub fn expected(self, expected: impl fmt::Display) -> Self {
        self.fact(Fact::Expected, expected)
    }

    /// Replaces the catalogue's remedy by one that fits this very case.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the error underneath as the source.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// The entry of the catalogue.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The stable id, `SKT-nnn`.
    pub fn id(&self) -> String {
        self.0.code.id()
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.0.code.kind()
    }

    /// Where on the way it happened.
    pub fn stage(&self) -> Stage {
        self.0.code.stage()
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        self.0.hint.as_deref().unwrap_or(self.0.code.remedy())
    }

    /// The value of a fact, if the error carries it.
    pub fn get(&self, fact: Fact) -> Option<&str> {
        self.0.facts.iter().find(|(name, _)| *name == fact).map(|(_, value)| value.as_str())
    }

    /// The exit code of the command line: 2 settings, 3 network, 4 TLS, 5 RPC, 64 usage, 70 a bug.
    pub fn exit_code(&self) -> u8 {
        self.kind().exit_code()
    }

    fn fact(mut self, fact: Fact, value: impl fmt::Display) -> Self {
        self.0.facts.push((fact, clean(&value.to_string())));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code.title())?;
        for (i, (fact, value)) in self.0.facts.iter().enumerate() {
            f.write_str(if i == 0 { " (" } else { ", " })?;
            write!(f, "{} {value}", fact.label())?;
        }
        if !self.0.facts.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {self}", self.id())?;
        if let Some(source) = &self.0.source {
            write!(f, ", source: {source:?}")?;
        }
        f.write_str(")")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

// === impl Fact ===

impl Fact {
    fn label(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::File => "file",
            Self::Line => "line",
            Self::Peer => "peer",
            Self::Found => "found",
            Self::Expected => "expected",
        }
    }
}

// === impl Chain ===

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.id(), self.0)?;
        let mut next = self.0.source();
        let mut above = String::new();
        while let Some(error) = next {
            let text = error.to_string();
            // Some errors, OpenSSL's among them, print their source themselves.
            if !above.contains(&text) {
                write!(f, ": {}", clean(&text))?;
                above = text;
            }
            next = error.source();
        }
        write!(f, "; do: {}", self.0.remedy())
    }
}

/// Facts come from files and peers: control characters must not reach a terminal or forge a log line.
fn clean(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_clause_without_the_source() {
        let error = Error::new(Code::FileUnreadable)
            .file("/x/ca.crt")
            .found("mode 0000")
            .because(std::io::Error::other("permission denied"));
        let text = error.to_string();
        assert!(text.contains("/x/ca.crt") && text.contains("mode 0000"), "{text}");
        assert!(!text.contains("permission denied"), "{text}");
        let chain = Chain(&error).to_string();
        assert!(chain.starts_with("SKT-202 ") && chain.contains("permission denied"), "{chain}");
        assert!(chain.contains("; do: "), "{chain}");
    }

    #[test]
    fn control_characters_of_facts_are_escaped_and_long_facts_are_cut() {
        let error = Error::new(Code::BadValue).found("a\nb\u{1b}[31m").expected("x".repeat(2000));
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text}");
        assert!(text.len() < 1000);
    }
}
