//! The body of one stream to the backend: takes records from a lane and lays them out as frames.
//!
//! Small records and short runs are copied together into chunks of a few DATA frames; what is larger travels as
//! it is. A chunk leaves as soon as the lane is empty; where records come often, the next ones wait a moment for
//! company. The stream ends when it has carried enough, or when nothing has come for a while, since only its end
//! makes the backend acknowledge.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::inbox::{RUN, Stock};
use super::lane::{Lane, Outlook, Record};
use super::ledger::{Ledger, Seat};
use super::parcel::Parcel;
use super::sticky;
use crate::protocol::Sticky;
use crate::protocol::frame::{self, HEADER};

/// How much one stream carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    records: usize,
    bytes: usize,
    /// How long a stream that is never idle may last.
    age: Duration,
    /// How long to wait for a further record.
    idle: Duration,
    /// The last record it may take.
    last: Option<u64>,
}

/// How long records of a stream that is one unit to the backend are gathered before they are sent:
/// until the local stream ends, if no bound is reached before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gathering {
    pub(super) bytes: usize,
    pub(super) age: Option<Duration>,
}

/// The records that one stream has taken; outlives the body, to be confirmed or put back.
#[derive(Debug)]
pub(super) struct Batch(Mutex<Progress>);

#[derive(Debug)]
struct Progress {
    parcels: Vec<Parcel>,
    /// How many records these are.
    records: usize,
    /// When HTTP/2 last asked for more, and whether it was told to wait.
    asked: Instant,
    waiting: bool,
    /// Whether everything was handed over and the stream ended properly.
    ended: bool,
    /// Set when the call has its verdict: nothing may be taken for it any more.
    closed: bool,
    /// Used or dropped, it tells the sender that the body takes no more.
    open: Option<oneshot::Sender<()>>,
}

/// The call is over on its other side; the rest of its body must not look like a proper end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abandoned;

/// The body itself.
#[derive(Debug)]
pub(super) struct ReportBody {
    lane: Arc<Lane>,
    batch: Arc<Batch>,
    bounds: Bounds,
    chunk: Vec<u8>,
    /// Memory of chunks that were sent.
    stock: Arc<Stock>,
    /// What is large goes out behind the chunk.
    large: Option<Bytes>,
    begun: Instant,
    carried: usize,
    timer: Pin<Box<Sleep>>,
    /// When records were last taken out of the lane.
    filled: Instant,
    /// Until then, a few records wait for company.
    linger: Option<Instant>,
    /// Since when the lane has been empty.
    idle_since: Option<Instant>,
    ledger: Arc<Ledger>,
    over: bool,
}

/// From here on small records are not put together any further: what comes on top of it still fits into the
/// memory of a run.
const CHUNK: usize = RUN - LARGE - HEADER;
/// What is longer than a DATA frame of a client is not copied. A frame of its own costs less than that, but not
/// less than a frame that is not full, with a system call of its own.
const LARGE: usize = 16 * 1024;
/// With so much in it a chunk has company, and gets the memory of a run instead of growing step by step.
const COMPANY: usize = 4 * 1024;
/// Records that come further apart than this leave at once.
const RARE: Duration = Duration::from_micros(250);
/// Others wait for so long, by a clock of milliseconds, unless a piece is full before.
const LINGER: Duration = Duration::from_millis(1);
/// HTTP/2 cuts it into frames; what lies below joins them to full TLS records.
const PIECE: usize = 64 * 1024;

// === impl Bounds ===

impl Bounds {
    /// The bounds for a method's streams of at most so many records.
    pub(super) fn of(sticky: Sticky, records: usize, max_bytes: usize) -> Self {
        let usual = Self {
            records,
            bytes: (max_bytes / 4).min(8 * 1024 * 1024),
            age: Duration::from_secs(1),
            idle: Duration::from_millis(20),
            last: None,
        };
        match sticky {
            // What belongs together has been gathered.
            Sticky::Unit(_) => Self { idle: Duration::ZERO, ..usual },
            Sticky::Whole => Self {
                records: usize::MAX,
                bytes: usize::MAX,
                age: Duration::MAX,
                idle: Duration::ZERO,
                last: None,
            },
            _ => usual,
        }
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// No further than this record, and without waiting for more.
    pub(super) fn up_to(self, last: u64) -> Self {
        Self { last: Some(last), idle: Duration::ZERO, ..self }
    }
}

// === impl Gathering ===

impl Gathering {
    /// Whether and how far a method's streams are gathered.
    pub(super) fn of(sticky: Sticky, max_bytes: usize) -> Option<Self> {
        match sticky {
            Sticky::Unit(_) => {
                Some(Self { bytes: max_bytes / 4, age: Some(Duration::from_secs(5)) })
            }
            Sticky::Whole => Some(Self { bytes: max_bytes / 2, age: None }),
            _ => None,
        }
    }
}

// === impl Batch ===

impl Batch {
    /// A batch; `open` is told when its body takes no more.
    pub(super) fn new(open: oneshot::Sender<()>) -> Self {
        Self(Mutex::new(Progress {
            parcels: Vec::new(),
            records: 0,
            asked: Instant::now(),
            waiting: false,
            ended: false,
            closed: false,
            open: Some(open),
        }))
    }

