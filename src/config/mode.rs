//! The decision table: when is TLS on, and which combinations are refused.
//!
//! Decides on facts that others gathered; it looks at no file and no network.

use super::proxy::Proxy;
use super::settings::{Backend, LinkSettings, Mode, PlaintextReason, TlsReason};
use crate::error::Code;

/// What the decision rests on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// A CA file was set, or something is at the default path.
    pub(super) ca: bool,
    /// `agent.force_tls`.
    pub(super) force_tls: bool,
    /// `agent.require_tls`.
    pub(super) require_tls: bool,
    /// `agent.ssl_key_path` is set.
    pub(super) key: bool,
    /// `agent.ssl_cert_chain_path` is set.
    pub(super) chain: bool,
    /// Another `agent.ssl_…` setting differs from its default.
    pub(super) other: bool,
}

/// Decides. An error is a combination whose author meant something else than plaintext.
pub(super) fn decide(facts: Facts) -> Result<Mode, Code> {
    if facts.key != facts.chain {
        return Err(Code::HalfIdentity);
    }
    let identity = facts.key && facts.chain;
    let reason = if facts.ca {
        TlsReason::CaFile
    } else if facts.force_tls {
        TlsReason::ForceTls
    } else if identity {
        return Err(Code::IdentityWithoutTls);
    } else if facts.require_tls {
        return Err(Code::TlsRequired);
    } else if facts.other {
        return Err(Code::TlsSettingWithoutTls);
    } else {
        return Ok(Mode::Plaintext(PlaintextReason::NothingAsksForTls));
    };
    Ok(if identity { Mode::Mutual(reason) } else { Mode::Tls(reason) })
}

/// The first backend that plaintext would reach over another machine: the backend's own, or that of the
/// proxy, to which only a Unix socket does not go.
pub(super) fn exposed(mode: Mode, link: &LinkSettings) -> Option<&Backend> {
    let proxy = link.proxy.as_ref();
    let stays = |backend: &Backend| backend.is_local() && !Proxy::leads_away(proxy, backend);
    if mode.is_tls() { None } else { link.backends.iter().find(|backend| !stays(backend)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PLAINTEXT: Result<Mode, Code> = Ok(Mode::Plaintext(PlaintextReason::NothingAsksForTls));

    /// One call for every row of the table, and one for each of its extra rules.
    #[test]
    fn every_row_of_the_table() {
        let no = Facts::default();
        let forced = Facts { force_tls: true, ..no };
        let ca = Facts { ca: true, ..no };
        let both = |facts: Facts| Facts { key: true, chain: true, ..facts };
        assert_eq!(decide(no), PLAINTEXT);
        assert_eq!(decide(Facts { require_tls: true, ..no }), Err(Code::TlsRequired));
        assert_eq!(decide(both(no)), Err(Code::IdentityWithoutTls));
        assert_eq!(decide(forced), Ok(Mode::Tls(TlsReason::ForceTls)));
        assert_eq!(decide(both(forced)), Ok(Mode::Mutual(TlsReason::ForceTls)));
        for facts in [ca, Facts { force_tls: true, ..ca }] {
            assert_eq!(decide(facts), Ok(Mode::Tls(TlsReason::CaFile)));
            assert_eq!(decide(both(facts)), Ok(Mode::Mutual(TlsReason::CaFile)));
        }
        for facts in [no, forced, ca] {
            assert_eq!(decide(Facts { key: true, ..facts }), Err(Code::HalfIdentity));
            assert_eq!(decide(Facts { chain: true, ..facts }), Err(Code::HalfIdentity));
        }
        assert_eq!(decide(Facts { other: true, ..no }), Err(Code::TlsSettingWithoutTls));
        assert!(decide(Facts { other: true, ..ca }).is_ok());
        assert!(decide(Facts { require_tls: true, ..forced }).is_ok());
    }

    /// Whatever the facts: plaintext only when nothing at all speaks for TLS.
    #[test]
    fn plaintext_never_comes_from_a_wish_for_tls() {
        for bits in 0..64_u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let facts = Facts {
                ca: bit(0),
                force_tls: bit(1),
                require_tls: bit(2),
                key: bit(3),
                chain: bit(4),
                other: bit(5),
            };
            assert_eq!(decide(facts) == PLAINTEXT, bits == 0, "{facts:?}");
        }
    }

    #[test]
    fn plaintext_to_this_machine_exposes_nothing() {
        let local = Backend::Tcp { host: "127.0.0.1".into(), port: 1 };
        let remote = Backend::Tcp { host: "oap".into(), port: 1 };
        let socket = Backend::Unix("/run/relay".into());
        let plaintext = Mode::Plaintext(PlaintextReason::NothingAsksForTls);
        let link = |backends: &[&Backend], proxy: Option<&str>| LinkSettings {
            backends: backends.iter().copied().cloned().collect(),
            proxy: proxy.map(|host| Proxy { host: host.into(), port: 1, credentials: None }),
            authority: None,
            upstream_timeout: Duration::from_secs(1),
            longest_rest: Duration::from_secs(1),
            lookup_interval: None,
            keepalive_interval: None,
            connection_max_age: None,
        };
        assert_eq!(exposed(plaintext, &link(&[&local, &remote], None)), Some(&remote));
        assert_eq!(exposed(plaintext, &link(&[&local, &socket], None)), None);
        assert_eq!(exposed(Mode::Tls(TlsReason::CaFile), &link(&[&local, &remote], None)), None);
        // By way of a proxy: what is local there is not local here.
        assert_eq!(exposed(plaintext, &link(&[&local], Some("proxy"))), Some(&local));
        assert_eq!(exposed(plaintext, &link(&[&socket], Some("proxy"))), None);
        assert_eq!(exposed(plaintext, &link(&[&local], Some("::1"))), None);
        assert_eq!(exposed(plaintext, &link(&[&remote], Some("::1"))), Some(&remote));
    }
}
