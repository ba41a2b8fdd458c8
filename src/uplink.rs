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
//! queued and sent; *sent* means handed to HTTP/2 and not answered yet; *acknowledged* is the
//! backend's OK at the end of a stream. The ledger counts every step, and one snapshot
//! of it always balances: accepted + recovered = acknowledged + dropped + pending.
//!
//! Records wait in lanes: one per method, metadata, encoding and sticky context, so that
//! what shares a stream to the backend is what may share one. A sender per lane opens
//! streams whose body takes records from the lane until a bound is reached. Nothing here
//! knows where records come from.

mod body;
mod envelope;
mod lane;
mod ledger;
mod sender;
mod sticky;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::config::{BufferSettings, OnFull};
use crate::error::{Code, Error, Result};
use crate::protocol::frame::Message;
use crate::transport::Transport;

pub use envelope::{Envelope, Metadata, Passport};
pub use ledger::{Account, DropReason, Dropped, Snapshot};

use lane::{Lane, LaneKey, Record};
use ledger::Ledger;
use sticky::{Bearing, Company, Context};

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
    /// The lane in use, and for whom it is.
    lane: Option<(Arc<Lane>, Company)>,
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
    ledger: Arc<Ledger>,
    /// The lanes that several streams may share.
    lanes: Mutex<HashMap<LaneKey, Arc<Lane>>>,
    /// Streams open to the backend at a time: servers promise to take at least 100 (RFC 9113).
    streams: Arc<Semaphore>,
    runtime: Handle,
}

const STREAMS: usize = 100;

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
        Self(Arc::new(Shared {
            settings,
            transport,
            ledger: Arc::new(Ledger::new(settings.max_bytes, settings.max_records)),
            lanes: Mutex::new(HashMap::new()),
            streams: Arc::new(Semaphore::new(STREAMS)),
            runtime: Handle::current(),
        }))
    }

    /// Opens a stream of records.
    pub fn reporter(&self, passport: Passport) -> Reporter {
        let context = Context::new(passport.method.sticky);
        Reporter { uplink: self.clone(), passport: Arc::new(passport), context, lane: None }
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

    /// Gives up on everything that is still queued; it is counted as dropped.
    pub fn abandon(&self) -> u64 {
        self.0.ledger.abandon()
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<LaneKey, Arc<Lane>>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane for such company, made and staffed if need be, with one more user.
    fn lane(&self, passport: &Arc<Passport>, company: &Company) -> Arc<Lane> {
        let Company::Head(head) = company else {
            let lane = Arc::new(Lane::new(passport.clone(), None));
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
        true
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
        if self.uplink.0.settings.on_full != OnFull::Block {
            return self.try_report(message);
        }
        let ledger = self.uplink.0.ledger.clone();
        let id = ledger.admit(self.passport.method.kind, message.data.len()).await?;
        self.queue(id, message);
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
        if id.is_none() && self.uplink.0.settings.on_full == OnFull::DropOldest {
            // Room is made in this stream's own lane first: it holds the oldest of its like.
            while id.is_none()
                && self.lane.as_ref().is_some_and(|(lane, _)| lane.drop_oldest(&ledger))
            {
                id = ledger.try_admit(kind, message.data.len())?;
            }
        }
        let Some(id) = id else {
            ledger.refuse(kind);
            return Err(Error::new(Code::QueueFull).found(format!("kind {}", kind.name())));
        };
        self.queue(id, message);
        Ok(())
    }

    fn queue(&mut self, id: u64, message: Message) {
        let Bearing { prefix, company } = self.context.pass(&message, self.passport.encoding());
        self.lane_for(company).push(Record { id, message, prefix });
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
    }
}
