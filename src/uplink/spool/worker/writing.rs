//! From memory to disk: one frame for each kind and round.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{GROUP, Pending, Worker};
use crate::config::{OnFull, SpoolSync};
use crate::error::{Chain, Code, Error};
use crate::protocol::Kind;
use crate::uplink::Uplink;
use crate::uplink::ledger::{Amount, SHARE};
use crate::uplink::spool::codec::Stored;
use crate::uplink::spool::now;
use crate::uplink::spool::shelf::{Line, Place, Refusal, Shelf};

/// Written, and to be handed on.
struct Batch {
    kind: Kind,
    items: Vec<Pending>,
    /// Where its first record lies; `None`: it could not be written.
    first: Option<Place>,
    /// Its records are left to be read later.
    behind: bool,
}

/// Why a frame was not written.
enum Trouble {
    /// `None`: it was not even tried.
    Failed(Option<io::Error>),
    Full,
}

/// How often a disk that failed is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn write(&mut self, uplink: &Uplink) {
        loop {
            let mut written = Vec::new();
            for kind in Kind::ALL {
                if let Some(batch) = self.store(uplink, kind) {
                    written.push(batch);
                }
            }
            if written.is_empty() {
                return;
            }
            if self.settings.sync == SpoolSync::Always {
                self.sync(Shelf::sync_records);
            }
            self.heed();
            self.count(uplink);
            for batch in written {
                self.hand_on(uplink, batch);
            }
        }
    }

    /// Writes one frame of a kind; `None` when there is nothing that can be.
    fn store(&mut self, uplink: &Uplink, kind: Kind) -> Option<Batch> {
        let pending = &mut self.pending[kind.index()];
        let mut items = Vec::new();
        let (mut bytes, mut records, mut lines) = (0, 0, 0);
        while bytes < GROUP {
            let Some(item) = pending.pop_front() else { break };
            bytes += item.len();
            records += usize::from(matches!(item, Pending::Record(_)));
            lines += usize::from(!matches!(item, Pending::Barrier(_)));
            items.push(item);
        }
        if items.is_empty() {
            return None;
        }
        let behind = self.shelves[kind.index()].is_behind();
        if lines == 0 || (records == 0 && !behind) {
            return Some(Batch { kind, items, first: None, behind });
        }
        let behind = behind || self.is_crowded(uplink, kind);
        let result = match self.retry.is_some_and(|retry| retry > Instant::now()) {
            true => Err(Trouble::Failed(None)),
            false if !self.make_room(uplink, kind, bytes as u64) => Err(Trouble::Full),
            false => {
                self.append(kind, &items, behind).map_err(|error| Trouble::Failed(Some(error)))
            }
        };
        match result {
            Ok(first) => {
                self.recovered();
                Some(Batch { kind, items, first: Some(first), behind })
            }
            Err(Trouble::Failed(error)) => {
                if let Some(error) = error {
                    self.failed(&error);
                }
                // In memory it is as if there were no spool; but not past what is on disk.
                if !self.shelves[kind.index()].is_behind() {
                    return Some(Batch { kind, items, first: None, behind: false });
                }
                self.put_back(kind, items);
                None
            }
            Err(Trouble::Full) => {
                if !std::mem::replace(&mut self.full, true) {
                    let full = Error::new(Code::SpoolFull)
                        .key("spool.max_bytes")
                        .found(format_args!("{} bytes", self.bytes()));
                    log::warn!("{}; new records wait in memory", Chain(&full));
                }
                self.put_back(kind, items);
                None
            }
        }
    }

    fn put_back(&mut self, kind: Kind, items: Vec<Pending>) {
        // Who waits for long gives up, and asks anew: barriers would gather here.
        let waits =
            |item: &Pending| !matches!(item, Pending::Barrier(answer) if answer.is_closed());
        for item in items.into_iter().rev().filter(waits) {
            self.pending[kind.index()].push_front(item);
        }
    }

    pub(super) fn append(
        &mut self,
        kind: Kind,
        items: &[Pending],
        behind: bool,
    ) -> io::Result<Place> {
        let mut lines = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Pending::Record(entry) => lines.push(Line::Record {
                    passport: &entry.passport,
                    stored: Stored {
                        stream: entry.stream,
                        company: entry.company.clone(),
                        prefix: entry.record.prefix.clone(),
                        message: entry.record.message.clone(),
                    },
                }),
                // On a level shelf it is carried out at once, and nobody will read it.
                Pending::End(stream) if behind => lines.push(Line::End(*stream)),
                Pending::End(_) | Pending::Barrier(_) => {}
            }
        }
        let segment = self.segment_bytes();
        self.shelves[kind.index()].append(&lines, now(), segment, behind)
    }

    /// Hands on what was written, or could not be: to the lanes, or out of memory.
    fn hand_on(&mut self, uplink: &Uplink, batch: Batch) {
        let Batch { kind, items, first, behind } = batch;
        let ledger = &uplink.0.ledger;
        let mut place = first;
        let mut released = Amount::default();
        // Given anew: while these waited here, older records may have come back from the disk, with
        // higher ids. Lanes rely on their order.
        let mut id = if behind { 0 } else { ledger.ids(items.len() as u64) };
        for item in items {
            match item {
                Pending::Record(mut entry) => {
                    let unwritten = &mut self.unwritten[kind.index()];
                    unwritten.records -= 1;
                    unwritten.bytes -= entry.record.message.data.len() as u64;
                    let here = place;
                    if let Some(place) = &mut place {
                        place.index += 1;
                    }
                    match here.filter(|_| behind) {
                        Some(here) => {
                            released.records += 1;
                            released.bytes += entry.record.message.data.len() as u64;
                            if let Some(ticket) = entry.record.ticket.take() {
                                self.tickets.insert((kind, here), ticket);
                            }
                        }
                        None => {
                            if here.is_none() {
                                self.exposed.passed_by.fetch_add(1, Ordering::Relaxed);
                            }
                            entry.record.place = here;
                            entry.record.id = id;
                            id += 1;
                            let stream = (entry.stream, 0);
                            self.lanes.push(
                                uplink,
                                &entry.passport,
                                &entry.company,
                                stream,
                                entry.record,
                            );
                        }
                    }
                    self.exposed.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                Pending::End(_) if behind => {}
                Pending::End(stream) => self.lanes.end(stream),
                Pending::Barrier(answer) => {
                    let _ = answer.send(());
                }
            }
        }
        ledger.release(kind, released);
    }

    /// Whether there is too little memory to keep more of this kind there: a kind alone keeps
    /// half of it, and there is always something left for another.
    fn is_crowded(&self, uplink: &Uplink, kind: Kind) -> bool {
        let load = uplink.0.ledger.load_of(kind);
        load.own_bytes > load.free || load.own_records > uplink.0.settings.max_records as u64 / 2
    }

    /// Sees to it that a frame of so many bytes fits; `false` if it does not.
    fn make_room(&mut self, uplink: &Uplink, kind: Kind, bytes: u64) -> bool {
        loop {
            let (total, own) = (self.bytes(), self.shelves[kind.index()].bytes());
            let free = self.settings.max_bytes.saturating_sub(total);
            // A record larger than all the room still has to get through.
            if total == 0 || (bytes <= free && (own == 0 || own + bytes <= SHARE * free)) {
                return true;
            }
            let oldest = uplink.0.settings.on_full == OnFull::DropOldest;
            let made = self.compact() || (oldest && self.drop_oldest(uplink));
            if !made {
                return false;
            }
        }
    }

    /// Replaces a file that is kept by a few records; `false` if none is.
    fn compact(&mut self) -> bool {
        let replaced = |shelf: &mut Shelf| {
            shelf.compact().unwrap_or_else(|error| {
                log::debug!("{} spool: {error}", shelf.kind().name());
                false
            })
        };
        self.shelves.iter_mut().any(replaced)
    }

    /// How long a file gets.
    fn segment_bytes(&self) -> u64 {
        (self.settings.max_bytes / 32).clamp(64 * 1024, 16 * 1024 * 1024)
    }

    /// Has the disk take what there is on each shelf.
    pub(super) fn sync(&mut self, what: fn(&mut Shelf) -> bool) {
        let mut some = false;
        for shelf in &mut self.shelves {
            some |= what(shelf);
        }
        if !self.heed() && some && std::mem::take(&mut self.refused) {
            self.recovered();
        }
    }

    /// Takes note of what the disk has refused; `false` if there is nothing of that.
    pub(super) fn heed(&mut self) -> bool {
        let refusals: Vec<Refusal> = self.shelves.iter_mut().filter_map(Shelf::refusal).collect();
        for Refusal { records, error } in &refusals {
            self.unsynced(*records, error);
        }
        !refusals.is_empty()
    }

    /// The disk did not take what was written.
    pub(super) fn unsynced(&mut self, records: u64, error: &io::Error) {
        self.refused = true;
        self.retry = Some(Instant::now() + RETRY);
        if records > 0 || !self.gauge.failing.load(Ordering::Relaxed) {
            let refused = Error::new(Code::SpoolRefused)
                .file(self.slot.folder())
                .found(format_args!("{records} records in doubt"))
                .because(io::Error::new(error.kind(), error.to_string()));
            log::warn!("{}; they are sent, and do not count as safe until then", Chain(&refused));
        }
        self.gauge.failing.store(true, Ordering::Relaxed);
        // Whoever waits is told next.
        self.measure();
    }

    pub(super) fn failed(&mut self, error: &io::Error) {
        self.retry = Some(Instant::now() + RETRY);
        if !self.gauge.failing.swap(true, Ordering::Relaxed) {
            let failing = Error::new(Code::SpoolFailing)
                .file(self.slot.folder())
                .because(io::Error::new(error.kind(), error.to_string()));
            log::warn!("{}; new records are kept in memory only", Chain(&failing));
        }
    }

    pub(super) fn recovered(&mut self) {
        self.retry = None;
        self.full = false;
        // What is written may still be refused.
        if self.refused {
            return;
        }
        if self.gauge.failing.swap(false, Ordering::Relaxed) {
            log::info!("the spool can be written again");
        }
    }
}
