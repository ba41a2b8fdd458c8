//! Where OpenSSL works for a generation: in the default library context, which is shared with the
//! whole process, or in a private one.
//!
//! Every certificate, key and list goes through here, so that none is left behind in the other
//! context. Which files and URIs there are is decided elsewhere.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod};
use openssl::x509::{X509, X509Crl, X509Ref};
use ossl_ext::context::{Context, Method};
use ossl_ext::store::{self, Objects};

use super::fips::{self, FipsInfo};
use super::{name, provider, read};
use crate::config::{Fips, Secret, Source, TlsSettings};
use crate::error::{Code, Error, Result};

/// A library context, and the proof if it is FIPS's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Realm {
    /// Absent: the default one.
    context: Option<&'static Context>,
    /// Where URIs are looked up: with FIPS a second private one, for no provider but fips and base may be
    /// in the first.
    tokens: Option<&'static Context>,
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
            let (context, mut info) = fips::establish(config.as_deref())?;
            let mut tokens = None;
            if has_uri(settings) {
                tokens = Some(provider::context(&settings.providers)?);
                let key = settings.identity.as_ref().map(|identity| &identity.key);
                if let Some(Source::Uri(_)) = key {
                    info.key_outside = Some(settings.providers.join(", "));
                }
            }
            return Ok(Self { context: Some(context), tokens, fips: Some(info) });
        }
        if settings.providers.is_empty() && !has_uri(settings) {
            return Ok(Self::default());
        }
        let context = Some(provider::context(&settings.providers)?);
        Ok(Self { context, tokens: context, fips: None })
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

    /// What of a kind (`private`, `cert`) a URI stands for. The passphrase is also the PIN of a token; it
    /// is tried once.
    pub(super) fn load(
        &self,
        source: &Source,
        uri: &Secret,
        secret: Option<&Secret>,
        key: &str,
        kind: &str,
    ) -> Result<Objects> {
        let fault = |code| {
            let error = Error::new(code).key(key).file(source.to_string());
            error.expected("what the URI names, and its PIN or passphrase if it has one")
        };
        let Some(context) = self.tokens else {
            return Err(fault(Code::UriFailed).found("no library context for it"));
        };
        if let Some(path) = file_of(uri.expose()) {
            read::has_end(path, key, source)?;
        }
        /// What a token has refused once: a few more wrong PINs would lock it.
        static REFUSED: Mutex<Vec<(Secret, Secret<Vec<u8>>)>> = Mutex::new(Vec::new());
        let secret = super::passphrase_bytes(secret, "agent.ssl_key_passphrase")
            .map(|bytes| secret.map(|_| bytes))?;
        // Looking for a key without a PIN, the provider would ask for one on the terminal by itself.
        let uri = Secret::new(of_kind(uri.expose(), kind));
        if is_token(uri.expose()) && kind == "private" && secret.is_none() && !has_pin(uri.expose())
        {
            return Err(fault(Code::UriSecretRefused).found("no PIN"));
        }
        let attempt = (uri.clone(), Secret::new(secret.clone().unwrap_or_default()));
        let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.contains(&attempt) {
            return Err(fault(Code::UriSecretRefused)
                .found("a PIN or passphrase that was refused before, and is not tried again")
                .hint("correct agent.ssl_key_passphrase; start the process again if the token's PIN was set to this one"));
        }
        store::load(context, uri.expose(), secret.as_deref()).map_err(|error| {
            let refusal = error.asked && error.failed;
            let code = if refusal { Code::UriSecretRefused } else { Code::UriFailed };
            if refusal && secret.is_some() {
                refused.push(attempt);
            }
            // Without the data of the errors, which repeat the URI.
            let reasons: Vec<_> =
                error.errors.errors().iter().filter_map(|one| one.reason()).collect();
            match reasons.is_empty() {
                true if !refusal => fault(code).found("nothing of that kind"),
                // The provider of tokens says no more than this.
                true => fault(code)
                    .found("nothing, after it was given: it is wrong, or there is no such object"),
                false => fault(code).because(reasons.join(", ")),
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

/// The file that a URI means, as OpenSSL takes it: without decoding.
fn file_of(uri: &str) -> Option<&Path> {
    let path = uri.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("file:"))?.len();
    let path = &uri[path..];
    let Some(behind) = path.strip_prefix("//") else { return Some(Path::new(path)) };
    let host = behind.get(..9).is_some_and(|host| host.eq_ignore_ascii_case("localhost"));
    let path = if host { &behind[9..] } else { behind };
    path.starts_with('/').then(|| Path::new(path))
}

fn is_token(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
}

fn has_pin(uri: &str) -> bool {
    ["pin-value=", "pin-source="].iter().any(|name| uri.contains(name))
}

/// The URI of a token narrowed to one kind of object: looking through all kinds would log in for
/// certificates that everybody may read.
fn of_kind(uri: &str, kind: &str) -> String {
    if !is_token(uri) {
        return uri.to_owned();
    }
    let (path, query) =
        uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    if path[7..].split(';').any(|attribute| attribute.starts_with("type=")) {
        return uri.to_owned();
    }
    let separator = if path.len() > 7 { ";" } else { "" };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{path}{separator}type={kind}{query}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uris_mean() {
        for (uri, narrowed) in [
            ("pkcs11:token=a;object=b", "pkcs11:token=a;object=b;type=cert"),
            ("pkcs11:object=b?pin-value=1", "pkcs11:object=b;type=cert?pin-value=1"),
            ("pkcs11:", "pkcs11:type=cert"),
            ("pkcs11:object=b;type=public", "pkcs11:object=b;type=public"),
            ("PKCS11:object=b", "PKCS11:object=b;type=cert"),
            ("file:/a;b", "file:/a;b"),
            ("handle:0x81000001", "handle:0x81000001"),
        ] {
            assert_eq!(of_kind(uri, "cert"), narrowed);
        }
        for (uri, path) in [
            ("file:/a%20b", Some("/a%20b")),
            ("FILE:///a", Some("/a")),
            ("file://LOCALHOST/a", Some("/a")),
            ("file:a", Some("a")),
            ("file://host/a", None),
            ("pkcs11:file:/a", None),
        ] {
            assert_eq!(file_of(uri), path.map(Path::new), "{uri}");
        }
        assert!(has_pin("pkcs11:a?pin-source=/x") && !has_pin("pkcs11:a"));
    }
}
