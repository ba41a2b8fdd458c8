//! Files that FIPS cannot take: their form, their keys, their signatures, each with what converts it.
//!
//! A form is told by its bytes: decrypting it to find out would be what FIPS forbids. What the
//! provider refuses by itself is refused here too, in words that say why.

use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKeyRef};
use openssl::x509::{X509, X509Ref};

use super::certificates::{self, Purpose};
use super::contents::{Block, Contents, Shape};
use super::name;
use super::realm::Realm;
use crate::config::{IdentitySource, Key, Source, TlsSettings};
use crate::error::{Code, Error};

/// Something about a file that FIPS cannot take.
#[derive(Debug, Clone)]
pub(super) struct Objection {
    code: Code,
    found: String,
    remedy: String,
}

/// What certificates are for: nobody verifies the signature of one that is trusted as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Anchor,
    Own,
}

/// Object identifiers as they stand in DER: PBES2, PBKDF2, and the arc of AES.
const PBES2: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d";
const PBKDF2: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c";
const SCRYPT: &[u8] = b"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x04\x0b";
const AES: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01";

const TO_PBES2: &str = "convert it: openssl pkcs8 -topk8 -in FILE -v2 aes256 -v2prf hmacWithSHA256 -out FILE.new, or, \
     without a passphrase, openssl pkey -in FILE -out FILE.new";
const FROM_PKCS12: &str = "convert it (with -legacy, if it is an old one): openssl pkcs12 -in FILE -nocerts -nodes | openssl pkcs8 \
     -topk8 -v2 aes256 -v2prf hmacWithSHA256 -out KEY.new, and openssl pkcs12 -in FILE -nokeys -out CHAIN.new";
const NEW_KEY: &str = "make a new key and have a certificate issued for it: openssl req -new -newkey ec -pkeyopt \
     ec_paramgen_curve:P-256 -sha256 -keyout KEY.new -out REQUEST.new";
const SIGN_AGAIN: &str = "have the certificate issued again, signed with SHA-256: openssl x509 -req -in REQUEST -CA CA.crt -CAkey \
     CA.key -sha256 -copy_extensions copy -out FILE.new";

/// Everything that the files of the settings hold and FIPS cannot take. Other faults are left for
/// loading to find.
pub(super) fn inspect(settings: &TlsSettings, realm: &Realm) -> Vec<Error> {
    let mut found = Vec::new();
    let mut judge = |source: &Source, name: &str, purpose, role| {
        let loaded = certificates::found(source, name, purpose, realm);
        match loaded {
            Ok(all) => {
                let objections = certificates(&all, role).into_iter();
                found.extend(objections.map(|one| one.error(name, &source.to_string())));
            }
            Err(error) if error.code() == Code::FipsForm => found.push(error),
            Err(_) => {}
        }
    };
    if let Some(ca) = settings.ca.as_ref().filter(|_| settings.trust.has_ca()) {
        judge(ca, Key::TrustedCaPath.name(), Purpose::Anchors, Role::Anchor);
    }
    if let Some(IdentitySource { chain, key, passphrase }) = &settings.identity {
        let passphrase = passphrase.as_ref();
        judge(chain, Key::CertChainPath.name(), Purpose::Chain(passphrase), Role::Own);
        let refused = super::key::load(key, passphrase, &super::identity::AGENT, realm).err();
        let of_fips = |error: &Error| {
            [Code::FipsForm, Code::FipsWeak, Code::FipsNotProven].contains(&error.code())
        };
        found.extend(refused.filter(of_fips));
    }
    found
}

/// The form of a file of private keys or of certificates.
pub(super) fn form(contents: &Contents, bytes: &[u8]) -> Option<Objection> {
    let refused = |found: String, remedy: &str| {
        Some(Objection { code: Code::FipsForm, found, remedy: remedy.to_owned() })
    };
    match contents {
        Contents::Der(Shape::Pkcs12) => {
            refused("PKCS#12, whose key derivation FIPS does not have".to_owned(), FROM_PKCS12)
        }
        Contents::Der(Shape::EncryptedPrivateKey) => {
            encryption(bytes).and_then(|found| refused(found.to_owned(), TO_PBES2))
        }
        Contents::Pem(blocks) => {
            blocks.iter().filter(|block| block.is_private_key()).find_map(|block| {
                if block.encrypted && block.label != "ENCRYPTED PRIVATE KEY" {
                    let found = "traditional encryption (DEK-Info), whose key is derived by MD5";
                    return refused(found.to_owned(), TO_PBES2);
                }
                let found = block.encrypted.then(|| der(block)).and_then(|der| encryption(&der));
                found.and_then(|found| refused(found.to_owned(), TO_PBES2))
            })
        }
        _ => None,
    }
}

/// How an encrypted PKCS#8 is encrypted, unless it is by PBES2 with PBKDF2 and AES.
fn encryption(der: &[u8]) -> Option<&'static str> {
    // It says so at its start, before the encrypted part.
    let head = &der[..der.len().min(256)];
    let holds = |id: &[u8]| head.windows(id.len()).any(|window| window == id);
    if !holds(PBES2) {
        Some("encryption of PKCS#5 version 1 or PKCS#12, by SHA-1 or MD5 with DES or RC2")
    } else if holds(SCRYPT) {
        Some("encryption whose key is derived by scrypt")
    } else if !holds(PBKDF2) || !holds(AES) {
        Some("encryption other than by PBKDF2 and AES")
    } else {
        None
    }
}

