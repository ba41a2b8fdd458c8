//! The judgement on a server's chain: OpenSSL's, but for one rule that SkyWalking's documented
//! certificates need.
//!
//! SkyWalking's key script gives CA, server and client the same subject and no key identifiers.
//! OpenSSL takes such a leaf for self-signed (error 18) and stops before it has checked anything.
//! The rule looks for the issuer among the certificates of the CA file and makes up for every
//! check OpenSSL has skipped; what OpenSSL checks afterwards (purpose, name, dates) it still does.
//! Without that error the rule never speaks.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::{PKeyRef, Public};
use openssl::ssl::SslRef;
use openssl::x509::{X509, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult};

use super::{CertificateInfo, name};

/// Decides on certificates for all connections of one generation.
#[derive(Clone)]
pub struct Verifier(Arc<Rule>);

struct Rule {
    /// The certificates of the CA file; empty when the rule is off.
    issuers: Vec<X509>,
    warned: AtomicBool,
}

/// Takes down why a chain was refused, for the error of the one connection it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Mutex<Option<Testimony>>>);

/// The first thing OpenSSL objected to.
#[derive(Debug, Clone)]
pub(super) struct Testimony {
    pub(super) code: i32,
    pub(super) text: String,
    pub(super) depth: u32,
    pub(super) certificate: Option<CertificateInfo>,
    /// The names that certificate was issued for.
    pub(super) names: String,
    /// Why the rule for same names did not help either.
    pub(super) refusal: Option<Refusal>,
}

/// Why a leaf that names itself as issuer was not accepted under the rule; the later ones explain more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    NoSuchName,
    SelfSigned,
    Signature,
    IssuerNotCa,
    IssuerConstrained,
    IssuerExpired,
    IssuerNotYetValid,
    IssuerWeak,
    LeafExpired,
    LeafNotYetValid,
    LeafWeak,
}

/// X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT.
pub(super) const SELF_SIGNED_LEAF: i32 = 18;

// === impl Verifier ===

impl Verifier {
    pub(super) fn new(anchors: &[X509], rule: bool) -> Self {
        let issuers = if rule { anchors.to_vec() } else { Vec::new() };
        Self(Arc::new(Rule { issuers, warned: AtomicBool::new(false) }))
    }

    /// The verify callback (`SSL_set_verify(3)`): `accepted` is OpenSSL's own judgement.
    pub fn judge(
        &self,
        accepted: bool,
        store: &mut X509StoreContextRef,
        witness: Option<&Witness>,
    ) -> bool {
        if accepted {
            return true;
        }
        let mut refusal = None;
        if store.error().as_raw() == SELF_SIGNED_LEAF && store.error_depth() == 0 {
            match self.0.same_name_issuer(store) {
                Ok(()) => {
                    store.set_error(X509VerifyResult::OK);
                    self.0.warn_once();
                    return true;
                }
                Err(reason) => refusal = Some(reason),
            }
        }
        if let Some(witness) = witness {
            witness.note(store, refusal);
        }
        false
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.0.issuers.len()).finish_non_exhaustive()
    }
}

// === impl Rule ===

impl Rule {
    fn same_name_issuer(&self, store: &X509StoreContextRef) -> Result<(), Refusal> {
        let leaf = store.current_cert().ok_or(Refusal::NoSuchName)?;
        let level = X509StoreContext::ssl_idx()
            .ok()
            .and_then(|index| store.ex_data(index))
            .map(SslRef::security_level)
            // No connection, no level: take the strictest that real certificates pass.
            .unwrap_or(3);
        let mut refusal = Refusal::NoSuchName;
        for issuer in &self.issuers {
            if !same_name(issuer, leaf) {
                continue;
            }
            match examine(issuer, leaf, minimum_bits(level)) {
                Ok(()) => return Ok(()),
                // Of several CAs of that name, the one that signed it explains most.
                Err(reason) => refusal = refusal.max(reason),
            }
        }
        Err(refusal)
    }

    fn warn_once(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the backend's certificate and its CA have the same subject and no key identifiers, as \
                 SkyWalking's key script makes them: accepted because the signature verifies; such \
                 certificates carry no usage, so that a client's could pose as the server; do: issue \
                 certificates with distinct subjects, for example by `skytls certs`"
            );
        }
    }
}

/// The leaf's subject is its issuer already (that is error 18); the issuer must bear that name.
fn same_name(issuer: &X509Ref, leaf: &X509Ref) -> bool {
    issuer.subject_name().try_cmp(leaf.issuer_name()).is_ok_and(|order| order.is_eq())
}

