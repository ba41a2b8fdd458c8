//! Waiting for the library's thread on a thread of the host.
//!
//! `Handle::block_on` will not do: it needs thread-local data, which is destroyed before handlers of `atexit`
//! run, and it refuses a thread that is in another runtime of a Rust host.

use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use skytls::uplink::Uplink;
use tokio::runtime::Handle;

/// What the engine's thread may be late by; it is late only if a callback of the host blocks.
const GRACE: Duration = Duration::from_millis(250);

/// Waits until nothing is pending, at most for `limit`; says what is left.
pub(crate) fn settled(handle: &Handle, uplink: &Uplink, limit: Duration) -> u64 {
    if uplink.books().total.pending > 0 && !limit.is_zero() {
        let asked = uplink.clone();
        done(
            handle,
            async move {
                asked.flush(limit).await;
            },
            limit,
        );
    }
    uplink.books().total.pending
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
