//! The connections that are being made, one for each backend at most, and how long the latest is waited
//! for before another backend is tried beside it. It makes none itself.

use std::time::{Duration, Instant};

use tokio::task::Id;

use super::backends::Hurry;

/// The attempts under way: those to get a connection that serves, and those to see whether a backend that
/// has rested works again.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    under_way: Vec<(usize, Id)>,
    /// The backend that was tried last because a connection is wanted, and since when.
    latest: Option<(usize, Instant)>,
}

/// A backend that has not answered by then may be one that accepts and is silent: the next one is tried
/// beside it, and the first that answers serves (as RFC 8305 does with the addresses of a name). Far more
/// than a handshake takes, so that a fleet does not dial every backend when one is slow.
const STAGGER: Duration = Duration::from_millis(500);

// === impl Attempts ===

impl Attempts {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether this backend is being tried.
    pub(super) fn include(&self, at: usize) -> bool {
        self.under_way.iter().any(|(tried, _)| *tried == at)
    }

    /// A task tries this backend from now on.
    pub(super) fn begun(&mut self, at: usize, task: Id) {
        self.under_way.push((at, task));
    }

    /// What comes of this attempt decides whether another one is needed.
    pub(super) fn wait_for(&mut self, at: usize, now: Instant) {
        self.latest = Some((at, now));
    }

    /// The attempt at this backend has come to its end.
    pub(super) fn over(&mut self, at: usize) {
        self.under_way.retain(|(tried, _)| *tried != at);
        self.latest = self.latest.filter(|(latest, _)| *latest != at);
    }

    /// The backend that this task tries.
    pub(super) fn of_task(&self, task: Id) -> Option<usize> {
        self.under_way.iter().find(|(_, own)| *own == task).map(|(at, _)| *at)
    }

    /// Whether another attempt may be made now. Beside one that is under way only in a hurry, and not at
    /// once.
    pub(super) fn may_begin(&self, now: Instant, hurry: Hurry) -> bool {
        self.patience().is_none_or(|end| hurry == Hurry::Yes && end <= now)
    }

    /// How long the latest attempt is waited for.
    pub(super) fn patience(&self) -> Option<Instant> {
        self.latest.map(|(_, since)| since + STAGGER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn task() -> Id {
        tokio::spawn(async {}).id()
    }

    #[tokio::test]
    async fn another_one_is_tried_after_a_while_and_only_in_a_hurry() {
        let mut attempts = Attempts::default();
        let now = Instant::now();
        assert!(attempts.may_begin(now, Hurry::No));
        attempts.begun(0, task().await);
        // One that is only looked at holds nobody up.
        assert!(attempts.may_begin(now, Hurry::No));
        attempts.begun(1, task().await);
        attempts.wait_for(1, now);
        assert!(!attempts.may_begin(now, Hurry::Yes));
        assert!(attempts.may_begin(now + STAGGER, Hurry::Yes));
        assert!(!attempts.may_begin(now + STAGGER, Hurry::No));
        attempts.over(1);
        assert!(attempts.may_begin(now, Hurry::No));
    }

    #[tokio::test]
    async fn a_task_that_breaks_takes_its_own_attempt_along_and_no_other() {
        let mut attempts = Attempts::default();
        let (one, two) = (task().await, task().await);
        attempts.begun(3, one);
        attempts.begun(4, two);
        let broken = attempts.of_task(one);
        assert_eq!(broken, Some(3));
        broken.into_iter().for_each(|at| attempts.over(at));
        assert_eq!(attempts.of_task(one), None);
        assert!(!attempts.include(3) && attempts.include(4));
    }
}
