//! The books: what was accepted, what became of it, and how much room is left.
//!
//! One lock holds all of it, so that a snapshot always balances and room is never given away twice.
//! What is pending is counted by where it is, at each move from one place to the next: it is not
//! what is missing between the other figures, and so can be held against them.
//!
//! While there is room enough for everybody, some of it is given away ahead, as allowances: who finds
//! one takes no lock. Whoever takes the lock enters first what was accepted by them.

mod books;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::account::{Account, Snapshot};
use super::allowance::{Allowance, Full, Slip};
use crate::error::{Code, Error, Result};
use crate::protocol::Kind;

use books::Books;
pub(super) use books::{Amount, Fate, Seat};

/// The books, and the room they give away.
#[derive(Debug)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    allowances: [Allowance; Kind::ALL.len()],
    full: [Full; Kind::ALL.len()],
    /// The last id given out.
    last_id: AtomicU64,
    moved: Notify,
    /// Who waits for room, in the order of arrival: a large record keeps its place before small
    /// ones that came later.
    lines: [tokio::sync::Mutex<()>; Kind::ALL.len()],
    /// How many are waiting for room.
    waiting: AtomicUsize,
    /// The spool has records, and no room to read them.
    stalled: AtomicBool,
    max_bytes: u64,
    max_records: u64,
}

/// What a queued record costs beside its own bytes.
pub(super) const OVERHEAD: u64 = 96;

/// What a lane costs, with the task that empties it.
const LANE: u64 = 2048;

/// How much more of the free room one kind may hold than is left free for the others: a kind alone
/// gets four fifths of the memory, two busy ones four ninths each. (Dynamic thresholds, as switches
/// share their buffers: Choudhury and Hahne, 1998.)
pub(super) const SHARE: u64 = 4;

/// What is given to a kind ahead, at most: one part of so many of the memory.
const ALLOWANCE: u64 = 16;

/// What a kind may still hold while room is kept free for a large record of another: one part of so
/// many.
const TRICKLE: u64 = 32;

// === impl Ledger ===

impl Ledger {
    pub(super) fn new(max_bytes: usize, max_records: usize) -> Self {
        Self {
            books: Mutex::default(),
            allowances: Default::default(),
            full: Default::default(),
            last_id: AtomicU64::new(0),
            moved: Notify::new(),
            lines: Default::default(),
            waiting: AtomicUsize::new(0),
            stalled: AtomicBool::new(false),
            max_bytes: max_bytes as u64,
            max_records: max_records as u64,
        }
    }

    /// Accepts a record of `len` bytes and gives it an id; `None` when there is no room.
    pub(super) fn try_admit(&self, kind: Kind, len: usize) -> Result<Option<u64>> {
        self.try_admit_all(kind, Amount { records: 1, bytes: len as u64 })
    }

    /// Accepts all of several records, or none; gives the first of as many ids.
    pub(super) fn try_admit_all(&self, kind: Kind, amount: Amount) -> Result<Option<u64>> {
        let mut books = self.books();
        let cost = Amount { records: amount.records, bytes: amount.cost() };
        let admitted = self.admit_by(&mut books, kind, cost)?;
        drop(books);
        Ok(admitted.then(|| self.ids(amount.records)))
    }

    /// As [`Ledger::try_admit`], mostly without the lock; the record gets its id later. What was given
    /// ahead is no promise to others: as soon as room gets scarce, it is taken back.
    pub(super) fn try_admit_ahead(&self, kind: Kind, len: usize) -> Result<bool> {
        let cost = len as u64 + OVERHEAD;
        if self.allowances[kind.index()].take(cost) {
            return Ok(true);
        }
        if self.full[kind.index()].refuses(cost) {
            return Ok(false);
        }
        let mut books = self.books();
        let admitted = self.admit_by(&mut books, kind, Amount { records: 1, bytes: cost })?;
        match admitted {
            true => self.give_ahead(&mut books, kind),
            false => self.full[kind.index()].remember(cost),
        }
        Ok(admitted)
    }

