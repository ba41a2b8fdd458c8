//! Records on their way: accepted, queued, framed, sent, acknowledged.
//!
//! The unit is an [`Envelope`]: the encoded message with everything that decides whom it may travel
//! with. Its life is a small state machine:
//!
//! ```text
//!            ┌──────────── failed, resend ────────────┐
//!            ▼                                        │
//! accept ─► queued ──────────────► sent ──────────────┴─► acknowledged
//!            │    (─► durable ─►)    │
//!            └───────────────────────┴──► dropped(reason)
//! ```
//!
//! *Queued* is in memory and lost with the process; *durable* is the spool's, which stands between
//! queued and sent where there is one; *sent* means handed to HTTP/2 and not answered yet; *acknowledged* is the
//! backend's OK at the end of a stream. The ledger counts every step, and one snapshot
//! of it always balances: accepted + recovered = acknowledged + dropped + pending.
//!
//! With a spool a record goes to its worker first, which writes it and then hands it to its lane, or
//! leaves it on disk until there is memory for it.
//!
//! Records wait in lanes: one per method, metadata, encoding and sticky context, so that
//! what shares a stream to the backend is what may share one. A sender per lane opens
//! streams whose body takes records from the lane until a bound is reached. Nothing here
//! knows where records come from.

mod account;
mod allowance;
mod body;
mod entrance;
mod envelope;
mod inbox;
mod lane;
mod ledger;
mod parcel;
mod sender;
mod spool;
mod sticky;
mod ticket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::config::{BufferSettings, OnFull, SpoolSettings};
use crate::error::{Code, Error, Result};
use crate::protocol::frame::{self, Message};
use crate::protocol::{Kind, Sticky};
use crate::transport::Transport;

pub use account::{Account, DropReason, Dropped, Snapshot};
pub use entrance::Entrance;
pub use envelope::{Envelope, Metadata, Passport};
pub use spool::SpoolState;

use lane::{Lane, LaneKey, Record};
use ledger::{Amount, Fate, Ledger, Seat};
use parcel::{Parcel, Run};
use spool::{Entry, Place, Spool};
use sticky::{Bearing, Company, Context};
use ticket::Ticket;

/// Takes records in and delivers them. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Uplink(Arc<Shared>);

/// Takes in the records of one stream: they share a passport and, if the method has one, a sticky
/// context. Dropping it closes the stream.
#[derive(Debug)]
pub struct Reporter {
    uplink: Uplink,
    passport: Arc<Passport>,
    context: Context,
    /// The lane in use, and for whom it is; the spool finds lanes itself.
    lane: Option<(Arc<Lane>, Company)>,
    /// The number of this stream in the spool, once it has records that keep to themselves.
    stream: Option<u64>,
    ticket: Option<Arc<Ticket>>,
}

/// How far records have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// In the spool: they survive the process. Without a spool nothing gets there.
    Durable,
    /// The backend has confirmed them.
    Delivered,
}

/// How a reporter treats a full queue.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct UplinkSettings {
    /// What happens to a record that finds the queue full.
    pub on_full: OnFull,
    /// Bytes all kinds together may hold.
    pub max_bytes: usize,
    /// Records one kind may hold.
    pub max_records: usize,
    /// How long the backend may take to answer a stream.
    pub timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    settings: UplinkSettings,
    transport: Transport,
    spool: Option<Spool>,
    max_age: Option<Duration>,
    ledger: Arc<Ledger>,
    /// The lanes that several streams may share.
    lanes: Mutex<HashMap<LaneKey, Arc<Lane>>>,
    /// Streams open to the backend at a time: servers promise to take at least 100 (RFC 9113).
    streams: Arc<Semaphore>,
    runtime: Handle,
}

const STREAMS: usize = 100;

/// What the spool gets at the end in any case to write what is in memory: a disk that works needs less.
const SPOOL_GRACE: Duration = Duration::from_millis(250);

// === impl UplinkSettings ===

impl UplinkSettings {
    /// Settings with the given default for a full queue.
    pub fn new(buffer: &BufferSettings, timeout: Duration, default: OnFull) -> Self {
        Self {
            on_full: buffer.on_full.unwrap_or(default),
            max_bytes: buffer.max_bytes,
            max_records: buffer.max_records,
            timeout,
        }
    }

    /// Lifts the bound on the number of records: a relay is bounded by bytes alone.
    #[must_use]
    pub fn bounded_by_bytes(self) -> Self {
        Self { max_records: usize::MAX, ..self }
    }
}

