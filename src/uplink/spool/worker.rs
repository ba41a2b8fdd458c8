//! The one thread that touches the spool's files: writes in groups, reads back, removes.
//!
//! It never waits for the backend or for whoever reports. What it cannot write stays in memory,
//! in its order, until it can; a disk that fails altogether is done without, with a warning.

mod books;
mod reading;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::lanes::Lanes;
use super::segment::sync_folder;
use super::shelf::{Place, Shelf};
use super::slot::{Orphan, Slot};
use super::{Command, Entry, Exposed, Gauge, Opened};
use crate::config::{SpoolSettings, SpoolSync};
use crate::error::Chain;
use crate::protocol::Kind;
use crate::uplink::ledger::{Amount, OVERHEAD};
use crate::uplink::sticky::Company;
use crate::uplink::ticket::Ticket;
use crate::uplink::{Shared, Uplink};

use reading::Rate;

pub(super) struct Worker {
    settings: SpoolSettings,
    slot: Slot,
    /// By kind.
    shelves: Vec<Shelf>,
    /// Not written yet, by kind.
    pending: Vec<VecDeque<Pending>>,
    /// How much of that there is, by kind.
    unwritten: Vec<Amount>,
    done: Vec<Vec<Place>>,
    shared: Weak<Shared>,
    orders: Receiver<Command>,
    gauge: Arc<Gauge>,
    exposed: Arc<Exposed>,
    lanes: Lanes,
    /// Who waits for records that are only on disk.
    tickets: HashMap<(Kind, Place), Arc<Ticket>>,
    /// Who waits until records of a kind are marked as done.
    answers: Vec<(Kind, Option<oneshot::Sender<bool>>)>,
    /// Durable records as the books have them, by kind.
    counted: Vec<Option<u64>>,
    /// The disk has refused something, and has taken nothing since.
    refused: bool,
    /// Marks cannot be written.
    unmarked: bool,
    /// When a shelf is read again that could not be.
    unread: Vec<Option<Instant>>,
    /// When writing is tried again after a failure.
    retry: Option<Instant>,
    full: bool,
    rate: Rate,
    synced: Instant,
    tended: Instant,
    searched: Instant,
    origins: u32,
    turn: usize,
    stop: Option<std::sync::mpsc::Sender<()>>,
}

/// Not written yet.
enum Pending {
    Record(Entry),
    End(u64),
    Barrier(oneshot::Sender<()>),
}

