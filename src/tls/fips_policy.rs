//! What is approved for TLS, put on top of every other policy when FIPS is required.
//!
//! A provider alone lets through what it can compute: SHA-1 signatures, RSA of 1024 bits, X25519.
//! What the system's policy and the settings allow is narrowed here, and never widened.

use openssl::ssl::{SslContextBuilder, SslOptions, SslVersion};
use ossl_ext::conf::{self, Applied, Side};
use ossl_ext::context::Context;

use super::openssl_cnf::OpensslCnf;
use crate::config::{Key, PolicySettings};
use crate::error::{Code, Error, Result};

/// Key exchange groups of SP 800-56A, most wanted first, with the other names they go by.
const GROUPS: [(&str, &[&str]); 6] = [
    ("P-256", &["prime256v1", "secp256r1"]),
    ("P-384", &["secp384r1"]),
    ("P-521", &["secp521r1"]),
    ("ffdhe2048", &[]),
    ("ffdhe3072", &[]),
    ("ffdhe4096", &[]),
];

/// Groups with ML-KEM of FIPS 203, of providers that have it.
const HYBRID_GROUPS: [&str; 3] = ["X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"];

/// Those that are offered when nobody has asked for others.
const DEFAULT_GROUPS: [&str; 4] = ["X25519MLKEM768", "P-256", "P-384", "P-521"];

/// Signature algorithms of FIPS 186-5 with digests of SHA-2, in TLS's names and OpenSSL's.
const SIGNATURES: [&str; 21] = [
    "ecdsa_secp256r1_sha256",
    "ecdsa_secp384r1_sha384",
    "ecdsa_secp521r1_sha512",
    "rsa_pss_rsae_sha256",
    "rsa_pss_rsae_sha384",
    "rsa_pss_rsae_sha512",
    "rsa_pss_pss_sha256",
    "rsa_pss_pss_sha384",
    "rsa_pss_pss_sha512",
    "rsa_pkcs1_sha256",
    "rsa_pkcs1_sha384",
    "rsa_pkcs1_sha512",
    "ECDSA+SHA256",
    "ECDSA+SHA384",
    "ECDSA+SHA512",
    "RSA+SHA256",
    "RSA+SHA384",
    "RSA+SHA512",
    "RSA-PSS+SHA256",
    "RSA-PSS+SHA384",
    "RSA-PSS+SHA512",
];

/// How many of [`SIGNATURES`] are TLS's names.
const TLS_NAMES: usize = 12;

/// Signatures of FIPS 186-5 that older providers do not have.
const EDWARDS: [(&str, &str); 2] = [("ed25519", "ED25519"), ("ed448", "ED448")];

/// The security level below which RSA 1024 and SHA-1 would pass.
pub(super) const LEVEL: u32 = 2;

/// A policy that names words: a setting, or a line of `openssl.cnf`.
struct Words<'a> {
    key: Key,
    command: &'static str,
    /// Of the setting.
    set: Option<&'a str>,
    /// Of `openssl.cnf`.
    system: Option<String>,
}

