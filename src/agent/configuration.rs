//! Dynamic configuration: who watches which key, and what the backend said last.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::v3::{Command, KeyStringValuePair};

/// Told of a new value, or of `None`: the default holds again.
pub(super) type Watch = Arc<dyn Fn(Option<&str>) + Send + Sync>;

/// The watched keys.
#[derive(Default)]
pub(super) struct Watchers(Mutex<State>);

#[derive(Default)]
struct State {
    /// The backend's name for the configuration it sent last.
    uuid: Option<String>,
    watched: Vec<Watched>,
}

struct Watched {
    key: String,
    value: Option<String>,
    watch: Watch,
}

/// A change that a watcher is to be told of.
pub(super) struct Change {
    watch: Watch,
    value: Option<String>,
}

/// The name of the command.
pub(super) const COMMAND: &str = "ConfigurationDiscoveryCommand";
const UUID: &str = "UUID";

// === impl Watchers ===

impl Watchers {
    /// The watchers of a host.
    pub(super) fn new(watched: Vec<(String, Watch)>) -> Arc<Self> {
        let watchers = Self::default();
        watched.into_iter().for_each(|(key, watch)| watchers.add(key, watch));
        Arc::new(watchers)
    }

    /// Watches a key from now on.
    pub(super) fn add(&self, key: String, watch: Watch) {
        let mut state = self.state();
        state.watched.push(Watched { key, value: None, watch });
        // The backend says nothing while it takes us to be up to date.
        state.uuid = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().watched.is_empty()
    }

    /// What the backend is told, so that it sends only what is new.
    pub(super) fn uuid(&self) -> String {
        self.state().uuid.clone().unwrap_or_default()
    }

    /// Takes note of a configuration and says who is to be told.
    pub(super) fn update(&self, command: &Command) -> Vec<Change> {
        let value = |key: &str| {
            let pair = command.args.iter().find(|KeyStringValuePair { key: own, .. }| own == key);
            // Blank is the same as missing: as the Java agent has it.
            pair.map(|pair| &pair.value).filter(|value| !value.trim().is_empty()).cloned()
        };
        let uuid = value(UUID);
        let mut state = self.state();
        if uuid.is_some() && uuid == state.uuid {
            return Vec::new();
        }
        state.uuid = uuid;
        let mut changes = Vec::new();
        for watched in &mut state.watched {
            let new = value(&watched.key);
            if new != watched.value {
                watched.value.clone_from(&new);
                changes.push(Change { watch: watched.watch.clone(), value: new });
            }
        }
        changes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_set().entries(state.watched.iter().map(|watched| &watched.key)).finish()
    }
}

// === impl Change ===

impl Change {
    /// Tells the watcher.
    pub(super) fn tell(self) {
        (self.watch)(self.value.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(uuid: &str, pairs: &[(&str, &str)]) -> Command {
        let pair = |(key, value): (&str, &str)| KeyStringValuePair {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let args = [(UUID, uuid)].into_iter().chain(pairs.iter().copied()).map(pair).collect();
        Command { command: COMMAND.to_owned(), args }
    }

    fn values(watchers: &Watchers, command: &Command) -> Vec<Option<String>> {
        watchers.update(command).into_iter().map(|change| change.value).collect()
    }

    #[test]
    fn only_changes_are_told_and_what_is_missing_is_deleted() {
        let watchers = Watchers::default();
        watchers.add("sample".to_owned(), Arc::new(|_| {}));
        assert_eq!(watchers.uuid(), "");
        assert_eq!(values(&watchers, &command("1", &[("other", "x")])), []);
        assert_eq!(watchers.uuid(), "1");
        assert_eq!(values(&watchers, &command("2", &[("sample", "5")])), [Some("5".to_owned())]);
        assert_eq!(values(&watchers, &command("2", &[("sample", "6")])), [], "the same uuid");
        assert_eq!(values(&watchers, &command("3", &[("sample", "5")])), [], "the same value");
        assert_eq!(values(&watchers, &command("4", &[("sample", " ")])), [None]);
        assert_eq!(values(&watchers, &command("5", &[])), []);
    }

    #[test]
    fn a_later_watcher_has_everything_sent_again() {
        let watchers = Watchers::default();
        watchers.add("a".to_owned(), Arc::new(|_| {}));
        assert_eq!(values(&watchers, &command("1", &[("a", "1"), ("b", "2")])).len(), 1);
        watchers.add("b".to_owned(), Arc::new(|_| {}));
        assert_eq!(watchers.uuid(), "");
        let again = command("1", &[("a", "1"), ("b", "2")]);
        assert_eq!(values(&watchers, &again), [Some("2".to_owned())]);
    }
}
