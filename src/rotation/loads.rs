//! Files that are being loaded at this moment, by any rotation of this process.
//!
//! Loading works under locks of OpenSSL, which a child forked meanwhile would find locked for ever. It happens on
//! a thread of its own, so who forks pauses it. Kept for the whole process, as those locks are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
static PAUSES: AtomicUsize = AtomicUsize::new(0);

/// How often whoever has to wait looks again.
const LOOK: Duration = Duration::from_micros(200);

/// Files are being loaded, until it is dropped.
#[derive(Debug)]
pub(super) struct Load;

/// Nothing begins to be loaded until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Pause(());

/// Pauses loading, after waiting at most for `patience` until what is under way is over.
pub fn pause(patience: Duration) -> Pause {
    PAUSES.fetch_add(1, Ordering::SeqCst);
    let begun = Instant::now();
    while UNDER_WAY.load(Ordering::SeqCst) > 0 && begun.elapsed() < patience {
        thread::sleep(LOOK);
    }
    Pause(())
}

/// In a forked child: what the parent's threads were loading is none of ours.
pub fn forget() {
    UNDER_WAY.store(0, Ordering::SeqCst);
}

// === impl Load ===

impl Load {
    pub(super) fn begin() -> Self {
        loop {
            while PAUSES.load(Ordering::SeqCst) > 0 {
                thread::sleep(LOOK);
            }
            UNDER_WAY.fetch_add(1, Ordering::SeqCst);
            let load = Self;
            // Either this sees the pause, or the pause sees this.
            if PAUSES.load(Ordering::SeqCst) == 0 {
                return load;
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        PAUSES.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn nothing_is_loaded_during_a_pause_and_a_pause_waits_for_what_is() {
        let load = Load::begin();
        let (tell, told) = channel();
        thread::scope(|scope| {
            let pausing = scope.spawn(|| pause(Duration::MAX));
            while PAUSES.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            assert!(!pausing.is_finished());
            drop(load);
            let paused = pausing.join().unwrap();
            scope.spawn(move || {
                let _load = Load::begin();
                tell.send(()).unwrap();
            });
            assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
            drop(paused);
            told.recv_timeout(Duration::from_secs(30)).unwrap();
        });
    }
}