/// What is written as one frame, about.
const GROUP: usize = 256 * 1024;
/// The longest wait without anything to do.
const TICK: Duration = Duration::from_secs(1);
/// The longest wait while records are left to be read, and lanes are kept open.
const SHORT_TICK: Duration = Duration::from_millis(20);
/// How often the disk is made to have everything, unless `spool.sync` is `never`.
const SYNC: Duration = Duration::from_secs(1);
/// How often orphaned slots are looked for.
const SEARCH: Duration = Duration::from_secs(10);

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        opened: Opened,
        shared: Weak<Shared>,
        orders: Receiver<Command>,
        gauge: Arc<Gauge>,
        exposed: Arc<Exposed>,
    ) -> Self {
        let Opened { settings, slot, shelves, .. } = opened;
        let begun = Instant::now();
        Self {
            rate: Rate::new(settings.replay_rate, begun),
            settings,
            slot,
            shelves,
            pending: Kind::ALL.iter().map(|_| VecDeque::new()).collect(),
            unwritten: vec![Amount::default(); Kind::ALL.len()],
            done: Kind::ALL.iter().map(|_| Vec::new()).collect(),
            shared,
            orders,
            gauge,
            exposed,
            lanes: Lanes::default(),
            tickets: HashMap::new(),
            answers: Vec::new(),
            counted: vec![None; Kind::ALL.len()],
            refused: false,
            unmarked: false,
            unread: vec![None; Kind::ALL.len()],
            retry: None,
            full: false,
            synced: begun,
            tended: begun,
            searched: begun,
            origins: 1,
            turn: 0,
            stop: None,
        }
    }

    /// Works until it is stopped; says who is to be told that it has ended.
    pub(super) fn run(mut self) -> Option<std::sync::mpsc::Sender<()>> {
        if let Some(shared) = self.shared.upgrade() {
            self.adopt(&Uplink(shared));
        }
        let mut wait = Duration::ZERO;
        loop {
            match self.orders.recv_timeout(wait) {
                Ok(order) => {
                    self.note(order);
                    let mut gathered = 0;
                    while gathered < 4 * GROUP {
                        let Ok(order) = self.orders.try_recv() else { break };
                        gathered += self.note(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let Some(shared) = self.shared.upgrade() else { break };
            wait = self.round(&Uplink(shared));
            if self.stop.is_some() {
                break;
            }
        }
        self.end()
    }

    /// Takes note of an order; says how many bytes of records came with it.
    fn note(&mut self, order: Command) -> usize {
        match order {
            Command::Record(entry) => {
                let len = entry.record.message.data.len();
                let unwritten = &mut self.unwritten[entry.passport.method.kind.index()];
                unwritten.records += 1;
                unwritten.bytes += len as u64;
                self.pending[entry.passport.method.kind.index()].push_back(Pending::Record(entry));
                return len;
            }
            Command::End(kind, stream) => {
                self.pending[kind.index()].push_back(Pending::End(stream));
            }
            Command::Barrier(kind, answer) => {
                self.pending[kind.index()].push_back(Pending::Barrier(answer));
            }
            Command::Done(kind, mut places) => self.done[kind.index()].append(&mut places),
            Command::Taken(kind, mut places, answer) => {
                self.done[kind.index()].append(&mut places);
                self.answers.push((kind, Some(answer)));
            }
            Command::Stop(answer) => self.stop = Some(answer),
        }
        0
    }

    /// Does what there is to do; says how long nothing more can be done.
    fn round(&mut self, uplink: &Uplink) -> Duration {
        self.settle();
        self.write(uplink);
        let replay = self.replay(uplink);
        let idle = self.tend(uplink);
        self.count(uplink);
        self.measure();
        let waiting = self.pending.iter().any(|pending| !pending.is_empty());
        match replay {
            Some(wait) => wait.min(SHORT_TICK),
            None if waiting || !idle => SHORT_TICK,
            None => TICK,
        }
    }

    /// What has to be done from time to time; says whether there is nothing left of it.
    fn tend(&mut self, uplink: &Uplink) -> bool {
        if self.settings.sync != SpoolSync::Never && self.synced.elapsed() >= SYNC {
            self.synced = Instant::now();
            self.sync(Shelf::sync);
        }
        if self.searched.elapsed() >= SEARCH {
            self.searched = Instant::now();
            self.adopt(uplink);
        }
        if self.tended.elapsed() >= SHORT_TICK {
            self.tended = Instant::now();
            let cutoff = self.cutoff();
            for at in 0..self.shelves.len() {
                while cutoff > 0 && !self.rests(at) && self.shelves[at].has_expired(cutoff) {
                    if !self.read(uplink, at, cutoff) {
                        break;
                    }
                }
            }
            self.lanes.rest();
        }
        self.lanes.is_idle()
    }

    /// Takes over what processes left that are gone.
    fn adopt(&mut self, uplink: &Uplink) {
        for orphan in self.slot.orphans() {
            if !orphan.is_readable() {
                continue;
            }
            self.origins += 1;
            let mut found = 0;
            for (kind, number) in orphan.files().iter().copied() {
                // While it is where it was: what cannot be read now is tried again there.
                let file = match Shelf::survey(&orphan.path(kind, number), self.origins) {
                    Ok(Some(file)) => file,
                    Ok(None) => continue,
                    Err(error) => {
                        log::warn!("{}", Chain(&error));
                        break;
                    }
                };
                let shelf = &mut self.shelves[kind.index()];
                let new = shelf.next_number();
                if let Err(error) = orphan.hand_over(kind, number, &self.slot, new) {
                    log::warn!("{}: {error}", orphan.folder().display());
                    break;
                }
                let records = shelf.receive(file, new);
                uplink.0.ledger.recover(kind, records);
                found += records;
            }
            self.list(&orphan);
            log::info!("{found} records taken over from {}", orphan.folder().display());
        }
    }

    /// Has the disk take where files are now that were taken over.
    fn list(&mut self, orphan: &Orphan) {
        if self.settings.sync != SpoolSync::Never
            && let Err(error) =
                sync_folder(self.slot.folder()).and_then(|()| sync_folder(orphan.folder()))
        {
            self.unsynced(0, &error);
        }
    }

    fn bytes(&self) -> u64 {
        self.shelves.iter().map(Shelf::bytes).sum()
    }

    fn measure(&self) {
        let files: usize = self.shelves.iter().map(Shelf::files).sum();
        let bytes = self.shelves.iter().map(Shelf::bytes_on_disk).sum();
        let doubtful = self.shelves.iter().map(Shelf::doubtful).sum();
        self.gauge.doubtful.store(doubtful, Ordering::Relaxed);
        self.gauge.bytes.store(bytes, Ordering::Relaxed);
        self.gauge.files.store(files as u64, Ordering::Relaxed);
    }

    /// Writes what is left, as far as that is possible.
    fn end(mut self) -> Option<std::sync::mpsc::Sender<()>> {
        while let Ok(order) = self.orders.try_recv() {
            self.note(order);
        }
        if let Some(shared) = self.shared.upgrade() {
            let uplink = Uplink(shared);
            self.retry = None;
            self.settle();
            self.write(&uplink);
        } else {
            self.write_blindly();
        }
        for shelf in &mut self.shelves {
            shelf.close();
        }
        self.heed();
        if let Some(shared) = self.shared.upgrade() {
            self.count(&Uplink(shared));
        }
        self.measure();
        self.stop.take()
    }

    /// The uplink is gone without a stop: what it had handed over is written all the same.
    fn write_blindly(&mut self) {
        for kind in Kind::ALL {
            // Who is told is gone; what comes back is sent again.
            let _ = self.shelves[kind.index()].settle(&mut self.done[kind.index()]);
            let items: Vec<Pending> = self.pending[kind.index()].drain(..).collect();
            if items.iter().any(|item| matches!(item, Pending::Record(_)))
                && let Err(error) = self.append(kind, &items, true)
            {
                self.failed(&error);
            }
        }
    }
}

// === impl Pending ===

impl Pending {
    /// Its bytes on disk, about and not less.
    fn len(&self) -> usize {
        match self {
            Self::Record(Entry { record, company, .. }) => {
                let head = match company {
                    Company::Head(head) => head.len(),
                    Company::Own => 0,
                };
                record.message.data.len() + record.prefix.len() + head + OVERHEAD as usize
            }
            Self::End(_) => 16,
            Self::Barrier(_) => 0,
        }
    }
}
