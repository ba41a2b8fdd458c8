//! `${NAME}` and `${NAME:default}`, as the Java agent expands them, within bounds.
//!
//! JVM system properties do not exist here. What the expanded text means is for others to say.

use super::environment::{Environment, Variable};
use super::properties::Properties;

/// The longest text at any step.
pub(super) const LONGEST: usize = 64 * 1024;
/// Placeholders within placeholders.
pub(super) const DEEPEST: usize = 32;
/// Placeholders in one value, those in what they expand to included.
pub(super) const MOST: usize = 1000;

/// Where names are looked up: in the environment, then among the keys of the same file.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) environment: &'a Environment,
    pub(super) file: Option<&'a Properties>,
}

/// Expanded text and what it was made of.
#[derive(Default)]
pub(super) struct Expansion {
    pub(super) text: String,
    /// The environment variables that were found, empty ones too, in the order of first use.
    pub(super) variables: Vec<String>,
    /// The keys of the file that were found.
    pub(super) keys: Vec<String>,
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The names of the circle; the last one is the first again.
    Cycle(Vec<String>),
    /// More text, depth or placeholders than allowed.
    TooLarge,
    /// The environment variable is set, but not to UTF-8 text.
    NotText(String),
}

struct Walk<'a> {
    scope: Scope<'a>,
    /// The placeholders that are being expanded, outermost first.
    open: Vec<String>,
    count: usize,
    variables: Vec<String>,
    keys: Vec<String>,
}

/// Expands every placeholder of a text.
pub(super) fn expand(text: &str, scope: Scope<'_>) -> Result<Expansion, Failure> {
    let mut walk =
        Walk { scope, open: Vec::new(), count: 0, variables: Vec::new(), keys: Vec::new() };
    let text = walk.text(text)?;
    Ok(Expansion { text, variables: walk.variables, keys: walk.keys })
}

// === impl Walk ===

impl Walk<'_> {
    fn text(&mut self, text: &str) -> Result<String, Failure> {
        if text.len() > LONGEST || self.open.len() > DEEPEST {
            return Err(Failure::TooLarge);
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let inner = &rest[start + 2..];
            // Without an end the remaining text stays as it is.
            let Some(end) = end(inner) else { break };
            let after = &inner[end + 1..];
            out.push_str(&rest[..start]);
            match self.placeholder(&inner[..end])? {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[start..rest.len() - after.len()]),
            }
            if out.len() > LONGEST {
                return Err(Failure::TooLarge);
            }
            rest = after;
        }
        out.push_str(rest);
        if out.len() > LONGEST { Err(Failure::TooLarge) } else { Ok(out) }
    }

    /// What stands for a placeholder; nothing when its name resolves nowhere and has no default.
    fn placeholder(&mut self, inner: &str) -> Result<Option<String>, Failure> {
        self.count += 1;
        if self.count > MOST {
            return Err(Failure::TooLarge);
        }
        if let Some(first) = self.open.iter().position(|open| open == inner) {
            let circle = self.open[first..].iter().map(String::as_str).chain([inner]);
            // Only the names: a default may hold a secret.
            return Err(Failure::Cycle(
                circle.map(|inner| inner.split(':').next().unwrap_or(inner).to_owned()).collect(),
            ));
        }
        self.open.push(inner.to_owned());
        let inner = self.text(inner)?;
        // Java tries the whole text as a name first, so a name may contain colons.
        let mut value = self.lookup(&inner)?;
        if value.is_none()
            && let Some((name, default)) = inner.split_once(':')
        {
            value = Some(self.lookup(name)?.unwrap_or_else(|| default.to_owned()));
        }
        let value = value.map(|value| self.text(&value)).transpose()?;
        self.open.pop();
        Ok(value)
    }

    fn lookup(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.scope.environment.get(name) {
            Variable::Text(value) => {
                remember(&mut self.variables, name);
                return Ok(Some(value.to_owned()));
            }
            // Taking the default instead could turn a protection off.
            Variable::NotText => return Err(Failure::NotText(name.to_owned())),
            Variable::Unset => {}
        }
        let property = self.scope.file.and_then(|file| file.get(name));
        Ok(property.map(|property| {
            remember(&mut self.keys, name);
            property.value.clone()
        }))
    }
}

/// Where the placeholder ends whose inner text starts here. Braces nest, also without a dollar
/// sign, so that a default may be JSON.
fn end(inner: &str) -> Option<usize> {
    let mut nested = 0_usize;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => nested += 1,
            b'}' if nested == 0 => return Some(at),
            b'}' => nested -= 1,
            _ => {}
        }
    }
    None
}

