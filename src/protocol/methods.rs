//! What there is to know about each gRPC method of the protocol before looking at a single message.
//!
//! It does not send, decode or queue anything. A path that is not in the table is not SkyWalking's.

use Kind::*;

/// How messages flow in a call. There is no method that only the server streams in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shape {
    /// One request, one answer.
    Unary,
    /// Any number of requests, one answer after the client has closed its side.
    ClientStream,
    /// Both sides talk, and each waits for the other.
    Bidi,
}

/// What a record is about: the unit by which memory is shared and losses are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Segments, and events attached to their spans.
    Trace,
    /// Log lines.
    Log,
    /// Meters of an agent's own.
    Meter,
    /// Runtime metrics of the JVM and the CLR.
    Metric,
    /// Events of services and instances.
    Event,
    /// Profiling tasks, snapshots and recordings, except those of eBPF.
    Profile,
    /// What web pages report.
    Browser,
    /// What Rover reports: processes, profiles, access logs.
    Ebpf,
    /// Metrics of a service mesh.
    Mesh,
    /// Instance properties and heartbeats.
    Management,
    /// Polls for dynamic configuration.
    Configuration,
}

/// How messages of a stream bind later ones, and so what a splitter, joiner or re-sender of streams
/// has to respect. The numbers are top-level fields of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sticky {
    /// Not at all: each message stands for itself.
    None,
    /// These fields of the first message hold for the later ones. A stream may be cut if they are
    /// put in front of the first message of the new one; two streams may be joined only if they
    /// agree on all of them.
    Head(&'static [u32]),
    /// As [`Sticky::Head`], but the backend evaluates a stream as one unit: it is never joined with
    /// another, and cut only where a bound is reached.
    Unit(&'static [u32]),
    /// These fields hold until a later message of the stream replaces them. Never joined; when cut,
    /// the values in force are put in front.
    Latest(&'static [u32]),
    /// The backend glues the messages of one stream together: never joined, and never cut but at
    /// the bound of memory.
    Whole,
}

/// What a relay answers while the backend is away. A stream of reports needs no such rule: it is taken
/// over in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Away {
    /// A report: it is queued, and answered with empty `Commands`.
    Queue,
    /// A sign of life: empty `Commands`. The latest one of each instance is told when the backend is
    /// back; older ones say nothing more.
    Latest,
    /// A question that is asked again and again: empty `Commands`, which is "nothing new".
    Nothing,
    /// Only the backend has the answer, and an invented one would mislead: UNAVAILABLE.
    Fail,
}

/// One method of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method {
    /// The path as it is on the wire, `/package.Service/method`.
    pub path: &'static str,
    /// How messages flow.
    pub shape: Shape,
    /// What its records are about.
    pub kind: Kind,
    /// Whether a record is sent again when it is not known to have arrived. Not for metrics: a
    /// window that is counted twice is worse than one that is missing. Not for calls whose answer
    /// belongs to whoever made them, who repeats them anyway.
    pub resend: bool,
    /// How the first message of a stream binds the later ones.
    pub sticky: Sticky,
    /// What a relay answers while the backend is away.
    pub away: Away,
}

/// The method with this path, if the protocol has it.
pub fn find(path: &str) -> Option<&'static Method> {
    let at = METHODS.binary_search_by(|m| m.path.cmp(path)).ok()?;
    METHODS.get(at)
}

// === impl Kind ===

impl Kind {
    /// All kinds, each at its own [`index`](Kind::index).
    pub const ALL: [Kind; 11] =
        [Trace, Log, Meter, Metric, Event, Profile, Browser, Ebpf, Mesh, Management, Configuration];

    /// The name as a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Trace => "trace",
            Log => "log",
            Meter => "meter",
            Metric => "metric",
            Event => "event",
            Profile => "profile",
            Browser => "browser",
            Ebpf => "ebpf",
            Mesh => "mesh",
            Management => "management",
            Configuration => "configuration",
        }
    }

    /// The place in [`Kind::ALL`], for tables with one slot per kind.
    pub fn index(self) -> usize {
        self as usize
    }
}

// === the table ===

