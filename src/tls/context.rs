//! Builds the `SslContext` of a client: the system's policy, our trust and identity, nothing else.

use std::env;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslContextBuilder, SslMode, SslVerifyMode};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509CrlRef, X509StoreContextRef};
use ossl_ext::conf::Side;
use ossl_ext::context::Method;

use super::identity::Identity;
use super::realm::Realm;
use super::verify::Verifier;
use super::{fips_policy, policy, session, staple};
use crate::config::{TlsSettings, Trust};
use crate::error::{Code, Error, Result};

/// HTTP/2 in the wire format of ALPN (RFC 7301).
pub(crate) const ALPN_H2: &[u8] = b"\x02h2";

/// What a context is made of, besides the system's policy.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a TlsSettings,
    pub(super) anchors: &'a [X509],
    pub(super) identity: Option<&'a Identity>,
    pub(super) verifier: &'a Verifier,
    pub(super) realm: &'a Realm,
}

/// Assembles a context for connections to the backend.
pub(super) fn client(parts: &Parts<'_>) -> Result<SslContext> {
    // SSL_CTX_new applies [system_default_sect] of openssl.cnf; nothing below may take it back.
    let mut context = parts.realm.ssl_context(Method::Client).map_err(failed)?;
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    policy::forget_errors();
    policy::apply(&mut context, &parts.settings.policy)?;
    if let (Some(library), Some(_)) = (parts.realm.context(), parts.realm.fips()) {
        fips_policy::enforce(&mut context, library, &parts.settings.policy, Side::Client)?;
    }
    context.set_alpn_protos(ALPN_H2).map_err(failed)?;
    trust(&mut context, parts)?;
    if let Some(identity) = parts.identity {
        present(&mut context, identity).map_err(|error| {
            Error::new(Code::MaterialRefused).key("agent.ssl_cert_chain_path").because(error)
        })?;
    }
    let judge = parts.verifier.clone();
    context.set_verify_callback(SslVerifyMode::PEER, move |accepted, store| {
        judge.judge(accepted, store, None)
    });
    session::collect(&mut context);
    Ok(context.build())
}

fn failed(error: ErrorStack) -> Error {
    Error::new(Code::OpenSslFailed).because(error)
}

/// Whom a chain may lead to, and how strictly it is looked at.
fn trust(context: &mut SslContextBuilder, parts: &Parts<'_>) -> Result<()> {
    let settings = parts.settings;
    if settings.trust.has_system() {
        trust_system(context)?;
    }
    let partial = if settings.partial_chain {
        X509VerifyFlags::PARTIAL_CHAIN
    } else {
        X509VerifyFlags::empty()
    };
    match settings.trust {
        Trust::Ca => trust_anchors(context, parts.anchors, partial).map_err(failed)?,
        // A store of their own: PARTIAL_CHAIN would make anchors of the system's intermediates.
        Trust::Both => {
            let lists: Vec<&X509CrlRef> =
                parts.verifier.lists().iter().map(|list| &**list).collect();
            let judge = parts.verifier.clone();
            let judge = Box::new(move |accepted, store: &mut X509StoreContextRef| {
                judge.judge(accepted, store, None)
            });
            let library = parts.realm.context();
            ossl_ext::trust_besides(context, parts.anchors, partial, &lists, judge, library)
                .map_err(failed)?;
        }
        Trust::System => {}
    }
    strictness(context, parts).map_err(failed)
}

fn trust_anchors(
    context: &mut SslContextBuilder,
    anchors: &[X509],
    flags: X509VerifyFlags,
) -> Result<(), ErrorStack> {
    let store = context.cert_store_mut();
    for anchor in anchors {
        store.add_cert(anchor.clone())?;
    }
    store.set_flags(flags)
}

fn strictness(context: &mut SslContextBuilder, parts: &Parts<'_>) -> Result<(), ErrorStack> {
    for list in parts.verifier.lists() {
        ossl_ext::add_crl(context.cert_store_mut(), list)?;
    }
    // On the connection's own parameters, so that they hold under every store.
    if parts.settings.crl.is_some() {
        let flags = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
        context.verify_param_mut().set_flags(flags)?;
    }
    if parts.settings.strict {
        context.verify_param_mut().set_flags(X509VerifyFlags::X509_STRICT)?;
    }
    if let Some(depth) = parts.settings.verify_depth {
        context.set_verify_depth(depth);
    }
    let fips = parts.realm.context().filter(|_| parts.realm.fips().is_some());
    staple::demand(context, parts.settings.ocsp, fips)
}

/// The store OpenSSL was built for, or, when nothing is there (an OpenSSL of our own knows no
/// distribution), the distribution's.
fn trust_system(context: &mut SslContextBuilder) -> Result<()> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let file = set("SSL_CERT_FILE");
    if let Some(path) = file.as_ref().filter(|path| !Path::new(path).is_file()) {
        // OpenSSL says nothing about a missing one; every chain would be refused later.
        let error = Error::new(Code::SystemTrustMissing).key("SSL_CERT_FILE");
        return Err(error.file(path).found("no file"));
    }
    context.set_default_verify_paths().map_err(failed)?;
    if file.is_some() || set("SSL_CERT_DIR").is_some() || super::Library::has_own_trust_store() {
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

pub(super) fn present(
    context: &mut SslContextBuilder,
    identity: &Identity,
) -> Result<(), ErrorStack> {
    context.set_certificate(identity.leaf())?;
    for certificate in identity.above() {
        context.add_extra_chain_cert(certificate.clone())?;
    }
    context.set_private_key(identity.key())?;
    context.check_private_key()
}