    /// The records taken, and whether the body had ended properly. It takes no more from now on: HTTP/2 may go on asking it for a while after an early answer,
    /// and nobody would account for those.
    pub(super) fn close(&self, lane: &Lane) -> (Vec<Parcel>, bool) {
        let mut progress = self.progress();
        progress.closed = true;
        let parcels = std::mem::take(&mut progress.parcels);
        let ended = progress.ended;
        let open = progress.open.take();
        drop(progress);
        // The body may be waiting at the lane, whose one place for a waiter the sender needs.
        lane.nudge();
        drop(open);
        (parcels, ended)
    }

    /// Whether the backend has made no progress for longer than `limit`: neither taken what is
    /// there to be sent, nor answered what was.
    pub(super) fn is_overdue(&self, limit: Duration) -> bool {
        let progress = self.progress();
        (progress.ended || !progress.waiting) && progress.asked.elapsed() > limit
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl ReportBody ===

impl ReportBody {
    pub(super) fn new(
        lane: Arc<Lane>,
        batch: Arc<Batch>,
        bounds: Bounds,
        ledger: Arc<Ledger>,
    ) -> Self {
        let begun = Instant::now();
        Self {
            lane,
            batch,
            bounds,
            chunk: Vec::new(),
            stock: Arc::default(),
            large: None,
            begun,
            carried: 0,
            timer: Box::pin(sleep_until(begun)),
            filled: begun,
            linger: None,
            idle_since: None,
            ledger,
            over: false,
        }
    }

    /// Moves records from the lane into the chunk and the batch, up to the bounds.
    fn fill(&mut self) {
        let batch = self.batch.clone();
        let mut progress = batch.progress();
        if progress.closed {
            return;
        }
        let lane = self.lane.clone();
        let before = progress.records;
        let room = self.bounds.records.saturating_sub(before).max(1);
        let last = self.bounds.last;
        // The clock is not asked for every record.
        let now = Instant::now();
        let aged = now.duration_since(self.begun) >= self.bounds.age;
        lane.take(room as u64, last, |parcel| {
            self.lay_out(&parcel, progress.records == 0);
            let amount = parcel.amount();
            let end = parcel.last();
            self.carried += amount.bytes as usize;
            progress.records += amount.records as usize;
            progress.parcels.push(parcel);
            self.over = aged
                || progress.records >= self.bounds.records
                || self.carried >= self.bounds.bytes
                || last.is_some_and(|last| end >= last);
            let more = !self.over && self.chunk.len() < CHUNK && self.large.is_none();
            more.then(|| (self.bounds.records - progress.records) as u64)
        });
        let taken = (progress.records - before) as u64;
        if taken > 0 {
            self.idle_since = None;
            let gap = now.duration_since(self.filled);
            self.filled = now;
            let often = gap < RARE.saturating_mul(u32::try_from(taken).unwrap_or(u32::MAX));
            self.linger = (often && last.is_none()).then(|| now + LINGER);
            let kind = self.lane.passport().method.kind;
            self.ledger.shift(kind, taken, Seat::Queued, Seat::Sent);
        }
    }

    fn lay_out(&mut self, parcel: &Parcel, first: bool) {
        match parcel {
            Parcel::One(record) => self.lay_out_record(record, first),
            Parcel::Many(run) => self.put(run.frames()),
        }
    }

    fn lay_out_record(&mut self, record: &Record, first: bool) {
        let joined = (first && !record.prefix.is_empty())
            .then(|| {
                let encoding = self.lane.passport().encoding();
                sticky::prefixed(&record.message, encoding, &record.prefix)
            })
            .flatten();
        let message = joined.as_ref().unwrap_or(&record.message);
        self.copy(&frame::header(message.compressed, message.data.len()));
        self.put(&message.data);
    }

    fn put(&mut self, data: &Bytes) {
        if data.len() > LARGE {
            self.large = Some(data.clone());
        } else {
            self.copy(data);
        }
    }

    fn copy(&mut self, data: &[u8]) {
        let length = self.chunk.len() + data.len();
        if length > self.chunk.capacity() && length > COMPANY {
            let few = std::mem::replace(&mut self.chunk, self.stock.get());
            self.chunk.extend_from_slice(&few);
        }
        self.chunk.extend_from_slice(data);
    }

    /// Whether all that was taken has left.
    fn has_left(&self) -> bool {
        self.chunk.is_empty() && self.large.is_none()
    }

    /// The next piece that is ready to leave. What is large goes in pieces too: each time HTTP/2 asks
    /// for one is a sign of progress.
    fn next_piece(&mut self) -> Option<Bytes> {
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            return Some(if chunk.capacity() < RUN {
                chunk.into()
            } else {
                self.stock.lend(chunk)
            });
        }
        let large = self.large.as_mut()?;
        let piece = large.split_to(large.len().min(PIECE));
        if large.is_empty() {
            self.large = None;
        }
        Some(piece)
    }

    fn end(&mut self) {
        self.over = true;
        let mut progress = self.batch.progress();
        progress.ended = true;
        if let Some(open) = progress.open.take() {
            // The sender may be gone: then nobody wants to know.
            let _ = open.send(());
        }
    }

    /// Waits for company, which makes encryption and sending cheaper, while records come often.
    fn poll_company(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.linger else { return Poll::Ready(()) };
        if !self.ledger.is_pressed() && self.lane.poll_plenty(cx, PIECE).is_pending() {
            if self.timer.deadline() != until {
                self.timer.as_mut().reset(until);
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
        }
        self.linger = None;
        Poll::Ready(())
    }

    /// Waits for the lane; gives up when the stream has been idle or open for too long, or when
    /// somebody waits for the room that only an acknowledgement makes.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.carried > 0 && self.ledger.is_pressed() {
            return Poll::Ready(());
        }
        let latest = self.begun.checked_add(self.bounds.age);
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        let patient = since + self.bounds.idle;
        let until = latest.map_or(patient, |latest| latest.min(patient));
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        self.timer.as_mut().poll(cx)
    }
}

impl Body for ReportBody {
    type Data = Bytes;
    type Error = Abandoned;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abandoned>>> {
        let this = &mut *self;
        this.batch.progress().note_progress();
        loop {
            if !this.over && this.has_left() {
                // Under the lock, as below.
                let batch = this.batch.clone();
                let mut progress = batch.progress();
                if !progress.closed && this.poll_company(cx).is_pending() {
                    progress.waiting = true;
                    return Poll::Pending;
                }
            }
            if !this.over && this.large.is_none() && this.chunk.len() < CHUNK {
                this.fill();
            }
            if let Some(piece) = this.next_piece() {
                if this.over && this.has_left() {
                    this.end();
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.over {
                this.end();
                return Poll::Ready(None);
            }
            // Under the lock: once the call is over, the lane's place for a waiter is the sender's.
            let batch = this.batch.clone();
            let progress = batch.progress();
            if progress.closed {
                return Poll::Ready(Some(Err(Abandoned)));
            }
            let outlook = this.lane.poll_outlook(cx);
            drop(progress);
            match outlook {
                Poll::Ready(Outlook::Records) => {}
                Poll::Ready(Outlook::Over) => this.over = true,
                Poll::Pending if this.poll_patience(cx).is_ready() => this.over = true,
                Poll::Pending => {
                    this.batch.progress().waiting = true;
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over && self.has_left()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

impl Drop for ReportBody {
    fn drop(&mut self) {
        // Not a proper end, unless there was one: an OK does not speak for what never left.
        let mut progress = self.batch.progress();
        progress.note_progress();
        drop(progress.open.take());
    }
}

// === impl Progress ===

impl Progress {
    fn note_progress(&mut self) {
        self.asked = Instant::now();
        self.waiting = false;
    }
}

// === impl Abandoned ===

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call is over")
    }
}

impl std::error::Error for Abandoned {}

#[cfg(test)]
mod tests;
