//! Keys of every kind, made once per process since they are what takes time, and signatures by them.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use openssl::dsa::Dsa;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sha::sha1;
use openssl::sign::{RsaPssSaltlen, Signer};

use super::der::{Der, explicit, integer, oid, sequence, tlv};

pub(super) const MADE: &str = "OpenSSL makes it";

/// Whose key, or of what kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// P-256 keys: 0 the root's, 1 the intermediate's, 2 the server's, and others.
    Ec(u16),
    Curve(&'static str),
    Rsa(u32),
    /// An RSA key that is for PSS only.
    RsaPss,
    Ed25519,
    Ed448,
    Dsa(u32),
}

/// How a certificate is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    /// RSA-PSS with this hash number of bits, MGF1 with the same, and a salt of so many bytes.
    Pss(u16, u8),
}

// === impl Key ===

impl Key {
    pub(crate) fn pair(self) -> PKey<Private> {
        static KEYS: LazyLock<Mutex<HashMap<Key, PKey<Private>>>> = LazyLock::new(Mutex::default);
        let known = || KEYS.lock().expect("nobody panics with it");
        if let Some(key) = known().get(&self) {
            return key.clone();
        }
        // Without the lock: one key may be made of another. Of two made at once the first stays.
        let made = self.make();
        known().entry(self).or_insert(made).clone()
    }

    pub(crate) fn pem(self) -> String {
        let pem = self.pair().private_key_to_pem_pkcs8().expect(MADE);
        String::from_utf8(pem).expect("PEM is ASCII")
    }

    fn make(self) -> PKey<Private> {
        match self {
            Self::Ec(_) => PKey::ec_gen("prime256v1").expect(MADE),
            Self::Curve(name) => PKey::ec_gen(name).expect(MADE),
            Self::Rsa(size) => Rsa::generate(size).and_then(PKey::from_rsa).expect(MADE),
            Self::Ed25519 => PKey::generate_ed25519().expect(MADE),
            Self::Ed448 => PKey::generate_ed448().expect(MADE),
            Self::Dsa(size) => Dsa::generate(size).and_then(PKey::from_dsa).expect(MADE),
            // The same numbers as an RSA key, under the object identifier of PSS.
            Self::RsaPss => {
                let rsa = Self::Rsa(2048).pair().rsa().expect(MADE);
                let key = rsa.private_key_to_der().expect(MADE);
                let kind = sequence(&[&oid("1.2.840.113549.1.1.10")]);
                let pkcs8 = sequence(&[&integer(&[0]), &kind, &super::der::octets(&key)]);
                PKey::private_key_from_der(&pkcs8).expect(MADE)
            }
        }
    }

    /// Any number that belongs to this key alone.
    pub(super) fn id(self) -> [u8; 20] {
        sha1(&self.pair().public_key_to_der().expect(MADE))
    }
}

// === impl Hash ===

impl Hash {
    pub(super) fn algorithm(self, key: Key) -> Der {
        let pair = key.pair();
        let null = tlv(5, &[]);
        let rsa = |last: u8| sequence(&[&oid(&format!("1.2.840.113549.1.1.{last}")), &null]);
        match (pair.id(), self) {
            (Id::ED25519, _) => sequence(&[&oid("1.3.101.112")]),
            (Id::ED448, _) => sequence(&[&oid("1.3.101.113")]),
            (Id::RSA | Id::RSA_PSS, Self::Pss(bits, salt)) => {
                let hash = sequence(&[&oid(pss_hash(bits).0), &null]);
                let mgf1 = sequence(&[&oid("1.2.840.113549.1.1.8"), &hash]);
                let salt = explicit(2, &integer(&[salt]));
                let all = sequence(&[&explicit(0, &hash), &explicit(1, &mgf1), &salt]);
                sequence(&[&oid("1.2.840.113549.1.1.10"), &all])
            }
            (Id::RSA, Self::Md5) => rsa(4),
            (Id::RSA, Self::Sha1) => rsa(5),
            (Id::RSA, Self::Sha224) => rsa(14),
            (Id::RSA, Self::Sha256) => rsa(11),
            (Id::RSA, Self::Sha384) => rsa(12),
            (Id::RSA, Self::Sha512) => rsa(13),
            (Id::EC, Self::Sha1) => sequence(&[&oid("1.2.840.10045.4.1")]),
            (Id::EC, Self::Sha224) => sequence(&[&oid("1.2.840.10045.4.3.1")]),
            (Id::EC, Self::Sha256) => sequence(&[&oid("1.2.840.10045.4.3.2")]),
            (Id::EC, Self::Sha384) => sequence(&[&oid("1.2.840.10045.4.3.3")]),
            (Id::EC, Self::Sha512) => sequence(&[&oid("1.2.840.10045.4.3.4")]),
            (Id::DSA, Self::Sha256) => sequence(&[&oid("2.16.840.1.101.3.4.3.2")]),
            (kind, hash) => panic!("no signature by {kind:?} and {hash:?}"),
        }
    }

    pub(super) fn sign(self, key: Key, bytes: &[u8]) -> Vec<u8> {
        let pair = key.pair();
        if matches!(pair.id(), Id::ED25519 | Id::ED448) {
            let mut signer = Signer::new_without_digest(&pair).expect(MADE);
            return signer.sign_oneshot_to_vec(bytes).expect(MADE);
        }
        let digest = match self {
            Self::Md5 => MessageDigest::md5(),
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha224 => MessageDigest::sha224(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
            Self::Pss(bits, _) => pss_hash(bits).1,
        };
        let mut signer = Signer::new(digest, &pair).expect(MADE);
        if let Self::Pss(_, salt) = self {
            signer.set_rsa_padding(Padding::PKCS1_PSS).expect(MADE);
            signer.set_rsa_mgf1_md(digest).expect(MADE);
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt.into())).expect(MADE);
        }
        signer.sign_oneshot_to_vec(bytes).expect(MADE)
    }
}

fn pss_hash(bits: u16) -> (&'static str, MessageDigest) {
    match bits {
        1 => ("1.3.14.3.2.26", MessageDigest::sha1()),
        256 => ("2.16.840.1.101.3.4.2.1", MessageDigest::sha256()),
        384 => ("2.16.840.1.101.3.4.2.2", MessageDigest::sha384()),
        _ => ("2.16.840.1.101.3.4.2.3", MessageDigest::sha512()),
    }
}
