//! An agent's life in one process: its engine, from start to stop.
//!
//! A handle has one life per process. What a child inherits is its parent's; it gets a new one, and the old
//! one is left as it is, for its threads are not there and its connection is not the child's.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use skytls::config::Settings;
use skytls::engine::{Engine, Purpose};
use skytls::error::{Code, Error, Result};
use skytls::protocol::Method;
use skytls::protocol::frame::{MAX_MESSAGE, Message};
use skytls::transport::{State, Transport};
use skytls::uplink::{Envelope, Metadata, Passport, Uplink};

use crate::error::skytls_error;
use crate::fork::{self, Registry, Worker};
use crate::log::in_callback;
use crate::status;
use crate::{exit, twins, wait};

/// What an agent is to do; fixed once it has been started.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) on_state: Option<StateCallback>,
    pub(crate) exit_limit: Duration,
}

/// A function of the host, with what it wants to be given.
#[derive(Clone, Copy)]
pub(crate) struct StateCallback {
    pub(crate) function: unsafe extern "C" fn(*mut c_void, c_int, *const skytls_error),
    pub(crate) userdata: *mut c_void,
}

// SAFETY: the header says on which thread the callback is called; that its data may be used there is the
// host's promise.
unsafe impl Send for StateCallback {}

pub(crate) struct Life {
    generation: u64,
    phase: AtomicU8,
    running: OnceLock<Running>,
    /// Why the last start failed.
    failure: Mutex<Option<Error>>,
    /// Starts and stops happen one after the other.
    gate: Mutex<()>,
    /// The life it was made after in a child; never followed.
    parent: *const Life,
}

/// An engine, and what is needed of it often.
pub(crate) struct Running {
    id: u64,
    pub(crate) uplink: Uplink,
    pub(crate) transport: Transport,
    metadata: Metadata,
    engine: Mutex<Option<Engine>>,
    callbacks: Arc<Mutex<Callbacks>>,
}

/// Whether callbacks may still be called. Whoever has the lock may be calling one.
#[derive(PartialEq, Eq)]
enum Callbacks {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not started.
    New,
    /// Started, or to be started when it is needed: a parent had started it.
    Wanted,
    /// Started, but agent.enable is false.
    Disabled,
    /// Stopped for good.
    Stopped,
}

/// Whether a start that has failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insist {
    Yes,
    No,
}

// SAFETY: the pointer to the parent's life is never followed; everything else is shared as usual.
unsafe impl Send for Life {}
// SAFETY: as above.
unsafe impl Sync for Life {}