// === impl Uplink ===

impl Uplink {
    /// An uplink over a transport; its senders run on the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as `Handle::current` does.
    pub fn new(settings: UplinkSettings, transport: Transport) -> Self {
        Self(Arc::new(Shared::new(settings, transport)))
    }

    /// An uplink whose records go through a spool on disk.
    ///
    /// # Errors
    ///
    /// [`Code::SpoolUnusable`], and [`Code::SpoolNewer`] when a later version has written it.
    ///
    /// # Panics
    ///
    /// As [`Uplink::new`].
    pub fn with_spool(
        settings: UplinkSettings,
        spool: &SpoolSettings,
        transport: Transport,
    ) -> Result<Self> {
        let opened = spool::Opened::new(spool)?;
        let mut shared = Shared::new(settings, transport);
        shared.max_age = spool.max_age;
        for (kind, records) in &opened.found {
            shared.ledger.recover(*kind, *records);
        }
        let mut start = None;
        let shared = Arc::new_cyclic(|weak| {
            let (spool, worker) = opened.start(weak.clone());
            start = Some(worker);
            shared.spool = Some(spool);
            shared
        });
        if let (Some(spool), Some(start)) = (&shared.spool, start) {
            spool.run(start)?;
        }
        Ok(Self(shared))
    }

    /// Opens a stream of records.
    pub fn reporter(&self, passport: Passport) -> Reporter {
        let context = Context::new(passport.method.sticky);
        Reporter {
            uplink: self.clone(),
            passport: Arc::new(passport),
            context,
            lane: None,
            stream: None,
            ticket: None,
        }
    }

    /// Opens a way in for records of any number of threads; `None` where messages of a stream lean on one
    /// another, or a spool is to have them first.
    pub fn entrance(&self, passport: &Passport) -> Option<Entrance> {
        Entrance::new(self, passport)
    }

    /// Accepts one record that is a stream by itself, without waiting.
    ///
    /// # Errors
    ///
    /// [`Code::QueueFull`] when there is no room.
    pub fn report(&self, envelope: Envelope) -> Result<()> {
        self.reporter(envelope.passport).try_report(envelope.message)
    }

    /// The books at this moment.
    pub fn books(&self) -> Snapshot {
        self.0.ledger.snapshot()
    }

    /// Waits until nothing is pending, at most for `limit`; says what is left.
    pub async fn flush(&self, limit: Duration) -> u64 {
        self.0.ledger.settled(limit).await
    }

    /// Waits until everything accepted before has come so far, at most for `limit`; says how many
    /// records have not. Without a spool, only what is delivered is safe.
    pub async fn flush_to(&self, level: Level, limit: Duration) -> u64 {
        let Some(spool) = self.0.spool.as_ref().filter(|_| level == Level::Durable) else {
            return self.flush(limit).await;
        };
        let stored = async {
            for kind in Kind::ALL {
                spool.stored(kind).await?;
            }
            Ok::<(), Error>(())
        };
        let in_time = matches!(tokio::time::timeout(limit, stored).await, Ok(Ok(())));
        spool.unsafe_records(in_time)
    }

    /// The state of the spool, if there is one.
    pub fn spool(&self) -> Option<SpoolState> {
        self.0.spool.as_ref().map(Spool::state)
    }

    /// Gives up on everything that is still queued; it is counted as dropped, unless it is in the
    /// spool: that is written first, which blocks for `limit` or a quarter of a second, whichever is longer, if the
    /// disk does not answer. Says how many records are lost. A second call does nothing, and does not wait.
    pub fn abandon(&self, limit: Duration) -> u64 {
        if let Some(spool) = &self.0.spool {
            spool.stop(limit.max(SPOOL_GRACE));
        }
        self.0.ledger.abandon()
    }

    /// Enters what became of records, and tells the spool and whoever waits for them.
    fn settle(&self, kind: Kind, parcels: &[Parcel], seat: Seat, fate: Fate) {
        if parcels.is_empty() {
            return;
        }
        // First: whoever sees in the books that nothing is left may stop the spool.
        if let Some(spool) = &self.0.spool {
            let places: Vec<Place> = parcels.iter().filter_map(place).collect();
            let others = parcels.len() - places.len();
            spool.done(kind, places, others as u64);
        }
        self.0.ledger.settle(kind, Amount::of(parcels), seat, fate);
        for parcel in parcels {
            if let Some(ticket) = parcel.ticket() {
                ticket.settle(parcel.records(), fate);
            }
        }
    }

