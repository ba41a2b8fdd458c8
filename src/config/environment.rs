//! The environment as the settings see it: read once, through envy, never written.
//!
//! Which variable feeds which key stands in the table of keys; placeholders ask by name.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use super::keys::Key;
use crate::error::{Code, Error, Result};

/// Names the configuration file.
pub(super) const CONFIG: &str = "SW_AGENT_CONFIG";
/// Names the agent folder.
pub(super) const HOME: &str = "SW_AGENT_HOME";

/// All variables. Values may be secrets, so there is no `Debug`.
#[derive(Default)]
pub(super) struct Environment {
    known: Known,
    /// Variables that only placeholders of a file may ask for, by their exact names.
    others: HashMap<String, String>,
    /// Variables with a name in UTF-8 and a value that is not.
    not_text: HashSet<String>,
}

/// What skytls itself reads. envy puts names in lower case, so only names that are spelled exactly
/// as in the table may reach it: `sw_agent_name` is another variable than `SW_AGENT_NAME`.
#[derive(Default, Deserialize)]
struct Known {
    sw_agent_config: Option<PathBuf>,
    sw_agent_home: Option<PathBuf>,
    /// The variables of the table of keys.
    #[serde(flatten)]
    settings: HashMap<String, String>,
}

/// A variable as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    Unset,
    Text(&'a str),
    NotText,
}

// === impl Environment ===

impl Environment {
    /// Sorts variables. Of several with one name the first counts, as for `getenv`.
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self> {
        let mut known = HashMap::new();
        let mut others = HashMap::new();
        let mut not_text = HashSet::new();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            if known.contains_key(&name) || others.contains_key(&name) || not_text.contains(&name) {
                continue;
            }
            match value.into_string() {
                Ok(value) if is_known(&name) => _ = known.insert(name, value),
                Ok(value) => _ = others.insert(name, value),
                Err(_) => _ = not_text.insert(name),
            }
        }
        // Only text that envy has read before comes here, so a failure is ours.
        let known = envy::from_iter(known).map_err(|error| Error::new(Code::Bug).because(error))?;
        Ok(Self { known, others, not_text })
    }

    /// Looks a variable up by its exact name.
    pub(super) fn get(&self, name: &str) -> Variable<'_> {
        if self.not_text.contains(name) {
            return Variable::NotText;
        }
        let known = &self.known;
        let value = match name {
            CONFIG => known.sw_agent_config.as_ref().and_then(|path| path.to_str()),
            HOME => known.sw_agent_home.as_ref().and_then(|path| path.to_str()),
            _ if is_known(name) => known.settings.get(&name.to_lowercase()).map(String::as_str),
            _ => self.others.get(name).map(String::as_str),
        };
        value.map_or(Variable::Unset, Variable::Text)
    }

    /// `SW_AGENT_CONFIG`, unless it is empty.
    pub(super) fn config(&self) -> Result<Option<PathBuf>> {
        self.path(CONFIG, self.known.sw_agent_config.as_ref())
    }

    /// `SW_AGENT_HOME`, unless it is empty.
    pub(super) fn home(&self) -> Result<Option<PathBuf>> {
        self.path(HOME, self.known.sw_agent_home.as_ref())
    }

    fn path(&self, name: &str, path: Option<&PathBuf>) -> Result<Option<PathBuf>> {
        if self.not_text.contains(name) {
            return Err(Error::new(Code::BadValue).key(name).expected("UTF-8 text"));
        }
        Ok(path.filter(|path| !path.as_os_str().is_empty()).cloned())
    }
}

fn is_known(name: &str) -> bool {
    name == CONFIG || name == HOME || Key::from_environment(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::environment;

    #[test]
    fn names_are_exact_though_envy_folds_their_case() {
        let environment = environment(&[
            ("sw_agent_name", "wrong"),
            ("SW_AGENT_NAME", "right"),
            ("Sw_Agent_Name", "wrong"),
            ("other", "o"),
            ("sw_agent_home", "/wrong"),
        ]);
        assert_eq!(environment.get("SW_AGENT_NAME"), Variable::Text("right"));
        assert_eq!(environment.get("sw_agent_name"), Variable::Text("wrong"));
        assert_eq!(environment.get("other"), Variable::Text("o"));
        assert_eq!(environment.get("OTHER"), Variable::Unset);
        assert_eq!(environment.home().unwrap(), None);
    }

    #[test]
    fn values_pass_unchanged() {
        let tricky = " a,b ${X} \u{fc} ";
        let environment = environment(&[("SW_AGENT_NAME", tricky), ("SW_AGENT_FORCE_TLS", "TRUE")]);
        assert_eq!(environment.get("SW_AGENT_NAME"), Variable::Text(tricky));
        assert_eq!(environment.get("SW_AGENT_FORCE_TLS"), Variable::Text("TRUE"));
    }

    #[test]
    fn process_variables_are_paths_and_empty_ones_are_unset() {
        let environment = environment(&[("SW_AGENT_CONFIG", "/x"), ("SW_AGENT_HOME", "")]);
        assert_eq!(environment.config().unwrap(), Some(PathBuf::from("/x")));
        assert_eq!(environment.home().unwrap(), None);
        assert_eq!(environment.get("SW_AGENT_CONFIG"), Variable::Text("/x"));
        assert_eq!(environment.get("SW_AGENT_HOME"), Variable::Text(""));
    }

    #[test]
    fn of_two_variables_with_one_name_the_first_counts() {
        let environment = environment(&[("SW_AGENT_NAME", "first"), ("SW_AGENT_NAME", "second")]);
        assert_eq!(environment.get("SW_AGENT_NAME"), Variable::Text("first"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_neither_panics_nor_counts_as_unset() {
        use std::os::unix::ffi::OsStringExt;
        let bad = || OsString::from_vec(vec![b'a', 0xff]);
        let environment = Environment::new([
            (bad(), OsString::from("v")),
            (OsString::from("SW_AGENT_HOME"), bad()),
            (OsString::from("SW_AGENT_NAME"), bad()),
            (OsString::from("UNRELATED"), bad()),
        ])
        .unwrap();
        assert_eq!(environment.get("SW_AGENT_NAME"), Variable::NotText);
        assert_eq!(environment.get("UNRELATED"), Variable::NotText);
        assert_eq!(environment.home().unwrap_err().code(), Code::BadValue);
    }
}
