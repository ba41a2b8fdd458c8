//! The TLS policy of the settings, put on top of the one OpenSSL took from `openssl.cnf`.
//!
//! Words are passed on as they were written and judged by OpenSSL. One thing is decided here:
//! nothing below TLS 1.2 is ever used. What `openssl.cnf` itself says is told in `openssl_cnf`.

use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslOptions, SslVersion};
use ossl_ext::conf::{self, Applied, Side};

use crate::config::{Key, PolicySettings};
use crate::error::{Code, Error, Result};

/// A setting that is the same thing as a command of `openssl.cnf`.
struct Command<'a> {
    key: Key,
    name: &'static str,
    value: Option<&'a str>,
}

/// Applies the settings to a context that has the system's policy already, and sees to it that
/// what comes out can be used.
pub(super) fn apply(context: &mut SslContextBuilder, policy: &PolicySettings) -> Result<()> {
    for command in commands(policy) {
        let Some(value) = command.value else { continue };
        set(context, command.key, command.name, value)?;
        if command.key == Key::MinProtocol
            && context.min_proto_version().is_some_and(is_below_tls_1_2)
        {
            return Err(too_low(command.key, value));
        }
        if command.key == Key::MaxProtocol
            && context.max_proto_version().is_some_and(is_below_tls_1_2)
        {
            return Err(too_low(command.key, value));
        }
    }
    if let Some(level) = policy.security_level {
        // After the ciphers: their list may hold a level of its own, and the setting is plainer.
        context.set_security_level(level);
    }
    if context.min_proto_version().is_none_or(is_below_tls_1_2) {
        context
            .set_min_proto_version(Some(SslVersion::TLS1_2))
            .map_err(|error| Error::new(Code::OpenSslFailed).because(error))?;
    }
    demand_a_version(context, policy)
}

/// In the order in which they are applied.
fn commands(policy: &PolicySettings) -> [Command<'_>; 6] {
    let signatures = &policy.signature_algorithms;
    [
        (Key::MinProtocol, "MinProtocol", &policy.min_protocol),
        (Key::MaxProtocol, "MaxProtocol", &policy.max_protocol),
        (Key::Ciphers, "CipherString", &policy.ciphers),
        (Key::Ciphersuites, "Ciphersuites", &policy.ciphersuites),
        (Key::Groups, "Groups", &policy.groups),
        (Key::SignatureAlgorithms, "SignatureAlgorithms", signatures),
    ]
    .map(|(key, name, value)| Command { key, name, value: value.as_deref() })
}

fn set(context: &mut SslContextBuilder, key: Key, name: &str, value: &str) -> Result<()> {
    let refused = || Error::new(Code::BadValue).key(key.name()).found(value);
    // OpenSSL takes the versions of DTLS, and does nothing about them.
    if value.starts_with("DTLS") {
        return Err(refused().expected("TLSv1.2 or TLSv1.3"));
    }
    match conf::apply_command(context, Side::Client, name, value) {
        Applied::Yes => Ok(()),
        Applied::Unknown => Err(refused().expected(format_args!("an OpenSSL that knows {name}"))),
        Applied::Refused(errors) => {
            let error = refused().because(errors);
            Err(match key {
                Key::MinProtocol | Key::MaxProtocol => error.expected("TLSv1.2 or TLSv1.3"),
                Key::Ciphers => error.hint("`openssl ciphers -v LIST` shows what a list means"),
                _ => error,
            })
        }
    }
}

fn too_low(key: Key, value: &str) -> Error {
    Error::new(Code::OutOfRange)
        .key(key.name())
        .found(value)
        .expected("TLSv1.2 or TLSv1.3")
        .hint("older versions are never used, whatever is set")
}

fn is_below_tls_1_2(version: SslVersion) -> bool {
    [SslVersion::SSL3, SslVersion::TLS1, SslVersion::TLS1_1].contains(&version)
}

/// A policy that leaves nothing would make every handshake fail with "no protocols available".
fn demand_a_version(context: &mut SslContextBuilder, policy: &PolicySettings) -> Result<()> {
    let (least, most) = (context.min_proto_version(), context.max_proto_version());
    let options = context.options();
    let usable = |version, off| {
        !options.contains(off)
            && least.is_none_or(|least| least == version || least == SslVersion::TLS1_2)
            && most.is_none_or(|most| most == version || most == SslVersion::TLS1_3)
    };
    if usable(SslVersion::TLS1_2, SslOptions::NO_TLSV1_2)
        || usable(SslVersion::TLS1_3, SslOptions::NO_TLSV1_3)
    {
        return Ok(());
    }
    let error = Error::new(Code::NoVersionLeft).found(format_args!(
        "at least {}, at most {}",
        name_of(least),
        name_of(most)
    ));
    Err(if policy.min_protocol.is_some() {
        error.key(Key::MinProtocol.name())
    } else if policy.max_protocol.is_some() {
        error.key(Key::MaxProtocol.name())
    } else {
        error.file(super::openssl_cnf::path())
    })
}