    /// The first of as many new ids, higher than all before: also for records that come out of the
    /// spool's hands behind others that got theirs there.
    pub(super) fn ids(&self, count: u64) -> u64 {
        self.last_id.fetch_add(count, Ordering::Relaxed) + 1
    }

    /// `bytes` is what they cost.
    fn admit_by(&self, books: &mut Books, kind: Kind, amount: Amount) -> Result<bool> {
        let cost = amount.bytes;
        if books.closed {
            return Err(Error::new(Code::Stopped));
        }
        if !self.is_easy(books, kind, cost) {
            self.revoke(books);
        }
        if !self.has_room(books, kind, cost, Amount::default()) {
            return Ok(false);
        }
        books.accept(kind, amount);
        Ok(true)
    }

    /// Whether there is so much room that nobody who takes some of it gets more than a fair share, see
    /// [`SHARE`]; what was given ahead counts as taken.
    fn is_easy(&self, books: &Books, kind: Kind, cost: u64) -> bool {
        let (account, given) = (&books.accounts[kind.index()], books.given[kind.index()]);
        books.claim.is_none()
            && books.taken() + books.given_bytes() + cost <= self.max_bytes / (SHARE + 1) * SHARE
            && account.queued.saturating_add(given.records()) < self.max_records
    }

    /// Gives a kind something ahead, if there is room enough for everybody.
    fn give_ahead(&self, books: &mut Books, kind: Kind) {
        let (at, most) = (kind.index(), self.max_bytes / ALLOWANCE);
        // The rest of the last one is too little for the next record.
        books.enter(at, self.allowances[at].revoke());
        books.given[at] = Slip::default();
        if self.is_easy(books, kind, most) {
            let records = self.max_records - books.accounts[at].queued;
            books.given[at] = Slip::up_to(records, most);
            self.allowances[at].add(books.given[at]);
        }
    }

    /// Takes all allowances back.
    fn revoke(&self, books: &mut Books) {
        for (at, allowance) in self.allowances.iter().enumerate() {
            if books.given[at] != Slip::default() {
                books.enter(at, allowance.revoke());
                books.given[at] = Slip::default();
            }
        }
    }

    /// Whether there would be room for a record of `len` bytes if so many queued ones of its kind gave way.
    pub(super) fn would_admit(&self, kind: Kind, len: usize, gone: Amount) -> bool {
        let cost = len as u64 + OVERHEAD;
        let mut books = self.books();
        if !self.is_easy(&books, kind, cost) {
            self.revoke(&mut books);
        }
        let gone = Amount { records: gone.records, bytes: gone.cost() };
        self.has_room(&books, kind, cost, gone)
    }

    /// Whether there is room for what costs so much, if `gone` were not there; its bytes are what it costs.
    fn has_room(&self, books: &Books, kind: Kind, cost: u64, gone: Amount) -> bool {
        let account = &books.accounts[kind.index()];
        let total = (books.taken() + books.given_bytes()).saturating_sub(gone.bytes);
        let own = (account.pending_bytes + books.lanes[kind.index()]).saturating_sub(gone.bytes);
        if account.queued.saturating_sub(gone.records) >= self.max_records {
            return false;
        }
        if let Some((_, claim)) = books.claim.filter(|(other, _)| *other != kind) {
            let modest = own + cost <= self.max_bytes / TRICKLE && claim <= self.max_bytes / 2;
            if total + cost + claim > self.max_bytes && !modest {
                return false;
            }
        }
        // A record larger than all the room still has to get through, but none is given away for it.
        if books.bytes == 0 {
            return true;
        }
        let fair = own + cost <= SHARE * self.max_bytes.saturating_sub(total);
        total + cost <= self.max_bytes && (fair || account.in_memory() <= gone.records)
    }

