//! Every kind of record, typed or encoded, arrives by its method, with the agent's names where the host left
//! them out; and reporting never waits, whoever reports and whatever the backend does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent_fixture;

use std::time::{Duration, Instant};

use agent_fixture::{DEADLINE, Fixture, SEGMENTS, nowhere, settings};
use prost::Message;
use skytls::Agent;
use skytls::agent::{Encoded, Host, Record};
use skytls::error::Code;
use skytls::protocol::v3::*;
use skytls::transport::{BackendState, State};

const LOGS: &str = "/skywalking.v3.LogReportService/collect";
const METERS: &str = "/skywalking.v3.MeterReportService/collect";
const JVM: &str = "/skywalking.v3.JVMMetricReportService/collect";

fn records() -> Vec<(&'static str, Record)> {
    let meter = |time| MeterData { timestamp: time, ..MeterData::default() };
    vec![
        (SEGMENTS, SegmentObject::default().into()),
        (
            "/skywalking.v3.SpanAttachedEventReportService/collect",
            SpanAttachedEvent::default().into(),
        ),
        (LOGS, LogData::default().into()),
        (METERS, vec![meter(0), meter(0)].into()),
        (JVM, JvmMetricCollection::default().into()),
        ("/skywalking.v3.CLRMetricReportService/collect", ClrMetricCollection::default().into()),
        (
            "/skywalking.v3.EventService/collect",
            Event { name: "Deploy".into(), ..Event::default() }.into(),
        ),
        ("/skywalking.v3.ProfileTask/collectSnapshot", ThreadSnapshot::default().into()),
        ("/skywalking.v3.BrowserPerfService/collectPerfData", BrowserPerfData::default().into()),
        ("/skywalking.v3.BrowserPerfService/collectErrorLogs", BrowserErrorLog::default().into()),
        (
            "/skywalking.v3.MeterReportService/collectBatch",
            Encoded::new("/skywalking.v3.MeterReportService/collectBatch", &b"\x0a\x00"[..])
                .unwrap()
                .into(),
        ),
    ]
}

#[test]
fn every_kind_arrives_by_its_method_with_the_agents_names() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&[], Host::new("rust").layer("MESH"));
    for (path, record) in records() {
        agent.try_report(record).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert_eq!(agent.flush(DEADLINE).wait(), 0, "{:?}", agent.status());
    let seen = |path: &str| fixture.seen(path).last().cloned().unwrap_or_else(|| panic!("{path}"));
    for (path, _) in records() {
        seen(path);
    }
    let own = ("shop", agent.instance());
    let segment: SegmentObject = seen(SEGMENTS).decode();
    assert_eq!((&*segment.service, &*segment.service_instance), own);
    let log: LogData = seen(LOGS).decode();
    assert_eq!((&*log.service, &*log.service_instance, &*log.layer), (own.0, own.1, "MESH"));
    assert!(log.timestamp > 1_700_000_000_000);
    let meters: Vec<MeterData> = fixture.seen(METERS).iter().map(|seen| seen.decode()).collect();
    assert_eq!((&*meters[0].service, &*meters[0].service_instance), own);
    assert!(meters[0].timestamp > 1_700_000_000_000);
    assert_eq!(meters[1], MeterData::default(), "only the first of a stream says whose it is");
    let jvm: JvmMetricCollection = seen(JVM).decode();
    assert_eq!((&*jvm.service, &*jvm.service_instance), own);
    let event: Event = seen("/skywalking.v3.EventService/collect").decode();
    let source = event.source.unwrap();
    assert_eq!(
        (&*source.service, &*source.service_instance, &*event.layer),
        (own.0, own.1, "MESH")
    );
    assert_eq!((event.uuid.len(), &*event.name), (36, "Deploy"));
}

#[test]
fn names_of_the_hosts_own_are_kept_and_never_mixed() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&[], Host::new("rust"));
    for number in 0..30 {
        let service = ["one", "two", ""][number % 3];
        agent.report(LogData { service: service.into(), ..LogData::default() });
    }
    let encoded = LogData { endpoint: "/e".into(), ..LogData::default() }.encode_to_vec();
    agent.report(Encoded::new(LOGS, encoded).unwrap());
    assert_eq!(agent.flush(DEADLINE).wait(), 0);
    let logs = fixture.seen(LOGS);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut services = std::collections::HashMap::<u64, String>::new();
    for seen in &logs {
        let log: LogData = seen.decode();
        *counts.entry(log.service.clone()).or_default() += 1;
        // A backend lets the first name of a stream win.
        let first = services.entry(seen.call).or_insert_with(|| log.service.clone());
        assert_eq!(*first, log.service);
    }
    let expected = [("", 1), ("one", 10), ("shop", 10), ("two", 10)];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected.map(|(s, n)| (s.to_owned(), n)));
}

