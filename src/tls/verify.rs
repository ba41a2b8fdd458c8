//! The judgement on a server's chain: OpenSSL's, but for one rule that SkyWalking's documented
//! certificates need.
//!
//! SkyWalking's key script gives CA, server and client the same subject and no key identifiers.
//! OpenSSL takes such a leaf for self-signed (error 18) and stops before it has checked anything.
//! The rule looks for the issuer among the certificates of the CA file and makes up for every
//! check OpenSSL has skipped; what OpenSSL checks afterwards (purpose, name, dates) it still does.
//! Without that error the rule never speaks.
//!
//! A second, small one: with CRLs, OpenSSL wants one about the anchor too. An anchor is trusted
//! because somebody says so, and if it is an intermediate, its issuer may not even be known here.
//! A list that has its serial number still counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openssl::error::ErrorStack;
use openssl::pkey::{PKeyRef, Public};
use openssl::ssl::{SslRef, SslVerifyMode};
use openssl::x509::{
    CrlStatus, X509, X509Crl, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult,
};

use super::CertificateInfo;
use super::witness::{Testimony, Witness};

/// Decides on certificates for all connections of one generation.
#[derive(Clone)]
pub struct Verifier(Arc<Rule>);

struct Rule {
    /// The certificates of the CA file; empty when the rule is off.
    issuers: Vec<X509>,
    /// The revocation lists; OpenSSL has them too.
    lists: Vec<X509Crl>,
    warned: AtomicBool,
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

/// X509_V_ERR_UNABLE_TO_GET_CRL.
const NO_CRL: i32 = 3;
/// What else OpenSSL says of the list that an anchor's issuer keeps, when that issuer is not in the
/// chain: signature failure (it tries the anchor's own key), not valid yet, expired, issuer not
/// found, no right to sign lists.
const CRL_OF_ANOTHER: [i32; 5] = [8, 11, 12, 33, 35];

/// X509_V_ERR_CERT_REVOKED.
pub(super) const REVOKED: i32 = 23;

/// X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT.
pub(super) const SELF_SIGNED_LEAF: i32 = 18;

// === impl Verifier ===

impl Verifier {
    pub(super) fn new(anchors: &[X509], rule: bool, lists: Vec<X509Crl>) -> Self {
        // An anchor whose own trust settings reject servers vouches for nobody here either.
        let vouches = |anchor: &&X509| rule && !ossl_ext::rejects_servers(anchor);
        let issuers = anchors.iter().filter(vouches).cloned().collect();
        Self(Arc::new(Rule { issuers, lists, warned: AtomicBool::new(false) }))
    }

    pub(super) fn lists(&self) -> &[X509Crl] {
        &self.0.lists
    }

    /// Puts the rules on one connection; the witness takes down why its peer was refused.
    ///
    /// # Errors
    ///
    /// OpenSSL's, when it has no room for the witness.
    pub fn attach(&self, ssl: &mut SslRef, witness: &Witness) -> Result<(), ErrorStack> {
        ssl.set_ex_data(Witness::index()?, witness.clone());
        let (judge, witness) = (self.clone(), witness.clone());
        ssl.set_verify_callback(SslVerifyMode::PEER, move |accepted, store| {
            judge.judge(accepted, store, Some(&witness))
        });
        Ok(())
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
        if let Some(anchor) = without_list(store) {
            let Some(revoked) = self.0.on_a_list(anchor, store.error_depth()) else {
                store.set_error(X509VerifyResult::OK);
                return true;
            };
            if let Some(witness) = witness {
                witness.testify(revoked);
            }
            return false;
        }
        let mut refusal = None;
        if store.error().as_raw() == SELF_SIGNED_LEAF && store.error_depth() == 0 {
            match self.0.same_name_issuer(store) {
                Ok(until) => {
                    store.set_error(X509VerifyResult::OK);
                    if let Some(witness) = witness {
                        witness.limit(until);
                    }
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
    /// Looks for an issuer that OpenSSL has not seen; until when it holds.
    fn same_name_issuer(&self, store: &X509StoreContextRef) -> Result<i64, Refusal> {
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
                Ok(()) => return Ok(super::unix_seconds(issuer.not_after()).unwrap_or(i64::MIN)),
                // Of several CAs of that name, the one that signed it explains most.
                Err(reason) => refusal = refusal.max(reason),
            }
        }
        Err(refusal)
    }

    /// An anchor needs no list, but one that has it counts, though nobody here can verify its
    /// signature: the file is the administrator's.
    fn on_a_list(&self, anchor: &X509Ref, depth: u32) -> Option<Testimony> {
        let has_it = |list: &X509Crl| {
            let same = list.issuer_name().try_cmp(anchor.issuer_name()).is_ok_and(|o| o.is_eq());
            same && matches!(list.get_by_serial(anchor.serial_number()), CrlStatus::Revoked(_))
        };
        self.lists.iter().any(has_it).then(|| Testimony {
            code: REVOKED,
            text: "certificate revoked".to_owned(),
            depth,
            certificate: Some(CertificateInfo::of(anchor)),
            names: String::new(),
            refusal: None,
        })
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

/// The upper end of the chain, if the objection is to a list about it. That is an anchor: OpenSSL
/// looks at lists only after it has found the chain to end in one.
fn without_list(store: &X509StoreContextRef) -> Option<&X509Ref> {
    let chain = store.chain()?;
    let top = chain.iter().last()?;
    let is_top = usize::try_from(store.error_depth()).is_ok_and(|depth| depth + 1 == chain.len());
    let error = store.error().as_raw();
    // The list of a root is its own, and has to be right: those below are on it.
    let another = || top.issued(top) != X509VerifyResult::OK && CRL_OF_ANOTHER.contains(&error);
    (is_top && (error == NO_CRL || another())).then_some(top)
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

/// Whether a key made a certificate's signature.
pub(super) fn signed_by(certificate: &X509Ref, key: &PKeyRef<Public>) -> bool {
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
