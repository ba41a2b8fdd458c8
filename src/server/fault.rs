//! Faults to order: what a collector does wrong, for which calls and how often.
//!
//! It decides only; the call and the connection carry it out.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::error::{Code, Error, Result};

/// A fault, and the calls it strikes.
///
/// As text: the effect, then what limits it, in any order: `status=unavailable:every=3`,
/// `close-after=100:times=1`, `delay=200:method=LogReportService`.
///
/// ```
/// use skytls::server::{Effect, Fault};
/// let fault: Fault = "status=14:every=3:method=/collect".parse()?;
/// assert_eq!(fault.effect, Effect::Status { code: 14, after: 0 });
/// assert_eq!(fault.to_string(), "status=14:every=3:method=/collect");
/// # Ok::<(), skytls::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What goes wrong.
    pub effect: Effect,
    /// `every=N`: only every Nth of the calls it could strike; 1 is each of them.
    pub every: u64,
    /// `times=N`: so often at most, then it is over.
    pub times: Option<u64>,
    /// `method=PART`: only calls whose path contains this.
    pub method: Option<String>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// `status=CODE[:after=N|end]`: the call is answered with this gRPC status, a number or a name,
    /// after `after` messages, or at its end if that comes first. With 0, the default, at once and
    /// without reading anything; with `end` when everything has been taken in and counted.
    Status {
        /// 1 to 16.
        code: u8,
        /// Messages of this call; `u64::MAX` is `end`.
        after: u64,
    },
    /// `delay=MS`: the answer comes so much later.
    Delay(Duration),
    /// `reset-after=N`: the call is broken off by RST_STREAM after N of its messages.
    ResetAfter(u64),
    /// `close-after=N`: the connection is dropped without a word once N messages have come over it.
    CloseAfter(u64),
    /// `goaway-after=N`: the connection is asked to go away once N messages have come over it; calls
    /// under way may end.
    GoawayAfter(u64),
    /// `hang`: nothing of the call is read, and it is never answered.
    Hang,
    /// `slow=BYTES_PER_S`: the call is read at this speed, so that its window fills up.
    Slow(u64),
}

/// The faults in force.
#[derive(Debug)]
pub(super) struct Orders(RwLock<Arc<[Arc<Order>]>>);

/// A fault and how often it has struck.
#[derive(Debug)]
pub(super) struct Order {
    fault: Fault,
    seen: AtomicU64,
    struck: AtomicU64,
}

/// The names of the gRPC statuses, each at its number.
const STATUSES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

// === impl Fault ===

impl Fault {
    /// A fault that strikes every call.
    pub fn new(effect: Effect) -> Self {
        Self { effect, every: 1, times: None, method: None }
    }

    /// An answer with this gRPC status, at once.
    pub fn status(code: u8) -> Self {
        Self::new(Effect::Status { code, after: 0 })
    }

    /// Only every nth of the calls; 0 means 1.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        self.every = n.max(1);
        self
    }

    /// So often at most.
    #[must_use]
    pub fn times(mut self, n: u64) -> Self {
        self.times = Some(n);
        self
    }

    /// Only calls whose path contains `part`.
    #[must_use]
    pub fn on(mut self, part: impl Into<String>) -> Self {
        self.method = Some(part.into());
        self
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':').map(|part| match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (part.trim(), None),
        });
        let (name, value) = parts.next().unwrap_or_default();
        let bad = |expected: &str| Error::new(Code::Usage).found(text).expected(expected);
        let number = |value: Option<&str>, least: u64| {
            value
                .and_then(|value| value.parse().ok())
                .filter(|n| *n >= least)
                .ok_or_else(|| bad(&format!("a whole number from {least}")))
        };
        let effect = match name {
            "status" => Effect::Status {
                code: value
                    .and_then(status_code)
                    .ok_or_else(|| bad("a gRPC status from 1 to 16 or its name"))?,
                after: 0,
            },
            "delay" => Effect::Delay(Duration::from_millis(number(value, 0)?)),
            "reset-after" => Effect::ResetAfter(number(value, 0)?),
            "close-after" => Effect::CloseAfter(number(value, 0)?),
            "goaway-after" => Effect::GoawayAfter(number(value, 0)?),
            "hang" if value.is_none() => Effect::Hang,
            "slow" => Effect::Slow(number(value, 1)?),
            _ => {
                return Err(bad("status=CODE, delay=MS, reset-after=N, close-after=N, \
                     goaway-after=N, hang or slow=BYTES_PER_S"));
            }
        };
        let mut fault = Self::new(effect);
        for (name, value) in parts {
            match (name, value, &mut fault.effect) {
                ("every", value, _) => fault.every = number(value, 1)?,
                ("times", value, _) => fault.times = Some(number(value, 0)?),
                ("method", Some(part), _) if !part.is_empty() => fault.method = Some(part.into()),
                ("after", Some("end"), Effect::Status { after, .. }) => *after = u64::MAX,
                ("after", value, Effect::Status { after, .. }) => *after = number(value, 0)?,
                _ => return Err(bad("every=N, times=N, method=PART, or after=N with status")),
            }
        }
        Ok(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.effect {
            Effect::Status { code, after: 0 } => write!(f, "status={code}"),
            Effect::Status { code, after: u64::MAX } => write!(f, "status={code}:after=end"),
            Effect::Status { code, after } => write!(f, "status={code}:after={after}"),
            Effect::Delay(time) => write!(f, "delay={}", time.as_millis()),
            Effect::ResetAfter(n) => write!(f, "reset-after={n}"),
            Effect::CloseAfter(n) => write!(f, "close-after={n}"),
            Effect::GoawayAfter(n) => write!(f, "goaway-after={n}"),
            Effect::Hang => f.write_str("hang"),
            Effect::Slow(rate) => write!(f, "slow={rate}"),
        }?;
        if self.every != 1 {
            write!(f, ":every={}", self.every)?;
        }
        if let Some(times) = self.times {
            write!(f, ":times={times}")?;
        }
        if let Some(method) = &self.method {
            write!(f, ":method={method}")?;
        }
        Ok(())
    }
}

