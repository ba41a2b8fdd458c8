//! Sessions to be resumed: copies that no connection can spoil, and what OpenSSL knows about them.
//!
//! How long one may be used, and for which peer, is the caller's affair: a resumed handshake verifies
//! nothing.

use std::fmt;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslSession, SslSessionRef, SslVersion};
use openssl_sys as ffi;

/// A copy of a session.
///
/// OpenSSL marks the session of a connection that ends without a `close_notify` as not to be resumed
/// (`SSL_set_shutdown(3)`). A copy made before is not marked, and belongs to no context.
pub struct Session(SslSession);

mod raw {
    //! Declarations that openssl-sys does not have, as OpenSSL 3.0's headers give them.
    use super::ffi;

    unsafe extern "C" {
        pub(super) fn SSL_SESSION_dup(session: *const ffi::SSL_SESSION) -> *mut ffi::SSL_SESSION;
        pub(super) fn SSL_SESSION_is_resumable(session: *const ffi::SSL_SESSION)
        -> std::ffi::c_int;
        pub(super) fn SSL_SESSION_has_ticket(session: *const ffi::SSL_SESSION) -> std::ffi::c_int;
        pub(super) fn SSL_SESSION_get_ticket_lifetime_hint(
            session: *const ffi::SSL_SESSION,
        ) -> std::ffi::c_ulong;
    }
}

impl Session {
    /// Copies a session (`SSL_SESSION_dup(3)`).
    pub fn copy_of(session: &SslSessionRef) -> Result<Self, ErrorStack> {
        duplicate(session).map(Self)
    }

    /// Offers a copy of it in the handshake that this connection is about to begin
    /// (`SSL_set_session(3)`). The peer may take it up or not.
    pub fn offer(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        let copy = duplicate(&self.0)?;
        // SAFETY: the copy is in no context's cache and refers to none, so it fits any connection,
        // which takes a reference of its own. Nobody else has this copy.
        unsafe { ssl.set_session(&copy) }
    }

    /// Whether it can be resumed at all (`SSL_SESSION_is_resumable(3)`): a server need not offer that.
    pub fn is_resumable(&self) -> bool {
        // SAFETY: the pointer is live, and the call only reads.
        unsafe { raw::SSL_SESSION_is_resumable(self.0.as_ptr()) == 1 }
    }

    /// Whether it is of TLS 1.3, whose tickets are meant for one use each (RFC 8446 appendix C.4).
    pub fn is_tls_1_3(&self) -> bool {
        self.0.protocol_version() == SslVersion::TLS1_3
    }

    /// How long it may be used from the moment it began, in seconds (`SSL_SESSION_get_timeout(3)`).
    pub fn timeout(&self) -> i64 {
        self.0.timeout()
    }

    /// For how many seconds the server means to take the ticket
    /// (`SSL_SESSION_get_ticket_lifetime_hint(3)`); `None` without a ticket.
    pub fn ticket_lifetime(&self) -> Option<i64> {
        // SAFETY: the pointer is live, and both calls only read.
        let hint = unsafe {
            (raw::SSL_SESSION_has_ticket(self.0.as_ptr()) == 1)
                .then(|| raw::SSL_SESSION_get_ticket_lifetime_hint(self.0.as_ptr()))
        };
        hint.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

/// Secret from end to end.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

fn duplicate(session: &SslSessionRef) -> Result<SslSession, ErrorStack> {
    // SAFETY: the pointer comes from a live reference, and the call only reads it. A result that is
    // not NULL is a session of our own, which the SslSession takes over.
    unsafe {
        let copy = raw::SSL_SESSION_dup(session.as_ptr());
        if copy.is_null() { Err(ErrorStack::get()) } else { Ok(SslSession::from_ptr(copy)) }
    }
}
