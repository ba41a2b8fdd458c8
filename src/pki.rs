//! Mints certificates from names: a CA, servers and clients, for `skytls certs`, the demo and the tests.
//!
//! It keeps nothing on disk, issues no revocation lists and never touches material that somebody
//! else made: reading and judging that is the job of `tls`.
//!
//! ```
//! use skytls::pki::{Authority, Leaf, Profile, Validity};
//!
//! let ca = Authority::new(&Profile::new("demo CA")?)?;
//! let server = ca.issue(&Leaf::server(["localhost", "127.0.0.1"])?.valid(Validity::days(30)))?;
//! assert!(server.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
//! assert!(server.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
//! # Ok::<(), skytls::error::Error>(())
//! ```

mod algorithm;
mod host;
mod mint;
mod validity;

use std::fmt;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::x509::{X509, X509Ref};

use crate::error::{Code, Error, Result};

pub use algorithm::Algorithm;
pub use host::{DnsName, Host};
pub use validity::{Validity, rfc3339};

/// What a CA shall look like.
#[derive(Debug, Clone)]
pub struct Profile {
    common_name: String,
    algorithm: Algorithm,
    validity: Validity,
    path_length: Option<u32>,
}

/// A CA: a certificate, its key, and what stands above it.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
    certificate_pem: String,
    key_pem: String,
    /// The certificates between this CA and its root: its own first, the root left out.
    intermediates_pem: String,
}

/// What a server's or client's certificate shall look like.
#[derive(Debug, Clone)]
pub struct Leaf {
    usage: Usage,
    common_name: String,
    hosts: Vec<Host>,
    algorithm: Algorithm,
    validity: Validity,
}

/// A server's or client's certificate with its key.
pub struct Identity {
    certificate: X509,
    key: PKey<Private>,
    certificate_pem: String,
    key_pem: String,
    chain_pem: String,
}

/// What a leaf may be used for; never for both, so that a client's certificate cannot pose as the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    Server,
    Client,
}

/// A year: what a certificate lasts unless told otherwise.
const DEFAULT_DAYS: u32 = 365;

/// RFC 5280's upper bound of a common name; OpenSSL refuses longer ones.
const LONGEST_COMMON_NAME: usize = 64;

// === impl Profile ===

impl Profile {
    /// A CA of this name, P-256, valid for a year, whose chains may have any length.
    pub fn new(common_name: impl Into<String>) -> Result<Self> {
        Ok(Self {
            common_name: common_name_of(common_name.into())?,
            algorithm: Algorithm::default(),
            validity: Validity::days(DEFAULT_DAYS),
            path_length: None,
        })
    }

    /// Chooses the kind of key.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Chooses the dates.
    #[must_use]
    pub fn valid(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// Limits how many CAs may follow below this one; 0: it issues leaves only.
    #[must_use]
    pub fn path_length(mut self, path_length: u32) -> Self {
        self.path_length = Some(path_length);
        self
    }
}

// === impl Authority ===

impl Authority {
    /// A new root: a key of its own, signed by itself.
    pub fn new(profile: &Profile) -> Result<Self> {
        let key = profile.algorithm.generate().map_err(failed)?;
        let certificate = mint::authority(profile, &key, None).map_err(failed)?;
        Self::assemble(certificate, key, |_| String::new())
    }

    /// A CA below this one.
    pub fn intermediate(&self, profile: &Profile) -> Result<Self> {
        let key = profile.algorithm.generate().map_err(failed)?;
        let certificate = mint::authority(profile, &key, Some(self)).map_err(failed)?;
        Self::assemble(certificate, key, |own| format!("{own}{}", self.intermediates_pem))
    }

