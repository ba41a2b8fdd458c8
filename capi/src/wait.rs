//! Waiting for the library's thread on a thread of the host.
//!
//! `Handle::block_on` will not do: it needs thread-local data, which is destroyed before handlers of `atexit`
//! run, and it refuses a thread that is in another runtime of a Rust host.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use skytls::uplink::{Level, Uplink};
use tokio::runtime::Handle;

/// What the engine's thread may be late by; it is late only if a callback of the host blocks.
const GRACE: Duration = Duration::from_millis(250);

/// Waits until everything accepted has come so far, at most for `limit`; says what has not.
pub(crate) fn settled(handle: &Handle, uplink: &Uplink, level: Level, limit: Duration) -> u64 {
    let left = Arc::new(AtomicU64::new(uplink.books().total.pending));
    if left.load(Ordering::Relaxed) > 0 && !limit.is_zero() {
        let (asked, told) = (uplink.clone(), left.clone());
        let ask = async move { told.store(asked.flush_to(level, limit).await, Ordering::Release) };
        done(handle, ask, limit);
    }
    left.load(Ordering::Acquire)
}

/// Runs a task on the engine's thread and waits until it is done. It is to keep within `limit` itself.
pub(crate) fn done(
    handle: &Handle,
    task: impl Future<Output = ()> + Send + 'static,
    limit: Duration,
) {
    let done = Arc::new((Mutex::new(false), Condvar::new()));
    let for_task = done.clone();
    handle.spawn(async move {
        task.await;
        *for_task.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        for_task.1.notify_one();
    });
    let is_done = done.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(done.1.wait_timeout_while(is_done, limit + GRACE, |done| !*done));
}
