//! What SkyWalking's documented key script makes, with one thing wrong at a time, and the recipe for any
//! other odd certificate.
//!
//! Built with the openssl crate directly, since `skytls::pki` refuses to mint such certificates.

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Name};
use skytls::pki::Validity;

use super::pki::{DAY, HOUR, MINTED, Set, rsa_key, text, weak_key};

/// What SkyWalking's documented key script makes, and twins of it with one thing wrong. CA, server and
/// client have the same subject, `CN=localhost`; the CA is v3 with basicConstraints CA:TRUE and key
/// identifiers, server and client are X.509 v1 without any extension. Keys are RSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// As documented.
    Documented,
    /// Server and client are signed by their own keys.
    LeafSelfSigned,
    /// Server and client are signed by a CA of the same name and another key.
    LeafOfAnotherKey,
    LeafExpired,
    LeafNotYetValid,
    /// Keys of server and client are RSA of 1024 bits.
    LeafWeakKey,
    /// Server and client are signed with SHA-1.
    LeafSha1,
    CaExpired,
    CaNotYetValid,
    /// The CA's basicConstraints say CA:FALSE.
    CaIsNone,
    /// The CA is X.509 v1 and says nothing.
    CaVersion1,
    /// The CA's keyUsage lacks keyCertSign.
    CaMayNotSign,
    /// The CA's key is RSA of 1024 bits.
    CaWeakKey,
    /// All three are called `CN=elsewhere`.
    AnotherName,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
}

/// A certificate to be minted, of any quality.
pub(crate) struct Recipe<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) key: PKey<Private>,
    pub(crate) serial: u32,
    /// Seconds from now.
    pub(crate) from: i64,
    /// Seconds from now.
    pub(crate) until: i64,
    pub(crate) digest: MessageDigest,
    /// `None`: X.509 v1, without any extension.
    pub(crate) v3: Option<V3>,
}

/// The extensions of a v3 certificate; key identifiers are always among them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct V3 {
    pub(crate) ca: bool,
    /// `None`: no keyUsage. `Some(false)`: one without keyCertSign.
    pub(crate) may_sign: Option<bool>,
}

// === impl Script ===

impl Script {
    pub(crate) const ALL: [Self; 14] = [
        Self::Documented,
        Self::LeafSelfSigned,
        Self::LeafOfAnotherKey,
        Self::LeafExpired,
        Self::LeafNotYetValid,
        Self::LeafWeakKey,
        Self::LeafSha1,
        Self::CaExpired,
        Self::CaNotYetValid,
        Self::CaIsNone,
        Self::CaVersion1,
        Self::CaMayNotSign,
        Self::CaWeakKey,
        Self::AnotherName,
    ];

    /// Mints it. RSA keys are made once per process: in one test several sets share them.
    pub(crate) fn mint(self) -> Set {
        let ca = self.ca(if self == Self::CaWeakKey { weak_key(2) } else { rsa_key(0) });
        let above = match self {
            Self::LeafOfAnotherKey => self.ca(rsa_key(3)),
            _ => ca.clone(),
        };
        let leaf = |number: usize| {
            let weak = self == Self::LeafWeakKey;
            let recipe = self.leaf(if weak { weak_key(number - 1) } else { rsa_key(number) });
            let issuer = if self == Self::LeafSelfSigned { None } else { Some(&above) };
            recipe.mint(issuer)
        };
        let (server, client) = (leaf(1), leaf(2));
        Set {
            ca: ca.certificate_pem(),
            server: server.certificate_pem(),
            server_key: server.key_pem(),
            client: client.certificate_pem(),
            client_key: client.key_pem(),
        }
    }

    fn ca(self, key: PKey<Private>) -> Pair {
        let mut v3 = Some(V3 { ca: true, may_sign: None });
        let (mut from, mut until) = (-HOUR, 365 * DAY);
        match self {
            Self::CaExpired => (from, until) = (-2 * DAY, -DAY),
            Self::CaNotYetValid => (from, until) = (DAY, 2 * DAY),
            Self::CaIsNone => v3 = Some(V3 { ca: false, may_sign: None }),
            Self::CaVersion1 => v3 = None,
            Self::CaMayNotSign => v3 = Some(V3 { ca: true, may_sign: Some(false) }),
            _ => {}
        }
        let digest = MessageDigest::sha256();
        let common_name = self.common_name();
        Recipe { common_name, key, serial: 0x5eed, from, until, digest, v3 }.mint(None)
    }

    /// Serial 1 for server and client alike, as the script gives.
    fn leaf(self, key: PKey<Private>) -> Recipe<'static> {
        let (from, until) = match self {
            Self::LeafExpired => (-2 * DAY, -DAY),
            Self::LeafNotYetValid => (DAY, 2 * DAY),
            _ => (-HOUR, 365 * DAY),
        };
        let digest = match self {
            Self::LeafSha1 => MessageDigest::sha1(),
            _ => MessageDigest::sha256(),
        };
        let common_name = self.common_name();
        Recipe { common_name, key, serial: 1, from, until, digest, v3: None }
    }

    fn common_name(self) -> &'static str {
        if self == Self::AnotherName { "elsewhere" } else { "localhost" }
    }
}

// === impl Recipe ===

impl Recipe<'_> {
    /// Signs it with the issuer's key, or with its own.
    pub(crate) fn mint(self, issuer: Option<&Pair>) -> Pair {
        let certificate = self.build(issuer).expect(MINTED);
        Pair { certificate, key: self.key }
    }

    fn build(&self, issuer: Option<&Pair>) -> Result<X509, ErrorStack> {
        let mut name = X509Name::builder()?;
        name.append_entry_by_text("CN", self.common_name)?;
        let name = name.build();
        let above = issuer.map(|issuer| &*issuer.certificate);

        let mut builder = X509::builder()?;
        builder.set_version(if self.v3.is_some() { 2 } else { 0 })?;
        let serial = BigNum::from_u32(self.serial)?;
        builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
        builder.set_subject_name(&name)?;
        builder.set_issuer_name(above.map_or(&*name, |above| above.subject_name()))?;
        let now = Validity::relative(0, 0).not_before();
        builder.set_not_before(&*Asn1Time::from_unix(now + self.from)?)?;
        builder.set_not_after(&*Asn1Time::from_unix(now + self.until)?)?;
        builder.set_pubkey(&self.key)?;
        if let Some(v3) = self.v3 {
            let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(above, None))?;
            builder.append_extension(own)?;
            let context = builder.x509v3_context(above, None);
            let issuers = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
            builder.append_extension(issuers)?;
            let mut constraints = BasicConstraints::new();
            constraints.critical();
            if v3.ca {
                constraints.ca();
            }
            builder.append_extension(constraints.build()?)?;
            if let Some(may_sign) = v3.may_sign {
                let mut usage = KeyUsage::new();
                usage.critical().digital_signature().crl_sign();
                if may_sign {
                    usage.key_cert_sign();
                }
                builder.append_extension(usage.build()?)?;
            }
        }
        builder.sign(issuer.map_or(&self.key, |issuer| &issuer.key), self.digest)?;
        Ok(builder.build())
    }
}

// === impl Pair ===

impl Pair {
    pub(crate) fn certificate_pem(&self) -> String {
        text(self.certificate.to_pem())
    }

    /// PKCS#8.
    pub(crate) fn key_pem(&self) -> String {
        text(self.key.private_key_to_pem_pkcs8())
    }
}
