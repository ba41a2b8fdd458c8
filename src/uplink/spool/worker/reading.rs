//! From disk to memory: while there is room, in the order of each kind, no faster than allowed.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::writing::RETRY;
use super::{SHORT_TICK, Worker};
use crate::error::{Chain, Code, Error};
use crate::uplink::Uplink;
use crate::uplink::lane::Record;
use crate::uplink::ledger::Amount;
use crate::uplink::spool::codec::Stored;
use crate::uplink::spool::now;
use crate::uplink::spool::shelf::Read;

/// How fast records may be read back.
pub(super) struct Rate {
    per_second: Option<f64>,
    tokens: f64,
    since: Instant,
}

/// Records read back before orders are looked at again.
const STRIDE: usize = 1000;

impl Worker {
    /// Reads records back while there is memory for them; says after what time to go on, if there
    /// are more.
    pub(super) fn replay(&mut self, uplink: &Uplink) -> Option<Duration> {
        let kinds = self.shelves.len();
        self.turn = (self.turn + 1) % kinds;
        let mut left = None;
        let mut stalled = false;
        for at in 0..kinds {
            let at = (self.turn + at) % kinds;
            if !self.shelves[at].is_behind() {
                self.legible(at, Ok(()));
                continue;
            }
            let wait = match self.rests(at) {
                true => SHORT_TICK,
                false => self.replay_kind(uplink, at, &mut stalled),
            };
            left = Some(left.map_or(wait, |least: Duration| least.min(wait)));
        }
        uplink.0.ledger.set_stalled(stalled);
        left
    }

    pub(super) fn replay_kind(
        &mut self,
        uplink: &Uplink,
        at: usize,
        stalled: &mut bool,
    ) -> Duration {
        let kind = self.shelves[at].kind();
        let settings = &uplink.0.settings;
        let cutoff = self.cutoff();
        for _ in 0..STRIDE {
            let load = uplink.0.ledger.load_of(kind);
            // What waits to be written may wait for the very room on disk that these make.
            let Amount { records, bytes } = self.unwritten[at];
            let records = load.own_records.saturating_sub(records);
            let bytes = load.own_bytes.saturating_sub(bytes);
            let crowded =
                bytes > load.free / 2 || records >= settings.max_records.div_ceil(2) as u64;
            if crowded && records > 0 {
                *stalled = true;
                return SHORT_TICK;
            }
            if let Some(wait) = self.rate.wait() {
                return wait;
            }
            if !self.read(uplink, at, cutoff) {
                return SHORT_TICK;
            }
        }
        Duration::ZERO
    }

    /// Reads one record or what else comes; `false` when there is no more for now.
    pub(super) fn read(&mut self, uplink: &Uplink, at: usize, cutoff: u64) -> bool {
        let shelf = &mut self.shelves[at];
        let kind = shelf.kind();
        let read = shelf.read(cutoff);
        self.legible(at, if let Read::Failed(error) = &read { Err(error) } else { Ok(()) });
        let shelf = &self.shelves[at];
        match read {
            Read::Record { passport, stored, place, time } => {
                self.rate.spend();
                let origin = shelf.origin(place);
                let Stored { stream, company, prefix, message } = stored;
                let amount = Amount { records: 1, bytes: message.data.len() as u64 };
                let id = uplink.0.ledger.load(kind, amount);
                let ticket = self.tickets.remove(&(kind, place));
                let record = Record { id, message, prefix, place: Some(place), time, ticket };
                self.lanes.push(uplink, &passport, &company, (stream, origin), record);
            }
            Read::End(stream) => self.lanes.end(stream),
            Read::Gone(origin) => self.lanes.end_all_of(origin),
            Read::Damaged(records) => self.damaged(uplink, kind, records),
            Read::Expired(records) => self.expired(uplink, kind, records),
            Read::Level | Read::Failed(_) => return false,
        }
        true
    }

    /// Takes note of whether a shelf can be read.
    fn legible(&mut self, at: usize, result: Result<(), &io::Error>) {
        let retry = result.is_err().then(|| Instant::now() + RETRY);
        if std::mem::replace(&mut self.unread[at], retry).is_some() == retry.is_some() {
            return;
        }
        self.gauge.unread.store(self.unread.iter().any(Option::is_some), Ordering::Relaxed);
        let name = self.shelves[at].kind().name();
        match result {
            Ok(()) => log::info!("the {name} records of the spool can be read again"),
            Err(error) => {
                let unread = Error::new(Code::SpoolUnreadable)
                    .file(self.slot.folder())
                    .because(io::Error::new(error.kind(), error.to_string()));
                log::warn!("{}; its {name} records wait", Chain(&unread));
            }
        }
    }

    /// Whether a shelf could not be read a moment ago.
    pub(super) fn rests(&self, at: usize) -> bool {
        self.unread[at].is_some_and(|retry| retry > Instant::now())
    }

    /// Records written before this moment are too old.
    pub(super) fn cutoff(&self) -> u64 {
        let age = self.settings.max_age.and_then(|age| u64::try_from(age.as_millis()).ok());
        age.map_or(0, |age| now().saturating_sub(age))
    }
}

// === impl Rate ===

impl Rate {
    pub(super) fn new(per_second: Option<u64>, since: Instant) -> Self {
        Self { per_second: per_second.map(|rate| rate as f64), tokens: 1.0, since }
    }

    /// How long until the next record may be read; `None`: at once.
    fn wait(&mut self) -> Option<Duration> {
        let rate = self.per_second?;
        // A pause does not allow a burst of more than a tenth of a second.
        let earned = self.since.elapsed().as_secs_f64() * rate;
        self.since = Instant::now();
        self.tokens = (self.tokens + earned).min((rate / 10.0).max(1.0));
        match self.tokens >= 1.0 {
            true => None,
            false => Some(Duration::from_secs_f64((1.0 - self.tokens) / rate)),
        }
    }

    fn spend(&mut self) {
        self.tokens -= 1.0;
    }
}
