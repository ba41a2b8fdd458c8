//! The OCSP answer that a server staples to its certificate: asked for, and verified.
//!
//! Asks no responder itself: a process that must reach the backend should not depend on another
//! machine. Runs within the handshake, before a byte of a call is sent.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ocsp::{
    OcspBasicResponseRef, OcspCertId, OcspCertStatus, OcspFlag, OcspResponse, OcspResponseStatus,
};
use openssl::ssl::{SslContextBuilder, SslRef};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Ref};
use ossl_ext::context::Context;

use super::verify::REVOKED;
use super::witness::Witness;
use super::{fips_staple, unix_seconds};
use crate::config::Ocsp;

/// Why an answer was not enough; `code` is OpenSSL's verify error for it.
#[derive(Debug)]
pub(super) struct Fault {
    code: i32,
    text: String,
}

/// X509_V_ERR_OCSP_VERIFY_NEEDED.
const MISSING: i32 = 73;
/// X509_V_ERR_OCSP_VERIFY_FAILED.
pub(super) const FAILED: i32 = 74;
/// X509_V_ERR_OCSP_CERT_UNKNOWN.
const UNKNOWN: i32 = 75;

/// Clocks differ: answers may be so many seconds early or late.
const SLACK: u32 = 300;
/// How old an answer may be that does not say how long it holds.
const DAY: u32 = 86_400;

/// Asks for an answer on every connection of the context and judges it; with FIPS within the library
/// context that was proven.
pub(super) fn demand(
    context: &mut SslContextBuilder,
    rule: Ocsp,
    fips: Option<&'static Context>,
) -> Result<(), ErrorStack> {
    if rule == Ocsp::Off {
        return Ok(());
    }
    ossl_ext::request_status(context)?;
    context.set_status_callback(move |ssl| match judge(ssl, rule, fips) {
        Ok(()) => Ok(true),
        Err(fault) => {
            if let Some(witness) = Witness::of(ssl) {
                witness.note_ocsp(fault.code, &fault.text, ssl.peer_certificate().as_deref());
            }
            Ok(false)
        }
    })
}

fn judge(ssl: &SslRef, rule: Ocsp, fips: Option<&'static Context>) -> Result<(), Fault> {
    // No certificate and no answer are sent with a resumed session: both were judged before.
    if ssl.session_reused() {
        return Ok(());
    }
    let Some(answer) = ssl.ocsp_status().filter(|answer| !answer.is_empty()) else {
        return match rule {
            Ocsp::Require => Err(Fault::new(MISSING, "no OCSP answer came with the certificate")),
            _ if ssl.peer_certificate().is_some_and(|leaf| ossl_ext::must_staple(&leaf)) => {
                Err(Fault::new(MISSING, "no OCSP answer came, and the certificate demands one"))
            }
            _ => Ok(()),
        };
    };
    let chain = ssl.verified_chain().ok_or_else(|| Fault::new(FAILED, "there is no chain"))?;
    match (chain.get(0), chain.get(1)) {
        (Some(leaf), Some(issuer)) => {
            let until = examine(answer, leaf, issuer, fips)?;
            if let Some(witness) = Witness::of(ssl) {
                witness.limit(until);
            }
            Ok(())
        }
        // The leaf is an anchor itself: its issuer is not known, and so is nobody who may answer.
        _ if rule == Ocsp::Require => {
            Err(Fault::new(FAILED, "the issuer of the certificate is not known"))
        }
        _ => Ok(()),
    }
}

/// Judges an answer; until when it holds.
fn examine(
    answer: &[u8],
    leaf: &X509Ref,
    issuer: &X509Ref,
    fips: Option<&'static Context>,
) -> Result<i64, Fault> {
    let response =
        OcspResponse::from_der(answer).map_err(|error| Fault::because("no OCSP answer", &error))?;
    if response.status() != OcspResponseStatus::SUCCESSFUL {
        let text = format!("the responder failed with status {}", response.status().as_raw());
        return Err(Fault::new(FAILED, text));
    }
    let basic = response.basic().map_err(|error| Fault::because("no basic answer", &error))?;
    // The issuer has been verified by the handshake. Whoever signed the answer must be the issuer,
    // or have been appointed by it; the certificate of a delegate comes with the answer.
    let ids = match fips {
        Some(library) => {
            fips_staple::verify(&basic, issuer, library)?;
            ["SHA1", "SHA2-256"].map(|name| library.certificate_id(name, leaf, issuer))
        }
        None => {
            verify(&basic, issuer)?;
            [MessageDigest::sha1(), MessageDigest::sha256()]
                .map(|digest| OcspCertId::from_cert(digest, leaf, issuer))
        }
    };
    let status = ids
        .into_iter()
        .filter_map(Result::ok)
        .find_map(|id| basic.find_status(&id))
        .ok_or_else(|| Fault::new(UNKNOWN, "the answer is about another certificate"))?;
    // An answer need not say how long it holds.
    let next = status.next_update();
    let oldest = next.is_none().then_some(DAY);
    status
        .check_validity(SLACK, oldest)
        .map_err(|error| Fault::because("the answer is outside its dates", &error))?;
    if status.status == OcspCertStatus::GOOD {
        let until = match next {
            Some(next) => unix_seconds(ossl_ext::as_time(next)),
            None => unix_seconds(ossl_ext::as_time(status.this_update))
                .map(|issued| issued.saturating_add(i64::from(DAY))),
        };
        Ok(until.unwrap_or(i64::MIN))
    } else if status.status == OcspCertStatus::REVOKED {
        Err(Fault::new(REVOKED, "certificate revoked, says the OCSP answer"))
    } else {
        Err(Fault::new(UNKNOWN, "the responder does not know the certificate"))
    }
}

fn verify(basic: &OcspBasicResponseRef, issuer: &X509Ref) -> Result<(), Fault> {
    let store = only(issuer).map_err(|error| Fault::because("no store", &error))?.build();
    let known = Stack::new().and_then(|mut known| {
        known.push(issuer.to_owned())?;
        Ok(known)
    });
    let known: Stack<X509> = known.map_err(|error| Fault::because("no store", &error))?;
    basic.verify(&known, &store, OcspFlag::NO_EXPLICIT).map_err(|error| not_the_issuers(&error))
}

/// A store with the issuer as its anchor, and nobody else.
pub(super) fn only(issuer: &X509Ref) -> Result<X509StoreBuilder, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(issuer.to_owned())?;
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    Ok(store)
}

pub(super) fn not_the_issuers(error: &ErrorStack) -> Fault {
    Fault::because("not signed by the issuer or its delegate", error)
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    fn because(text: &str, error: &ErrorStack) -> Self {
        let reason = error.errors().first().and_then(|error| error.reason()).unwrap_or("no reason");
        Self::new(FAILED, format!("{text}: {reason}"))
    }
}
