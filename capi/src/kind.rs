//! The kinds of records, and the method each is reported by.

use std::ffi::c_int;

use skytls::agent::Route;
use skytls::error::{Code, Error, Result};

/// A SegmentObject.
pub const SKYTLS_SEGMENT: c_int = 1;
/// A LogData. OAP takes service and instance from the first log of a stream: set both in each.
pub const SKYTLS_LOG: c_int = 2;
/// A MeterData with service, instance and time.
pub const SKYTLS_METER: c_int = 3;
/// A MeterDataCollection: meters that belong to one reading.
pub const SKYTLS_METER_BATCH: c_int = 4;
/// A JVMMetricCollection.
pub const SKYTLS_JVM_METRIC: c_int = 5;
/// A CLRMetricCollection.
pub const SKYTLS_CLR_METRIC: c_int = 6;
/// An Event.
pub const SKYTLS_EVENT: c_int = 7;
/// A ThreadSnapshot of a profiling task.
pub const SKYTLS_PROFILE_SNAPSHOT: c_int = 8;
/// A SpanAttachedEvent.
pub const SKYTLS_SPAN_ATTACHED_EVENT: c_int = 9;
/// A BrowserPerfData.
pub const SKYTLS_BROWSER_PERF: c_int = 10;
/// A BrowserErrorLog.
pub const SKYTLS_BROWSER_ERROR: c_int = 11;

const KINDS: usize = 11;

const PATHS: [(c_int, &str); KINDS] = [
    (SKYTLS_SEGMENT, "/skywalking.v3.TraceSegmentReportService/collect"),
    (SKYTLS_LOG, "/skywalking.v3.LogReportService/collect"),
    (SKYTLS_METER, "/skywalking.v3.MeterReportService/collect"),
    (SKYTLS_METER_BATCH, "/skywalking.v3.MeterReportService/collectBatch"),
    (SKYTLS_JVM_METRIC, "/skywalking.v3.JVMMetricReportService/collect"),
    (SKYTLS_CLR_METRIC, "/skywalking.v3.CLRMetricReportService/collect"),
    (SKYTLS_EVENT, "/skywalking.v3.EventService/collect"),
    (SKYTLS_PROFILE_SNAPSHOT, "/skywalking.v3.ProfileTask/collectSnapshot"),
    (SKYTLS_SPAN_ATTACHED_EVENT, "/skywalking.v3.SpanAttachedEventReportService/collect"),
    (SKYTLS_BROWSER_PERF, "/skywalking.v3.BrowserPerfService/collectPerfData"),
    (SKYTLS_BROWSER_ERROR, "/skywalking.v3.BrowserPerfService/collectErrorLogs"),
];

/// A number of the header, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind(usize);

/// The method of each kind, in the order of the kinds.
pub(crate) struct Routes([Route; KINDS]);

// === impl Routes ===

impl Routes {
    pub(crate) fn new() -> Result<Self> {
        let (_, first) = PATHS[0];
        let mut routes = [Route::new(first)?; KINDS];
        for (route, (_, path)) in routes.iter_mut().zip(PATHS) {
            *route = Route::new(path)?;
        }
        Ok(Self(routes))
    }

    /// The method of a kind.
    pub(crate) fn of(&self, kind: Kind) -> Result<Route> {
        self.0.get(kind.0).copied().ok_or_else(|| Error::new(Code::Bug))
    }
}

// === impl Kind ===

impl Kind {
    pub(crate) fn new(kind: c_int) -> Result<Self> {
        match usize::try_from(kind) {
            Ok(number @ 1..=KINDS) => Ok(Self(number - 1)),
            _ => {
                let error = Error::new(Code::BadArgument).key("kind").found(kind);
                Err(error.expected("a SKYTLS_… of the header"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_method_of_its_own() {
        let routes = Routes::new().unwrap();
        for (at, (number, path)) in PATHS.into_iter().enumerate() {
            assert_eq!(usize::try_from(number), Ok(at + 1));
            assert_eq!(routes.of(Kind::new(number).unwrap()).unwrap(), Route::new(path).unwrap());
        }
        for other in [0, 12, -1, c_int::MIN, c_int::MAX] {
            assert_eq!(Kind::new(other).unwrap_err().code(), Code::BadArgument);
        }
    }
}
