//! Who this end is, client or listener: a private key, the certificate that belongs to it, and the chain above it.

use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::x509::{X509, X509Ref};

use super::certificates::{self, Purpose};
use super::realm::Realm;
use super::{key, order};
use crate::config::IdentitySource;
use crate::error::{Code, Error, Result};

/// The settings that name a chain and its key, for errors to speak of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub(crate) chain: &'static str,
    pub(crate) key: &'static str,
    /// `None` where no setting holds a passphrase.
    pub(crate) passphrase: Option<&'static str>,
}

/// The client's, towards the backend.
pub(super) const AGENT: Names = Names {
    chain: "agent.ssl_cert_chain_path",
    key: "agent.ssl_key_path",
    passphrase: Some("agent.ssl_key_passphrase"),
};

/// A key with its certificates, checked to belong together.
pub struct Identity {
    key: PKey<Private>,
    leaf: X509,
    above: Vec<X509>,
    notes: Vec<String>,
    loose: usize,
}

/// Reads chain and key and checks that they belong together.
pub(super) fn load(source: &IdentitySource, names: &Names, realm: &Realm) -> Result<Identity> {
    let passphrase = source.passphrase.as_ref();
    let purpose = Purpose::Chain(passphrase);
    let certificates = certificates::load(&source.chain, names.chain, purpose, realm)?;
    let mut keys = key::load(&source.key, passphrase, names, realm)?;
    let pair = certificates.iter().enumerate().find_map(|(i, certificate)| {
        let public = certificate.public_key().ok()?;
        keys.iter().position(|key| key.public_eq(&public)).map(|k| (i, k))
    });
    let Some((leaf_at, key_at)) = pair else {
        return Err(Error::new(Code::KeyMismatch)
            .key(names.key)
            .file(source.key.to_string())
            .found(format!("a key that fits no certificate of {}", source.chain))
            .expected("the key of the certificate"));
    };
    let order::Chain { leaf, above, notes, loose } =
        order::arrange(certificates, leaf_at, &source.chain.to_string());
    Ok(Identity { key: keys.swap_remove(key_at), leaf, above, notes, loose })
}

// === impl Identity ===

impl Identity {
    /// The private key.
    pub fn key(&self) -> &PKeyRef<Private> {
        &self.key
    }

    /// The certificate of the key.
    pub fn leaf(&self) -> &X509Ref {
        &self.leaf
    }

    /// The certificates sent behind the leaf.
    pub fn above(&self) -> &[X509] {
        &self.above
    }

    /// The whole chain, leaf first.
    pub fn certificates(&self) -> impl Iterator<Item = &X509Ref> {
        std::iter::once(self.leaf()).chain(self.above.iter().map(|certificate| &**certificate))
    }

    /// How many of its certificates stand above none of the others.
    pub(super) fn loose(&self) -> usize {
        self.loose
    }

    /// Says what was done to the file's order.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}