fn remember(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::testing::{Xorshift, environment};

    fn with(variables: &[(&str, &str)], file: &str, text: &str) -> Result<Expansion, Failure> {
        let environment = environment(variables);
        let file = Properties::parse(Path::new("agent.config"), file.as_bytes()).unwrap();
        expand(text, Scope { environment: &environment, file: Some(&file) })
    }

    fn text(variables: &[(&str, &str)], file: &str, text: &str) -> String {
        with(variables, file, text).ok().unwrap().text
    }

    fn fails(variables: &[(&str, &str)], file: &str, text: &str) -> Failure {
        with(variables, file, text).err().unwrap()
    }

    #[test]
    fn the_first_colon_splits_name_and_default() {
        assert_eq!(text(&[], "", "${A:127.0.0.1:11800}"), "127.0.0.1:11800");
        assert_eq!(text(&[("A", "oap:1")], "", "${A:127.0.0.1:11800}"), "oap:1");
        assert_eq!(text(&[], "", "${A:}"), "");
        assert_eq!(text(&[], "", "<${A:x}-${B:y}>"), "<x-y>");
    }

    #[test]
    fn the_whole_inner_text_is_tried_as_a_name_first() {
        assert_eq!(text(&[("A:b", "whole"), ("A", "part")], "", "${A:b}"), "whole");
        assert_eq!(text(&[], r"A\:b=whole", "${A:b}"), "whole");
    }

    #[test]
    fn the_environment_comes_before_keys_of_the_file() {
        assert_eq!(text(&[], "other.key=x", "${other.key:d}"), "x");
        assert_eq!(text(&[("other.key", "e")], "other.key=x", "${other.key:d}"), "e");
        let expansion = with(&[("E", "1")], "k=2", "${E}${k}${E}").ok().unwrap();
        assert_eq!((expansion.text.as_str(), expansion.variables.len()), ("121", 1));
        assert_eq!(expansion.keys, ["k"]);
    }

    #[test]
    fn names_and_values_are_expanded_again() {
        assert_eq!(text(&[], "", "${A:${B:x}}"), "x");
        assert_eq!(text(&[("B", "b")], "", "${A:${B:x}}"), "b");
        assert_eq!(text(&[("WHICH", "A"), ("A", "v")], "", "${${WHICH}:d}"), "v");
        assert_eq!(text(&[("A", "${B}"), ("B", "deep")], "", "${A}"), "deep");
        assert_eq!(text(&[], "a=${b}\nb=${c:z}", "${a}"), "z");
    }

    #[test]
    fn braces_nest_without_a_dollar_sign() {
        assert_eq!(text(&[], "", r#"${A:{"org":{"a":1}}}"#), r#"{"org":{"a":1}}"#);
    }

    #[test]
    fn what_resolves_nowhere_stays() {
        assert_eq!(text(&[], "", "a${NOPE}b${X:y}"), "a${NOPE}by");
        assert_eq!(text(&[("B", "b")], "", "${NOPE${B}}"), "${NOPE${B}}");
        assert_eq!(text(&[], "", "a${B"), "a${B");
        assert_eq!(text(&[], "", "${A:{}"), "${A:{}");
        assert_eq!(text(&[], "", "$A {A} $"), "$A {A} $");
        assert_eq!(text(&[], "", "${}"), "${}");
    }

    #[test]
    fn an_empty_variable_counts() {
        let expansion = with(&[("A", "")], "", "${A:default}").ok().unwrap();
        assert_eq!(expansion.text, "");
        assert_eq!(expansion.variables, ["A"]);
    }

    #[test]
    fn circles_are_named() {
        let circle = |names: &[&str]| Failure::Cycle(names.iter().map(|&n| n.into()).collect());
        assert_eq!(fails(&[], "a=${a}", "${a}"), circle(&["a", "a"]));
        assert_eq!(fails(&[], "a=${b:s3cret}\nb=${a}", "${a}"), circle(&["a", "b", "a"]));
        assert_eq!(fails(&[("A", "x${A}")], "", "${A}"), circle(&["A", "A"]));
        // The same name twice side by side is no circle.
        assert_eq!(text(&[("A", "x")], "", "${A}${A}"), "xx");
    }

    #[test]
    fn growth_is_bounded() {
        let mut file = String::from("l0=lollollollollol\n");
        for level in 1..12 {
            let line = format!("${{l{}}}", level - 1).repeat(10);
            file.push_str(&format!("l{level}={line}\n"));
        }
        assert_eq!(fails(&[], &file, "${l11}"), Failure::TooLarge);
        let big = "x".repeat(LONGEST / 2 + 1);
        assert_eq!(fails(&[("B", &big)], "", "${B}${B}"), Failure::TooLarge);
        let deep = format!("{}x{}", "${A:".repeat(500), "}".repeat(500));
        assert_eq!(fails(&[], "", &deep), Failure::TooLarge);
    }

    #[test]
    fn random_text_never_panics() {
        let mut random = Xorshift::new(7);
        let variables = [("A", "${B:x}"), ("B", "}{$"), ("C", "${A}${C}")];
        for _ in 0..20_000 {
            let bytes = random.bytes("${}:ABC\u{e9}".as_bytes(), 30);
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(expansion) = with(&variables, "A:=${B}\n", &text) {
                assert!(expansion.text.len() <= LONGEST);
            }
        }
    }
}