/// Narrows a context that has the system's policy and the settings already.
pub(super) fn enforce(
    context: &mut SslContextBuilder,
    library: &'static Context,
    policy: &PolicySettings,
    side: Side,
) -> Result<()> {
    if ossl_ext::security_level(context) < LEVEL {
        context.set_security_level(LEVEL);
    }
    let cnf = OpensslCnf::in_force();
    let line = |names: &[&str]| {
        let lines = cnf.system_default().iter().rev();
        let mut of = lines.filter(|(name, _)| {
            let name = name.split_once('.').map_or(name.as_str(), |(_, name)| name);
            names.iter().any(|one| one.eq_ignore_ascii_case(name))
        });
        of.next().map(|(_, value)| value.clone())
    };
    suites(context, policy, line(&["Ciphersuites"]))?;
    let groups = Words {
        key: Key::Groups,
        command: "Groups",
        set: policy.groups.as_deref(),
        system: line(&["Groups", "Curves"]),
    };
    let offered = groups.narrowed(&DEFAULT_GROUPS.map(str::to_owned), |word| {
        group(word).is_some() || HYBRID_GROUPS.iter().any(|name| name.eq_ignore_ascii_case(word))
    })?;
    let known = offered.into_iter().filter(|word| takes(library, "Groups", word)).collect();
    groups.apply(context, side, known)?;
    let signatures = Words {
        key: Key::SignatureAlgorithms,
        command: "SignatureAlgorithms",
        set: policy.signature_algorithms.as_deref(),
        system: line(&["SignatureAlgorithms"]),
    };
    let edwards = EDWARDS.iter().filter(|(_, kind)| library.has_key_type(kind));
    let edwards: Vec<&str> = edwards.map(|(name, _)| *name).collect();
    let default: Vec<String> =
        SIGNATURES[..TLS_NAMES].iter().chain(&edwards).map(|&name| name.to_owned()).collect();
    let words = signatures.narrowed(&default, |word| {
        SIGNATURES.iter().chain(&edwards).any(|name| name.eq_ignore_ascii_case(word))
    })?;
    signatures.apply(context, side, words)
}

/// AES with forward secrecy, of whatever is left by the other policies.
fn suites(
    context: &mut SslContextBuilder,
    policy: &PolicySettings,
    system: Option<String>,
) -> Result<()> {
    if let Some(set) = &policy.ciphersuites
        && let Some(word) = words(set).find(|word| !is_suite_of_1_3(word))
    {
        return Err(not_approved(Key::Ciphersuites, word));
    }
    let all = ossl_ext::cipher_suites(context);
    let newer: Vec<&str> =
        all.iter().map(String::as_str).filter(|name| is_suite_of_1_3(name)).collect();
    let older: Vec<&str> =
        all.iter().map(String::as_str).filter(|name| is_suite_of_1_2(name)).collect();
    let failed = |error| Error::new(Code::OpenSslFailed).because(error);
    let off = context.options();
    let uses_1_3 = context.max_proto_version().is_none_or(|most| most == SslVersion::TLS1_3)
        && !off.contains(SslOptions::NO_TLSV1_3);
    let uses_1_2 = context.min_proto_version() != Some(SslVersion::TLS1_3)
        && !off.contains(SslOptions::NO_TLSV1_2);
    let newer_counts = uses_1_3 && !newer.is_empty();
    let older_counts = uses_1_2 && !older.is_empty();
    if !newer_counts && !older_counts {
        return Err(Error::new(Code::FipsNothingLeft)
            .key(policy.ciphersuites.as_ref().map_or("openssl.cnf", |_| Key::Ciphersuites.name()))
            .found(system.unwrap_or_else(|| all.join(":")))
            .expected("a suite with AES and forward secrecy"));
    }
    context.set_ciphersuites(&newer.join(":")).map_err(failed)?;
    if older.is_empty() {
        // A list must not be empty; without one the version is of no use.
        return context.set_min_proto_version(Some(SslVersion::TLS1_3)).map_err(failed);
    }
    context.set_cipher_list(&older.join(":")).map_err(failed)
}

fn is_suite_of_1_3(name: &str) -> bool {
    name.starts_with("TLS_AES_")
}

fn is_suite_of_1_2(name: &str) -> bool {
    (name.starts_with("ECDHE-") || name.starts_with("DHE-"))
        && name.contains("-AES")
        && !name.contains("PSK")
        && !name.contains("-DSS-")
}

/// The approved group of that name, whichever of its names it is.
fn group(word: &str) -> Option<&'static str> {
    let same = |name: &&str| name.eq_ignore_ascii_case(word);
    GROUPS.iter().find(|(name, others)| same(name) || others.iter().any(&same)).map(|g| g.0)
}

