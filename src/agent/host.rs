//! What the host says about itself, and whom commands are handed to.

use std::fmt;
use std::sync::Arc;

use super::commands::Handlers;
use super::configuration::Watch;
use super::profile::ProfileTask;
use crate::protocol::v3::Command;

/// What a host says about itself, and what it wants to hear of the backend's commands.
///
/// Callbacks are called one after the other, on a thread that may block. While one runs, later commands
/// wait, at most 64 of them, and nothing else does, but for a shutdown: a quarter of a second at its end. One
/// that panics is logged, and keeps nothing from the others.
#[derive(Clone)]
#[must_use]
pub struct Host {
    pub(super) language: String,
    pub(super) version: String,
    pub(super) layer: String,
    pub(super) properties: Vec<(String, String)>,
    pub(super) events: bool,
    pub(super) handlers: Handlers,
    pub(super) watched: Vec<(String, Watch)>,
}

// === impl Host ===

impl Host {
    /// A host in this language, such as `rust`: the instance property `language`, and a word in the
    /// start and shutdown events.
    pub fn new(language: impl Into<String>) -> Self {
        Self {
            language: language.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layer: String::new(),
            properties: Vec::new(),
            events: true,
            handlers: Handlers::default(),
            watched: Vec::new(),
        }
    }

    /// The version of the agent that uses this library: the header `agent-version` and the instance
    /// property `version`. Without it: the library's own.
    pub fn agent_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// The layer of the service. Empty, the default, means `GENERAL`.
    pub fn layer(mut self, layer: impl Into<String>) -> Self {
        self.layer = layer.into();
        self
    }

    /// Adds an instance property behind the usual ones.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// Leaves the start and shutdown events out: a worker process that comes and goes is no instance
    /// that starts.
    pub fn without_events(mut self) -> Self {
        self.events = false;
        self
    }

    /// Watches a key of the dynamic configuration. `watch` is called with each new value, and with
    /// `None` when the key is gone and the default holds again; not when nothing has changed.
    pub fn watch(
        mut self,
        key: impl Into<String>,
        watch: impl Fn(Option<&str>) + Send + Sync + 'static,
    ) -> Self {
        self.watched.push((key.into(), Arc::new(watch)));
        self
    }

    /// Takes profiling tasks; they are asked for only with this.
    pub fn on_profile_task(mut self, take: impl Fn(ProfileTask) + Send + Sync + 'static) -> Self {
        self.handlers.profile = Some(Arc::new(take));
        self
    }

    /// Takes every other command.
    pub fn on_command(mut self, take: impl Fn(Command) + Send + Sync + 'static) -> Self {
        self.handlers.other = Some(Arc::new(take));
        self
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new("rust")
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("language", &self.language)
            .field("version", &self.version)
            .field("layer", &self.layer)
            .field("properties", &self.properties)
            .finish_non_exhaustive()
    }
}
