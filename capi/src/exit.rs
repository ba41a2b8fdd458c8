//! The end of the process: the threads stand still before OpenSSL cleans up.
//!
//! A host that has initialised OpenSSL itself has registered OpenSSL's clean-up with `atexit`. A thread that
//! is in the middle of a handshake when that runs would use freed memory. Handlers run in the reverse order
//! of their registration, so ours is registered once OpenSSL is initialised, by whomever.

use std::mem;
use std::sync::Once;
use std::time::{Duration, Instant};

use skytls::rotation::loads;
use skytls::uplink::Level;

use crate::ffi::guard_void;
use crate::{fork, wait};

/// How long the end waits for each of: an agent that is being started, threads, and files being loaded. Reached only
/// if they take so long, or a callback of the host blocks.
const PATIENCE: Duration = Duration::from_millis(250);

/// Sees to it that an exit finds the threads standing still. OpenSSL must be initialised already.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a function of a library that is never unmapped, and does not unwind.
        if unsafe { libc::atexit(at_exit) } != 0 {
            log::error!("no memory for an exit handler: stop the agent before the process exits");
        }
    });
}

extern "C" fn at_exit() {
    guard_void(|| {
        // No lock is held meanwhile: other threads of the host go on, and the threads that deliver may call back.
        let begun = Instant::now();
        for worker in fork::others() {
            // All of them count from the same moment, so that the longest is the limit of all.
            let limit = worker.exit_limit.saturating_sub(begun.elapsed());
            if !limit.is_zero() {
                wait::settled(&worker.handle, &worker.uplink, Level::Delivered, limit);
            }
        }
        // Whoever starts an agent at this moment is inside OpenSSL, and gets the time to come out of it. It may
        // be reading files that take longer: the threads stand still all the same.
        let _turn = fork::turn_within(PATIENCE);
        fork::end(PATIENCE);
        // For good, too.
        mem::forget(loads::pause(PATIENCE));
    });
}
