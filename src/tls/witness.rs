//! What is taken down of one connection's verification: why its peer was refused, or until when what was
//! accepted holds.
//!
//! It judges nothing.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef};
use openssl::x509::{X509Ref, X509StoreContextRef, X509VerifyResult};

use super::verify::Refusal;
use super::{CertificateInfo, name};

/// Takes down why a chain was refused, for the error of the one connection it belongs to; and until
/// when what was accepted holds, as far as the chain does not tell.
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    testimony: Option<Testimony>,
    /// In seconds since 1970.
    until: Option<i64>,
}

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

// === impl Witness ===

impl Witness {
    /// A witness who has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The witness of a connection, if it has one.
    pub(super) fn of(ssl: &SslRef) -> Option<Self> {
        ssl.ex_data(Self::index().ok()?).cloned()
    }

    /// Where a connection keeps its witness.
    pub(super) fn index() -> Result<Index<Ssl, Self>, ErrorStack> {
        static INDEX: OnceLock<Index<Ssl, Witness>> = OnceLock::new();
        if let Some(index) = INDEX.get() {
            return Ok(*index);
        }
        let new = Ssl::new_ex_index()?;
        Ok(*INDEX.get_or_init(|| new))
    }

    pub(super) fn note(&self, store: &X509StoreContextRef, refusal: Option<Refusal>) {
        let error = store.error();
        self.testify(Testimony {
            code: error.as_raw(),
            text: error.error_string().to_owned(),
            depth: store.error_depth(),
            certificate: store.current_cert().map(CertificateInfo::of),
            names: store.current_cert().map(name::presented).unwrap_or_default(),
            refusal,
        });
    }

    /// Takes down what was wrong with the OCSP answer about the leaf.
    pub(super) fn note_ocsp(&self, code: i32, text: &str, leaf: Option<&X509Ref>) {
        let certificate = leaf.map(CertificateInfo::of);
        self.testify(Testimony {
            code,
            text: text.to_owned(),
            depth: 0,
            certificate,
            names: String::new(),
            refusal: None,
        });
    }

    /// The first testimony counts: what follows is often its consequence.
    pub(super) fn testify(&self, testimony: Testimony) {
        self.seen().testimony.get_or_insert(testimony);
    }

    pub(super) fn testimony(&self) -> Option<Testimony> {
        self.seen().testimony.clone()
    }

    /// What was accepted holds no longer than until then.
    pub(super) fn limit(&self, until: i64) {
        let mut seen = self.seen();
        seen.until = Some(seen.until.map_or(until, |earlier| earlier.min(until)));
    }

    /// The earliest limit taken down.
    pub(super) fn until(&self) -> Option<i64> {
        self.seen().until
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