// === impl Life ===

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            generation: fork::generation(),
            phase: AtomicU8::new(Phase::New as u8),
            running: OnceLock::new(),
            failure: Mutex::default(),
            gate: Mutex::default(),
            parent: std::ptr::null(),
        }
    }

    /// The life of a child whose parent had this one: only the wish to run is taken over.
    pub(crate) fn child_of(parent: &Self) -> Self {
        let phase = AtomicU8::new(parent.phase.load(Ordering::Acquire));
        Self { phase, parent, ..Self::new() }
    }

    /// Whether this process leads it.
    pub(crate) fn is_own(&self) -> bool {
        self.generation == fork::generation()
    }

    /// What a parent has left behind; NULL in the process that made the handle.
    pub(crate) fn parent(&self) -> *const Self {
        self.parent
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::New,
            1 => Phase::Wanted,
            2 => Phase::Disabled,
            _ => Phase::Stopped,
        }
    }

    /// The engine, if there is one; none is started.
    pub(crate) fn peek(&self) -> Option<&Running> {
        self.running.get()
    }

    /// Why the last start failed.
    pub(crate) fn failure(&self) -> Option<Error> {
        unpoisoned(&self.failure).clone()
    }

    /// The engine; started now if a parent had it started. `None`: switched off.
    pub(crate) fn engine(&self, plan: &Mutex<Plan>) -> Result<Option<&Running>> {
        if let Some(running) = self.running.get() {
            return Ok(Some(running));
        }
        match self.phase() {
            Phase::New => Err(Error::new(Code::NotStarted)),
            Phase::Wanted => self.start(plan, Insist::No),
            Phase::Disabled => Ok(None),
            Phase::Stopped => Err(Error::new(Code::Stopped)),
        }
    }

    /// Starts the engine unless it runs.
    pub(crate) fn start(&self, plan: &Mutex<Plan>, insist: Insist) -> Result<Option<&Running>> {
        let _gate = unpoisoned(&self.gate);
        match self.phase() {
            Phase::Stopped => return Err(Error::new(Code::Stopped)),
            Phase::Disabled => return Ok(None),
            Phase::New | Phase::Wanted => {}
        }
        if let Some(running) = self.running.get() {
            return Ok(Some(running));
        }
        if let (Insist::No, Some(failure)) = (insist, self.failure()) {
            return Err(failure);
        }
        let launched = fork::exclusively(|registry| {
            let plan = unpoisoned(plan);
            match plan.settings.enabled {
                true => Running::launch(&plan, registry).map(Some),
                false => Ok(None),
            }
        });
        match launched {
            Ok(Some(running)) => {
                self.set(Phase::Wanted);
                *unpoisoned(&self.failure) = None;
                Ok(Some(self.running.get_or_init(|| running)))
            }
            Ok(None) => {
                self.set(Phase::Disabled);
                Ok(None)
            }
            Err(error) => {
                *unpoisoned(&self.failure) = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Delivers what is pending, at most for `limit`, and ends; says how many records are lost.
    pub(crate) fn stop(&self, limit: Duration) -> u64 {
        let _gate = unpoisoned(&self.gate);
        self.set(Phase::Stopped);
        self.running.get().map_or(0, |running| running.stop(limit))
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

// === impl Running ===

impl Running {
    fn launch(plan: &Plan, registry: &mut Registry) -> Result<Self> {
        if fork::has_ended() {
            return Err(Error::new(Code::Stopped).found("a process that is exiting"));
        }
        openssl::init();
        exit::install();
        let engine = without_signals(|| Engine::start(&plan.settings, Purpose::Library))?;
        let handle = engine.handle().ok_or_else(|| Error::new(Code::Bug))?.clone();
        let callbacks = Arc::new(Mutex::new(Callbacks::On));
        if let Some(callback) = plan.on_state {
            handle.spawn(watch(engine.transport().clone(), callback, callbacks.clone()));
        }
        let running = Self {
            id: fork::next_id(),
            uplink: engine.uplink().clone(),
            transport: engine.transport().clone(),
            metadata: metadata(&plan.settings)?,
            engine: Mutex::new(Some(engine)),
            callbacks,
        };
        registry.add(Worker {
            id: running.id,
            handle,
            uplink: running.uplink.clone(),
            exit_limit: plan.exit_limit,
        });
        twins::warn_once();
        Ok(running)
    }

    /// Accepts a record.
    pub(crate) fn report(&self, method: &'static Method, data: &[u8]) -> Result<()> {
        if data.len() > MAX_MESSAGE {
            return Err(
                Error::new(Code::MessageTooLarge).found(format_args!("{} bytes", data.len()))
            );
        }
        let passport = Passport::new(method).with_metadata(self.metadata.clone());
        let data = bytes::Bytes::copy_from_slice(data);
        self.uplink.report(Envelope { passport, message: Message { compressed: false, data } })
    }

    /// Waits until nothing is pending, at most for `limit`; says what is left.
    pub(crate) fn flush(&self, limit: Duration) -> u64 {
        let handle = unpoisoned(&self.engine).as_ref().and_then(Engine::handle).cloned();
        match handle {
            // At the end of the process the thread stands still for good.
            Some(handle) if !fork::has_ended() => wait::settled(&handle, &self.uplink, limit),
            _ => self.uplink.books().total.pending,
        }
    }

    fn stop(&self, limit: Duration) -> u64 {
        if fork::has_ended() {
            return self.uplink.books().total.pending;
        }
        self.flush(limit);
        let left = fork::exclusively(|registry| {
            let engine = unpoisoned(&self.engine).take();
            // Ending connections means OpenSSL, here and on the engine's thread.
            let left = engine.map_or(0, |engine| engine.stop(Duration::ZERO));
            registry.remove(self.id);
            left
        });
        // Waits for a callback that is running, and is the last to do so.
        *unpoisoned(&self.callbacks) = Callbacks::Off;
        left
    }
}

/// Tells the host of every change of the link, on the engine's thread.
async fn watch(
    mut transport: Transport,
    callback: StateCallback,
    callbacks: Arc<Mutex<Callbacks>>,
) {
    let mut last = None;
    loop {
        let state = transport.state();
        if matches!(state, State::Stopped) {
            // Whoever has stopped it knows.
            return;
        }
        let number = status::number(&state);
        if last.replace(number) != Some(number) {
            let reason = match &state {
                State::Resting { reason, .. } => Some(skytls_error::new(reason)),
                _ => None,
            };
            let allowed = unpoisoned(&callbacks);
            if *allowed == Callbacks::Off {
                return;
            }
            let reason = reason.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let StateCallback { function, userdata } = callback;
            // SAFETY: the host's own function with the data it gave for it; the error outlives the call.
            in_callback(|| unsafe { function(userdata, number, reason) });
        }
        transport.changed().await;
    }
}

/// The metadata of every report: the token, where there is one.
fn metadata(settings: &Settings) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    if let Some(token) = &settings.agent.authentication {
        let mut value = HeaderValue::from_str(token.expose())
            .map_err(|_| Error::new(Code::BadValue).key("agent.authentication"))?;
        value.set_sensitive(true);
        metadata.push(HeaderName::from_static("authentication"), value);
    }
    Ok(metadata)
}

/// Runs `body` with all signals blocked, so that the threads it starts never run a handler of the host's.
fn without_signals<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are locals that outlive the calls; a signal set may be all zeroes, and is filled
    // before it is used. The mask is this thread's own and is put back.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

pub(crate) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