/// All methods, sorted by path.
///
/// Paths without a package are the twins that agents from before the v3 names call. OAP serves them,
/// and one (cpp2sky) still lives off them. They behave like their v3 namesakes.
pub static METHODS: &[Method] = &[
    resent("/BrowserPerfService/collectErrorLogs", Browser),
    report("/BrowserPerfService/collectPerfData", Browser),
    report("/CLRMetricReportService/collect", Metric),
    report("/JVMMetricReportService/collect", Metric),
    sign("/ManagementService/keepAlive", Management),
    sign("/ManagementService/reportInstanceProperties", Management),
    once("/MeterReportService/collect", Meter).sticky(METER_HEAD),
    resent("/ProfileTask/collectSnapshot", Profile),
    poll("/ProfileTask/getProfileTaskCommands", Profile),
    report("/ProfileTask/reportTaskFinish", Profile).and_resent(),
    resent("/TraceSegmentReportService/collect", Trace),
    report("/TraceSegmentReportService/collectInSync", Trace).and_resent(),
    bidi("/skywalking.v10.AsyncProfilerTask/collect", Profile),
    poll("/skywalking.v10.AsyncProfilerTask/getAsyncProfilerTaskCommands", Profile),
    bidi("/skywalking.v10.PprofTask/collect", Profile),
    poll("/skywalking.v10.PprofTask/getPprofTaskCommands", Profile),
    resent("/skywalking.v3.BrowserPerfService/collectErrorLogs", Browser),
    report("/skywalking.v3.BrowserPerfService/collectPerfData", Browser),
    report("/skywalking.v3.BrowserPerfService/collectResourcePerfData", Browser),
    report("/skywalking.v3.BrowserPerfService/collectWebInteractionsPerfData", Browser),
    report("/skywalking.v3.BrowserPerfService/collectWebVitalsPerfData", Browser),
    report("/skywalking.v3.CLRMetricReportService/collect", Metric),
    poll("/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations", Configuration),
    poll("/skywalking.v3.ContinuousProfilingService/queryPolicies", Ebpf),
    // The answer is the task that the agent wants to begin.
    asked("/skywalking.v3.ContinuousProfilingService/reportProfilingTask", Ebpf),
    resent("/skywalking.v3.EBPFAccessLogService/collect", Ebpf).sticky(ACCESS_LOG_STATE),
    // Ids of processes that the backend has given out: the next one says it again.
    poll("/skywalking.v3.EBPFProcessService/keepAlive", Ebpf),
    // The answer is the ids of the processes.
    asked("/skywalking.v3.EBPFProcessService/reportProcesses", Ebpf),
    resent("/skywalking.v3.EBPFProfilingService/collectProfilingData", Ebpf).sticky(TASK_STATE),
    poll("/skywalking.v3.EBPFProfilingService/queryTasks", Ebpf),
    resent("/skywalking.v3.EventService/collect", Event),
    report("/skywalking.v3.JVMMetricReportService/collect", Metric),
    resent("/skywalking.v3.LogReportService/collect", Log).sticky(LOG_HEAD),
    sign("/skywalking.v3.ManagementService/keepAlive", Management),
    sign("/skywalking.v3.ManagementService/reportInstanceProperties", Management),
    once("/skywalking.v3.MeterReportService/collect", Meter).sticky(METER_HEAD),
    // Each message is a whole reading and has its own head.
    once("/skywalking.v3.MeterReportService/collectBatch", Meter),
    resent("/skywalking.v3.ProfileTask/collectSnapshot", Profile),
    poll("/skywalking.v3.ProfileTask/getProfileTaskCommands", Profile),
    // OAP glues the payloads of one stream together to one file.
    resent("/skywalking.v3.ProfileTask/goProfileReport", Profile).sticky(Sticky::Whole),
    report("/skywalking.v3.ProfileTask/reportTaskFinish", Profile).and_resent(),
    once("/skywalking.v3.ServiceMeshMetricService/collect", Mesh),
    resent("/skywalking.v3.SpanAttachedEventReportService/collect", Trace),
    resent("/skywalking.v3.TraceSegmentReportService/collect", Trace),
    // A report like the stream, for clients that cannot stream.
    report("/skywalking.v3.TraceSegmentReportService/collectInSync", Trace).and_resent(),
];

/// `LogData.service` and `serviceInstance`. OAP lets the first service of a stream win over all
/// later ones, so logs of two services in one stream would end up under one name.
const LOG_HEAD: Sticky = Sticky::Head(&[2, 3]);