    /// Whether records of this lane are to give way to a new one of `len` bytes: not if they would in vain.
    fn may_displace(&self, lane: &Lane, len: usize) -> bool {
        self.0.settings.on_full == OnFull::DropOldest
            && self.0.ledger.would_admit(lane.passport().method.kind, len, lane.waiting())
    }

    fn max_age(&self) -> Option<Duration> {
        self.0.max_age
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<LaneKey, Arc<Lane>>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane for such company, made and staffed if need be, with one more user.
    fn lane(&self, passport: &Arc<Passport>, company: &Company) -> Arc<Lane> {
        let Company::Head(head) = company else {
            let lane = Arc::new(Lane::new(passport.clone(), None));
            self.0.ledger.charge_lane(passport.method.kind);
            self.staff(&lane);
            return lane;
        };
        let key = LaneKey { passport: passport.clone(), head: head.clone() };
        let mut lanes = self.lanes();
        if let Some(lane) = lanes.get(&key) {
            lane.join();
            return lane.clone();
        }
        let lane = Arc::new(Lane::new(passport.clone(), Some(key.clone())));
        lanes.insert(key, lane.clone());
        drop(lanes);
        self.0.ledger.charge_lane(passport.method.kind);
        self.staff(&lane);
        lane
    }

    fn staff(&self, lane: &Arc<Lane>) {
        lane.join();
        self.0.runtime.spawn(sender::run(self.clone(), lane.clone()));
    }

    /// Takes an idle lane off the list; `false` if somebody joined it meanwhile.
    fn close(&self, lane: &Lane) -> bool {
        let mut lanes = self.lanes();
        if !lane.is_abandoned() {
            return false;
        }
        if let Some(key) = lane.key() {
            lanes.remove(key);
        }
        drop(lanes);
        self.0.ledger.discharge_lane(lane.passport().method.kind);
        true
    }
}

/// Where the spool has it.
fn place(parcel: &Parcel) -> Option<Place> {
    match parcel {
        Parcel::One(record) => record.place,
        Parcel::Many(_) => None,
    }
}

// === impl Reporter ===

impl Reporter {
    /// Accepts a record; when the queue is full, does what the settings say, which may be to wait.
    ///
    /// # Errors
    ///
    /// [`Code::QueueFull`] when the record was refused, [`Code::Stopped`] after the end.
    pub async fn report(&mut self, message: Message) -> Result<()> {
        match self.uplink.0.settings.on_full {
            OnFull::Block => {}
            // The spool makes room in memory, and gives up the oldest on disk.
            OnFull::DropOldest if self.uplink.0.spool.is_some() => {}
            _ => return self.try_report(message),
        }
        let ledger = self.uplink.0.ledger.clone();
        let id = ledger.admit(self.passport.method.kind, message.data.len()).await?;
        self.queue(id, message);
        Ok(())
    }

    /// The most bytes that [`report_frames`](Self::report_frames) takes at a time; `None` where each message has
    /// to be looked at, or whoever finds no room is not made to wait.
    pub fn longest_run(&self) -> Option<usize> {
        let Shared { settings, spool, .. } = &*self.uplink.0;
        let whole = self.passport.method.sticky == Sticky::None
            && spool.is_none()
            && settings.on_full == OnFull::Block
            && settings.max_records == usize::MAX;
        whole.then_some(settings.max_bytes / 16)
    }

    /// Accepts messages that are framed already, so many as `records`, when there is room for all of them.
    /// To be asked only as [`longest_run`](Self::longest_run) allows.
    ///
    /// # Errors
    ///
    /// [`Code::Stopped`] after the end.
    pub async fn report_frames(&mut self, frames: Bytes, records: u64) -> Result<()> {
        let payload = frames.len() as u64 - records * frame::HEADER as u64;
        let amount = Amount { records, bytes: payload };
        let ledger = self.uplink.0.ledger.clone();
        let first = ledger.admit_all(self.passport.method.kind, amount).await?;
        if let Some(ticket) = &self.ticket {
            ticket.hand_in(records);
        }
        let run = Run::new(first, frames, records, self.ticket.clone());
        self.lane_for(Company::Head(Bytes::new())).push(Parcel::Many(run));
        Ok(())
    }

