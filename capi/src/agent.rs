//! The agent: made, started, reported to, flushed, stopped, freed, in a parent and in its children.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use skytls::agent::Route;
use skytls::error::{Code, Error, Result};
use skytls::uplink::Level;

use crate::config::skytls_config;
use crate::error::skytls_error;
use crate::ffi::{bytes, give, guard, guard_on, guard_void, null, object, text};
use crate::fork;
use crate::kind::Kind;
use crate::life::{Insist, Life, Phase, Running, unpoisoned};
use crate::log::not_in_callback;
use crate::plan::Plan;

/// Wait until nothing that was taken over can be lost with the process: it is in the spool, or delivered.
/// Without a spool that is the same as SKYTLS_DELIVERED.
pub const SKYTLS_DURABLE: c_int = 1;
/// Wait until the backend has confirmed all that was taken over.
pub const SKYTLS_DELIVERED: c_int = 2;

/// An agent. Made by skytls_agent_new(), freed by skytls_agent_free(). May be used from any thread, and
/// from several at a time, but for skytls_agent_free().
pub struct skytls_agent {
    /// Locked only while no fork can happen.
    plan: Mutex<Plan>,
    /// The life in the process that looked last; never NULL.
    life: AtomicPtr<Life>,
}

// SAFETY: what is behind the pointer and the plan is made to be shared.
unsafe impl Send for skytls_agent {}
// SAFETY: as above.
unsafe impl Sync for skytls_agent {}

// === impl skytls_agent ===

impl skytls_agent {
    /// The life in this process; a child gets a new one at its first look.
    pub(crate) fn life(&self) -> &Life {
        let inherited = self.life.load(Ordering::Acquire);
        // SAFETY: lives are freed only with the handle.
        let life = unsafe { &*inherited };
        if life.is_own() {
            return life;
        }
        let own = Box::into_raw(Box::new(Life::child_of(life)));
        let swapped =
            self.life.compare_exchange(inherited, own, Ordering::AcqRel, Ordering::Acquire);
        match swapped {
            // SAFETY: made above, and freed only with the handle.
            Ok(_) => unsafe { &*own },
            Err(theirs) => {
                // SAFETY: another thread of this child was faster, so nobody has seen this one.
                drop(unsafe { Box::from_raw(own) });
                // SAFETY: that thread's life, freed only with the handle.
                unsafe { &*theirs }
            }
        }
    }

    /// The engine in this process; `None`: switched off.
    pub(crate) fn engine(&self) -> Result<Option<&Running>> {
        self.life().engine(&self.plan)
    }

    fn report(&self, report: impl FnOnce(&Running) -> Result<()>) -> Result<()> {
        self.engine()?.map_or(Ok(()), report)
    }

    /// Changes the plan, which is possible until the start.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Plan)) -> Result<()> {
        let life = self.life();
        fork::exclusively(|| match life.phase() {
            Phase::New => {
                change(&mut unpoisoned(&self.plan));
                Ok(())
            }
            Phase::Stopped => Err(Error::new(Code::Stopped)),
            Phase::Wanted | Phase::Disabled => Err(Error::new(Code::AlreadyStarted)),
        })
    }
}

/// Makes an agent of settings, which are judged here. Nothing is started, and no file of certificates or
/// keys is read yet. Fails with the error of the setting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_new(
    config: *const skytls_config,
    agent: *mut *mut skytls_agent,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |config: &skytls_config| {
        if agent.is_null() {
            return Err(null("agent"));
        }
        fork::install();
        let loaded = fork::exclusively(|| config.load())?;
        for warning in &loaded.warnings {
            log::warn!("{warning}");
        }
        let settings = &loaded.settings;
        if settings.enabled && settings.link.backends.is_empty() {
            return Err(Error::new(Code::BackendMissing).key("collector.backend_service"));
        }
        if settings.enabled && settings.agent.service_name.is_none() {
            return Err(Error::new(Code::ServiceNameMissing).key("agent.service_name"));
        }
        let plan = Plan::new(loaded.settings);
        let made = Box::new(skytls_agent {
            plan: Mutex::new(plan),
            life: AtomicPtr::new(Box::into_raw(Box::new(Life::new()))),
        });
        // SAFETY: not NULL, so writable by the caller's contract.
        unsafe { give(agent, "agent", Box::into_raw(made)) }
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(config, "config", err, body) }
}

/// Reads certificates and keys, starts the thread and begins to connect. A backend that cannot be reached is
/// no error. An agent that runs already is left as it is; one that failed to start may be started again.
/// Not to be called from a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_start(
    agent: *mut skytls_agent,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = || {
        not_in_callback()?;
        // SAFETY: by the caller's contract.
        let agent = unsafe { object(agent, "agent") }?;
        agent.life().start(&agent.plan, Insist::Yes).map(drop)
    };
    // SAFETY: `err` is NULL or writable by the caller's contract.
    unsafe { guard(err, body) }
}

