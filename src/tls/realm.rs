//! Where OpenSSL works for a generation: in the default library context, which is shared with the
//! whole process, or in a private one.
//!
//! Every certificate, key and list goes through here, so that none is left behind in the other
//! context. Which files and URIs there are is decided elsewhere.

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod};
use openssl::x509::{X509, X509Crl, X509Ref};
use ossl_ext::context::{Context, Method};
use ossl_ext::store::{self, Objects};

use super::fips::{self, FipsInfo};
use super::{name, provider};
use crate::config::{Fips, Secret, Source, TlsSettings};
use crate::error::{Code, Error, Result};

/// A library context, and the proof if it is FIPS's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Realm {
    /// Absent: the default one.
    context: Option<&'static Context>,
    fips: Option<FipsInfo>,
}

// === impl Realm ===

impl Realm {
    /// The one that the settings ask for.
    ///
    /// # Errors
    ///
    /// When FIPS is required and not proven, or a provider cannot be loaded.
    pub(crate) fn of(settings: &TlsSettings) -> Result<Self> {
        // The policy of openssl.cnf has to be read before the first TLS context.
        super::establish();
        if let Fips::Required { config } = &settings.fips {
            let (context, info) = fips::establish(config.as_deref())?;
            return Ok(Self { context: Some(context), fips: Some(info) });
        }
        if settings.providers.is_empty() && !has_uri(settings) {
            return Ok(Self::default());
        }
        Ok(Self { context: Some(provider::context(&settings.providers)?), fips: None })
    }

    pub(super) fn context(&self) -> Option<&'static Context> {
        self.context
    }

    pub(crate) fn fips(&self) -> Option<&FipsInfo> {
        self.fips.as_ref()
    }

    /// A TLS context. OpenSSL applies the policy of `openssl.cnf` to it.
    pub(super) fn ssl_context(&self, method: Method) -> Result<SslContextBuilder, ErrorStack> {
        match (self.context, method) {
            (Some(context), _) => context.ssl_context(method),
            (None, Method::Client) => SslContext::builder(SslMethod::tls_client()),
            (None, Method::Server) => SslContext::builder(SslMethod::tls_server()),
        }
    }

    /// Certificates as objects of this realm; with FIPS each key must be served there.
    pub(super) fn adopt(&self, certificates: Vec<X509>) -> Result<Vec<X509>> {
        let Some(context) = self.context else { return Ok(certificates) };
        let adopt = |certificate: &X509| {
            let adopted = context
                .adopt(certificate)
                .map_err(|error| Error::new(Code::OpenSslFailed).because(error))?;
            if self.fips.is_some() && !adopted.public_key().is_ok_and(|key| fips::serves(&key)) {
                super::policy::forget_errors();
                return Err(fips::not_served(name::one_line(adopted.subject_name())));
            }
            Ok(adopted)
        };
        certificates.iter().map(adopt).collect()
    }

    /// A revocation list as an object of this realm.
    pub(super) fn adopt_crl(&self, list: X509Crl) -> Result<X509Crl, ErrorStack> {
        match self.context {
            Some(context) => context.adopt_crl(&list),
            None => Ok(list),
        }
    }

    /// A private key, one PEM block or DER, decrypted in this realm. Never prompts.
    pub(super) fn private_key(
        &self,
        bytes: &[u8],
        passphrase: &[u8],
    ) -> Result<PKey<Private>, ErrorStack> {
        if let Some(context) = self.context {
            return context.private_key(bytes, passphrase);
        }
        if bytes.starts_with(b"-----") {
            return PKey::private_key_from_pem_passphrase(bytes, passphrase);
        }
        PKey::private_key_from_der(bytes)
            .or_else(|_| PKey::private_key_from_pkcs8_passphrase(bytes, passphrase))
    }

    /// What a URI stands for. The passphrase is also the PIN of a token; it is tried once.
    pub(super) fn load(
        &self,
        source: &Source,
        uri: &Secret,
        secret: Option<&Secret>,
        key: &str,
    ) -> Result<Objects> {
        let fault = |code| Error::new(code).key(key).file(source.to_string());
        let Some(context) = self.context else {
            return Err(fault(Code::UriFailed).found("no library context for it"));
        };
        let secret = super::passphrase_bytes(secret, "agent.ssl_key_passphrase")
            .map(|bytes| secret.map(|_| bytes))?;
        store::load(context, uri.expose(), secret.as_deref()).map_err(|error| {
            let code = if error.asked { Code::UriSecretRefused } else { Code::UriFailed };
            let pin = uri.expose().split_once("pin-value=").map(|(_, rest)| rest);
            let pin = pin.and_then(|rest| rest.split(['&', ';']).next()).filter(|p| !p.is_empty());
            match pin.filter(|pin| error.errors.to_string().contains(pin)) {
                // A provider's own words may repeat what it was given.
                Some(_) => fault(code),
                None => fault(code).because(error.errors),
            }
        })
    }

    /// What FIPS demands of a connection that is up; `None` if it holds, or nothing is demanded.
    pub(crate) fn objection(&self, ssl: &openssl::ssl::SslRef) -> Option<String> {
        self.fips.as_ref()?;
        let old = ssl.version2() != Some(openssl::ssl::SslVersion::TLS1_3);
        if old && !ossl_ext::has_extended_master_secret(ssl) {
            return Some(format!("{} without the extended master secret", ssl.version_str()));
        }
        // A resumed session has no chain: it was judged when the session began.
        let chain = ssl.verified_chain().into_iter().flatten();
        let foreign =
            |certificate: &&X509Ref| !certificate.public_key().is_ok_and(|key| fips::serves(&key));
        let found =
            chain.filter(|one| foreign(&&**one)).map(|one| name::one_line(one.subject_name()));
        let found = found.into_iter().next();
        super::policy::forget_errors();
        found.map(|subject| format!("a key outside the FIPS provider, of {subject}"))
    }
}

/// Whether anything comes from a URI, for which objects must live in a private context.
fn has_uri(settings: &TlsSettings) -> bool {
    let identity = settings.identity.as_ref();
    let sources = [
        settings.ca.as_ref(),
        identity.map(|identity| &identity.chain),
        identity.map(|identity| &identity.key),
    ];
    sources.into_iter().flatten().any(|source| matches!(source, Source::Uri(_)))
}
