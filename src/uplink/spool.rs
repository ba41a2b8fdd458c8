//! The spool: records on disk, so that they survive the process.
//!
//! Everything that touches the disk is done by one thread, the worker: whoever reports hands a
//! record over and goes on. The worker writes what has gathered as one frame for each kind, hands
//! the records to their lanes while there is memory for them, and leaves the rest to be read when
//! there is. It is not asked what a record means.

mod bits;
mod codec;
mod lanes;
mod lock;
mod segment;
mod shelf;
mod slot;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::Shared;
use super::envelope::Passport;
use super::lane::Record;
use super::sticky::Company;
use crate::config::SpoolSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::Kind;

pub(super) use shelf::Place;

use shelf::Shelf;
use slot::Slot;

/// The state of the disk spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SpoolState {
    /// Bytes of its files.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
    /// It cannot be written at the moment: new records are kept in memory only. Or it cannot be read: then its records
    /// wait.
    pub failing: bool,
    /// Records in files that the disk did not take when it was asked to: a power cut may lose them. They do not
    /// count as durable.
    pub doubtful: u64,
}

/// A record on its way to the disk.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) passport: Arc<Passport>,
    pub(super) company: Company,
    /// Tells the streams of records apart that keep to their own.
    pub(super) stream: u64,
}

/// What the worker is told.
#[derive(Debug)]
enum Command {
    Record(Entry),
    /// No more records of a stream.
    End(Kind, u64),
    /// To be answered when all that came before has been dealt with.
    Barrier(Kind, oneshot::Sender<()>),
    /// Records need not be sent any more.
    Done(Kind, Vec<Place>),
    /// As `Done`, to be answered: whether they are marked so, on the disk too if records are.
    Taken(Kind, Vec<Place>, oneshot::Sender<bool>),
    /// Write everything, answer, and end.
    Stop(Sender<()>),
}

/// The spool as the uplink sees it.
#[derive(Debug)]
pub(super) struct Spool {
    commands: Sender<Command>,
    gauge: Arc<Gauge>,
    exposed: Arc<Exposed>,
    streams: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A spool that was opened and has no worker yet.
#[derive(Debug)]
pub(super) struct Opened {
    settings: SpoolSettings,
    slot: Slot,
    shelves: Vec<Shelf>,
    /// What was found, by kind.
    pub(super) found: Vec<(Kind, u64)>,
}

/// Records that are in memory only.
#[derive(Debug, Default)]
struct Exposed {
    /// The worker has not dealt with them.
    waiting: AtomicU64,
    /// It could not write them, and they are not settled yet: they never get to the disk.
    passed_by: AtomicU64,
}

#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicU64,
    files: AtomicU64,
    failing: AtomicBool,
    /// It cannot be read.
    unread: AtomicBool,
    doubtful: AtomicU64,
}

// === impl Opened ===

impl Opened {
    /// Takes a slot of the folder and looks at what was left in it.
    pub(super) fn new(settings: &SpoolSettings) -> Result<Self> {
        let slot = Slot::take(&settings.path, settings.sync)?;
        let mut shelves: Vec<Shelf> =
            Kind::ALL.iter().map(|kind| Shelf::new(*kind, slot.folder(), settings.sync)).collect();
        let mut found = Vec::new();
        for (kind, number) in slot.files()? {
            found.push((kind, shelves[kind.index()].take_over(number, 1)?));
        }
        Ok(Self { settings: settings.clone(), slot, shelves, found })
    }

    /// Starts the worker for an uplink.
    pub(super) fn start(self, shared: Weak<Shared>) -> (Spool, Start) {
        let (commands, orders) = mpsc::channel();
        let gauge = Arc::new(Gauge::default());
        let exposed = Arc::new(Exposed::default());
        let spool = Spool {
            commands,
            gauge: gauge.clone(),
            exposed: exposed.clone(),
            // Numbers of other processes may stand in the files.
            streams: AtomicU64::new(fastrand::u64(..)),
            thread: Mutex::default(),
        };
        (spool, Start { opened: self, shared, orders, gauge, exposed })
    }
}