fn der(block: &Block) -> Vec<u8> {
    let text = String::from_utf8_lossy(&block.pem);
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    openssl::base64::decode_block(&body).unwrap_or_default()
}

/// A key's kind and size.
pub(super) fn key<T: HasPublic>(key: &PKeyRef<T>, whose: &str) -> Option<Objection> {
    let found = match key.id() {
        Id::RSA | Id::RSA_PSS if key.bits() >= 2048 => return None,
        Id::RSA | Id::RSA_PSS => format!("RSA of {} bits", key.bits()),
        Id::EC => match key.ec_key().ok().and_then(|key| key.group().curve_name()) {
            Some(Nid::X9_62_PRIME256V1 | Nid::SECP384R1 | Nid::SECP521R1) => return None,
            curve => format!(
                "the curve {}",
                curve.and_then(|curve| curve.short_name().ok()).unwrap_or("without a name")
            ),
        },
        // Whether the provider has these is for it to say.
        Id::ED25519 | Id::ED448 => return None,
        _ => "a key that is neither RSA nor of a NIST curve".to_owned(),
    };
    let found = format!("{found}, {whose}");
    Some(Objection { code: Code::FipsWeak, found, remedy: NEW_KEY.to_owned() })
}

/// A key that the provider does not take at all.
pub(super) fn unknown_key(whose: &str) -> Objection {
    let found = format!("a key that the FIPS provider does not take, {whose}");
    Objection { code: Code::FipsWeak, found, remedy: NEW_KEY.to_owned() }
}

/// Keys and signatures of certificates.
pub(super) fn certificates(all: &[X509], role: Role) -> Vec<Objection> {
    all.iter().filter_map(|one| certificate(one, role)).collect()
}

fn certificate(certificate: &X509Ref, role: Role) -> Option<Objection> {
    let subject = format!("of {}", name::one_line(certificate.subject_name()));
    let public = certificate.public_key();
    super::policy::forget_errors();
    let objection = match public {
        Ok(public) => key(&public, &subject),
        Err(_) => Some(unknown_key(&subject)),
    };
    let strong = || ossl_ext::signature_security_bits(certificate).is_some_and(|bits| bits >= 112);
    objection.or_else(|| {
        if role == Role::Anchor || strong() {
            return None;
        }
        let algorithm = certificate.signature_algorithm().object().nid();
        let algorithm = algorithm.long_name().unwrap_or("an unknown algorithm");
        let found = format!("a signature by {algorithm}, {subject}");
        Some(Objection { code: Code::FipsWeak, found, remedy: SIGN_AGAIN.to_owned() })
    })
}

// === impl Objection ===

impl Objection {
    /// As an error about this file.
    pub(super) fn error(self, key: &str, file: &str) -> Error {
        let remedy = self.remedy.replace("FILE", file);
        Error::new(self.code)
            .key(key)
            .file(file)
            .found(self.found)
            .expected("what FIPS approves")
            .hint(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::pkey::PKey;
    use openssl::symm::Cipher;

    fn judge(bytes: &[u8]) -> Option<Objection> {
        form(&Contents::of(bytes), bytes)
    }

    #[test]
    fn forms_are_told_without_decrypting() {
        let key = PKey::ec_gen("prime256v1").unwrap();
        let fine = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"x").unwrap();
        assert!(judge(&fine).is_none());
        let fine = key.private_key_to_pkcs8_passphrase(Cipher::aes_128_cbc(), b"x").unwrap();
        assert!(judge(&fine).is_none());
        assert!(judge(&key.private_key_to_pem_pkcs8().unwrap()).is_none());
        let des = key.private_key_to_pem_pkcs8_passphrase(Cipher::des_ede3_cbc(), b"x").unwrap();
        assert!(judge(&des).unwrap().found.contains("other than by PBKDF2 and AES"));
        let old = key.ec_key().unwrap();
        let old = old.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"x").unwrap();
        let error = judge(&old).unwrap().error("agent.ssl_key_path", "a.pem");
        assert!(error.to_string().contains("DEK-Info"), "{error}");
        assert!(error.remedy().contains("pkcs8 -topk8 -in a.pem"), "{}", error.remedy());
    }

    #[test]
    fn keys_are_judged_by_kind_and_size() {
        let rsa = |bits| PKey::from_rsa(openssl::rsa::Rsa::generate(bits).unwrap()).unwrap();
        assert!(key(&rsa(2048), "mine").is_none());
        assert!(key(&rsa(1024), "mine").unwrap().found.contains("RSA of 1024 bits, mine"));
        assert!(key(&PKey::ec_gen("secp384r1").unwrap(), "mine").is_none());
        let curve = key(&PKey::ec_gen("secp256k1").unwrap(), "mine").unwrap();
        assert!(curve.found.contains("secp256k1"), "{curve:?}");
    }
}
