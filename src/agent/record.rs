//! What a host can report, and how it becomes the message of a method.

use bytes::Bytes;
use prost::Message;

use super::voice::Voice;
use crate::error::{Code, Error, Result};
use crate::protocol::{METHODS, Method, Shape, v3};
use crate::trace;

/// Something to report. Names of service and instance, times and layers that are left empty are the
/// agent's to fill in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Record {
    /// A segment.
    Segment(Box<v3::SegmentObject>),
    /// A segment that was built here.
    Trace(Box<trace::Segment>),
    /// What was measured within a span.
    SpanEvent(Box<v3::SpanAttachedEvent>),
    /// A log line.
    Log(Box<v3::LogData>),
    /// The meters of one moment: the backend evaluates them as one unit.
    Meters(Vec<v3::MeterData>),
    /// Metrics of a JVM.
    Jvm(v3::JvmMetricCollection),
    /// Metrics of a CLR.
    Clr(v3::ClrMetricCollection),
    /// An event.
    Event(Box<v3::Event>),
    /// A snapshot of a thread under profiling.
    Snapshot(v3::ThreadSnapshot),
    /// The performance of a page.
    BrowserPerf(Box<v3::BrowserPerfData>),
    /// An error on a page.
    BrowserError(Box<v3::BrowserErrorLog>),
    /// Anything else, encoded already. Nothing is filled in.
    Encoded(Encoded),
}

/// An encoded message, and the method it is reported by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    route: Route,
    message: Bytes,
}

/// A method that takes reports: what a host looks up once rather than for each report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub(super) method: &'static Method,
    /// Where it stands in the table of methods.
    pub(super) at: usize,
}

/// The messages of one report: they are one stream, or share one with others if they may.
pub(super) struct Report {
    pub(super) route: Route,
    pub(super) messages: Messages,
    /// Each says by itself whose it is.
    pub(super) named: bool,
}

pub(super) enum Messages {
    One(Bytes),
    Many(Vec<Bytes>),
}

// === impl Route ===

impl Route {
    /// The method of this path, such as `/skywalking.v3.EventService/collect`.
    ///
    /// # Errors
    ///
    /// [`Code::NotAReport`] for methods that are unknown, dialogues, or asked for their answer.
    pub fn new(path: &str) -> Result<Self> {
        Self::find(path).filter(|route| is_report(route.method)).ok_or_else(|| {
            Error::new(Code::NotAReport).found(path).expected("the path of a report")
        })
    }

    fn find(path: &str) -> Option<Self> {
        let at = METHODS.binary_search_by(|method| method.path.cmp(path)).ok()?;
        Some(Self { method: METHODS.get(at)?, at })
    }
}

// === impl Encoded ===

impl Encoded {
    /// A message for the method of this path.
    ///
    /// # Errors
    ///
    /// See [`Route::new`].
    pub fn new(path: &str, message: impl Into<Bytes>) -> Result<Self> {
        Ok(Self { route: Route::new(path)?, message: message.into() })
    }
}

/// Whether a method takes records, and its answer says nothing that somebody waits for.
fn is_report(method: &Method) -> bool {
    match method.shape {
        Shape::ClientStream => true,
        Shape::Unary => {
            let name = method.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("collect")
        }
        Shape::Bidi => false,
    }
}

// === impl Record ===

