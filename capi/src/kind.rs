//! The kinds of records, and the method each is reported by.

use std::ffi::c_int;

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

const PATHS: [(c_int, &str); 11] = [
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

/// The path of the method of a kind.
pub(crate) fn path_of(kind: c_int) -> Result<&'static str> {
    let path = PATHS.iter().find(|(number, _)| *number == kind).map(|(_, path)| *path);
    path.ok_or_else(|| {
        Error::new(Code::BadArgument).key("kind").found(kind).expected("a SKYTLS_… of the header")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytls::agent::Encoded;

    #[test]
    fn every_kind_has_a_method_of_its_own() {
        for (at, (number, path)) in PATHS.into_iter().enumerate() {
            assert_eq!(usize::try_from(number), Ok(at + 1));
            assert_eq!(path_of(number).unwrap(), path);
            assert!(Encoded::new(path, "").is_ok());
        }
        for other in [0, 12, -1, c_int::MIN, c_int::MAX] {
            assert_eq!(path_of(other).unwrap_err().code(), Code::BadArgument);
        }
    }
}
