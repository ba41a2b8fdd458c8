//! How much CPU time something has taken.

use std::fs;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::Result;

/// CPU time and switches, of a whole process.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// How often it went to sleep.
    pub(crate) waits: i64,
    /// The most memory it ever had.
    pub(crate) peak_kib: i64,
}

impl Cpu {
    /// What this process has taken so far.
    pub(crate) fn now() -> Result<Self> {
        let usage: Usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let us = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
        Ok(Self {
            user_us: us(usage.user_time()),
            system_us: us(usage.system_time()),
            waits: usage.voluntary_context_switches(),
            peak_kib: usage.max_rss(),
        })
    }

    /// What was taken since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user_us: self.user_us - before.user_us,
            system_us: self.system_us - before.system_us,
            waits: self.waits - before.waits,
            peak_kib: self.peak_kib,
        }
    }

    pub(crate) fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }
}

/// CPU time of this thread, in nanoseconds.
pub(crate) fn thread_ns() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// CPU time of another process, with all the threads it has and has had, in microseconds.
pub(crate) fn of_process(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let field = |at: usize| -> Result<f64> {
        Ok(fields.split_whitespace().nth(at).ok_or("too few fields in /proc/PID/stat")?.parse()?)
    };
    // utime and stime, in hundredths of a second.
    Ok((field(11)? + field(12)?) * 10_000.0)
}
