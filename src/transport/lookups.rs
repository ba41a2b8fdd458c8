//! How many names the system's resolver is looking up for this process.
//!
//! The one count that is kept for the whole process, as the resolver is: it works under locks of the C library
//! that a child forked meanwhile would find locked for ever. Who forks waits until the count is zero.

use std::sync::atomic::{AtomicUsize, Ordering};

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// A lookup, from before it is handed to its thread until it is over.
#[derive(Debug)]
pub(super) struct Lookup;

/// Whether a name is being looked up.
pub fn are_under_way() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) > 0
}

/// In a forked child: those of the parent are none of ours.
pub fn forget() {
    UNDER_WAY.store(0, Ordering::SeqCst);
}

// === impl Lookup ===

impl Lookup {
    pub(super) fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}
