//! Room that is given away ahead, one allowance per kind, so that accepting a record takes no lock.
//!
//! The ledger gives an allowance and remembers how much it gave; what is missing of it since has been
//! accepted. Nothing else is written down, so that both sides of the books change at the same moment, and a
//! snapshot always balances. It knows nothing of who is to be given how much.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ledger::Amount;

/// What may still be accepted: records and what they cost, in one word. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Allowance(AtomicU64);

/// What a full queue refuses without the lock, until anything moves.
#[derive(Debug)]
pub(super) struct Full {
    /// What costs as much as this finds no room.
    from: AtomicU64,
    /// Records refused.
    refused: AtomicU64,
}

/// The content of an allowance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slip(u64);

/// The lower bits are bytes, up to 2^40; the upper ones records.
const BYTES: u32 = 40;

// === impl Allowance ===

impl Allowance {
    /// Takes a record that costs so much out of it, if that is in it.
    pub(super) fn take(&self, cost: u64) -> bool {
        let Some(wanted) = Slip::new(1, cost) else { return false };
        let mut left = Slip(self.0.load(Ordering::Relaxed));
        while left.covers(wanted) {
            let rest = left.0 - wanted.0;
            match self.0.compare_exchange_weak(left.0, rest, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(current) => left = Slip(current),
            }
        }
        false
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Slip {
        Slip(self.0.load(Ordering::Acquire))
    }

    /// Puts more in. Only whoever keeps the books does that.
    pub(super) fn add(&self, more: Slip) {
        self.0.fetch_add(more.0, Ordering::AcqRel);
    }

    /// Takes everything out.
    pub(super) fn revoke(&self) -> Slip {
        Slip(self.0.swap(0, Ordering::AcqRel))
    }
}

// === impl Full ===

impl Full {
    /// Whether it is known that there is no room.
    pub(super) fn refuses(&self, cost: u64) -> bool {
        cost >= self.from.load(Ordering::Acquire)
    }

    /// There is no room for what costs as much as this. To be said under the lock of the books.
    pub(super) fn remember(&self, cost: u64) {
        self.from.store(cost, Ordering::Release);
    }

    pub(super) fn count(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Records refused.
    pub(super) fn counted(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// There may be room again.
    pub(super) fn forget(&self) {
        // Mostly there is nothing to forget, and nobody has to look again.
        if self.from.load(Ordering::Relaxed) != u64::MAX {
            self.from.store(u64::MAX, Ordering::Release);
        }
    }
}

impl Default for Full {
    fn default() -> Self {
        Self { from: AtomicU64::new(u64::MAX), refused: AtomicU64::new(0) }
    }
}

// === impl Slip ===

impl Slip {
    /// `None` for more than fits.
    pub(super) fn new(records: u64, bytes: u64) -> Option<Self> {
        let fits = records < 1 << (u64::BITS - BYTES) && bytes < 1 << BYTES;
        fits.then_some(Self(records << BYTES | bytes))
    }

    /// As much of it as fits.
    pub(super) fn up_to(records: u64, bytes: u64) -> Self {
        let most = |bits: u32| (1 << bits) - 1;
        Self(records.min(most(u64::BITS - BYTES)) << BYTES | bytes.min(most(BYTES)))
    }

    pub(super) fn records(self) -> u64 {
        self.0 >> BYTES
    }

    pub(super) fn bytes(self) -> u64 {
        self.0 & ((1 << BYTES) - 1)
    }

    /// What has gone since there was so much.
    pub(super) fn gone_since(self, before: Self) -> Amount {
        Amount { records: before.records() - self.records(), bytes: before.bytes() - self.bytes() }
    }

    fn covers(self, other: Self) -> bool {
        self.records() >= other.records() && self.bytes() >= other.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_records_nor_bytes_are_overdrawn() {
        let allowance = Allowance::default();
        assert!(!allowance.take(0));
        allowance.add(Slip::new(2, 100).unwrap());
        assert!(!allowance.take(101));
        assert!(allowance.take(60));
        assert!(!allowance.take(60));
        assert!(allowance.take(40));
        assert!(!allowance.take(0), "no record is left");
        allowance.add(Slip::new(1, 5).unwrap());
        assert_eq!(allowance.revoke(), Slip::new(1, 5).unwrap());
        assert!(!allowance.take(5));
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert_eq!(Slip::new(1 << 24, 0), None);
        assert_eq!(Slip::new(0, 1 << 40), None);
        let most = Slip::up_to(u64::MAX, u64::MAX);
        assert_eq!((most.records(), most.bytes()), ((1 << 24) - 1, (1 << 40) - 1));
    }
}