    /// Accepts a record or refuses it, without waiting.
    ///
    /// # Errors
    ///
    /// [`Code::QueueFull`] when there is no room, [`Code::Stopped`] after the end.
    pub fn try_report(&mut self, message: Message) -> Result<()> {
        let kind = self.passport.method.kind;
        let ledger = self.uplink.0.ledger.clone();
        let mut id = ledger.try_admit(kind, message.data.len())?;
        // Room is made in this stream's own lane: it holds the oldest of its like.
        if id.is_none()
            && let Some((lane, _)) = &self.lane
            && self.uplink.may_displace(lane, message.data.len())
        {
            while id.is_none()
                && let Some(oldest) = lane.take_oldest()
            {
                let fate = Fate::Dropped(DropReason::Displaced);
                self.uplink.settle(kind, &[oldest], Seat::Queued, fate);
                id = ledger.try_admit(kind, message.data.len())?;
            }
        }
        let Some(id) = id else {
            ledger.refuse(kind);
            return Err(Error::new(Code::QueueFull).found(format_args!("kind {}", kind.name())));
        };
        self.queue(id, message);
        Ok(())
    }

    /// Counts a record as refused that was not waited for.
    pub fn refuse(&self) {
        self.uplink.0.ledger.refuse(self.passport.method.kind);
    }

    fn queue(&mut self, id: u64, message: Message) {
        let Bearing { prefix, company } = self.context.pass(&message, self.passport.encoding());
        if let Some(ticket) = &self.ticket {
            ticket.hand_in(1);
        }
        let ticket = self.ticket.clone();
        let record = Record { id, message, prefix, place: None, time: 0, ticket };
        let uplink = self.uplink.clone();
        let Some(spool) = &uplink.0.spool else {
            self.lane_for(company).push(record);
            return;
        };
        let record = Record { time: spool::now(), ..record };
        let stream = match company {
            Company::Own => *self.stream.get_or_insert_with(|| spool.stream()),
            Company::Head(_) => 0,
        };
        spool.submit(Entry { record, passport: self.passport.clone(), company, stream });
    }

    /// Keeps count of what becomes of the records, so that [`Reporter::finish`] can wait for it.
    #[must_use]
    pub fn tracked(self) -> Self {
        let mut tracked = self;
        tracked.ticket = Some(Arc::default());
        tracked
    }

    /// Ends the stream and waits until its records have come so far. Without a spool none is ever
    /// durable, and nothing is waited for; what is delivered is known of a tracked stream only.
    ///
    /// # Errors
    ///
    /// [`Code::NotDelivered`] when some were given up, [`Code::Stopped`] after the end.
    pub async fn finish(mut self, level: Level) -> Result<()> {
        let (uplink, kind) = (self.uplink.clone(), self.passport.method.kind);
        let ticket = self.ticket.take();
        drop(self);
        match level {
            Level::Durable => {
                if let Some(spool) = &uplink.0.spool {
                    spool.stored(kind).await?;
                }
            }
            Level::Delivered => {
                let dropped = match ticket {
                    Some(ticket) => ticket.settled().await,
                    None => 0,
                };
                if dropped > 0 {
                    return Err(Error::new(Code::NotDelivered)
                        .found(format_args!("{dropped} records given up")));
                }
            }
        }
        Ok(())
    }

    /// The lane for a message of such company; a stream may change it from message to message.
    fn lane_for(&mut self, company: Company) -> &Lane {
        let current = self.lane.take().filter(|(lane, theirs)| {
            let stays = *theirs == company;
            if !stays {
                lane.leave();
            }
            stays
        });
        let (lane, _) = self.lane.insert(
            current.unwrap_or_else(|| (self.uplink.lane(&self.passport, &company), company)),
        );
        lane
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some((lane, _)) = &self.lane {
            lane.leave();
        }
        if let (Some(spool), Some(stream)) = (&self.uplink.0.spool, self.stream) {
            spool.end(self.passport.method.kind, stream);
        }
    }
}

// === impl Shared ===

impl Shared {
    fn new(settings: UplinkSettings, transport: Transport) -> Self {
        Self {
            settings,
            transport,
            spool: None,
            max_age: None,
            ledger: Arc::new(Ledger::new(settings.max_bytes, settings.max_records)),
            lanes: Mutex::new(HashMap::new()),
            streams: Arc::new(Semaphore::new(STREAMS)),
            runtime: Handle::current(),
        }
    }
}