impl Record {
    /// Fills in what is empty, and encodes.
    pub(super) fn report(self, voice: &Voice) -> Result<Report> {
        let fill = |text: &mut String, with: &str| {
            if text.is_empty() {
                with.clone_into(text);
            }
        };
        let names = |service: &mut String, instance: &mut String| {
            fill(service, &voice.service);
            fill(instance, &voice.instance);
        };
        match self {
            Self::Segment(mut segment) => {
                names(&mut segment.service, &mut segment.service_instance);
                one("/skywalking.v3.TraceSegmentReportService/collect", &*segment)
            }
            Self::Trace(segment) => Ok(Report {
                route: route("/skywalking.v3.TraceSegmentReportService/collect")?,
                messages: Messages::One(segment.finish()),
                named: true,
            }),
            Self::SpanEvent(event) => {
                one("/skywalking.v3.SpanAttachedEventReportService/collect", &*event)
            }
            Self::Log(mut log) => {
                names(&mut log.service, &mut log.service_instance);
                fill(&mut log.layer, &voice.layer);
                if log.timestamp == 0 {
                    log.timestamp = trace::now();
                }
                one("/skywalking.v3.LogReportService/collect", &*log)
            }
            Self::Meters(mut meters) => {
                // Only the first one says whose they are, as every agent has it.
                if let Some(first) = meters.first_mut() {
                    names(&mut first.service, &mut first.service_instance);
                    if first.timestamp == 0 {
                        first.timestamp = trace::now();
                    }
                }
                Ok(Report {
                    route: route("/skywalking.v3.MeterReportService/collect")?,
                    messages: Messages::Many(meters.iter().map(encode).collect()),
                    named: false,
                })
            }
            Self::Jvm(mut metrics) => {
                names(&mut metrics.service, &mut metrics.service_instance);
                one("/skywalking.v3.JVMMetricReportService/collect", &metrics)
            }
            Self::Clr(mut metrics) => {
                names(&mut metrics.service, &mut metrics.service_instance);
                one("/skywalking.v3.CLRMetricReportService/collect", &metrics)
            }
            Self::Event(mut event) => {
                let source = event.source.get_or_insert_default();
                names(&mut source.service, &mut source.service_instance);
                fill(&mut event.uuid, &trace::random_uuid());
                fill(&mut event.layer, &voice.layer_of_events());
                if event.start_time == 0 {
                    event.start_time = trace::now();
                }
                one("/skywalking.v3.EventService/collect", &*event)
            }
            Self::Snapshot(snapshot) => {
                one("/skywalking.v3.ProfileTask/collectSnapshot", &snapshot)
            }
            Self::BrowserPerf(mut data) => {
                fill(&mut data.service, &voice.service);
                one("/skywalking.v3.BrowserPerfService/collectPerfData", &*data)
            }
            Self::BrowserError(mut log) => {
                fill(&mut log.service, &voice.service);
                one("/skywalking.v3.BrowserPerfService/collectErrorLogs", &*log)
            }
            Self::Encoded(Encoded { route, message }) => {
                Ok(Report { route, messages: Messages::One(message), named: false })
            }
        }
    }
}

fn one(path: &str, message: &impl Message) -> Result<Report> {
    Ok(Report { route: route(path)?, messages: Messages::One(encode(message)), named: true })
}

/// A method that the protocol has.
fn route(path: &str) -> Result<Route> {
    Route::find(path).ok_or_else(|| Error::new(Code::Bug).found(path))
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

macro_rules! from {
    ($($from:ty => $variant:ident $(($box:ident))?;)*) => {$(
        impl From<$from> for Record {
            fn from(value: $from) -> Self {
                Self::$variant($($box::new)?(value))
            }
        }
    )*};
}

from! {
    v3::SegmentObject => Segment (Box);
    trace::Segment => Trace (Box);
    v3::SpanAttachedEvent => SpanEvent (Box);
    v3::LogData => Log (Box);
    Vec<v3::MeterData> => Meters;
    v3::JvmMetricCollection => Jvm;
    v3::ClrMetricCollection => Clr;
    v3::Event => Event (Box);
    v3::ThreadSnapshot => Snapshot;
    v3::BrowserPerfData => BrowserPerf (Box);
    v3::BrowserErrorLog => BrowserError (Box);
    Encoded => Encoded;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_of_the_protocol_can_be_made_and_nothing_else() {
        for method in METHODS {
            let asked = ["keepAlive", "report", "get", "query", "fetch"];
            let name = method.path.rsplit('/').next().unwrap();
            let reported =
                method.shape != Shape::Bidi && !asked.iter().any(|word| name.starts_with(word));
            assert_eq!(
                Encoded::new(method.path, Bytes::new()).is_ok(),
                reported,
                "{}",
                method.path
            );
        }
        let error = Encoded::new("/x.Y/collect", Bytes::new()).unwrap_err();
        assert_eq!(error.code(), Code::NotAReport);
    }
}