/// The words of a list; `?`, `*` and `/` are newer OpenSSL's.
fn words(list: &str) -> impl Iterator<Item = &str> {
    let words = list.split([':', '/', ',']).map(|word| word.trim().trim_start_matches(['?', '*']));
    words.filter(|word| !word.is_empty())
}

/// Whether a TLS context of this library takes a word: providers differ in what they have.
fn takes(library: &'static Context, command: &str, word: &str) -> bool {
    let context = library.ssl_context(ossl_ext::context::Method::Client);
    super::policy::forget_errors();
    context.is_ok_and(|mut context| {
        matches!(conf::apply_command(&mut context, Side::Client, command, word), Applied::Yes)
    })
}

fn not_approved(key: Key, word: &str) -> Error {
    Error::new(Code::FipsConflict)
        .key(key.name())
        .found(word)
        .expected("what FIPS approves")
        .hint(format!("remove {word} from {}, or set agent.ssl_fips=off", key.name()))
}

// === impl Words ===

impl Words<'_> {
    /// What is approved of what was asked for; of a setting all must be, since somebody chose it.
    fn narrowed(&self, default: &[String], approved: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        if let Some(set) = self.set {
            return match words(set).find(|word| !approved(word)) {
                Some(word) => Err(not_approved(self.key, word)),
                None => Ok(words(set).map(str::to_owned).collect()),
            };
        }
        let Some(system) = &self.system else { return Ok(default.to_vec()) };
        Ok(words(system).filter(|word| approved(word)).map(str::to_owned).collect())
    }

    fn apply(&self, context: &mut SslContextBuilder, side: Side, words: Vec<String>) -> Result<()> {
        let list = words.join(":");
        let error = |code| {
            let found = self.set.or(self.system.as_deref()).unwrap_or("its default");
            Error::new(code).key(self.key.name()).found(format_args!("{} = {found}", self.command))
        };
        if list.is_empty() {
            return Err(error(Code::FipsNothingLeft).expected("one that FIPS approves"));
        }
        match conf::apply_command(context, side, self.command, &list) {
            Applied::Yes => Ok(()),
            Applied::Unknown => Err(error(Code::OpenSslFailed)),
            Applied::Refused(errors) => Err(error(Code::FipsNothingLeft).because(errors)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_version_are_read() {
        let list = "?X25519MLKEM768:*P-256 / secp384r1, :";
        assert_eq!(words(list).collect::<Vec<_>>(), ["X25519MLKEM768", "P-256", "secp384r1"]);
        assert_eq!(group("PRIME256V1"), Some("P-256"));
        assert_eq!(group("X25519"), None);
    }

    #[test]
    fn a_setting_is_refused_and_the_systems_policy_narrowed() {
        let mut lists = Words {
            key: Key::Groups,
            command: "Groups",
            set: Some("P-256:X25519"),
            system: Some("X25519:P-384".to_owned()),
        };
        let approved = |word: &str| group(word).is_some();
        let error = lists.narrowed(&[], approved).unwrap_err();
        assert_eq!(error.code(), Code::FipsConflict);
        assert!(error.to_string().contains("X25519"), "{error}");
        lists.set = Some("P-521");
        assert_eq!(lists.narrowed(&[], approved).unwrap(), ["P-521"]);
        lists.set = None;
        assert_eq!(lists.narrowed(&[], approved).unwrap(), ["P-384"]);
        lists.system = None;
        assert_eq!(lists.narrowed(&["x".to_owned()], approved).unwrap(), ["x"]);
    }

    #[test]
    fn suites_are_approved_by_what_they_are_made_of() {
        for name in ["ECDHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-SHA256"] {
            assert!(is_suite_of_1_2(name), "{name}");
        }
        for name in ["AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-PSK-AES128-CBC-SHA"]
        {
            assert!(!is_suite_of_1_2(name), "{name}");
        }
        assert!(is_suite_of_1_3("TLS_AES_256_GCM_SHA384"));
        assert!(!is_suite_of_1_3("TLS_CHACHA20_POLY1305_SHA256"));
    }
}
