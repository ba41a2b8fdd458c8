//! How long to rest after a failure: exponential, with full jitter, so that a fleet whose backend
//! restarts does not come back in step.

use std::time::Duration;

/// A rest that doubles with each failure in a row.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(2);

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST }
    }
}

impl Backoff {
    /// The next rest: between a tenth of the ceiling, so that no two attempts follow at once, and
    /// the ceiling itself.
    pub(crate) fn rest(&mut self) -> Duration {
        let rest = self.ceiling.mul_f64(0.1 + 0.9 * fastrand::f64());
        self.ceiling = (self.ceiling * 2).min(LAST);
        rest
    }

    /// Forgets the failures.
    pub(crate) fn reset(&mut self) {
        self.ceiling = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_the_last_and_start_again() {
        let mut backoff = Backoff::default();
        assert!((FIRST / 10..=FIRST).contains(&backoff.rest()));
        for _ in 0..20 {
            assert!(backoff.rest() <= LAST);
        }
        assert_eq!(backoff.ceiling, LAST);
        backoff.reset();
        assert!(backoff.rest() <= FIRST);
    }
}
