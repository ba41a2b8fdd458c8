//! Waiting for the library's thread on a thread of the host.
//!
//! `Handle::block_on` will not do: it needs thread-local data, which is destroyed before handlers of `atexit`
//! run, and it refuses a thread that is in another runtime of a Rust host.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use skytls::uplink::Uplink;
use tokio::runtime::Handle;

/// What the engine's thread may be late by; it is late only if a callback of the host blocks.
const GRACE: Duration = Duration::from_millis(250);

/// Waits until nothing is pending, at most for `limit`; says what is left.
pub(crate) fn settled(handle: &Handle, uplink: &Uplink, limit: Duration) -> u64 {
    let pending = uplink.books().total.pending;
    if pending == 0 || limit.is_zero() {
        return pending;
    }
    let answer = Arc::new((Mutex::new(None), Condvar::new()));
    let (asked, for_task) = (uplink.clone(), answer.clone());
    handle.spawn(async move {
        let left = asked.flush(limit).await;
        *for_task.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        for_task.1.notify_one();
    });
    let left = answer.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = answer.1.wait_timeout_while(left, limit + GRACE, |left| left.is_none());
    let (left, _) = waited.unwrap_or_else(PoisonError::into_inner);
    left.unwrap_or_else(|| uplink.books().total.pending)
}
