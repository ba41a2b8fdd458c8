//! Which text wins: override, line of the file, environment, default; expanded and checked.
//!
//! One key at a time. What values mean together is decided in `assemble`.

use std::collections::HashMap;

use super::effective::{Origin, Unused, Warning, WarningKind};
use super::environment::{Environment, Variable};
use super::keys::{self, Key, Status};
use super::placeholder::{self, DEEPEST, Expansion, Failure, LONGEST, MOST, Scope};
use super::properties::{Properties, Property};
use super::value::{self, Fault, Kind};
use crate::error::{Code, Error, Result};

/// Everything a value can come from.
pub(super) struct Layers {
    pub(super) environment: Environment,
    pub(super) file: Option<Properties>,
    pub(super) overrides: Overrides,
}

/// `--set` and calls, by key.
#[derive(Default)]
pub(super) struct Overrides {
    values: HashMap<Key, String>,
    lengths: HashMap<Key, String>,
}

/// A value in force. It may be a secret, so there is no `Debug`.
pub(super) struct Value {
    pub(super) key: Key,
    /// Trimmed, checked, in canonical form; the default where it was blank.
    pub(super) text: String,
    pub(super) origin: Origin,
    /// Somebody wrote it: it is neither the default nor blank.
    pub(super) set: bool,
    /// It is a secret, or was made of one.
    pub(super) secret: bool,
}

/// The suffix of a key that sets the length at which its value is cut.
const LENGTH: &str = "#length";

// === impl Overrides ===

impl Overrides {
    /// Takes one override; a name nobody knows is an error, since somebody just typed it.
    pub(super) fn insert(&mut self, name: &str, value: &str) -> Result<()> {
        let (base, map) = match name.strip_suffix(LENGTH) {
            Some(base) => (base, &mut self.lengths),
            None => (name, &mut self.values),
        };
        let key = Key::from_name(base)
            .filter(|key| base == name || matches!(key.kind(), Kind::Name { .. }));
        let Some(key) = key else {
            let error = Error::new(Code::UnknownKey).key(name);
            return Err(match keys::nearest(base) {
                Some(key) => error.hint(format!("did you mean {}?", key.name())),
                None => error,
            });
        };
        map.insert(key, value.to_owned());
        Ok(())
    }
}

// === impl Layers ===

impl Layers {
    /// The value of a key.
    pub(super) fn resolve(&self, key: Key, warnings: &mut Vec<Warning>) -> Result<Value> {
        let (text, origin, secret) = self.raw(key)?;
        let text = text.trim();
        let mut value = Value {
            key,
            text: key.default_text().to_owned(),
            set: !text.is_empty() && origin != Origin::BuiltIn,
            secret: secret || key.is_secret(),
            origin,
        };
        if value.set {
            value.text = value::check(key.kind(), text).map_err(|fault| value.fault(fault))?;
        } else if let Some(warning) = self.hidden_environment(&value) {
            warnings.push(warning);
        }
        if let Kind::Name { longest } = key.kind() {
            self.cut(&mut value, longest, warnings)?;
        }
        if key.status() == Status::Later && value.text != key.default_text() {
            let fault = Fault::new(Code::NotBuiltYet, &value.text);
            return Err(value.fault(fault.expected(match key.default_text() {
                "" => "no value",
                default => default,
            })));
        }
        Ok(value)
    }

    /// Warnings and the list of unused keys for what the file holds besides settings.
    pub(super) fn unknown(&self, warnings: &mut Vec<Warning>) -> Vec<Unused> {
        let mut unused = Vec::new();
        let Some(file) = &self.file else { return unused };
        for Property { key: name, line, .. } in file.iter() {
            // `key#length` and `key[inner]` are Java's ways to say more about a key.
            let base = name.split(['#', '[']).next().unwrap_or(name);
            if Key::from_name(base).is_some() {
                continue;
            }
            if keys::is_suspicious(base) {
                let text = match keys::nearest(base) {
                    Some(key) => format!("there is no such setting; did you mean {}?", key.name()),
                    None => "there is no such setting".to_owned(),
                };
                let place = Some((file.path().to_owned(), *line));
                warnings.push(Warning {
                    kind: WarningKind::UnknownKey,
                    key: name.clone(),
                    text,
                    place,
                });
            }
            unused.push(Unused { key: name.clone(), line: *line });
        }
        unused
    }

    /// The text that wins, its origin, and whether a secret took part in it.
    fn raw(&self, key: Key) -> Result<(String, Origin, bool)> {
        if let Some(text) = self.overrides.values.get(&key) {
            return Ok((text.clone(), Origin::Override, false));
        }
        let property = self.line(key.name());
        let built_in;
        let text = match property {
            Some((_, property)) => property.value.as_str(),
            None => {
                built_in = format!("${{{}:{}}}", key.environment(), key.default_text());
                &built_in
            }
        };
        let expansion = self.expand(text).map_err(|failure| {
            let mut error = Error::new(failure.code()).key(key.name());
            if let Some((file, property)) = property {
                error = error.file(file.path()).line(property.line);
            }
            failure.explain(error)
        })?;
        let secret = expansion.is_secret();
        let Expansion { text, variables, keys } = expansion;
        // A built-in placeholder finds keys of the file as well, as it would in the file.
        let line = property.or_else(|| keys.first().and_then(|name| self.line(name)));
        let origin = match line {
            Some((file, property)) => Origin::File {
                path: file.path().to_owned(),
                line: property.line,
                environment: variables,
            },
            None if variables.is_empty() => Origin::BuiltIn,
            None => Origin::Environment(variables),
        };
        Ok((text, origin, secret))
    }