fn status_code(text: &str) -> Option<u8> {
    let code = match text.parse() {
        Ok(code) => code,
        Err(_) => {
            let at = STATUSES.iter().position(|name| name.eq_ignore_ascii_case(text))?;
            u8::try_from(at).ok()?
        }
    };
    (1..=16).contains(&code).then_some(code)
}

// === impl Orders ===

impl Orders {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self(RwLock::new(orders(faults)))
    }

    pub(super) fn replace(&self, faults: Vec<Fault>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = orders(faults);
    }

    /// The orders that the next call of this method is under.
    pub(super) fn for_call(&self, path: &str) -> Vec<Arc<Order>> {
        let orders = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        orders.iter().filter(|order| order.concerns(path)).cloned().collect()
    }
}

fn orders(faults: Vec<Fault>) -> Arc<[Arc<Order>]> {
    let order =
        |fault| Arc::new(Order { fault, seen: AtomicU64::new(0), struck: AtomicU64::new(0) });
    faults.into_iter().map(order).collect()
}

// === impl Order ===

impl Order {
    pub(super) fn effect(&self) -> Effect {
        self.fault.effect
    }

    /// Uses up one of the allowed times; false when there is none left.
    pub(super) fn strike(&self) -> bool {
        let Some(times) = self.fault.times else { return true };
        let more = |struck: u64| (struck < times).then_some(struck + 1);
        self.struck.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn concerns(&self, path: &str) -> bool {
        let Fault { every, times, method, .. } = &self.fault;
        if method.as_ref().is_some_and(|part| !path.contains(part.as_str())) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Relaxed) + 1;
        seen.is_multiple_of((*every).max(1))
            && times.is_none_or(|times| self.struck.load(Relaxed) < times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_reads_and_prints_the_same() {
        for text in [
            "status=14",
            "status=8:after=3:every=2",
            "status=13:after=end:times=1:method=LogReportService",
            "delay=250",
            "reset-after=0",
            "close-after=7:times=2",
            "goaway-after=9",
            "hang:every=5",
            "slow=1024:method=/skywalking.v3",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!("status=UNAVAILABLE".parse::<Fault>().unwrap(), Fault::status(14));
        assert_eq!(
            "hang : method=/x : times=1 : every=2".parse::<Fault>().unwrap(),
            Fault::new(Effect::Hang).every(2).times(1).on("/x")
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for text in [
            "",
            "status",
            "status=0",
            "status=17",
            "status=ok",
            "status=x",
            "delay",
            "delay=-1",
            "slow=0",
            "hang=1",
            "reset-after=",
            "crash",
            "hang:every=0",
            "hang:after=1",
            "delay=1:method=",
            "delay=1:",
            "status=1:every",
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert_eq!(error.code(), Code::Usage, "{text}");
            assert!(error.get(crate::error::Fact::Expected).is_some(), "{text}");
        }
    }

    #[test]
    fn every_nth_call_of_the_method_is_concerned() {
        let orders = Orders::new(vec![Fault::status(14).every(3).on("Log")]);
        let hits: Vec<bool> = (0..9).map(|_| !orders.for_call("/Log/x").is_empty()).collect();
        assert_eq!(hits, [false, false, true, false, false, true, false, false, true]);
        assert!((0..9).all(|_| orders.for_call("/Event/x").is_empty()));
    }

    #[test]
    fn a_fault_is_over_when_it_has_struck_often_enough() {
        let orders = Orders::new(vec![Fault::new(Effect::Hang).times(2)]);
        for _ in 0..2 {
            assert!(orders.for_call("/x")[0].strike());
        }
        assert!(orders.for_call("/x").is_empty());
        orders.replace(vec![Fault::new(Effect::Hang).times(1)]);
        let (one, two) = (orders.for_call("/x"), orders.for_call("/x"));
        assert!(one[0].strike());
        assert!(!two[0].strike());
    }
}
