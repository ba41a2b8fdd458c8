//! A live agent for Rust hosts: records in, and the duties of an agent done beside.
//!
//! An [`Agent`] owns an engine. Reporting to it never waits and never fails the host; what finds no
//! room is counted. Its [`Duties`] are a room of their own, because a relay has them too. Nothing here
//! knows how the way to the backend is protected, or how a stream is made.
//!
//! ```
//! use skytls::{Agent, config::Loader};
//! use std::time::Duration;
//!
//! let loaded = Loader::new()
//!     .environment([])
//!     .set("agent.service_name", "shop")
//!     .set("collector.backend_service", "127.0.0.1:11800")
//!     .load()?;
//! let agent = Agent::start(&loaded.settings)?;
//! let mut segment = agent.segment();
//! let span = segment.entry("GET:/", None);
//! segment.tag(span, "http.method", "GET");
//! agent.report(segment);
//! assert_eq!(agent.status().books.total.accepted, 2); // the segment and the start event
//! agent.shutdown(Duration::ZERO).wait();
//! # Ok::<(), skytls::Error>(())
//! ```

mod call;
mod commands;
mod configuration;
mod duties;
mod host;
mod identity;
mod machine;
mod pending;
mod profile;
mod record;
mod rhythm;
mod voice;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::config::{Mode, Settings};
use crate::engine::{Engine, Purpose};
use crate::error::{Code, Error, Result};
use crate::protocol::frame::Message;
use crate::protocol::{self, METHODS, Method, Sticky};
use crate::rotation::{Rotation, Rotator};
use crate::tls::Description;
use crate::trace::{Segment, Tracer};
use crate::transport::{BackendStatus, State, Transport};
use crate::uplink::{Entrance, Envelope, Passport, Reporter, Snapshot, Uplink};

pub use duties::Duties;
pub use host::Host;
pub use pending::Pending;
pub use profile::ProfileTask;
pub use record::{Encoded, Record, Route};

use configuration::Watchers;
use duties::Receivers;
use record::{Messages, Report};
use voice::Voice;

/// An agent. Cloning shares it; dropping the last clone ends it at once, without waiting: what is
/// queued is lost, unless [`shutdown`](Self::shutdown) was called before.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Shared>);

/// How an agent is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// `agent.enable`; without it nothing is accepted.
    pub enabled: bool,
    /// The service's name as it is reported.
    pub service: String,
    /// The instance's name.
    pub instance: String,
    /// The link.
    pub state: State,
    /// What is known of each backend.
    pub backends: Vec<BackendStatus>,
    /// Plaintext, TLS or mutual TLS, and why.
    pub mode: Mode,
    /// The TLS material in use; `None` for plaintext, and for an agent that is switched off or has been
    /// shut down.
    pub material: Option<Description>,
    /// Which generation of it that is, and how the files are; `None` as above.
    pub rotation: Option<Rotation>,
    /// What became of the records.
    pub books: Snapshot,
}

/// The link of an agent to its backend. It does not keep the agent alive.
#[derive(Debug, Clone)]
pub struct Link(Transport);

#[derive(Debug)]
struct Shared {
    tracer: Tracer,
    mode: Mode,
    watchers: Arc<Watchers>,
    /// `None` with `agent.enable=false`.
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    voice: Arc<Voice>,
    uplink: Uplink,
    link: Link,
    handle: Handle,
    /// One for each of [`METHODS`] whose messages may share a stream: they keep their lane.
    ways: Box<[OnceLock<Way>]>,
    /// Nothing is accepted any more.
    closed: AtomicBool,
    works: Arc<Mutex<Works>>,
}

/// How messages that may share a stream go in.
#[derive(Debug)]
enum Way {
    /// By any number of threads at a time.
    Quick(Entrance),
    /// One after the other.
    Stream(Mutex<Reporter>),
}

/// What a shutdown takes away.
#[derive(Debug)]
struct Works {
    engine: Option<Engine>,
    duties: Option<Duties>,
}

// === impl Agent ===

impl Agent {
    /// Starts an agent for a Rust host.
    ///
    /// # Errors
    ///
    /// See [`start_for`](Self::start_for).
    pub fn start(settings: &Settings) -> Result<Self> {
        Self::start_for(settings, Host::default())
    }

