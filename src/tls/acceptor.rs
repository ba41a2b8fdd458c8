//! The server's side of TLS, for the relay's listener and the collector: a context from certificate,
//! key and client CA, and why a client's handshake failed.
//!
//! It sets no ciphers, groups or security level: those are the system's, from openssl.cnf.

use openssl::error::ErrorStack;
use openssl::ssl::{
    self, AlpnError, Ssl, SslContext, SslContextBuilder, SslMode, SslOptions, SslRef,
    SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Name, X509VerifyResult};
use ossl_ext::conf::Side;
use ossl_ext::context::Method;

use super::certificates::{self, Purpose};
use super::context::ALPN_H2;
use super::identity::{self, Identity, Names};
use super::realm::Realm;
use super::{Description, fips_policy};
use crate::config::{IdentitySource, PolicySettings, Source};
use crate::error::{Code, Error, Result};

/// Accepts TLS connections for HTTP/2; cheap to clone.
#[derive(Clone)]
pub(crate) struct Acceptor {
    context: SslContext,
    description: Description,
}

/// What a listener calls its settings in errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListenerNames {
    pub(crate) identity: Names,
    pub(crate) client_ca: &'static str,
}

// === impl Acceptor ===

impl Acceptor {
    /// Reads and checks the files.
    ///
    /// # Errors
    ///
    /// Those of certificate and key files, and [`Code::OpenSslFailed`].
    pub(crate) fn load(
        identity: &IdentitySource,
        client_ca: Option<&Source>,
        names: &ListenerNames,
        realm: &Realm,
    ) -> Result<Self> {
        let mut description = Description {
            identity_source: Some(identity.chain.to_string()),
            ..Description::default()
        };
        let own = identity::load(identity, &names.identity, realm)?;
        description.note_identity(&own);
        let mut builder = new_builder(realm).map_err(failed)?;
        if let (Some(library), Some(_)) = (realm.context(), realm.fips()) {
            let policy = PolicySettings::default();
            fips_policy::enforce(&mut builder, library, &policy, Side::Both)?;
        }
        super::context::present(&mut builder, &own).map_err(|error| {
            Error::new(Code::MaterialRefused)
                .key(names.identity.chain)
                .file(identity.chain.to_string())
                .because(error)
        })?;
        if let Some(source) = client_ca {
            let ca = certificates::load(source, names.client_ca, Purpose::Anchors, realm)?;
            description.ca_source = Some(source.to_string());
            description.note_anchors(&ca);
            demand_client_certificates(&mut builder, &ca, &own).map_err(|error| {
                Error::new(Code::MaterialRefused)
                    .key(names.client_ca)
                    .file(source.to_string())
                    .because(error)
            })?;
        }
        Ok(Self { context: builder.build(), description })
    }

    /// The state of one new connection.
    pub(crate) fn ssl(&self) -> Result<Ssl, ErrorStack> {
        Ssl::new(&self.context)
    }

    /// What was loaded, and what is worth a warning.
    pub(crate) fn description(&self) -> &Description {
        &self.description
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("description", &self.description).finish_non_exhaustive()
    }
}

/// Whether the handshake agreed to HTTP/2: a client without ALPN at all gets past the callback.
pub(crate) fn agreed_to_h2(ssl: &SslRef) -> bool {
    ssl.selected_alpn_protocol() == Some(&ALPN_H2[1..])
}

/// The subject of the client's certificate, such as `O=acme, CN=agent`.
pub(crate) fn client_subject(ssl: &SslRef) -> Option<String> {
    let certificate = ssl.peer_certificate()?;
    let mut out = String::new();
    for entry in certificate.subject_name().entries() {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(entry.object().nid().short_name().unwrap_or("?"));
        out.push('=');
        let value = entry.data().to_string().unwrap_or_default();
        // Whoever requested the certificate chose the text; a terminal must survive it.
        out.extend(value.chars().map(|c| if c.is_control() { '?' } else { c }));
    }
    Some(out)
}

/// Why a client's handshake failed, and what to do about it at which end.
pub(crate) fn client_failure(error: ssl::Error, ssl: &SslRef) -> Error {
    let reason = error
        .ssl_error()
        .and_then(|stack| stack.errors().first())
        .map_or(0, openssl::error::Error::reason_code);
    let failure = Error::new(Code::ClientHandshakeFailed);
    let failure = match reason {
        // peer did not return a certificate
        199 => failure.found("no client certificate").hint(
            "give the agent a client certificate and key that the CA in relay.ssl_trusted_ca_path issued",
        ),
        // certificate verify failed
        134 => {
            let found = match ssl.verify_result() {
                X509VerifyResult::OK => "a client certificate that is refused".to_owned(),
                refused => format!("a client certificate that is refused: {}", refused.error_string()),
            };
            failure.found(found).hint(
                "give the agent a client certificate that a CA in relay.ssl_trusted_ca_path issued, for use by clients",
            )
        }
        // no application protocol
        235 => failure.found("no h2 among the protocols the client offers").hint(
            "point only gRPC reporters at this address: they offer HTTP/2 by ALPN",
        ),
        // The client's alerts bad certificate, certificate expired, certificate unknown, unknown CA.
        1042 | 1045 | 1046 | 1048 => {
            failure.found("a client that refuses the listener's certificate").hint(
                "give the agent the CA that issued relay.ssl_cert_chain_path, and check that the certificate names the address the agent uses",
            )
        }
        _ => failure,
    };
    failure.because(error)
}

fn failed(error: ErrorStack) -> Error {
    Error::new(Code::OpenSslFailed).because(error)
}

fn new_builder(realm: &Realm) -> Result<SslContextBuilder, ErrorStack> {
    super::establish();
    let mut builder = realm.ssl_context(Method::Server)?;
    // openssl.cnf may demand more than TLS 1.2; it does not get less.
    let enough = [SslVersion::TLS1_2, SslVersion::TLS1_3];
    if !builder.min_proto_version().is_some_and(|version| enough.contains(&version)) {
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    }
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
    // What asynchronous writing needs: a write may take less, and be repeated from another buffer.
    builder.set_mode(
        SslMode::AUTO_RETRY | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE,
    );
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(ALPN_H2, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    Ok(builder)
}

fn demand_client_certificates(
    builder: &mut SslContextBuilder,
    ca: &[X509],
    own: &Identity,
) -> Result<(), ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    let mut names = Stack::<X509Name>::new()?;
    for certificate in ca {
        store.add_cert(certificate.clone())?;
        names.push(X509Name::from_der(&certificate.subject_name().to_der()?)?)?;
    }
    builder.set_verify_cert_store(store.build())?;
    builder.set_client_ca_list(names);
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    // Without it OpenSSL refuses to resume sessions of clients that showed a certificate. Sessions
    // of another listener's certificate must not be resumed here.
    let digest = own.leaf().digest(openssl::hash::MessageDigest::sha256())?;
    builder.set_session_id_context(&digest)
}
