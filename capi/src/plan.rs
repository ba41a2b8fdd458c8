//! What an agent is to do; fixed once it has been started.

use std::time::Duration;

use skytls::agent::Host;
use skytls::config::Settings;

use crate::callbacks::{
    Callbacks, CommandCallback, ProfileTaskCallback, StateCallback, WatchCallback,
};

#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) language: String,
    pub(crate) version: Option<String>,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) on_state: Option<StateCallback>,
    pub(crate) on_command: Option<CommandCallback>,
    pub(crate) on_profile_task: Option<ProfileTaskCallback>,
    pub(crate) watches: Vec<(String, WatchCallback)>,
    pub(crate) exit_limit: Duration,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            language: "c".to_owned(),
            version: None,
            properties: Vec::new(),
            on_state: None,
            on_command: None,
            on_profile_task: None,
            watches: Vec::new(),
            exit_limit: Duration::ZERO,
        }
    }

    /// What the engine is told about the host.
    pub(crate) fn host(&self, callbacks: &Callbacks, announced: bool) -> Host {
        let mut host = Host::new(&self.language);
        if let Some(version) = &self.version {
            host = host.agent_version(version);
        }
        for (key, value) in &self.properties {
            host = host.property(key, value);
        }
        if !announced {
            host = host.without_events();
        }
        if let Some(command) = self.on_command {
            let callbacks = callbacks.clone();
            host = host.on_command(move |order| command.call(&order, &callbacks));
        }
        if let Some(take) = self.on_profile_task {
            let callbacks = callbacks.clone();
            host = host.on_profile_task(move |task| take.call(&task, &callbacks));
        }
        for (key, watch) in &self.watches {
            let (watch, callbacks) = (*watch, callbacks.clone());
            let name = key.clone();
            host = host.watch(key, move |value| watch.call(&name, value, &callbacks));
        }
        host
    }
}