    /// Starts an agent for a host that says more about itself. With `agent.enable=false` it accepts
    /// nothing and does nothing.
    ///
    /// # Errors
    ///
    /// [`Code::ServiceNameMissing`], and every fault of settings and files; a backend that cannot be
    /// reached is none.
    pub fn start_for(settings: &Settings, host: Host) -> Result<Self> {
        let mode = settings.tls.mode;
        if !settings.enabled {
            log::warn!("agent.enable is false: nothing is reported");
            return Ok(Self(Arc::new(Shared {
                tracer: Tracer::new("", ""),
                mode,
                watchers: Arc::default(),
                live: None,
            })));
        }
        let voice = Arc::new(Voice::new(settings, &host)?);
        let engine = Engine::start(settings, Purpose::Library)?;
        let handle = engine.handle().cloned().ok_or_else(|| Error::new(Code::Bug))?;
        let uplink = engine.uplink().clone();
        let link = Link(engine.transport().clone());
        let watchers = Watchers::new(host.watched);
        let receivers = Receivers { handlers: host.handlers, watchers: watchers.clone() };
        let duties = Duties::take_up(settings, voice.clone(), receivers, &uplink, &link.0, &handle);
        let tracer = Tracer::new(&*voice.service, &*voice.instance);
        let live = Live {
            voice,
            uplink,
            link,
            handle,
            ways: METHODS.iter().map(|_| OnceLock::new()).collect(),
            closed: AtomicBool::new(false),
            works: Arc::new(Mutex::new(Works { engine: Some(engine), duties: Some(duties) })),
        };
        Ok(Self(Arc::new(Shared { tracer, mode, watchers, live: Some(live) })))
    }

    /// Takes a record over. Does not wait; what finds no room is counted as refused.
    pub fn report(&self, record: impl Into<Record>) {
        // The books say it, and the log would drown in it.
        let _ = self.try_report(record);
    }

    /// Takes a record over, or says why not. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Code::QueueFull`], [`Code::Stopped`] after the shutdown, [`Code::AgentDisabled`].
    pub fn try_report(&self, record: impl Into<Record>) -> Result<()> {
        let live = self.live()?;
        if live.closed.load(Ordering::Relaxed) {
            return Err(Error::new(Code::Stopped));
        }
        live.take(record.into().report(&live.voice)?)
    }

    /// Takes an encoded message over, or says why not. Does not wait; the bytes are copied. Nothing is filled in.
    ///
    /// # Errors
    ///
    /// As of [`try_report`](Self::try_report).
    pub fn try_report_bytes(&self, route: Route, message: &[u8]) -> Result<()> {
        let live = self.live()?;
        if live.closed.load(Ordering::Relaxed) {
            return Err(Error::new(Code::Stopped));
        }
        match route.method.sticky {
            Sticky::None => live.share(route, Content::Lent(message)),
            _ => deliver(&live.uplink, &live.voice, route.method, Bytes::copy_from_slice(message)),
        }
    }

    /// Begins a segment of this instance; report it when it is complete.
    pub fn segment(&self) -> Segment {
        self.0.tracer.segment()
    }

    /// The name of the service, as it is reported.
    pub fn service(&self) -> &str {
        self.0.tracer.service()
    }

    /// The name of the instance.
    pub fn instance(&self) -> &str {
        self.0.tracer.instance()
    }

    /// How the agent is at this moment.
    pub fn status(&self) -> Status {
        let live = self.0.live.as_ref();
        let works = live.map(Live::works);
        let engine = works.as_ref().and_then(|works| works.engine.as_ref());
        let rotation = engine.and_then(Engine::rotator).map(Rotator::status);
        Status {
            enabled: live.is_some(),
            service: self.service().to_owned(),
            instance: self.instance().to_owned(),
            state: live.map_or(State::Stopped, |live| live.link.state()),
            backends: live.map_or_else(Vec::new, |live| live.link.0.backends()),
            mode: self.0.mode,
            material: rotation.as_ref().map(|rotation| (*rotation.material).clone()),
            rotation,
            books: live.map_or_else(Snapshot::default, |live| live.uplink.books()),
        }
    }

    /// The link, to be watched; `None` for an agent that is switched off.
    pub fn link(&self) -> Option<Link> {
        self.0.live.as_ref().map(|live| live.link.clone())
    }