#[test]
fn a_unary_report_is_one_call_each() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&[], Host::new("rust"));
    for _ in 0..20 {
        agent.report(JvmMetricCollection::default());
    }
    assert_eq!(agent.flush(DEADLINE).wait(), 0);
    let calls: std::collections::HashSet<u64> =
        fixture.seen(JVM).iter().map(|seen| seen.call).collect();
    assert_eq!((calls.len(), fixture.seen(JVM).len()), (20, 20));
    assert_eq!(fixture.collector.counts().calls_refused, 0);
}

#[test]
fn what_finds_no_room_is_refused_at_once_or_takes_the_oldest_ones_place() {
    let small = [("buffer.channel_size", "1"), ("buffer.buffer_size", "3")];
    let agent = Agent::start(&settings(&nowhere(), &small)).unwrap();
    let report = || agent.try_report(agent.segment());
    for _ in 0..3 {
        report().unwrap();
    }
    let begun = Instant::now();
    for _ in 0..1000 {
        assert_eq!(report().unwrap_err().code(), Code::QueueFull);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let books = agent.status().books;
    assert_eq!((books.by_kind["trace"].accepted, books.by_kind["trace"].refused), (3, 1000));

    let oldest = [small[0], small[1], ("buffer.on_full", "drop_oldest")];
    let agent = Agent::start(&settings(&nowhere(), &oldest)).unwrap();
    for _ in 0..10 {
        agent.try_report(agent.segment()).unwrap();
    }
    let trace = agent.status().books.by_kind["trace"];
    assert_eq!((trace.accepted, trace.pending, trace.dropped.displaced), (10, 3, 7));
}

#[test]
fn the_oldest_do_not_give_way_to_a_record_that_finds_no_room_all_the_same() {
    const LIMIT: usize = 100_000;
    let limit = LIMIT.to_string();
    let oldest = [("buffer.max_bytes", &*limit), ("buffer.on_full", "drop_oldest")];
    let segment = |length| Encoded::new(SEGMENTS, vec![b'x'; length]).unwrap().into();
    let log = |length| {
        let text = TextLog { text: "x".repeat(length) };
        let content = Some(log_data_body::Content::Text(text));
        let body = Some(LogDataBody { content, ..LogDataBody::default() });
        LogData { body, ..LogData::default() }.into()
    };
    // One goes straight into its lane, the other through a stream whose messages lean on one another.
    let kinds: [(&str, &dyn Fn(usize) -> Record); 2] = [("trace", &segment), ("log", &log)];
    for (kind, record) in kinds {
        let agent = Agent::start(&settings(&nowhere(), &oldest)).unwrap();
        let books = || agent.status().books.by_kind[kind];
        for _ in 0..50 {
            agent.try_report(record(1000)).unwrap();
        }
        assert_eq!(agent.try_report(record(LIMIT)).unwrap_err().code(), Code::QueueFull, "{kind}");
        assert_eq!((books().pending, books().refused, books().dropped.displaced), (50, 1, 0));
        // One that is large, but finds room, is worth it.
        agent.try_report(record(LIMIT / 2)).unwrap();
        assert!(books().pending < 51 && books().dropped.displaced > 0, "{kind}: {:?}", books());
    }
}

#[test]
fn async_code_and_plain_threads_report_and_wait_alike() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&[], Host::new("rust"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| agent.report(agent.segment())));
        }
    });
    // Another runtime than the agent's, with a single thread.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let left = runtime.block_on(async {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let agent = agent.clone();
                tokio::spawn(async move { agent.report(agent.segment()) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // Even where blocking is not allowed.
        agent.flush(DEADLINE).await + agent.flush(DEADLINE).wait()
    });
    assert_eq!((left, fixture.seen(SEGMENTS).len()), (0, 204));
    assert!(matches!(agent.status().state, State::Ready(_)), "{:?}", agent.status());
    let backends = agent.status().backends;
    assert!(matches!(&backends[..], [one] if matches!(one.state, BackendState::InUse)));
    let mut link = agent.link().unwrap();
    let ended = runtime.spawn(async move {
        while !matches!(link.state(), State::Stopped) {
            link.changed().await;
        }
    });
    assert_eq!(runtime.block_on(agent.shutdown(DEADLINE)), 0);
    runtime.block_on(ended).unwrap();
    assert_eq!(agent.shutdown(DEADLINE).wait(), 0, "the second one has nothing to do");
    assert!(matches!(agent.status().state, State::Stopped), "{:?}", agent.status());
    assert_eq!(agent.status().books.total.pending, 0);
}

#[test]
fn what_a_shutdown_cannot_deliver_is_told_and_dropping_never_waits() {
    let agent = Agent::start(&settings(&nowhere(), &[])).unwrap();
    agent.report(agent.segment());
    // The segment and the start event; without a link there is no shutdown event.
    assert_eq!(agent.shutdown(Duration::from_millis(50)).wait(), 2);
    assert_eq!(agent.status().books.total.dropped.shutdown, 2);

    let agent = Agent::start(&settings(&nowhere(), &[])).unwrap();
    agent.report(agent.segment());
    let flush = agent.flush(DEADLINE);
    let begun = Instant::now();
    drop(agent);
    assert_eq!(flush.wait(), 2, "whoever waits for an agent that is gone is told");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