    fn line(&self, name: &str) -> Option<(&Properties, &Property)> {
        let file = self.file.as_ref()?;
        Some((file, file.get(name)?))
    }

    fn expand(&self, text: &str) -> Result<Expansion, Failure> {
        let scope = Scope { environment: &self.environment, file: self.file.as_ref() };
        placeholder::expand(text, scope)
    }

    /// A blank line means the default, as in Java, even if the environment says otherwise. For a
    /// switch such as `agent.require_tls` that deserves a word.
    fn hidden_environment(&self, value: &Value) -> Option<Warning> {
        let Origin::File { path, line, environment } = &value.origin else { return None };
        let name = value.key.environment();
        let Variable::Text(text) = self.environment.get(name) else { return None };
        if text.trim().is_empty() || environment.iter().any(|used| used == name) {
            return None;
        }
        Some(Warning {
            kind: WarningKind::BlankHidesEnvironment,
            key: value.key.name().to_owned(),
            text: format!("the blank value means the default, {name} is not used"),
            place: Some((path.clone(), *line)),
        })
    }

    /// Cuts a name as the Java agent does, which counts UTF-16 units.
    fn cut(&self, value: &mut Value, longest: usize, warnings: &mut Vec<Warning>) -> Result<()> {
        let longest = self.length(value.key)?.unwrap_or(longest);
        let mut units = 0;
        let end = value.text.char_indices().find_map(|(at, c)| {
            units += c.len_utf16();
            (units > longest).then_some(at)
        });
        if let Some(end) = end {
            value.text.truncate(end);
            let place = match &value.origin {
                Origin::File { path, line, .. } => Some((path.clone(), *line)),
                _ => None,
            };
            warnings.push(Warning {
                kind: WarningKind::NameCut,
                key: value.key.name().to_owned(),
                text: if value.secret {
                    format!("longer than {longest} characters, cut")
                } else {
                    format!("longer than {longest} characters, cut to {:?}", value.text)
                },
                place,
            });
        }
        Ok(())
    }

    /// The length set by `key#length`.
    fn length(&self, key: Key) -> Result<Option<usize>> {
        let name = format!("{}{LENGTH}", key.name());
        let error = |code| Error::new(code).key(&name);
        let text = match (self.overrides.lengths.get(&key), self.line(&name)) {
            (Some(text), _) => text.clone(),
            (None, Some((_, property))) => {
                self.expand(&property.value)
                    .map_err(|failure| failure.explain(error(failure.code())))?
                    .text
            }
            (None, None) => return Ok(None),
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let kind = Kind::Whole { least: 1, most: i32::MAX as u64 };
        match value::number(kind, text) {
            Ok(length) => Ok(usize::try_from(length).ok()),
            Err(fault) => Err(fault.apply(error(fault.code), false, &[])),
        }
    }
}

// === impl Value ===

impl Value {
    /// An error about this value, without what was found.
    pub(super) fn error(&self, code: Code) -> Error {
        let error = Error::new(code).key(self.key.name());
        match &self.origin {
            Origin::File { path, line, .. } => error.file(path).line(*line),
            _ => error,
        }
    }

    /// An error for what is wrong with this value.
    pub(super) fn fault(&self, fault: Fault) -> Error {
        fault.apply(self.error(fault.code), self.secret, self.origin.environment())
    }
}

// === impl Fault ===

impl Fault {
    /// Completes an error; what was found stays unsaid if it is a secret.
    fn apply(&self, error: Error, secret: bool, environment: &[String]) -> Error {
        let from = match environment {
            [] => String::new(),
            names => format!(" from {}", names.join(", ")),
        };
        let mut error = if secret {
            error.found(format_args!("a value that is not shown{from}"))
        } else {
            error.found(format_args!("{}{from}", self.found))
        };
        if let Some(expected) = &self.expected {
            error = error.expected(expected);
        }
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

// === impl Failure ===

impl Failure {
    fn code(&self) -> Code {
        match self {
            Self::Cycle(_) => Code::PlaceholderCycle,
            Self::TooLarge => Code::PlaceholderTooLarge,
            Self::NotText(_) => Code::BadValue,
        }
    }

    fn explain(&self, error: Error) -> Error {
        match self {
            Self::Cycle(names) => {
                error.found(names.join(" -> ")).expected("names that lead to a value")
            }
            Self::TooLarge => error.found("more").expected(format_args!(
                "at most {LONGEST} bytes, {MOST} placeholders and {DEEPEST} levels of them"
            )),
            Self::NotText(name) => {
                error.found(format_args!("other bytes in {name}")).expected("UTF-8 text")
            }
        }
    }
}

// === impl Expansion ===

impl Expansion {
    /// Whether a secret is part of the text.
    fn is_secret(&self) -> bool {
        let keys = self.keys.iter().filter_map(|name| Key::from_name(name));
        let variables = self.variables.iter().filter_map(|name| Key::from_environment(name));
        keys.chain(variables).any(Key::is_secret)
    }
}
