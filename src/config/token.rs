//! The one rule about the token: it does not travel in plaintext to another machine.
//!
//! Relay and agent both send tokens; what they do when they may not is theirs.

use http::HeaderValue;

use super::settings::Settings;

impl Settings {
    /// Whether tokens may travel: by TLS, on this machine, or because that was said.
    pub(crate) fn tokens_may_travel(&self) -> bool {
        let stays_here = || self.link.backends.iter().all(|backend| backend.is_local());
        self.tls.mode.is_tls() || self.agent.allow_plaintext_token || stays_here()
    }

    /// `agent.authentication` as it is sent.
    pub(crate) fn own_token(&self) -> Option<HeaderValue> {
        let token = self.agent.authentication.as_ref()?;
        let mut value = HeaderValue::from_str(token.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