/// Hands over one encoded message of a kind, a SKYTLS_SEGMENT, SKYTLS_LOG, …; the bytes are copied. Never
/// waits for the network or the disk: what finds no room is refused (SKT-801) and counted.
///
/// In a forked child whose parent has started the agent, the first report starts the child's own engine,
/// which reads certificates and keys and takes milliseconds; skytls_after_fork_child() does that ahead.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_report(
    agent: *mut skytls_agent,
    kind: c_int,
    data: *const u8,
    len: usize,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        // SAFETY: by the caller's contract.
        let data = unsafe { bytes(data, len, "data") }?;
        let kind = Kind::new(kind)?;
        agent.report(|running| running.report(kind, data))
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// As skytls_agent_report(), for every report of the protocol: `method` is its gRPC path, such as
/// "/skywalking.v3.EventService/collect".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_report_method(
    agent: *mut skytls_agent,
    method: *const c_char,
    data: *const u8,
    len: usize,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        // SAFETY: by the caller's contract.
        let method = unsafe { text(method, "method") }?;
        // SAFETY: as above.
        let data = unsafe { bytes(data, len, "data") }?;
        let route = Route::new(method)?;
        agent.report(|running| running.report_by(route, data))
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Reports, in the background, that a profiling task is over: `task_id` is that of the task. It is tried a few
/// times, and given up with a line in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_finish_profile_task(
    agent: *mut skytls_agent,
    task_id: *const c_char,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        // SAFETY: by the caller's contract.
        let task_id = unsafe { text(task_id, "task_id") }?;
        if let Some(running) = agent.engine()? {
            running.finish_profile_task(task_id);
        }
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Waits until what was taken over is SKYTLS_DURABLE or SKYTLS_DELIVERED, at most for `timeout_ms`.
/// SKT-835 when the time is over; nothing is lost by that. In a child, only the child's own records count.
/// Not to be called from a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_flush(
    agent: *mut skytls_agent,
    goal: c_int,
    timeout_ms: u32,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = || {
        not_in_callback()?;
        // SAFETY: by the caller's contract.
        let agent = unsafe { object(agent, "agent") }?;
        let level = match goal {
            SKYTLS_DURABLE => Level::Durable,
            SKYTLS_DELIVERED => Level::Delivered,
            other => {
                return Err(Error::new(Code::BadArgument)
                    .key("goal")
                    .found(other)
                    .expected("SKYTLS_DURABLE or SKYTLS_DELIVERED"));
            }
        };
        let life = agent.life();
        match (life.peek(), life.phase()) {
            (_, Phase::Stopped) => Err(Error::new(Code::Stopped)),
            (None, Phase::New) => Err(Error::new(Code::NotStarted)),
            // Nothing was reported in this process.
            (None, _) => Ok(()),
            (Some(running), _) => match running.flush(level, milliseconds(timeout_ms)) {
                0 => Ok(()),
                left => Err(Error::new(Code::StillPending).found(format_args!("{left} records"))),
            },
        }
    };
    // SAFETY: `err` is NULL or writable by the caller's contract.
    unsafe { guard(err, body) }
}

/// Delivers what is pending, at most for `timeout_ms`, and stops for good; `lost`, unless it is NULL, gets
/// the number of records that were left. Callbacks are not called any more when it returns. A second stop
/// does nothing. Not to be called from a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_stop(
    agent: *mut skytls_agent,
    timeout_ms: u32,
    lost: *mut u64,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = || {
        not_in_callback()?;
        // SAFETY: by the caller's contract.
        let agent = unsafe { object(agent, "agent") }?;
        let left = agent.life().stop(milliseconds(timeout_ms));
        if !lost.is_null() {
            // SAFETY: not NULL, so writable by the caller's contract.
            unsafe { give(lost, "lost", left) }?;
        }
        Ok(())
    };
    // SAFETY: `err` is NULL or writable by the caller's contract.
    unsafe { guard(err, body) }
}

/// In a forked child of a process that has started the agent: starts the child's own engine now rather than
/// at its first report, or tries again after that has failed. Anywhere else it does nothing.
/// Not to be called from a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_after_fork_child(
    agent: *mut skytls_agent,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = || {
        not_in_callback()?;
        // SAFETY: by the caller's contract.
        let agent = unsafe { object(agent, "agent") }?;
        let life = agent.life();
        match life.phase() {
            Phase::Wanted => life.start(&agent.plan, Insist::Yes).map(drop),
            Phase::New | Phase::Disabled | Phase::Stopped => Ok(()),
        }
    };
    // SAFETY: `err` is NULL or writable by the caller's contract.
    unsafe { guard(err, body) }
}

/// Frees an agent; NULL is nothing to free. One that runs is stopped first, without waiting for the backend; its spool
/// is written, at most for a quarter of a second. In a child this frees the child's part and leaves the parent's alone. Nobody may use the agent meanwhile or
/// after. From a callback it does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_free(agent: *mut skytls_agent) {
    guard_void(|| {
        if agent.is_null() || not_in_callback().is_err() || fork::has_ended() {
            return;
        }
        // SAFETY: handed out as a box, and by contract freed once, with nobody using it.
        let agent = unsafe { Box::from_raw(agent) };
        let life = agent.life.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: lives are freed only here.
        if unsafe { &*life }.is_own() {
            // SAFETY: as above, and nobody uses the handle any more.
            let life = unsafe { Box::from_raw(life) };
            life.stop(Duration::ZERO);
            fork::abandon(life.parent());
        } else {
            fork::abandon(life);
        }
    });
}

pub(crate) fn milliseconds(timeout: u32) -> Duration {
    Duration::from_millis(timeout.into())
}
