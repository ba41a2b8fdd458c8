//! The books: what was accepted, what became of it, and how much room is left.
//!
//! One lock holds all of it, so that a snapshot always balances and room is never given away twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use crate::error::{Code, Error, Result};
use crate::protocol::Kind;

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
    /// Records taken over and neither confirmed nor given up.
    pub pending: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
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
    /// Still there at the end of the time allowed for a drain.
    pub shutdown: u64,
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

/// The books, and the room they give away.
#[derive(Debug)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    moved: Notify,
    /// How many are waiting for room.
    waiting: AtomicUsize,
    max_bytes: u64,
    max_records: u64,
}

#[derive(Debug, Default)]
struct Books {
    accounts: [Account; Kind::ALL.len()],
    bytes: u64,
    next: u64,
    closed: bool,
}

/// What a queued record costs beside its own bytes.
const OVERHEAD: u64 = 96;

/// How much more of the free room one kind may hold than is left free for the others: a kind alone
/// gets four fifths of the memory, two busy ones four ninths each. (Dynamic thresholds, as switches
/// share their buffers: Choudhury and Hahne, 1998.)
const SHARE: u64 = 4;

// === impl Ledger ===

impl Ledger {
    pub(super) fn new(max_bytes: usize, max_records: usize) -> Self {
        Self {
            books: Mutex::default(),
            moved: Notify::new(),
            waiting: AtomicUsize::new(0),
            max_bytes: max_bytes as u64,
            max_records: max_records as u64,
        }
    }

    /// Accepts a record of `len` bytes and gives it an id; `None` when there is no room.
    pub(super) fn try_admit(&self, kind: Kind, len: usize) -> Result<Option<u64>> {
        let cost = len as u64 + OVERHEAD;
        let mut books = self.books();
        if books.closed {
            return Err(Error::new(Code::Stopped));
        }
        let total = books.bytes;
        let account = &mut books.accounts[kind.index()];
        let fits = total + cost <= self.max_bytes
            && account.pending_bytes + cost <= SHARE * (self.max_bytes - total)
            && account.pending < self.max_records;
        // A record larger than all the room still has to get through.
        if !fits && total > 0 && (account.pending > 0 || total + cost > self.max_bytes) {
            return Ok(None);
        }
        account.accepted += 1;
        account.pending += 1;
        account.pending_bytes += cost;
        books.bytes += cost;
        books.next += 1;
        Ok(Some(books.next))
    }

    /// Accepts a record as soon as there is room.
    pub(super) async fn admit(&self, kind: Kind, len: usize) -> Result<u64> {
        if let Some(id) = self.try_admit(kind, len)? {
            return Ok(id);
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Listening starts before the question, so that no answer in between is missed.
            moved.as_mut().enable();
            if let Some(id) = self.try_admit(kind, len)? {
                return Ok(id);
            }
            moved.await;
        }
    }

    /// Whether somebody waits for room.
    pub(super) fn is_pressed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn refuse(&self, kind: Kind) {
        self.books().accounts[kind.index()].refused += 1;
    }

    /// The backend has confirmed records; `bytes` is the sum of their lengths.
    pub(super) fn acknowledge(&self, kind: Kind, records: u64, bytes: u64) {
        self.settle(kind, records, bytes, |account| account.acknowledged += records);
    }

    /// How many records of a kind the backend has confirmed.
    pub(super) fn acknowledged(&self, kind: Kind) -> u64 {
        self.books().accounts[kind.index()].acknowledged
    }

    /// Records are given up.
    pub(super) fn give_up(&self, kind: Kind, records: u64, bytes: u64, reason: DropReason) {
        self.settle(kind, records, bytes, |account| account.dropped.add(reason, records));
    }

    /// Records go back to the queue although the backend may have them.
    pub(super) fn note_repeat(&self, kind: Kind, records: u64) {
        self.books().accounts[kind.index()].possibly_duplicated += records;
    }

    /// Closes the books: nothing is accepted any more, and what is pending counts as dropped.
    pub(super) fn abandon(&self) -> u64 {
        let mut books = self.books();
        books.closed = true;
        let mut left = 0;
        for account in &mut books.accounts {
            left += account.pending;
            account.dropped.shutdown += account.pending;
            account.pending = 0;
            account.pending_bytes = 0;
        }
        books.bytes = 0;
        drop(books);
        self.moved.notify_waiters();
        left
    }