/// All that the worker needs.
pub(super) struct Start {
    opened: Opened,
    shared: Weak<Shared>,
    orders: Receiver<Command>,
    gauge: Arc<Gauge>,
    exposed: Arc<Exposed>,
}

// === impl Spool ===

impl Spool {
    /// Starts the thread.
    pub(super) fn run(&self, start: Start) -> Result<()> {
        let Start { opened, shared, orders, gauge, exposed } = start;
        let worker = worker::Worker::new(opened, shared, orders, gauge, exposed);
        let thread = std::thread::Builder::new()
            .name("skytls-spool".into())
            // Answered last: whoever waits is told when all files are closed, too, which a disk may hold up.
            .spawn(move || {
                if let Some(answer) = worker.run() {
                    // Whoever asked may have lost patience.
                    let _ = answer.send(());
                }
            })
            .map_err(|error| Error::new(Code::Bug).found("no thread to be had").because(error))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// A number for a new stream.
    pub(super) fn stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn submit(&self, entry: Entry) {
        self.exposed.waiting.fetch_add(1, Ordering::Relaxed);
        self.tell(Command::Record(entry));
    }

    pub(super) fn end(&self, kind: Kind, stream: u64) {
        self.tell(Command::End(kind, stream));
    }

    /// Waits until what was submitted of this kind has been dealt with: it is in the kernel's hands, on disk with
    /// [`SpoolSync::Always`](crate::config::SpoolSync), or in memory only, while the disk cannot be written. Which of
    /// these it is, the state tells.
    ///
    /// # Errors
    ///
    /// [`Code::Stopped`] when the worker has ended before that.
    pub(super) async fn stored(&self, kind: Kind) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Barrier(kind, answer));
        answered.await.map_err(|_| Error::new(Code::Stopped))
    }

    /// Records need not be sent any more: those at these places, and so many that have none.
    pub(super) fn done(&self, kind: Kind, places: Vec<Place>, others: u64) {
        self.exposed.passed_by.fetch_sub(others, Ordering::Relaxed);
        if !places.is_empty() {
            self.tell(Command::Done(kind, places));
        }
    }

    /// Marks these records as not to be sent after a restart: in the kernel's hands, or on disk with
    /// [`SpoolSync::Always`](crate::config::SpoolSync). `false`: that was not possible.
    pub(super) async fn taken(&self, kind: Kind, places: Vec<Place>) -> bool {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Taken(kind, places, answer));
        answered.await.unwrap_or(false)
    }

    /// How many records a kill or a power cut may cost now. Once [`stored`](Self::stored) has said that it is done,
    /// `dealt_with`, what still waits was reported later, and does not count.
    pub(super) fn unsafe_records(&self, dealt_with: bool) -> u64 {
        let waiting = if dealt_with { 0 } else { self.exposed.waiting.load(Ordering::Relaxed) };
        let passed_by = self.exposed.passed_by.load(Ordering::Relaxed);
        waiting + passed_by + self.gauge.doubtful.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self) -> SpoolState {
        SpoolState {
            bytes: self.gauge.bytes.load(Ordering::Relaxed),
            files: self.gauge.files.load(Ordering::Relaxed),
            failing: self.gauge.failing.load(Ordering::Relaxed)
                || self.gauge.unread.load(Ordering::Relaxed),
            doubtful: self.gauge.doubtful.load(Ordering::Relaxed),
        }
    }

    /// Writes what is left, at most for `limit`. Blocks; a second time it does nothing.
    pub(super) fn stop(&self, limit: Duration) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let (answer, answered) = mpsc::channel();
        self.tell(Command::Stop(answer));
        match answered.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) => {
                log::warn!("the spool was not written within {limit:?}: the disk does not answer");
            }
            // Without an answer it has ended before, which is as good, or has failed.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    log::error!("the spool's thread has failed");
                }
            }
        }
    }

    /// A worker that has ended takes nothing: then the engine has been stopped.
    fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
