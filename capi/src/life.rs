//! An agent's life in one process: its engine, from start to stop.
//!
//! A handle has one life per process. What a child inherits is its parent's; it gets a new one, and the old
//! one is left as it is, for its threads are not there and its connection is not the child's.

use std::mem::zeroed;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use skytls::Agent;
use skytls::agent::{Link, Route};
use skytls::error::{Code, Error, Result};
use skytls::protocol::frame::MAX_MESSAGE;
use skytls::trace::Segment;
use skytls::uplink::{Level, Uplink};

use crate::callbacks::Callbacks;
use crate::fork::{self, Worker};
use crate::kind::{Kind, Routes};
use crate::plan::Plan;
use crate::{exit, twins, wait};

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
    agent: Agent,
    routes: Routes,
    pub(crate) uplink: Uplink,
    pub(crate) link: Link,
    callbacks: Callbacks,
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
        match (self.phase(), self.running.get()) {
            (Phase::Stopped, _) => Err(Error::new(Code::Stopped)),
            (_, Some(running)) => Ok(Some(running)),
            (Phase::New, None) => Err(Error::new(Code::NotStarted)),
            (Phase::Wanted, None) => self.start(plan, Insist::No),
            (Phase::Disabled, None) => Ok(None),
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
        // A child must not get to see an engine of which its parent does not know yet that it was wanted: the
        // phase changes before a fork can happen, and before the host is told anything.
        let launched: Result<_> = fork::exclusively(|| {
            let plan = unpoisoned(plan);
            let enabled = plan.settings.enabled;
            let launched = enabled.then(|| Running::launch(&plan, self.parent)).transpose()?;
            self.set(if enabled { Phase::Wanted } else { Phase::Disabled });
            Ok(launched)
        });
        match launched {
            Ok(Some(running)) => {
                *unpoisoned(&self.failure) = None;
                Ok(Some(self.running.get_or_init(|| running)))
            }
            Ok(None) => Ok(None),
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
    /// What was proven of FIPS, if it is required.
    pub(crate) fn fips(&self) -> Option<String> {
        self.agent.rotator()?.status().material.fips.as_ref().map(ToString::to_string)
    }

    fn launch(plan: &Plan, parent: *const Life) -> Result<Self> {
        if fork::has_ended() {
            return Err(Error::new(Code::Stopped).found("a process that is exiting"));
        }
        let routes = Routes::new()?;
        openssl::init();
        exit::install();
        let callbacks = Callbacks::default();
        // The instance was announced by the process that has made the agent.
        let host = plan.host(&callbacks, parent.is_null());
        let agent = without_signals(|| Agent::start_for(&plan.settings, host))?;
        let (Some(handle), Some(uplink), Some(link)) =
            (agent.handle().cloned(), agent.uplink().cloned(), agent.link())
        else {
            return Err(Error::new(Code::Bug).found("an agent without an engine"));
        };
        if let Some(state) = plan.on_state {
            handle.spawn(state.watch(link.clone(), callbacks.clone()));
        }
        let id = fork::next_id();
        let exit_limit = plan.exit_limit;
        fork::add(Worker { id, handle, uplink: uplink.clone(), exit_limit });
        twins::warn_once();
        Ok(Self { id, agent, routes, uplink, link, callbacks })
    }

    /// Accepts an encoded record of a kind.
    pub(crate) fn report(&self, kind: Kind, data: &[u8]) -> Result<()> {
        self.report_by(self.routes.of(kind)?, data)
    }

    /// Accepts an encoded record.
    pub(crate) fn report_by(&self, route: Route, data: &[u8]) -> Result<()> {
        if data.len() > MAX_MESSAGE {
            let found = format_args!("{} bytes", data.len());
            return Err(Error::new(Code::MessageTooLarge).found(found));
        }
        self.agent.try_report_bytes(route, data)
    }

    /// Accepts a segment.
    pub(crate) fn report_segment(&self, segment: Segment) -> Result<()> {
        self.agent.try_report(segment)
    }

    /// Begins a segment.
    pub(crate) fn segment(&self) -> Segment {
        self.agent.segment()
    }

    /// Reports that a profiling task is over.
    pub(crate) fn finish_profile_task(&self, task_id: &str) {
        self.agent.finish_profile_task(task_id);
    }

    /// Waits until everything accepted has come so far, at most for `limit`; says what has not.
    pub(crate) fn flush(&self, level: Level, limit: Duration) -> u64 {
        match self.agent.handle() {
            // At the end of the process the thread stands still for good.
            Some(handle) if !fork::has_ended() => wait::settled(handle, &self.uplink, level, limit),
            _ => self.uplink.books().total.pending,
        }
    }

    fn stop(&self, limit: Duration) -> u64 {
        if fork::has_ended() {
            return self.uplink.books().total.pending;
        }
        let lost = self.agent.end(
            limit,
            |handle, delivery| wait::done(handle, delivery, limit),
            // Ending connections means OpenSSL, here and on the engine's thread. The spool was written before: a
            // disk that hangs must not keep a fork waiting.
            |end| {
                fork::exclusively(|| {
                    // At the end of the process its thread stands still, and OpenSSL may be gone.
                    if !fork::has_ended() {
                        end();
                        fork::remove(self.id);
                    }
                });
            },
        );
        self.callbacks.switch_off();
        lost
    }
}

/// Runs `body` with all signals blocked, so that the threads it starts never run a handler of the host's.
fn without_signals<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are locals that outlive the calls; a signal set may be all zeroes, and is filled
    // before it is used. The mask is this thread's own and is put back.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        let mut before: libc::sigset_t = zeroed();
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