/// Every check that OpenSSL skips when it stops at error 18 (design: "What an explicit CA file
/// means"). The signature comes first: it tells whether this issuer is the one to be judged at all.
fn examine(issuer: &X509Ref, leaf: &X509Ref, bits: u32) -> Result<(), Refusal> {
    let issuer_key = issuer.public_key().map_err(|_| Refusal::IssuerWeak)?;
    let leaf_key = leaf.public_key().map_err(|_| Refusal::LeafWeak)?;
    if !signed_by(leaf, &issuer_key) {
        let own = signed_by(leaf, &leaf_key);
        return Err(if own { Refusal::SelfSigned } else { Refusal::Signature });
    }
    if !ossl_ext::is_ca(issuer) {
        return Err(Refusal::IssuerNotCa);
    }
    // OpenSSL would look at these on its way up the chain, which it did not go.
    if !ossl_ext::may_issue_for_servers(issuer) || ossl_ext::is_constrained(issuer) {
        return Err(Refusal::IssuerConstrained);
    }
    within_dates(issuer, Refusal::IssuerNotYetValid, Refusal::IssuerExpired)?;
    if issuer_key.security_bits() < bits {
        return Err(Refusal::IssuerWeak);
    }
    within_dates(leaf, Refusal::LeafNotYetValid, Refusal::LeafExpired)?;
    let signature = ossl_ext::signature_security_bits(leaf).unwrap_or(0);
    if leaf_key.security_bits() < bits || signature < bits {
        return Err(Refusal::LeafWeak);
    }
    Ok(())
}

fn signed_by(certificate: &X509Ref, key: &PKeyRef<Public>) -> bool {
    let signed = certificate.verify(key).unwrap_or(false);
    // A signature that does not verify leaves errors in OpenSSL's queue, where the handshake would
    // find them and take them for its own.
    drop(ErrorStack::get());
    signed
}

fn within_dates(certificate: &X509Ref, early: Refusal, late: Refusal) -> Result<(), Refusal> {
    if super::is_early(certificate.not_before()) {
        Err(early)
    } else if super::is_over(certificate.not_after()) {
        Err(late)
    } else {
        Ok(())
    }
}

/// The bits a security level demands (`SSL_CTX_set_security_level(3)`).
fn minimum_bits(level: u32) -> u32 {
    match level {
        0 => 0,
        1 => 80,
        2 => 112,
        3 => 128,
        4 => 192,
        _ => 256,
    }
}

// === impl Witness ===

impl Witness {
    /// A witness who has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn note(&self, store: &X509StoreContextRef, refusal: Option<Refusal>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some() {
            return;
        }
        let error = store.error();
        *seen = Some(Testimony {
            code: error.as_raw(),
            text: error.error_string().to_owned(),
            depth: store.error_depth(),
            certificate: store.current_cert().map(CertificateInfo::of),
            names: store.current_cert().map(name::presented).unwrap_or_default(),
            refusal,
        });
    }

    pub(super) fn testimony(&self) -> Option<Testimony> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Testimony ===

impl Testimony {
    /// From the result of a verification that had no witness; `None` if there is nothing to object.
    pub(super) fn of(result: X509VerifyResult) -> Option<Self> {
        (result != X509VerifyResult::OK).then(|| Self {
            code: result.as_raw(),
            text: result.error_string().to_owned(),
            depth: 0,
            certificate: None,
            names: String::new(),
            refusal: None,
        })
    }
}

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchName => "no certificate of that name is in the CA file",
            Self::SelfSigned => "it is signed by its own key, not by the CA of that name",
            Self::Signature => "its signature does not verify under the CA of that name",
            Self::IssuerConstrained => {
                "the CA of that name is limited by extended key usage, name constraints or an unknown \
                 critical extension"
            }
            Self::IssuerNotCa => "the certificate of that name in the CA file is not a CA",
            Self::IssuerExpired => "the CA of that name has expired",
            Self::IssuerNotYetValid => "the CA of that name is not valid yet",
            Self::IssuerWeak => "the key of the CA of that name is too weak for the security level",
            Self::LeafExpired => "the certificate has expired",
            Self::LeafNotYetValid => "the certificate is not valid yet",
            Self::LeafWeak => {
                "key or signature of the certificate is too weak for the security level"
            }
        })
    }
}