    /// The rotation of certificates and keys, to be watched; `None` for plaintext, and for an agent
    /// that is switched off or has been shut down.
    pub fn rotator(&self) -> Option<Rotator> {
        let works = self.0.live.as_ref()?.works();
        works.engine.as_ref()?.rotator().cloned()
    }

    /// Reads certificates and keys anew and puts them in force; blocks until that is done, without
    /// waiting for a connection. `None` where there is nothing to rotate; see [`rotator`](Self::rotator).
    ///
    /// # Errors
    ///
    /// [`Code::RotationRefused`] with the cause: what was in force stays so.
    pub fn reload(&self) -> Result<Option<Rotation>> {
        self.rotator().as_ref().map(Rotator::reload_blocking).transpose()
    }

    /// Delivers what is queued, at most for `limit`; says how many records are left.
    pub fn flush(&self, limit: Duration) -> Pending {
        let Ok(live) = self.live() else { return Pending::nothing() };
        let (tell, answer) = oneshot::channel();
        let uplink = live.uplink.clone();
        live.handle.spawn(async move {
            // Whoever asked may be gone.
            let _ = tell.send(uplink.flush(limit).await);
        });
        Pending::new(answer, live.uplink.clone())
    }

    /// Accepts nothing more, delivers what is queued and then the shutdown event, at most for `limit`,
    /// and ends the engine with its threads; says how many records were left and so lost.
    pub fn shutdown(&self, limit: Duration) -> Pending {
        let Ok(live) = self.live() else { return Pending::nothing() };
        live.closed.store(true, Ordering::Relaxed);
        let Some(duties) = live.works().duties.take() else {
            // Somebody did it before.
            return self.flush(limit);
        };
        let (tell, answer) = oneshot::channel();
        let (uplink, works) = (live.uplink.clone(), live.works.clone());
        // The threads that are to end cannot wait for their own end. A host may exit as soon as it
        // has its answer, and take down an OpenSSL that they still use.
        let (hand_over, handed) = mpsc::channel::<(Option<Engine>, oneshot::Sender<u64>)>();
        let begun = Instant::now();
        let rest = move || limit.saturating_sub(begun.elapsed());
        let given_up = uplink.clone();
        let end = move || {
            // An error: the agent was dropped meanwhile, and its engine with it.
            let Ok((engine, tell)) = handed.recv() else { return };
            let left = given_up.abandon(rest());
            if let Some(engine) = engine {
                engine.stop(Duration::ZERO);
            }
            // Whoever asked may be gone.
            let _ = tell.send(left);
        };
        let end = std::thread::Builder::new().name("skytls-end".to_owned()).spawn(end);
        live.handle.spawn(async move {
            wind_up(duties, &uplink, limit).await;
            if let Err(error) = end {
                log::warn!("the engine's threads end with the agent, and not before: {error}");
                let _ = tell.send(uplink.abandon(rest()));
                return;
            }
            let engine = works.lock().unwrap_or_else(PoisonError::into_inner).engine.take();
            let _ = hand_over.send((engine, tell));
        });
        Pending::new(answer, live.uplink.clone())
    }

    /// As [`shutdown`](Self::shutdown), in two steps for a host that needs the threads to have ended before
    /// it goes on. `deliver` is given a task that delivers what is queued, and has to see it through, or
    /// to lose patience. Then the spool is written, which takes no OpenSSL and may take a disk's time. `end` is
    /// given the end of the engine on this thread, see [`Engine::stop`]; if it does not call it, since the process
    /// is ending, the engine is left as it is. Says how many records are lost.
    pub fn end(
        &self,
        limit: Duration,
        deliver: impl FnOnce(&Handle, Pin<Box<dyn Future<Output = ()> + Send>>),
        end: impl FnOnce(&mut dyn FnMut()),
    ) -> u64 {
        let Ok(live) = self.live() else { return 0 };
        live.closed.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let duties = live.works().duties.take();
        if let Some(duties) = duties
            && !limit.is_zero()
        {
            let uplink = live.uplink.clone();
            let task = async move {
                wind_up(duties, &uplink, limit).await;
            };
            deliver(&live.handle, Box::pin(task));
        }
        live.uplink.abandon(limit.saturating_sub(begun.elapsed()));
        let mut engine = live.works().engine.take();
        end(&mut || {
            if let Some(engine) = engine.take() {
                engine.stop(Duration::ZERO);
            }
        });
        std::mem::forget(engine);
        live.uplink.books().total.dropped.shutdown
    }

