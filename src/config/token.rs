//! The one rule about the token: it does not travel in plaintext to another machine.
//!
//! Relay and agent both send tokens; what they do when they may not is theirs.

use http::HeaderValue;

use super::mode::exposed;
use super::settings::Settings;

impl Settings {
    /// Whether tokens may travel: by TLS, on this machine, or because that was said.
    pub(crate) fn tokens_may_travel(&self) -> bool {
        self.agent.allow_plaintext_token || exposed(self.tls.mode, &self.link).is_none()
    }

    /// `agent.authentication` as it is sent.
    pub(crate) fn own_token(&self) -> Option<HeaderValue> {
        let token = self.agent.authentication.as_ref()?;
        let mut value = HeaderValue::from_str(token.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Loader;

    fn may_travel(backend: &str, more: &[(&str, &str)]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let loader = Loader::new().environment([]).directory(folder.path()).relay(true);
        let loader = loader.set("collector.backend_service", backend);
        let loader = more.iter().fold(loader, |loader, &(key, value)| loader.set(key, value));
        loader.load().unwrap().settings.tokens_may_travel()
    }

    /// Also those of other agents, about which the settings say nothing.
    #[test]
    fn tokens_stay_off_plaintext_that_leaves_this_machine() {
        let here = ("collector.proxy", "http://127.0.0.1:3128");
        let away = ("collector.proxy", "http://proxy:3128");
        assert!(may_travel("127.0.0.1:1", &[]) && !may_travel("oap:1", &[]));
        assert!(!may_travel("127.0.0.1:1,oap:1", &[]));
        // A proxy's loopback address is not this machine's.
        assert!(may_travel("127.0.0.1:1", &[here]) && !may_travel("127.0.0.1:1", &[away]));
        assert!(may_travel("unix:/run/relay", &[away]));
        assert!(may_travel("oap:1", &[away, ("agent.force_tls", "true")]));
        assert!(may_travel("oap:1", &[away, ("agent.allow_plaintext_token", "true")]));
    }
}
