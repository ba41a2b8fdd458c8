//! The figures of the ledger, and how they change; all of it behind the ledger's lock.

use super::OVERHEAD;
use crate::protocol::Kind;
use crate::uplink::account::{Account, DropReason};
use crate::uplink::allowance::Slip;
use crate::uplink::parcel::Parcel;

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) accounts: [Account; Kind::ALL.len()],
    /// Of records in memory.
    pub(super) bytes: u64,
    /// Of lanes, by kind.
    pub(super) lanes: [u64; Kind::ALL.len()],
    /// Room that is kept free for a record which found too little of it.
    pub(super) claim: Option<(Kind, u64)>,
    /// What was left of each allowance when it was last looked at.
    pub(super) given: [Slip; Kind::ALL.len()],
    pub(super) closed: bool,
}

/// Where a pending record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::uplink) enum Seat {
    /// In memory, waiting.
    Queued,
    /// Handed to HTTP/2.
    Sent,
    /// In the spool, and nowhere else.
    Spooled,
}

/// How much is moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::uplink) struct Amount {
    pub(in crate::uplink) records: u64,
    /// The sum of their lengths.
    pub(in crate::uplink) bytes: u64,
}

/// What became of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::uplink) enum Fate {
    Acknowledged,
    Dropped(DropReason),
}

// === impl Books ===

impl Books {
    /// What records and lanes take in memory.
    pub(super) fn taken(&self) -> u64 {
        self.bytes + self.lanes.iter().sum::<u64>()
    }

    /// What was given ahead and not used yet.
    pub(super) fn given_bytes(&self) -> u64 {
        self.given.iter().map(|slip| slip.bytes()).sum()
    }

    /// Enters what was accepted by an allowance since it was last looked at.
    pub(super) fn enter(&mut self, at: usize, left: Slip) {
        let accepted = left.gone_since(self.given[at]);
        if accepted.records > 0 {
            self.accept(Kind::ALL[at], accepted);
            self.given[at] = left;
        }
    }

    /// `bytes` is what they cost.
    pub(super) fn accept(&mut self, kind: Kind, Amount { records, bytes }: Amount) {
        let account = &mut self.accounts[kind.index()];
        account.accepted += records;
        account.queued += records;
        account.pending_bytes += bytes;
        self.bytes += bytes;
    }
}

// === impl Amount ===

impl Amount {
    pub(in crate::uplink) fn of<'a>(parcels: impl IntoIterator<Item = &'a Parcel>) -> Self {
        parcels.into_iter().map(Parcel::amount).fold(Self::default(), |sum, amount| Self {
            records: sum.records + amount.records,
            bytes: sum.bytes + amount.bytes,
        })
    }

    pub(super) fn cost(self) -> u64 {
        self.bytes + self.records * OVERHEAD
    }
}

// === impl Account ===

impl Account {
    pub(super) fn in_memory(&self) -> u64 {
        self.queued + self.sent
    }

    pub(super) fn left(&self) -> u64 {
        self.queued + self.sent + self.spooled
    }

    pub(super) fn seat(&mut self, seat: Seat) -> &mut u64 {
        match seat {
            Seat::Queued => &mut self.queued,
            Seat::Sent => &mut self.sent,
            Seat::Spooled => &mut self.spooled,
        }
    }

    pub(super) fn take(&mut self, seat: Seat, records: u64) {
        let count = self.seat(seat);
        *count = count.saturating_sub(records);
    }

    pub(super) fn put(&mut self, seat: Seat, records: u64) {
        *self.seat(seat) += records;
    }
}