    /// Waits until nothing is pending, at most for `limit`; says what is left.
    pub(super) async fn settled(&self, limit: Duration) -> u64 {
        let settled = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if self.pending() == 0 {
                    return;
                }
                moved.await;
            }
        };
        match tokio::time::timeout(limit, settled).await {
            Ok(()) => 0,
            Err(_) => self.pending(),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let accounts = self.books().accounts;
        let mut total = Account::default();
        let mut by_kind = std::collections::BTreeMap::new();
        for (kind, account) in Kind::ALL.iter().zip(accounts) {
            total.add(&account);
            if account != Account::default() {
                by_kind.insert(kind.name(), account);
            }
        }
        Snapshot { total, by_kind }
    }

    fn pending(&self) -> u64 {
        self.books().accounts.iter().map(|account| account.pending).sum()
    }

    fn settle(&self, kind: Kind, records: u64, bytes: u64, book: impl FnOnce(&mut Account)) {
        let cost = bytes + records * OVERHEAD;
        let mut books = self.books();
        if books.closed {
            // Already counted as left over: an answer that comes now changes nothing.
            return;
        }
        let account = &mut books.accounts[kind.index()];
        account.pending -= records;
        account.pending_bytes -= cost;
        book(account);
        books.bytes -= cost;
        drop(books);
        self.moved.notify_waiters();
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts somebody as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Account ===

impl Account {
    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.recovered += other.recovered;
        self.acknowledged += other.acknowledged;
        self.dropped.displaced += other.dropped.displaced;
        self.dropped.not_resent += other.dropped.not_resent;
        self.dropped.rejected += other.dropped.rejected;
        self.dropped.shutdown += other.dropped.shutdown;
        self.pending += other.pending;
        self.pending_bytes += other.pending_bytes;
        self.refused += other.refused;
        self.possibly_duplicated += other.possibly_duplicated;
    }
}

// === impl Dropped ===

impl Dropped {
    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.displaced + self.not_resent + self.rejected + self.shutdown
    }

    fn add(&mut self, reason: DropReason, records: u64) {
        match reason {
            DropReason::Displaced => self.displaced += records,
            DropReason::NotResent => self.not_resent += records,
            DropReason::Rejected => self.rejected += records,
            DropReason::Shutdown => self.shutdown += records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balances(ledger: &Ledger) {
        let total = ledger.snapshot().total;
        assert_eq!(
            total.accepted + total.recovered,
            total.acknowledged + total.dropped.total() + total.pending
        );
    }

    #[test]
    fn one_kind_leaves_room_for_the_others() {
        let ledger = Ledger::new(100_000, usize::MAX);
        let mut logs = 0;
        while ledger.try_admit(Kind::Log, 904).unwrap().is_some() {
            logs += 1;
        }
        assert_eq!(logs, 80);
        let mut traces = 0;
        while ledger.try_admit(Kind::Trace, 904).unwrap().is_some() {
            traces += 1;
        }
        assert!((15..=20).contains(&traces), "{traces}");
        balances(&ledger);
    }

    #[test]
    fn a_record_larger_than_the_room_is_taken_when_there_is_nothing_else() {
        let ledger = Ledger::new(1000, usize::MAX);
        assert!(ledger.try_admit(Kind::Trace, 5000).unwrap().is_some());
        assert!(ledger.try_admit(Kind::Trace, 1).unwrap().is_none());
        assert!(ledger.try_admit(Kind::Log, 1).unwrap().is_none());
        ledger.acknowledge(Kind::Trace, 1, 5000);
        assert!(ledger.try_admit(Kind::Log, 5000).unwrap().is_some());
        balances(&ledger);
    }

    #[test]
    fn what_is_left_at_the_end_is_dropped_once() {
        let ledger = Ledger::new(1_000_000, usize::MAX);
        for _ in 0..10 {
            ledger.try_admit(Kind::Trace, 10).unwrap();
        }
        ledger.acknowledge(Kind::Trace, 3, 30);
        ledger.give_up(Kind::Trace, 2, 20, DropReason::Rejected);
        assert_eq!(ledger.abandon(), 5);
        ledger.acknowledge(Kind::Trace, 5, 50);
        let total = ledger.snapshot().total;
        assert_eq!((total.acknowledged, total.dropped.rejected, total.dropped.shutdown), (3, 2, 5));
        assert_eq!(ledger.try_admit(Kind::Trace, 1).unwrap_err().code(), Code::Stopped);
        balances(&ledger);
    }
}