/// `MeterData.service`, `serviceInstance` and `timestamp`.
const METER_HEAD: Sticky = Sticky::Unit(&[3, 4, 5]);

/// `EBPFAccessLogMessage.node` and `connection`.
const ACCESS_LOG_STATE: Sticky = Sticky::Latest(&[1, 2]);

/// `EBPFProfilingData.task`.
const TASK_STATE: Sticky = Sticky::Latest(&[1]);

/// A report that is a call, for agents that cannot stream or have just one message.
const fn report(path: &'static str, kind: Kind) -> Method {
    unary(path, kind, Away::Queue)
}

/// A call by which an agent says that it lives, and who it is.
const fn sign(path: &'static str, kind: Kind) -> Method {
    unary(path, kind, Away::Latest)
}

/// A call that asks for orders, again and again.
const fn poll(path: &'static str, kind: Kind) -> Method {
    unary(path, kind, Away::Nothing)
}

/// A call that cannot go on without the backend's answer.
const fn asked(path: &'static str, kind: Kind) -> Method {
    unary(path, kind, Away::Fail)
}

const fn unary(path: &'static str, kind: Kind, away: Away) -> Method {
    Method { path, shape: Shape::Unary, kind, resend: false, sticky: Sticky::None, away }
}

/// A dialogue between agent and backend that only the two of them can repeat.
const fn bidi(path: &'static str, kind: Kind) -> Method {
    Method { shape: Shape::Bidi, ..unary(path, kind, Away::Fail) }
}

/// A stream of records that are sent at most once.
const fn once(path: &'static str, kind: Kind) -> Method {
    Method { shape: Shape::ClientStream, ..unary(path, kind, Away::Queue) }
}

/// A stream of records that are sent until they have arrived.
const fn resent(path: &'static str, kind: Kind) -> Method {
    once(path, kind).and_resent()
}

impl Method {
    const fn and_resent(self) -> Method {
        Method { resend: true, ..self }
    }

    const fn sticky(self, sticky: Sticky) -> Method {
        Method { sticky, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_sorted_and_unique() {
        assert!(METHODS.windows(2).all(|pair| pair[0].path < pair[1].path));
        assert_eq!(METHODS.len(), 45);
    }

    #[test]
    fn every_method_is_found_by_its_path() {
        for method in METHODS {
            assert_eq!(find(method.path), Some(method));
        }
    }

    #[test]
    fn an_unknown_path_is_not_found() {
        for path in [
            "",
            "/",
            "skywalking.v3.EventService/collect",
            "/skywalking.v3.EventService",
            "/skywalking.v3.EventService/collect/",
            "/skywalking.v3.eventservice/collect",
            "/grpc.health.v1.Health/Check",
            "/zzz/collect",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn kinds_are_indexed_in_order_and_named_apart() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), i);
            assert!(kind.name().bytes().all(|b| b.is_ascii_lowercase()));
        }
        let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn every_kind_has_a_method() {
        for kind in Kind::ALL {
            assert!(METHODS.iter().any(|m| m.kind == kind), "{kind:?}");
        }
    }

    #[test]
    fn metrics_and_dialogues_are_never_resent() {
        for m in METHODS.iter().filter(|m| m.resend) {
            assert!(!matches!(m.kind, Meter | Metric | Mesh), "{}", m.path);
            assert!(m.shape != Shape::Bidi, "{}", m.path);
        }
    }

    #[test]
    fn only_streams_are_sticky() {
        for m in METHODS.iter().filter(|m| m.sticky != Sticky::None) {
            assert_eq!(m.shape, Shape::ClientStream, "{}", m.path);
        }
    }

    #[test]
    fn only_reports_are_queued_and_sent_again() {
        for m in METHODS.iter().filter(|m| m.away != Away::Queue) {
            assert!(!m.resend, "{}", m.path);
            assert_ne!(m.shape, Shape::ClientStream, "{}", m.path);
        }
    }

    #[test]
    fn twins_without_a_package_behave_like_their_namesakes() {
        for twin in METHODS.iter().filter(|m| !m.path.starts_with("/skywalking.")) {
            let path = format!("/skywalking.v3.{}", &twin.path[1..]);
            assert_eq!(find(&path), Some(&Method { path: find(&path).unwrap().path, ..*twin }));
        }
    }
}
