//! What became of the records of one stream, for whoever waits until the backend has them.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::ledger::Fate;

#[derive(Debug, Default)]
pub(super) struct Ticket {
    /// Handed in and not settled.
    left: AtomicU64,
    dropped: AtomicU64,
    moved: Notify,
}

// === impl Ticket ===

impl Ticket {
    pub(super) fn hand_in(&self, records: u64) {
        self.left.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn settle(&self, records: u64, fate: Fate) {
        if let Fate::Dropped(_) = fate {
            self.dropped.fetch_add(records, Ordering::Relaxed);
        }
        // Whoever sees the last one settled sees the drops too.
        if self.left.fetch_sub(records, Ordering::AcqRel) == records {
            self.moved.notify_waiters();
        }
    }

    /// Waits until all are settled; says how many were dropped.
    pub(super) async fn settled(&self) -> u64 {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.left.load(Ordering::Acquire) == 0 {
                return self.dropped.load(Ordering::Relaxed);
            }
            moved.await;
        }
    }
}
