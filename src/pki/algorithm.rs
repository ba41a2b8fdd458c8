//! The kinds of keys certificates are made with, and the digest each one signs with.
//!
//! Nothing here is weaker than OpenSSL's security level 2 asks for.

use std::fmt;
use std::str::FromStr;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;

use crate::error::{Code, Error};

/// The kind of a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// Ed25519. Neither Java agents nor OAP read such keys.
    Ed25519,
    /// ECDSA over P-256: small, fast, read by every SkyWalking component.
    #[default]
    P256,
    /// ECDSA over P-384.
    P384,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
}

// === impl Algorithm ===

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &'static [Self] =
        &[Self::Ed25519, Self::P256, Self::P384, Self::Rsa2048, Self::Rsa3072];

    /// The word for it on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
        }
    }

    pub(super) fn generate(self) -> Result<PKey<Private>, ErrorStack> {
        match self {
            Self::Ed25519 => PKey::generate_ed25519(),
            Self::P256 => PKey::ec_gen("prime256v1"),
            Self::P384 => PKey::ec_gen("secp384r1"),
            Self::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?),
            Self::Rsa3072 => PKey::from_rsa(Rsa::generate(3072)?),
        }
    }

    /// Whether a certificate of such a key may also be used to encrypt a key, as RSA suites of TLS 1.2 do.
    pub(super) fn enciphers_keys(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072)
    }
}

/// What a key signs with: Ed25519 brings its own digest, P-384 gets one of its strength.
pub(super) fn digest_of(key: &PKeyRef<Private>) -> MessageDigest {
    match key.id() {
        Id::ED25519 => MessageDigest::null(),
        Id::EC if key.bits() > 256 => MessageDigest::sha384(),
        _ => MessageDigest::sha256(),
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|algorithm| algorithm.name()).collect();
            Error::new(Code::BadValue).found(text).expected(names.join(", "))
        })
    }
}