    /// Accepts a record as soon as there is room.
    pub(super) async fn admit(&self, kind: Kind, len: usize) -> Result<u64> {
        self.admit_all(kind, Amount { records: 1, bytes: len as u64 }).await
    }

    /// Accepts several records as soon as there is room for all of them; gives the first of their ids.
    pub(super) async fn admit_all(&self, kind: Kind, amount: Amount) -> Result<u64> {
        let line = &self.lines[kind.index()];
        let first = line.try_lock().ok();
        if first.is_some()
            && let Some(id) = self.try_admit_all(kind, amount)?
        {
            return Ok(id);
        }
        let _waiting = Waiting::new(&self.waiting);
        let _turn = match first {
            Some(turn) => turn,
            None => line.lock().await,
        };
        let mut claim = Claim { ledger: self, kind, cost: amount.cost(), made: false };
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Listening starts before the question, so that no answer in between is missed.
            moved.as_mut().enable();
            if let Some(id) = self.try_admit_all(kind, amount)? {
                return Ok(id);
            }
            claim.make();
            moved.await;
        }
    }

    /// Whether somebody waits for room.
    pub(super) fn is_pressed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 || self.stalled.load(Ordering::Relaxed)
    }

    /// The spool waits for room too, or no longer.
    pub(super) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// How full the memory is.
    pub(super) fn load_of(&self, kind: Kind) -> Load {
        let books = self.books();
        let account = &books.accounts[kind.index()];
        Load {
            free: self.max_bytes.saturating_sub(books.taken()),
            own_bytes: account.pending_bytes,
            own_records: account.in_memory(),
        }
    }

    /// A lane of this kind has been made.
    pub(super) fn charge_lane(&self, kind: Kind) {
        self.books().lanes[kind.index()] += LANE;
    }

    /// A lane of this kind is gone.
    pub(super) fn discharge_lane(&self, kind: Kind) {
        let mut books = self.books();
        let lanes = &mut books.lanes[kind.index()];
        *lanes = lanes.saturating_sub(LANE);
        drop(books);
        self.notify();
    }

    pub(super) fn refuse(&self, kind: Kind) {
        self.full[kind.index()].count();
    }

    /// How many records of a kind the backend has confirmed.
    pub(super) fn acknowledged(&self, kind: Kind) -> u64 {
        self.books().accounts[kind.index()].acknowledged
    }

    /// Records have been found in a spool.
    pub(super) fn recover(&self, kind: Kind, records: u64) {
        let mut books = self.books();
        let account = &mut books.accounts[kind.index()];
        account.recovered += records;
        account.spooled += records;
        account.durable += records;
    }

    /// Records go from one place in memory to another.
    pub(super) fn shift(&self, kind: Kind, records: u64, from: Seat, to: Seat) {
        self.change(kind, |account| {
            account.take(from, records);
            account.put(to, records);
        });
        if from == Seat::Queued {
            self.notify();
        }
    }

    /// So many records are in the spool, in memory as well or not.
    pub(super) fn set_durable(&self, kind: Kind, records: u64) {
        self.change(kind, |account| account.durable = records);
    }

    /// Queued records leave the memory: the spool has them.
    pub(super) fn release(&self, kind: Kind, amount: Amount) {
        let cost = amount.cost();
        let mut books = self.books();
        if books.closed {
            return;
        }
        let account = &mut books.accounts[kind.index()];
        account.take(Seat::Queued, amount.records);
        account.put(Seat::Spooled, amount.records);
        account.pending_bytes = account.pending_bytes.saturating_sub(cost);
        books.bytes = books.bytes.saturating_sub(cost);
        drop(books);
        self.notify();
    }

    /// Records come back from the spool; gives the first of as many new ids.
    pub(super) fn load(&self, kind: Kind, amount: Amount) -> u64 {
        let cost = amount.cost();
        let first = self.ids(amount.records);
        let mut books = self.books();
        if books.closed {
            return first;
        }
        let account = &mut books.accounts[kind.index()];
        account.take(Seat::Spooled, amount.records);
        account.put(Seat::Queued, amount.records);
        account.pending_bytes += cost;
        books.bytes += cost;
        first
    }

    /// Enters what became of records.
    pub(super) fn settle(&self, kind: Kind, amount: Amount, seat: Seat, fate: Fate) {
        let cost = if seat == Seat::Spooled { 0 } else { amount.cost() };
        let mut books = self.books();
        if books.closed {
            // Already counted as left over: an answer that comes now changes nothing.
            return;
        }
        let account = &mut books.accounts[kind.index()];
        account.take(seat, amount.records);
        account.pending_bytes = account.pending_bytes.saturating_sub(cost);
        match fate {
            Fate::Acknowledged => account.acknowledged += amount.records,
            Fate::Dropped(reason) => account.dropped.add(reason, amount.records),
        }
        books.bytes = books.bytes.saturating_sub(cost);
        drop(books);
        self.notify();
    }

    /// Records go back to the queue although the backend may have them.
    pub(super) fn note_repeat(&self, kind: Kind, records: u64) {
        self.books().accounts[kind.index()].possibly_duplicated += records;
    }

    /// Closes the books: nothing is accepted any more. What is pending counts as dropped, unless
    /// it is in a spool: there it stays pending. Says how many are lost.
    pub(super) fn abandon(&self) -> u64 {
        let mut books = self.books();
        books.closed = true;
        self.revoke(&mut books);
        let mut lost = 0;
        for account in &mut books.accounts {
            let left = account.left();
            let durable = account.durable.min(left);
            lost += left - durable;
            account.dropped.shutdown += left - durable;
            (account.queued, account.sent, account.spooled) = (0, 0, durable);
            account.durable = durable;
            account.pending_bytes = 0;
        }
        books.bytes = 0;
        drop(books);
        self.notify();
        lost
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
        for (kind, mut account) in Kind::ALL.iter().zip(accounts) {
            account.pending = account.left();
            account.refused = self.full[kind.index()].counted();
            // The spool learns a moment later than the books that a record is done.
            account.durable = account.durable.min(account.pending);
            total.add(&account);
            if account != Account::default() {
                by_kind.insert(kind.name(), account);
            }
        }
        Snapshot { total, by_kind }
    }

    fn pending(&self) -> u64 {
        self.books().accounts.iter().map(Account::left).sum()
    }

    fn change(&self, kind: Kind, change: impl FnOnce(&mut Account)) {
        let mut books = self.books();
        if !books.closed {
            change(&mut books.accounts[kind.index()]);
        }
    }

    /// Something has moved: there may be room.
    fn notify(&self) {
        self.full.iter().for_each(Full::forget);
        self.moved.notify_waiters();
    }

    /// The books, up to date.
    fn books(&self) -> MutexGuard<'_, Books> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, allowance) in self.allowances.iter().enumerate() {
            if books.given[at] != Slip::default() {
                books.enter(at, allowance.left());
            }
        }
        books
    }
}

/// How full the memory is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Bytes that nobody takes.
    pub(super) free: u64,
    pub(super) own_bytes: u64,
    pub(super) own_records: u64,
}

/// Counts somebody as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

/// Keeps room free for the first in line of its kind, once its own kind takes none of it.
struct Claim<'a> {
    ledger: &'a Ledger,
    kind: Kind,
    cost: u64,
    made: bool,
}

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

impl Claim<'_> {
    fn make(&mut self) {
        let mut books = self.ledger.books();
        let own = books.accounts[self.kind.index()].in_memory();
        if !self.made && own == 0 && books.claim.is_none() {
            self.ledger.revoke(&mut books);
            books.claim = Some((self.kind, self.cost));
            self.made = true;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.made {
            self.ledger.books().claim = None;
            self.ledger.notify();
        }
    }
}

#[cfg(test)]
mod tests;
