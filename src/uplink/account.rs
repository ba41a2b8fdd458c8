//! The figures of the books as others get to see them.
//!
//! It does not keep them: that is the ledger's.

use serde::Serialize;

/// The account of one kind of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// Records taken over.
    pub accepted: u64,
    /// Records found in a spool at the start.
    pub recovered: u64,
    /// Records the backend has confirmed.
    pub acknowledged: u64,
    /// Records given up, by reason.
    pub dropped: Dropped,
    /// Records taken over and neither confirmed nor given up: counted where they are, not worked
    /// out from the figures above.
    pub pending: u64,
    /// Bytes of memory that these take.
    pub pending_bytes: u64,
    /// Of the pending ones: waiting in memory.
    pub queued: u64,
    /// Of the pending ones: on their way, not answered yet.
    pub sent: u64,
    /// Of the pending ones: in the spool only.
    pub spooled: u64,
    /// Of the pending ones: in the spool, whether in memory as well or not.
    pub durable: u64,
    /// Records that were never accepted because there was no room.
    pub refused: u64,
    /// Records sent again although the backend may have had them.
    pub possibly_duplicated: u64,
}

/// Records given up, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Dropped {
    /// Made room for newer ones.
    pub displaced: u64,
    /// Metrics that may have arrived: sending them again could count them twice.
    pub not_resent: u64,
    /// Refused by the backend in a way that no repetition changes.
    pub rejected: u64,
    /// Still there at the end of the time allowed for a drain, and not in a spool.
    pub shutdown: u64,
    /// Older than `spool.max_age`.
    pub expired: u64,
    /// No longer readable in the spool.
    pub damaged: u64,
}

/// Why a record was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// Made room for a newer one.
    Displaced,
    /// May have arrived, and must not be counted twice.
    NotResent,
    /// Refused for good.
    Rejected,
    /// Left over at a shutdown.
    Shutdown,
    /// Older than the spool keeps them.
    Expired,
    /// No longer readable in the spool.
    Damaged,
}

/// The books of all kinds, taken at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The sum over all kinds.
    pub total: Account,
    /// By kind; kinds without a movement are left out.
    pub by_kind: std::collections::BTreeMap<&'static str, Account>,
}

// === impl Account ===

impl Account {
    pub(super) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.recovered += other.recovered;
        self.acknowledged += other.acknowledged;
        self.dropped.displaced += other.dropped.displaced;
        self.dropped.not_resent += other.dropped.not_resent;
        self.dropped.rejected += other.dropped.rejected;
        self.dropped.shutdown += other.dropped.shutdown;
        self.dropped.expired += other.dropped.expired;
        self.dropped.damaged += other.dropped.damaged;
        self.pending += other.pending;
        self.pending_bytes += other.pending_bytes;
        self.queued += other.queued;
        self.sent += other.sent;
        self.spooled += other.spooled;
        self.durable += other.durable;
        self.refused += other.refused;
        self.possibly_duplicated += other.possibly_duplicated;
    }
}

// === impl Dropped ===

impl Dropped {
    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.displaced
            + self.not_resent
            + self.rejected
            + self.shutdown
            + self.expired
            + self.damaged
    }

    pub(super) fn add(&mut self, reason: DropReason, records: u64) {
        match reason {
            DropReason::Displaced => self.displaced += records,
            DropReason::NotResent => self.not_resent += records,
            DropReason::Rejected => self.rejected += records,
            DropReason::Shutdown => self.shutdown += records,
            DropReason::Expired => self.expired += records,
            DropReason::Damaged => self.damaged += records,
        }
    }
}
