//! Hands records in one at a time, at a fixed rate.
//!
//! It spins, since sleeping would cost more than most of what is measured; what it spins is taken off the bill.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crate::Result;
use crate::cpu;

/// A call that took longer was interrupted: the machine has other things to do.
const INTERRUPTED: Duration = Duration::from_micros(100);

/// What pacing has cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Paced {
    /// CPU time of this thread besides the calls, in microseconds.
    pub(crate) idle_us: f64,
    /// Calls that came later than they were due, since this thread was held up.
    pub(crate) late: u64,
}

/// Calls `hand_in` so many times a second.
pub(crate) fn pace(
    rate: u32,
    count: u64,
    mut hand_in: impl FnMut() -> Result<()>,
) -> Result<Paced> {
    let period = Duration::from_secs(1) / rate;
    let thread = cpu::thread_ns()?;
    let mut paced = Paced::default();
    let mut calls = Duration::ZERO;
    let mut due = Instant::now();
    for _ in 0..count {
        due += period;
        let mut begun = Instant::now();
        if begun > due {
            // What was missed is not made up for: two at a time would be something else.
            paced.late += 1;
            due = begun;
        }
        while begun < due {
            spin_loop();
            begun = Instant::now();
        }
        hand_in()?;
        calls += begun.elapsed().min(INTERRUPTED);
    }
    let thread = (cpu::thread_ns()? - thread) as f64 / 1000.0;
    paced.idle_us = (thread - calls.as_secs_f64() * 1e6).max(0.0);
    Ok(paced)
}
