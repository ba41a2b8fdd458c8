//! The state of an agent and its books, in one structure that may grow.

use std::ffi::{c_char, c_int};
use std::mem;

use skytls::error::{Chain, Error};
use skytls::transport::State;

use crate::agent::skytls_agent;
use crate::error::skytls_error;
use crate::ffi::{copy_text, guard_on};
use crate::library::{fill, room};
use crate::life::{Life, Phase};

/// Not started in this process. A child of a process that has started it is here until its first report.
pub const SKYTLS_STATE_NEW: c_int = 0;
/// A connection is being made.
pub const SKYTLS_STATE_CONNECTING: c_int = 1;
/// The backend can be reached.
pub const SKYTLS_STATE_READY: c_int = 2;
/// The last attempt failed; the next one comes after a pause. Records are taken and queued.
pub const SKYTLS_STATE_RESTING: c_int = 3;
/// Stopped for good.
pub const SKYTLS_STATE_STOPPED: c_int = 4;
/// agent.enable is false: records are taken and thrown away.
pub const SKYTLS_STATE_DISABLED: c_int = 5;
/// The engine could not be started; a start, or in a child skytls_after_fork_child(), tries again.
pub const SKYTLS_STATE_FAILED: c_int = 6;
/// Only a human can end this: a certificate is refused, on either side, or the token. It is tried again all
/// the same, and records are taken and queued.
pub const SKYTLS_STATE_MISCONFIGURED: c_int = 7;

/// What an agent is doing, and its books, taken at one moment; skytls_agent_status() fills it.
/// accepted + recovered = acknowledged + dropped + pending, always.
#[repr(C)]
pub struct skytls_status {
    /// In: sizeof(struct skytls_status). Out: how much of it was filled.
    pub size: usize,
    /// A SKYTLS_STATE_….
    pub state: c_int,
    /// The number of the error that explains the state, or 0.
    pub error: c_int,
    /// Records taken over.
    pub accepted: u64,
    /// Records found in a spool at the start.
    pub recovered: u64,
    /// Records that the backend has confirmed.
    pub acknowledged: u64,
    /// Records given up, for any reason.
    pub dropped: u64,
    /// Records taken over and neither confirmed nor given up.
    pub pending: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
    /// Records that were not taken over because there was no room.
    pub refused: u64,
    /// Records sent again although the backend may have had them.
    pub possibly_duplicated: u64,
    /// The backend, as it was set; empty unless the state is SKYTLS_STATE_READY.
    pub backend: [c_char; 256],
    /// The TLS version agreed on; empty without a connection, and for plaintext.
    pub protocol: [c_char; 16],
    /// The cipher suite agreed on.
    pub cipher: [c_char; 64],
    /// The explanation of `error`, as skytls_error_message() has it.
    pub message: [c_char; 512],
    /// With agent.ssl_fips=required the provider, its version and what was proven of it when certificates and
    /// keys were last read; else empty, and before the engine runs.
    pub fips: [c_char; 256],
}

/// Says what an agent is doing in this process. Set `status->size` first; a structure of an older header is
/// filled as far as it goes. Never starts anything, and never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_status(
    agent: *const skytls_agent,
    status: *mut skytls_status,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        // SAFETY: as above; the size is the first field.
        let room = unsafe { room(status.cast(), mem::offset_of!(skytls_status, accepted)) }?;
        let mut filled = skytls_status::of(agent.life());
        filled.size = room.min(size_of::<skytls_status>());
        // SAFETY: `status` has room for `size` bytes, as its caller says there.
        unsafe { fill(status, &filled, filled.size) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// The number of a state of the link.
pub(crate) fn number(state: &State) -> c_int {
    match state {
        State::Ready(_) => SKYTLS_STATE_READY,
        State::Resting { .. } => SKYTLS_STATE_RESTING,
        State::Misconfigured { .. } => SKYTLS_STATE_MISCONFIGURED,
        State::Stopped => SKYTLS_STATE_STOPPED,
        _ => SKYTLS_STATE_CONNECTING,
    }
}

/// Why the link is down, if it is.
pub(crate) fn reason(state: &State) -> Option<&Error> {
    match state {
        State::Resting { reason, .. } | State::Misconfigured { reason, .. } => Some(reason),
        _ => None,
    }
}

// === impl skytls_status ===

impl skytls_status {
    fn of(life: &Life) -> Self {
        // SAFETY: integers and arrays of them, for which all zeroes is a value.
        let mut status: Self = unsafe { mem::zeroed() };
        let running = life.peek();
        let link = running.map(|running| running.link.state());
        let failure = life.failure();
        status.state = match life.phase() {
            Phase::Stopped => SKYTLS_STATE_STOPPED,
            Phase::Disabled => SKYTLS_STATE_DISABLED,
            Phase::New | Phase::Wanted => match &link {
                Some(state) => number(state),
                None if failure.is_some() => SKYTLS_STATE_FAILED,
                None => SKYTLS_STATE_NEW,
            },
        };
        let error = match &link {
            Some(state) => reason(state),
            None => failure.as_ref(),
        };
        if let Some(error) = error {
            status.error = c_int::from(error.code().number());
            copy_text(&mut status.message, &Chain(error).to_string());
        }
        if let Some(State::Ready(ready)) = &link {
            copy_text(&mut status.backend, &ready.backend);
            if let Some(negotiated) = &ready.negotiated {
                copy_text(&mut status.protocol, &negotiated.protocol.to_string());
                copy_text(&mut status.cipher, &negotiated.cipher.to_string());
            }
        }
        if let Some(running) = running {
            let books = running.uplink.books().total;
            status.accepted = books.accepted;
            status.recovered = books.recovered;
            status.acknowledged = books.acknowledged;
            status.dropped = books.dropped.total();
            status.pending = books.pending;
            status.pending_bytes = books.pending_bytes;
            status.refused = books.refused;
            status.possibly_duplicated = books.possibly_duplicated;
            copy_text(&mut status.fips, &running.fips().unwrap_or_default());
        }
        status
    }
}
