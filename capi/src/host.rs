//! What a host says about itself, and whom it wants to be told: all of it before the start.

use std::ffi::{c_char, c_int, c_void};

use crate::agent::{milliseconds, skytls_agent};
use crate::callbacks::{
    CommandCallback, ProfileTaskCallback, StateCallback, WatchCallback, skytls_command_callback,
    skytls_profile_task_callback, skytls_state_callback, skytls_watch_callback,
};
use crate::error::skytls_error;
use crate::ffi::{guard_on, null, text};

/// Sets whom to tell of changes of the state; NULL: nobody. Before the start only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_on_state(
    agent: *mut skytls_agent,
    callback: skytls_state_callback,
    userdata: *mut c_void,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        let callback = callback.map(|function| StateCallback::new(function, userdata));
        agent.change(|plan| plan.on_state = callback)
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Sets whom to hand commands of the backend to; NULL: nobody. Before the start only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_on_command(
    agent: *mut skytls_agent,
    callback: skytls_command_callback,
    userdata: *mut c_void,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        let callback = callback.map(|function| CommandCallback::new(function, userdata));
        agent.change(|plan| plan.on_command = callback)
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Sets whom to hand the backend's profiling tasks to; they are asked for only with this. NULL: nobody.
/// Before the start only. See skytls_agent_finish_profile_task() and SKYTLS_PROFILE_SNAPSHOT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_on_profile_task(
    agent: *mut skytls_agent,
    callback: skytls_profile_task_callback,
    userdata: *mut c_void,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        let callback = callback.map(|function| ProfileTaskCallback::new(function, userdata));
        agent.change(|plan| plan.on_profile_task = callback)
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Watches a key of the backend's dynamic configuration; there may be any number. Before the start only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_watch(
    agent: *mut skytls_agent,
    key: *const c_char,
    callback: skytls_watch_callback,
    userdata: *mut c_void,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        // SAFETY: by the caller's contract.
        let key = unsafe { text(key, "key") }?.to_owned();
        let function = callback.ok_or_else(|| null("callback"))?;
        agent.change(|plan| plan.watches.push((key, WatchCallback::new(function, userdata))))
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Says what the host is: the language it speaks to people in, such as "php" ("c" if nothing is said), and
/// the version of the agent that uses this library, or NULL. Before the start only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_describe(
    agent: *mut skytls_agent,
    language: *const c_char,
    version: *const c_char,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        // SAFETY: by the caller's contract.
        let language = unsafe { text(language, "language") }?.to_owned();
        let version = match version.is_null() {
            true => None,
            // SAFETY: not NULL, so a C string by the caller's contract.
            false => Some(unsafe { text(version, "version") }?.to_owned()),
        };
        agent.change(|plan| {
            plan.language = language;
            plan.version = version;
        })
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Adds an instance property to the usual ones. Before the start only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_add_property(
    agent: *mut skytls_agent,
    key: *const c_char,
    value: *const c_char,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        // SAFETY: by the caller's contract.
        let key = unsafe { text(key, "key") }?.to_owned();
        // SAFETY: as above.
        let value = unsafe { text(value, "value") }?.to_owned();
        agent.change(|plan| plan.properties.push((key, value)))
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Sets how long exit() may wait for records to be delivered. 0, the default: not at all, what is pending
/// is lost unless skytls_agent_stop() was called. Before the start only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_agent_set_exit_timeout(
    agent: *mut skytls_agent,
    timeout_ms: u32,
    err: *mut *mut skytls_error,
) -> c_int {
    let body =
        |agent: &skytls_agent| agent.change(|plan| plan.exit_limit = milliseconds(timeout_ms));
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}