fn name_of(version: Option<SslVersion>) -> &'static str {
    match version {
        None => "any",
        Some(SslVersion::SSL3) => "SSLv3",
        Some(SslVersion::TLS1) => "TLSv1",
        Some(SslVersion::TLS1_1) => "TLSv1.1",
        Some(SslVersion::TLS1_2) => "TLSv1.2",
        Some(_) => "TLSv1.3",
    }
}

/// Takes away what making a context left in this thread's error queue: OpenSSL 3.0 leaves the
/// reasons for lines it passed over there, and a later call would be blamed for them.
pub(super) fn forget_errors() {
    drop(ErrorStack::get());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fact;
    use openssl::ssl::{Ssl, SslContext, SslMethod};

    fn fresh() -> SslContextBuilder {
        SslContext::builder(SslMethod::tls_client()).unwrap()
    }

    fn level(context: SslContextBuilder) -> u32 {
        Ssl::new(&context.build()).unwrap().security_level()
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn without_settings_only_the_floor_is_put_in() {
        let mut context = fresh();
        let before = level(fresh());
        apply(&mut context, &PolicySettings::default()).unwrap();
        assert!(context.min_proto_version().is_some_and(|version| !is_below_tls_1_2(version)));
        assert_eq!(level(context), before);
    }

    #[test]
    fn nothing_below_tls_1_2_even_when_asked() {
        for value in ["SSLv3", "TLSv1", "TLSv1.1"] {
            for policy in [
                PolicySettings { min_protocol: text(value), ..PolicySettings::default() },
                PolicySettings { max_protocol: text(value), ..PolicySettings::default() },
            ] {
                let error = apply(&mut fresh(), &policy).unwrap_err();
                // OpenSSL 4.0 does not know its name any more.
                let unknown = value == "SSLv3" && error.code() == Code::BadValue;
                assert!(unknown || error.code() == Code::OutOfRange, "{error}");
                assert_eq!(error.get(Fact::Found), Some(value));
            }
        }
        let mut context = fresh();
        let policy = PolicySettings { min_protocol: text("None"), ..PolicySettings::default() };
        apply(&mut context, &policy).unwrap();
        assert_eq!(context.min_proto_version(), Some(SslVersion::TLS1_2));
    }

    #[test]
    fn bounds_that_exclude_each_other_are_refused() {
        let policy = PolicySettings {
            min_protocol: text("TLSv1.3"),
            max_protocol: text("TLSv1.2"),
            ..PolicySettings::default()
        };
        let error = apply(&mut fresh(), &policy).unwrap_err();
        assert_eq!(error.code(), Code::NoVersionLeft);
        let mut context = fresh();
        context.set_options(SslOptions::NO_TLSV1_2 | SslOptions::NO_TLSV1_3);
        let error = apply(&mut context, &PolicySettings::default()).unwrap_err();
        assert_eq!(error.code(), Code::NoVersionLeft);
    }

    #[test]
    fn a_bad_word_is_refused_in_openssls_own_words() {
        let none = PolicySettings::default;
        for (policy, key, word) in [
            (PolicySettings { min_protocol: text("TLSv9"), ..none() }, "min_protocol", "bad value"),
            (PolicySettings { max_protocol: text("1.3"), ..none() }, "max_protocol", "bad value"),
            (PolicySettings { ciphers: text("NOPE"), ..none() }, "ciphers", "no cipher match"),
            (PolicySettings { ciphersuites: text("NOPE"), ..none() }, "ciphersuites", "NOPE"),
            (PolicySettings { groups: text("P-256:nope"), ..none() }, "groups", "nope"),
            (
                PolicySettings { signature_algorithms: text("nope"), ..none() },
                "signature_algorithms",
                "nope",
            ),
        ] {
            let error = apply(&mut fresh(), &policy).unwrap_err();
            assert_eq!(error.code(), Code::BadValue, "{error}");
            assert_eq!(error.get(Fact::Key), Some(format!("agent.ssl_{key}").as_str()));
            let text = crate::error::Chain(&error).to_string();
            let cause = text.split("): ").nth(1).unwrap_or_default();
            assert!(cause.contains(word), "{text}");
        }
    }

    #[test]
    fn the_level_is_kept_by_a_cipher_list_and_replaced_by_its_own_setting() {
        let mut context = fresh();
        context.set_security_level(3);
        let mut policy = PolicySettings { ciphers: text("HIGH"), ..PolicySettings::default() };
        apply(&mut context, &policy).unwrap();
        assert_eq!(level(context), 3);
        let mut context = fresh();
        policy.ciphers = text("HIGH:@SECLEVEL=1");
        policy.security_level = Some(2);
        apply(&mut context, &policy).unwrap();
        assert_eq!(level(context), 2);
    }
}