    /// The runtime of the engine; `None` with `agent.enable=false`.
    pub fn handle(&self) -> Option<&Handle> {
        self.0.live.as_ref().map(|live| &live.handle)
    }

    /// Where records are handed in, and their books; `None` with `agent.enable=false`.
    pub fn uplink(&self) -> Option<&Uplink> {
        self.0.live.as_ref().map(|live| &live.uplink)
    }

    /// Watches a key of the dynamic configuration from now on; see [`Host::watch`].
    pub fn watch(
        &self,
        key: impl Into<String>,
        watch: impl Fn(Option<&str>) + Send + Sync + 'static,
    ) {
        self.0.watchers.add(key.into(), Arc::new(watch));
    }

    /// Reports, in the background, that a profiling task is over.
    pub fn finish_profile_task(&self, task_id: &str) {
        if let Ok(live) = self.live()
            && let Some(duties) = &mut live.works().duties
        {
            duties.finish_profile_task(task_id, &live.handle);
        }
    }

    fn live(&self) -> Result<&Live> {
        self.0.live.as_ref().ok_or_else(|| Error::new(Code::AgentDisabled).key("agent.enable"))
    }
}

// === impl Link ===

impl Link {
    /// The state at this moment.
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Waits for the next change of the state, at the first call for one since the agent's start.
    pub async fn changed(&mut self) {
        self.0.changed().await;
    }
}

// === impl Live ===

impl Live {
    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, report: Report) -> Result<()> {
        let Report { route, messages, named } = report;
        let method = route.method;
        match messages {
            Messages::One(message) if named || method.sticky == Sticky::None => {
                self.share(route, Content::Own(message))
            }
            Messages::One(message) => deliver(&self.uplink, &self.voice, method, message),
            Messages::Many(messages) => {
                let mut reporter = self.uplink.reporter(passport(&self.voice, method));
                messages.into_iter().try_for_each(|data| reporter.try_report(plain(data)))
            }
        }
    }

    /// Reports by the stream that all such messages share.
    fn share(&self, route: Route, message: Content<'_>) -> Result<()> {
        let Some(way) = self.ways.get(route.at) else { return Err(Error::new(Code::Bug)) };
        match way.get_or_init(|| self.open(route.method)) {
            Way::Quick(entrance) => entrance.try_report(message.bytes()),
            Way::Stream(reporter) => {
                let message = plain(message.kept());
                reporter.lock().unwrap_or_else(PoisonError::into_inner).try_report(message)
            }
        }
    }

    fn open(&self, method: &'static Method) -> Way {
        let passport = passport(&self.voice, method);
        match self.uplink.entrance(&passport) {
            Some(entrance) => Way::Quick(entrance),
            None => Way::Stream(Mutex::new(self.uplink.reporter(passport))),
        }
    }
}

/// A message, whoever owns it.
enum Content<'a> {
    Own(Bytes),
    Lent(&'a [u8]),
}

impl Content<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(bytes) => bytes,
        }
    }

    fn kept(self) -> Bytes {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes),
        }
    }
}

/// Delivers what is queued, then what the duties have to say at the end.
async fn wind_up(duties: Duties, uplink: &Uplink, limit: Duration) {
    let begun = Instant::now();
    duties.stop(limit).await;
    uplink.flush(limit.saturating_sub(begun.elapsed())).await;
}

/// Reports one message that is a stream by itself.
fn deliver(uplink: &Uplink, voice: &Voice, method: &'static Method, data: Bytes) -> Result<()> {
    uplink.report(Envelope { passport: passport(voice, method), message: plain(data) })
}

fn passport(voice: &Voice, method: &'static Method) -> Passport {
    Passport::new(method).with_metadata(voice.metadata.clone())
}

fn plain(data: Bytes) -> Message {
    Message { compressed: false, data }
}

/// A method that the protocol has.
fn method(path: &str) -> Result<&'static Method> {
    protocol::find(path).ok_or_else(|| Error::new(Code::Bug).found(path))
}
