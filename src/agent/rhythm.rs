//! When a duty is due: at a fixed rate while all is well, and soon again after a failure.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::error::{Chain, Code, Error};
use crate::transport::{EVER, Transport};

/// The times of one duty.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// What it is called in the log.
    name: &'static str,
    period: Duration,
    next: Instant,
    /// The rest after the next failure, before its share of chance.
    rest: Duration,
    /// What failed last, while it does.
    complaint: Option<Code>,
}

/// The rest after a first failure; it doubles up to the period.
const FIRST_REST: Duration = Duration::from_millis(500);

// === impl Rhythm ===

impl Rhythm {
    /// Due for the first time in `first`.
    pub(super) fn new(name: &'static str, first: Duration, period: Duration) -> Self {
        let period = period.min(EVER);
        let next = Instant::now() + first.min(EVER);
        Self { name, period, next, rest: FIRST_REST, complaint: None }
    }

    /// Waits until the duty is due and there is a link; `false` at the end of the transport.
    pub(super) async fn due(&self, transport: &Transport) -> bool {
        sleep_until(self.next).await;
        transport.ready().await.is_ok()
    }

    /// All is well: due again after the period.
    pub(super) fn succeeded(&mut self) {
        if self.complaint.take().is_some() {
            log::info!("{}: the backend answers again", self.name);
        }
        self.pass();
    }

    /// Due again soon.
    pub(super) fn failed(&mut self, error: &Error) {
        if self.complaint.replace(error.code()) != Some(error.code()) {
            log::warn!("{}: {}", self.name, Chain(error));
        }
        self.rest_from(Instant::now());
    }

    /// Nothing to do this time: due again after the period.
    pub(super) fn pass(&mut self) {
        self.pass_at(Instant::now());
    }

    /// At a fixed rate; but what was missed is not made up for.
    fn pass_at(&mut self, now: Instant) {
        self.rest = FIRST_REST;
        self.next += self.period;
        if self.next <= now {
            self.next = now + self.period;
        }
    }

    /// Between half and all of the rest, so that a fleet does not come back in step.
    fn rest_from(&mut self, now: Instant) {
        self.next = now + self.rest.min(self.period).mul_f64(0.5 + 0.5 * fastrand::f64());
        self.rest = (self.rest * 2).min(self.period.max(FIRST_REST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rhythm(period: u64) -> Rhythm {
        Rhythm::new("a duty", Duration::ZERO, Duration::from_secs(period))
    }

    #[test]
    fn the_rate_is_fixed_and_what_was_missed_is_not_made_up_for() {
        let mut rhythm = rhythm(30);
        let start = rhythm.next;
        rhythm.pass_at(start + Duration::from_secs(4));
        assert_eq!(rhythm.next, start + Duration::from_secs(30));
        let late = start + Duration::from_secs(600);
        rhythm.pass_at(late);
        assert_eq!(rhythm.next, late + Duration::from_secs(30));
    }

    #[test]
    fn a_failure_is_followed_by_growing_rests_up_to_the_period() {
        let mut rhythm = rhythm(3);
        let now = rhythm.next;
        for longest in [500, 1000, 2000, 3000, 3000] {
            rhythm.rest_from(now);
            let (rest, longest) = (rhythm.next - now, Duration::from_millis(longest));
            assert!(rest >= longest / 2 && rest <= longest, "{rest:?} of {longest:?}");
        }
        rhythm.pass_at(now);
        rhythm.rest_from(now);
        assert!(rhythm.next - now <= FIRST_REST);
    }
}
