//! Where any number of threads leave records for a lane, without waiting for one another or for whoever takes
//! them out.
//!
//! A thread copies its record, framed for gRPC, to the end of a *run*: frames one behind the other. There are
//! several places for runs, each behind a lock that nobody waits for: a thread that finds one taken goes on to the
//! next. So records of one thread mostly keep their order, and those of several have none. Runs that were sent
//! come back to be filled again: under load nothing is allocated for a record.
//!
//! It does not know what records cost, or who may leave some.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use bytes::Bytes;

use crate::protocol::frame;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    places: [Place; PLACES],
    /// A bit for each place that has records, [`ASLEEP`], and [`DOZING`].
    ///
    /// A place's bit is looked at and set under its lock. Whoever takes out clears it before it takes that
    /// lock. So a record that finds the bit set is seen by whoever clears it.
    flags: AtomicU32,
    stock: Arc<Stock>,
}

/// Frames one behind the other.
#[derive(Debug, Default)]
pub(super) struct Run {
    frames: Vec<u8>,
    records: u64,
}

/// What has become of a record's arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Whoever takes out is awake, or somebody else has woken it.
    Quietly,
    /// Whoever takes out has to be woken.
    FirstOfMany,
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place(Mutex<Pile>);

#[derive(Debug, Default)]
struct Pile {
    open: Run,
    full: Vec<Run>,
}

/// Memory for runs: of those that were sent, or touched ahead by whoever takes out, so that those who
/// fill them need no system call and meet no page that is not there.
#[derive(Debug, Default)]
pub(super) struct Stock {
    runs: Mutex<Vec<Vec<u8>>>,
    /// A run was filled since the stock was looked after.
    drawn: AtomicBool,
}

/// The memory of a run, until the last record of it is gone.
struct Lent {
    frames: Vec<u8>,
    stock: Arc<Stock>,
}

/// Places, and bits of the flags that stand for one.
const PLACES: usize = 16;
const ASLEEP: u32 = 1 << PLACES;
const DOZING: u32 = 1 << (PLACES + 1);

/// How long a run gets.
pub(super) const RUN: usize = 64 * 1024;

/// So many records in one place wake whoever dozes, however short they are.
const MANY: u64 = 256;

/// A longer record gets memory of its own.
pub(super) const LONGEST: usize = 16 * 1024;

/// Runs whose memory is kept, at most, and those that are there for the next burst, if there was one.
const STOCK: usize = 64;
const AHEAD: usize = 16;

/// How often a thread goes over all places before it waits for one.
const ROUNDS: usize = 4;

// === impl Inbox ===

impl Inbox {
    /// Leaves a record of at most [`LONGEST`] bytes.
    pub(super) fn leave(&self, data: &[u8]) -> Left {
        let (at, mut pile) = self.place();
        pile.add(data, &self.stock);
        let bit = 1 << at;
        let flags = self.flags.load(Ordering::Relaxed);
        let rouses = flags & DOZING != 0 && pile.is_long();
        if flags & bit != 0 && !rouses {
            return Left::Quietly;
        }
        let before = self.flags.fetch_or(bit, Ordering::AcqRel);
        // Whoever dozed when it was looked at may have fallen asleep since.
        let waits = if rouses { ASLEEP | DOZING } else { ASLEEP };
        let waiting = |flags: u32| flags & waits != 0;
        if waiting(before) && waiting(self.flags.fetch_and(!waits, Ordering::AcqRel)) {
            return Left::FirstOfMany;
        }
        Left::Quietly
    }

    /// Takes out what is there; what is being added at this moment may stay.
    pub(super) fn take(&self, mut take: impl FnMut(Bytes, u64)) {
        if self.flags.load(Ordering::Relaxed) == 0 {
            return;
        }
        let found = self.flags.swap(0, Ordering::AcqRel);
        let mut busy = 0;
        for (at, place) in self.places.iter().enumerate() {
            let bit = 1 << at;
            if found & bit == 0 {
                continue;
            }
            match place.get() {
                Some(mut pile) => {
                    let runs = pile.take(&self.stock);
                    drop(pile);
                    runs.for_each(|(frames, records)| take(frames, records));
                }
                None => busy |= bit,
            }
        }
        if busy != 0 {
            self.flags.fetch_or(busy, Ordering::AcqRel);
        }
    }

