//! Which metadata of a local agent goes on to the backend, which the relay adds, and whether a call is
//! let in at all.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Secret, Settings};
use crate::uplink::Metadata;

const AUTHENTICATION: HeaderName = HeaderName::from_static("authentication");
const AGENT_VERSION: HeaderName = HeaderName::from_static("agent-version");

/// The rules, made once from the settings.
#[derive(Debug)]
pub(super) struct Policy {
    /// Names that go with queued records.
    forwarded: Vec<HeaderName>,
    /// `relay.authentication`. It is this relay's own affair: when it is set, no agent's token goes on.
    local: Option<Secret>,
    /// `agent.authentication`, for agents that bring no token.
    token: Option<HeaderValue>,
    /// Whether tokens may travel: they are kept off plaintext that leaves this machine.
    tokens_allowed: bool,
    warned: AtomicBool,
}

// === impl Policy ===

impl Policy {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut forwarded = vec![AUTHENTICATION, AGENT_VERSION];
        // The settings hold only valid names.
        forwarded
            .extend(settings.relay.forward_headers.iter().filter_map(|name| name.parse().ok()));
        let local = settings.relay.authentication.clone();
        if local.is_some() {
            forwarded.retain(|name| *name != AUTHENTICATION);
        }
        let (token, tokens_allowed) = (settings.own_token(), settings.tokens_may_travel());
        Self { forwarded, local, token, tokens_allowed, warned: AtomicBool::new(false) }
    }

    /// Whether a call carries the token that local agents must present, once and exactly.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(local) = &self.local else { return true };
        let local = local.expose().as_bytes();
        let mut presented = headers.get_all(AUTHENTICATION).iter();
        let (Some(first), None) = (presented.next(), presented.next()) else { return false };
        // `eq` takes the same time for every wrong token, but panics on another length.
        first.len() == local.len() && openssl::memcmp::eq(first.as_bytes(), local)
    }

    /// The metadata that goes with queued records.
    pub(super) fn of_records(&self, headers: &HeaderMap) -> Metadata {
        let mut metadata = Metadata::default();
        for name in &self.forwarded {
            for value in headers.get_all(name) {
                let mut value = value.clone();
                value.set_sensitive(*name == AUTHENTICATION);
                metadata.push(name.clone(), value);
            }
        }
        if !metadata.has(&AUTHENTICATION)
            && let Some(token) = &self.token
        {
            metadata.push(AUTHENTICATION, token.clone());
        }
        if !self.tokens_allowed && metadata.remove(&AUTHENTICATION) {
            self.warn_once();
        }
        metadata
    }

    /// The headers of a call that passes through: all of the agent's, but for those that belong to
    /// its connection.
    pub(super) fn of_call(&self, mut headers: HeaderMap) -> HeaderMap {
        for name in
            ["host", "connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"]
        {
            headers.remove(name);
        }
        if self.local.is_some() {
            headers.remove(AUTHENTICATION);
        }
        if let Some(value) = headers.get_mut(AUTHENTICATION) {
            value.set_sensitive(true);
        } else if let Some(token) = &self.token {
            headers.insert(AUTHENTICATION, token.clone());
        }
        if !self.tokens_allowed && headers.remove(AUTHENTICATION).is_some() {
            self.warn_once();
        }
        headers
    }

    fn warn_once(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the token of a local agent is withheld: the link is plaintext and leaves this \
                 machine; do: turn TLS on, or set agent.allow_plaintext_token=true"
            );
        }
    }
}