    /// A certificate with a new key, signed by this CA.
    pub fn issue(&self, leaf: &Leaf) -> Result<Identity> {
        let key = leaf.algorithm.generate().map_err(failed)?;
        let certificate = mint::leaf(leaf, &key, self).map_err(failed)?;
        let certificate_pem = pem(&certificate)?;
        let chain_pem = format!("{certificate_pem}{}", self.intermediates_pem);
        Ok(Identity { key_pem: key_pem(&key)?, certificate, key, certificate_pem, chain_pem })
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key as unencrypted PKCS#8 PEM; whoever calls this answers for where it goes.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate.
    pub fn certificate(&self) -> &X509Ref {
        &self.certificate
    }

    /// The key.
    pub fn key(&self) -> &PKeyRef<Private> {
        &self.key
    }

    fn assemble(
        certificate: X509,
        key: PKey<Private>,
        intermediates: impl FnOnce(&str) -> String,
    ) -> Result<Self> {
        let certificate_pem = pem(&certificate)?;
        let intermediates_pem = intermediates(&certificate_pem);
        Ok(Self { key_pem: key_pem(&key)?, certificate, key, certificate_pem, intermediates_pem })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

// === impl Leaf ===

impl Leaf {
    /// A server that answers to these DNS names and IP addresses; the first becomes the common name.
    ///
    /// P-256, valid for a year. A name that cannot stand in a certificate is an error, and so is none at all.
    pub fn server<H: AsRef<str>>(hosts: impl IntoIterator<Item = H>) -> Result<Self> {
        let hosts = Host::list(hosts)?;
        // Verifiers look at the alternative names; the common name is for whoever reads the certificate.
        let common_name = hosts
            .iter()
            .map(Host::to_string)
            .find(|name| name.len() <= LONGEST_COMMON_NAME)
            .unwrap_or_else(|| "skytls server".to_owned());
        Ok(Self::of(Usage::Server, common_name, hosts))
    }

    /// A client of this name: P-256, valid for a year.
    pub fn client(common_name: impl Into<String>) -> Result<Self> {
        Ok(Self::of(Usage::Client, common_name_of(common_name.into())?, Vec::new()))
    }

    /// Chooses the kind of key.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Chooses the dates. They may lie outside the CA's: tests need such certificates.
    #[must_use]
    pub fn valid(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// The names a server answers to, without repetitions; none for a client.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    fn of(usage: Usage, common_name: String, hosts: Vec<Host>) -> Self {
        let validity = Validity::days(DEFAULT_DAYS);
        Self { usage, common_name, hosts, algorithm: Algorithm::default(), validity }
    }
}

// === impl Identity ===

impl Identity {
    /// The certificate alone, as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The certificate, then the intermediate CAs above it: what a peer has to be sent.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The key as unencrypted PKCS#8 PEM; whoever calls this answers for where it goes.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate.
    pub fn certificate(&self) -> &X509Ref {
        &self.certificate
    }

    /// The key.
    pub fn key(&self) -> &PKeyRef<Private> {
        &self.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn common_name_of(name: String) -> Result<String> {
    let hint = if name.trim().is_empty() {
        "give a name that is not blank"
    } else if name.chars().count() > LONGEST_COMMON_NAME {
        "give a name of at most 64 characters"
    } else if name.chars().any(char::is_control) {
        "give a name without control characters"
    } else {
        return Ok(name);
    };
    Err(Error::new(Code::BadHostName).found(format!("{name:?}")).hint(hint))
}

fn pem(certificate: &X509Ref) -> Result<String> {
    text(certificate.to_pem())
}

fn key_pem(key: &PKeyRef<Private>) -> Result<String> {
    text(key.private_key_to_pem_pkcs8())
}

fn text(pem: Result<Vec<u8>, ErrorStack>) -> Result<String> {
    // The bytes must not reach an error: they may be a key.
    String::from_utf8(pem.map_err(failed)?)
        .map_err(|_| Error::new(Code::OpenSslFailed).found("a PEM file that is not text"))
}

fn failed(source: ErrorStack) -> Error {
    Error::new(Code::OpenSslFailed).because(source)
}

#[cfg(test)]
mod tests;