    /// Gets memory for those who are to leave records next. That takes system calls and touches a megabyte: it is
    /// for whoever sends, and for nobody who reports or holds a lock that those want who do.
    pub(super) fn tend(&self) {
        self.stock.tend();
    }

    /// Runs that are at hand.
    #[cfg(test)]
    pub(super) fn stocked(&self) -> usize {
        self.stock.runs.lock().map_or(0, |runs| runs.len())
    }

    /// Asks to be woken by the next record; `false`: there are some.
    pub(super) fn sleep(&self) -> bool {
        let slept = self.flags.compare_exchange(0, ASLEEP, Ordering::AcqRel, Ordering::Relaxed);
        slept.is_ok() || slept == Err(ASLEEP)
    }

    /// Asks to be woken when there are many records. They may be many already: whoever dozes has to wake
    /// up by itself after a while.
    pub(super) fn doze(&self) {
        self.flags.fetch_or(DOZING, Ordering::AcqRel);
    }

    /// A place that nobody is at, the thread's own if possible.
    fn place(&self) -> (usize, MutexGuard<'_, Pile>) {
        let home = home();
        for at in (home..home + PLACES * ROUNDS).map(|at| at % PLACES) {
            if let Some(pile) = self.places[at].get() {
                return (at, pile);
            }
        }
        (home, self.places[home].await_it())
    }
}

/// The place where this thread looks first.
fn home() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HOME: usize = NEXT.fetch_add(1, Ordering::Relaxed) % PLACES;
    }
    // At the end of a thread any place will do.
    HOME.try_with(|home| *home).unwrap_or_default()
}

// === impl Place ===

impl Place {
    fn get(&self) -> Option<MutexGuard<'_, Pile>> {
        match self.0.try_lock() {
            Ok(pile) => Some(pile),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn await_it(&self) -> MutexGuard<'_, Pile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Pile ===

impl Pile {
    fn add(&mut self, data: &[u8], stock: &Stock) {
        let header = frame::header(false, data.len());
        if self.open.room() < header.len() + data.len() {
            let full = mem::replace(&mut self.open, Run::new(stock.get()));
            if full.records > 0 {
                stock.drawn.store(true, Ordering::Relaxed);
                self.full.push(full);
            }
        }
        self.open.frames.extend_from_slice(&header);
        self.open.frames.extend_from_slice(data);
        self.open.records += 1;
    }

    fn is_long(&self) -> bool {
        !self.full.is_empty() || self.open.records >= MANY || self.open.frames.len() >= RUN / 4 * 3
    }

    /// All runs. Of one that is mostly empty the memory stays: what is in it may be kept for long.
    fn take(&mut self, stock: &Arc<Stock>) -> impl Iterator<Item = (Bytes, u64)> + use<> {
        let full = mem::take(&mut self.full);
        let last = match self.open.frames.len() {
            0 => None,
            few if few < RUN / 2 => {
                let frames = Bytes::copy_from_slice(&self.open.frames);
                self.open.frames.clear();
                Some((frames, mem::take(&mut self.open.records)))
            }
            _ => {
                let next = Run { frames: stock.at_hand().unwrap_or_default(), records: 0 };
                Some(mem::replace(&mut self.open, next).lend(stock))
            }
        };
        let stock = stock.clone();
        full.into_iter().map(move |run| run.lend(&stock)).chain(last)
    }
}

// === impl Run ===

impl Run {
    fn new(frames: Vec<u8>) -> Self {
        Self { frames, records: 0 }
    }

    fn room(&self) -> usize {
        self.frames.capacity() - self.frames.len()
    }

    fn lend(self, stock: &Arc<Stock>) -> (Bytes, u64) {
        (stock.lend(self.frames), self.records)
    }
}

// === impl Stock ===

impl Stock {
    /// Empty memory for a run.
    pub(super) fn get(&self) -> Vec<u8> {
        self.at_hand().unwrap_or_else(|| Vec::with_capacity(RUN))
    }

    /// What was filled; its memory comes back when nobody needs it any more.
    pub(super) fn lend(self: &Arc<Self>, frames: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { frames, stock: self.clone() })
    }

    /// Memory that is there. Nobody waits for it.
    fn at_hand(&self) -> Option<Vec<u8>> {
        self.runs.try_lock().ok()?.pop()
    }

    /// Sees to it that there is some for the next ones.
    fn tend(&self) {
        if !self.drawn.swap(false, Ordering::Relaxed) {
            return;
        }
        while self.runs.try_lock().is_ok_and(|runs| runs.len() < AHEAD) {
            let mut run = Vec::with_capacity(RUN);
            // Touches every page, which zeroes from the system would not.
            run.resize(RUN, u8::MAX);
            run.clear();
            self.put(run);
        }
    }

    fn put(&self, run: Vec<u8>) {
        if let Ok(mut runs) = self.runs.try_lock()
            && runs.len() < STOCK
        {
            runs.push(run);
        }
    }
}

// === impl Lent ===

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.frames
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.frames.clear();
        self.stock.put(mem::take(&mut self.frames));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::thread;

