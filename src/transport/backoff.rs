//! How long to rest after a failure: exponential, with full jitter, so that a fleet whose backend
//! restarts does not come back in step.

use std::time::Duration;

/// A rest that doubles with each failure in a row.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

/// The longest first rest.
pub(crate) const FIRST: Duration = Duration::from_millis(200);
/// The longest rest during an outage that may pass soon: whoever comes back is found within it.
pub(crate) const SHORT: Duration = Duration::from_millis(1500);
/// The longest rest when an outage has lasted, or when only a human can end it.
pub(crate) const LONG: Duration = Duration::from_secs(10);

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST }
    }
}

impl Backoff {
    /// The next rest, for a fault that may pass soon.
    pub(crate) fn rest(&mut self) -> Duration {
        self.rest_within(SHORT)
    }

    /// The next rest: between a tenth of the ceiling, so that no two attempts follow at once, and
    /// the ceiling itself, which grows up to `longest`.
    pub(crate) fn rest_within(&mut self, longest: Duration) -> Duration {
        let rest = jittered(self.ceiling.min(longest));
        self.ceiling = (self.ceiling * 2).min(longest.max(FIRST));
        rest
    }

    /// Forgets the failures.
    pub(crate) fn reset(&mut self) {
        self.ceiling = FIRST;
    }
}

/// A time between a tenth of `ceiling` and all of it.
pub(super) fn jittered(ceiling: Duration) -> Duration {
    ceiling.mul_f64(0.1 + 0.9 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_the_last_and_start_again() {
        let mut backoff = Backoff::default();
        assert!((FIRST / 10..=FIRST).contains(&backoff.rest()));
        for _ in 0..20 {
            assert!(backoff.rest() <= SHORT);
        }
        assert_eq!(backoff.ceiling, SHORT);
        for _ in 0..20 {
            assert!(backoff.rest_within(LONG) <= LONG);
        }
        assert_eq!(backoff.ceiling, LONG);
        assert!(backoff.rest_within(SHORT) <= SHORT);
        backoff.reset();
        assert!(backoff.rest() <= FIRST);
    }

    #[test]
    fn a_bound_below_the_first_rest_holds() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            assert!(backoff.rest_within(FIRST / 4) <= FIRST / 4);
        }
    }
}
