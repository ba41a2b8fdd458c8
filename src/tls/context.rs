//! Builds the `SslConnector`: the system's policy, our trust and identity, nothing else.

use std::env;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{
    SslConnector, SslContext, SslContextBuilder, SslMethod, SslMode, SslVerifyMode,
};
use openssl::x509::X509;
use openssl::x509::verify::X509VerifyFlags;

use super::identity::Identity;
use super::policy;
use super::verify::Verifier;
use crate::config::PolicySettings;
use crate::error::{Code, Error, Result};

/// HTTP/2 in the wire format of ALPN (RFC 7301).
pub(crate) const ALPN_H2: &[u8] = b"\x02h2";

/// Whom a chain must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The certificates of the CA file, and nothing of the system's store.
    Anchors,
    /// The system's store.
    System,
}

/// Assembles a connector.
pub(super) fn connector(
    trust: Trust,
    anchors: &[X509],
    identity: Option<&Identity>,
    verifier: &Verifier,
    partial_chain: bool,
    settings: &PolicySettings,
) -> Result<SslConnector> {
    // SSL_CTX_new applies [system_default_sect] of openssl.cnf; nothing below may take it back.
    let mut context = SslContext::builder(SslMethod::tls_client()).map_err(failed)?;
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    policy::forget_errors();
    policy::apply(&mut context, settings)?;
    context.set_alpn_protos(ALPN_H2).map_err(failed)?;
    match trust {
        Trust::Anchors => trust_anchors(&mut context, anchors, partial_chain).map_err(failed)?,
        Trust::System => trust_system(&mut context)?,
    }
    if let Some(identity) = identity {
        present(&mut context, identity).map_err(|error| {
            Error::new(Code::MaterialRefused).key("agent.ssl_cert_chain_path").because(error)
        })?;
    }
    let judge = verifier.clone();
    context.set_verify_callback(SslVerifyMode::PEER, move |accepted, store| {
        judge.judge(accepted, store, None)
    });

    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
    // The builder's own context has the crate's cipher list instead of the system's.
    *builder = context;
    Ok(builder.build())
}

fn failed(error: ErrorStack) -> Error {
    Error::new(Code::OpenSslFailed).because(error)
}

fn trust_anchors(
    context: &mut SslContextBuilder,
    anchors: &[X509],
    partial_chain: bool,
) -> Result<(), ErrorStack> {
    let store = context.cert_store_mut();
    for anchor in anchors {
        store.add_cert(anchor.clone())?;
    }
    if partial_chain {
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    }
    Ok(())
}

/// The store OpenSSL was built for, or, when nothing is there (an OpenSSL of our own knows no
/// distribution), the distribution's.
fn trust_system(context: &mut SslContextBuilder) -> Result<()> {
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        // OpenSSL says nothing about a missing one; every chain would be refused later.
        if let Some(path) = env::var_os(name).filter(|path| !path.is_empty())
            && name == "SSL_CERT_FILE"
            && !Path::new(&path).is_file()
        {
            return Err(Error::new(Code::SystemTrustMissing).key(name).file(path).found("no file"));
        }
    }
    context.set_default_verify_paths().map_err(failed)?;
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("SSL_CERT_FILE") || set("SSL_CERT_DIR") || super::Library::has_own_trust_store() {
        return Ok(());
    }
    let found = openssl_probe::probe();
    let dir = found.cert_dir.first().map(|path| path.as_path());
    let file = found.cert_file.as_deref();
    if file.is_none() && dir.is_none() {
        return Err(Error::new(Code::SystemTrustMissing).found("no known place of this system"));
    }
    context
        .load_verify_locations(file, dir)
        .map_err(|error| Error::new(Code::SystemTrustMissing).because(error))
}

fn present(context: &mut SslContextBuilder, identity: &Identity) -> Result<(), ErrorStack> {
    context.set_certificate(identity.leaf())?;
    for certificate in identity.above() {
        context.add_extra_chain_cert(certificate.clone())?;
    }
    context.set_private_key(identity.key())?;
    context.check_private_key()
}