    fn records(frames: &Bytes) -> Vec<Vec<u8>> {
        let (mut rest, mut all) = (&frames[..], Vec::new());
        while let Some((length, body)) = rest.get(1..).and_then(|rest| rest.split_first_chunk()) {
            let (data, behind) = body.split_at(u32::from_be_bytes(*length) as usize);
            all.push(data.to_vec());
            rest = behind;
        }
        all
    }

    #[test]
    fn every_record_of_every_thread_comes_out_once_and_whoever_sleeps_is_woken() {
        const THREADS: usize = 8;
        const EACH: usize = 5_000;
        let inbox = Inbox::default();
        let (wake, woken) = std::sync::mpsc::channel();
        let mut seen = BTreeMap::new();
        let (mut total, mut round) = (0, 0);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (inbox, wake) = (&inbox, wake.clone());
                scope.spawn(move || {
                    for number in 0..EACH {
                        let mut text = format!("{thread}:{number}:").into_bytes();
                        text.resize(text.len() + number % 2000, b'x');
                        if inbox.leave(&text) == Left::FirstOfMany {
                            wake.send(()).unwrap();
                        }
                    }
                });
            }
            while total < THREADS * EACH {
                inbox.take(|frames, count| {
                    let all = records(&frames);
                    assert_eq!(all.len() as u64, count);
                    total += all.len();
                    all.into_iter().for_each(|record| *seen.entry(record).or_insert(0) += 1);
                });
                if total < THREADS * EACH {
                    // Who dozes wakes up by itself; who sleeps is woken, although it dozed a moment before.
                    match round % 3 {
                        0 => inbox.doze(),
                        1 if inbox.sleep() => {
                            woken.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
                        }
                        _ => {}
                    }
                    round += 1;
                }
            }
        });
        assert_eq!(seen.len(), THREADS * EACH);
        assert!(seen.values().all(|times| *times == 1));
    }

    #[test]
    fn one_wake_is_asked_for_however_many_records_come() {
        let inbox = Inbox::default();
        assert_eq!(inbox.leave(b"before anybody sleeps"), Left::Quietly);
        assert!(!inbox.sleep(), "there is a record");
        inbox.take(|_, _| {});
        assert!(inbox.sleep() && inbox.sleep());
        assert_eq!(inbox.leave(b"x"), Left::FirstOfMany);
        assert_eq!(inbox.leave(b"x"), Left::Quietly);
    }

    #[test]
    fn whoever_dozes_is_woken_by_many_records_and_by_no_single_one() {
        for (length, enough) in [(RUN / 8, 6), (1, MANY)] {
            let inbox = Inbox::default();
            inbox.doze();
            for _ in 1..enough {
                assert_eq!(inbox.leave(&vec![0; length]), Left::Quietly);
            }
            assert_eq!(inbox.leave(&vec![0; length]), Left::FirstOfMany);
            assert_eq!(inbox.leave(&vec![0; length]), Left::Quietly, "once");
            let mut records = 0;
            inbox.take(|_, count| records += count);
            assert_eq!(records, enough + 1);
            assert!(inbox.sleep());
        }
    }

    #[test]
    fn few_records_hold_no_more_memory_than_they_need() {
        let inbox = Inbox::default();
        inbox.leave(b"alone");
        let mut kept = Vec::new();
        inbox.take(|frames, _| kept.push(frames));
        assert_eq!(kept[0].len(), 5 + 5);
        assert!(inbox.stock.at_hand().is_none(), "the run stays where it is");
    }

    #[test]
    fn memory_of_long_runs_is_used_again() {
        let inbox = Inbox::default();
        for _ in 0..10 {
            inbox.leave(&[0; LONGEST]);
        }
        let mut runs = 0;
        inbox.take(|_, _| runs += 1);
        assert!(runs > 1);
        assert!(inbox.stock.at_hand().is_some_and(|run| run.capacity() >= RUN));
    }
}
