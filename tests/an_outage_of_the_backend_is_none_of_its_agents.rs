//! While the backend is away the relay answers in its place: no report is lost, no heartbeat fails, and
//! what the backend has to know it learns when it is back. The table is in `docs/outage.md`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use grpc_client::{Client, EMPTY, KEEP_ALIVE, PPROF, SEGMENTS, framed, request};
use relay_fixture::{DEADLINE, Fixture};
use skytls::protocol::{Away, METHODS, Method, Shape};
use skytls::relay::StandIn;
use skytls::server::{Collector, Effect, Fault};
use support::process::Skytls;

const PROPERTIES: &str = "/skywalking.v3.ManagementService/reportInstanceProperties";
const JVM: &str = "/skywalking.v3.JVMMetricReportService/collect";
const IN_SYNC: &str = "/skywalking.v3.TraceSegmentReportService/collectInSync";
const POLICIES: &str = "/skywalking.v3.ContinuousProfilingService/queryPolicies";
const PROCESSES: &str = "/skywalking.v3.EBPFProcessService/reportProcesses";
/// How long the relay waits for an answer, here one second instead of thirty.
const PATIENCE: (&str, &str) = ("collector.grpc_upstream_timeout", "1");

/// `InstancePingPkg` as well as the head of `InstanceProperties`, with a mark at the end.
fn sign(service: &str, instance: &str, mark: u8) -> Bytes {
    let mut data = Vec::new();
    for (tag, text) in [(0x0a, service), (0x12, instance), (0x1a, "GENERAL")] {
        data.extend([tag, u8::try_from(text.len()).unwrap()]);
        data.extend(text.as_bytes());
    }
    // Field 2000, which nobody knows.
    data.extend([0x82, 0x7d, 0x01, mark]);
    data.into()
}

fn unary() -> impl Iterator<Item = &'static Method> {
    METHODS.iter().filter(|method| method.shape == Shape::Unary)
}

fn stand_in(fixture: &Fixture) -> StandIn {
    fixture.relay.as_ref().unwrap().stand_in()
}

/// Ends the backend, and the link with it.
async fn kill(fixture: &mut Fixture) -> SocketAddr {
    let backend = fixture.collector.take().unwrap();
    let address = backend.address();
    drop(backend);
    let mut transport = fixture.engine.as_ref().unwrap().transport().clone();
    let down = async {
        while !matches!(transport.state(), skytls::transport::State::Resting { .. }) {
            transport.changed().await;
        }
    };
    tokio::time::timeout(DEADLINE, down).await.unwrap();
    address
}

async fn restart(fixture: &mut Fixture, address: SocketAddr) {
    let started = async {
        loop {
            match Collector::start(fixture.collector_again(address)).await {
                Ok(collector) => return collector,
                // The port of one that was dropped is closed a moment later.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    fixture.collector = Some(tokio::time::timeout(DEADLINE, started).await.unwrap());
}

/// A runtime of the test's own, so that the fixture can be changed meanwhile.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

#[test]
fn calls_are_answered_and_the_backend_is_told_afterwards() {
    let mut fixture = Fixture::new();
    runtime().block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        let address = kill(&mut fixture).await;
        for method in unary() {
            let reply = client.call(request(method.path, &[]), [framed(b"")]).await.unwrap();
            if method.away == Away::Fail {
                assert_eq!(reply.status, Some(14), "{}", method.path);
                assert!(reply.message.unwrap().contains("SKT-"), "{}", method.path);
            } else {
                assert_eq!((reply.status, &reply.data[..]), (Some(0), EMPTY), "{}", method.path);
            }
        }
        let count = |away| unary().filter(|method| method.away == away).count() as u64;
        let (reports, asked) = (count(Away::Queue), count(Away::Fail));
        let done = stand_in(&fixture);
        assert_eq!((done.away, done.outages, done.queued, done.refused), (true, 1, reports, asked));
        assert_eq!(done.answered, unary().count() as u64 - asked);
        restart(&mut fixture, address).await;
        let signs = count(Away::Latest);
        fixture.until(|counts| counts.received >= reports + signs).await;
        let books = fixture.settled().await;
        assert_eq!(books.total.acknowledged, reports + signs, "{books:?}");
        for method in unary() {
            let told = matches!(method.away, Away::Queue | Away::Latest);
            // One keep-alive passed before.
            let before = usize::from(method.path == KEEP_ALIVE);
            assert_eq!(
                fixture.seen(method.path).len(),
                usize::from(told) + before,
                "{}",
                method.path
            );
        }
        assert_eq!((stand_in(&fixture).away, stand_in(&fixture).replayed), (false, signs));
    });
}

#[test]
fn of_each_instance_the_latest_sign_of_life_is_told_with_its_own_metadata() {
    let mut fixture = Fixture::new();
    runtime().block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        let address = kill(&mut fixture).await;
        for mark in 1..=9 {
            for (service, instance, token) in [("a", "1", "x"), ("a", "2", "x"), ("b", "1", "y")] {
                let metadata = [("authentication", token)];
                for path in [KEEP_ALIVE, PROPERTIES] {
                    let message = framed(&sign(service, instance, mark));
                    let reply = client.call(request(path, &metadata), [message]).await.unwrap();
                    assert_eq!((reply.status, &reply.data[..]), (Some(0), EMPTY));
                }
            }
        }
        restart(&mut fixture, address).await;
        fixture.until(|counts| counts.received >= 6).await;
        fixture.settled().await;
        for (path, before) in [(KEEP_ALIVE, 1), (PROPERTIES, 0)] {
            let mut seen: Vec<_> = fixture.seen(path).split_off(before);
            seen.sort_by(|one, other| one.data.cmp(&other.data));
            let told: Vec<_> = seen.iter().map(|seen| seen.data.clone()).collect();
            assert_eq!(told, [sign("a", "1", 9), sign("a", "2", 9), sign("b", "1", 9)], "{path}");
            let tokens: Vec<_> = seen.iter().map(|seen| &seen.metadata["authentication"]).collect();
            assert_eq!(tokens, ["x", "x", "y"], "{path}");
        }
        assert_eq!(stand_in(&fixture).answered, 54);
    });
}

#[test]
fn a_backend_that_was_never_there_is_away_too() {
    let settings = [("collector.backend_service", "127.0.0.1:1")];
    let fixture = Fixture::with(&settings, |_| {});
    runtime().block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        assert_eq!(client.report(JVM, 1).await.status, Some(0));
        assert_eq!(client.report(PROCESSES, 1).await.status, Some(14));
        assert_eq!(fixture.books().total.pending, 1);
    });
}

#[test]
fn a_call_whose_fate_is_unknown_is_repeated_by_the_rule_of_its_kind() {
    let fixture = Fixture::with(&[PATIENCE], |_| {});
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        fixture.set_faults(vec![Fault::new(Effect::Hang)]);
        // Side by side, or the link would be known to hang when the second one is made.
        let calls = [KEEP_ALIVE, JVM, IN_SYNC, POLICIES].map(|path| {
            let call = client.open(request(path, &[]));
            async move {
                call.send.send(framed(path.as_bytes())).await.unwrap();
                call.finish().await.unwrap()
            }
        });
        let [alive, jvm, in_sync, policies] = calls;
        let replies = tokio::join!(alive, jvm, in_sync, policies);
        for reply in [replies.0, replies.1, replies.2, replies.3] {
            assert_eq!((reply.status, &reply.data[..]), (Some(0), EMPTY), "{:?}", reply.message);
        }
        let done = stand_in(&fixture);
        assert_eq!((done.answered, done.queued, done.not_resent), (4, 1, 1));
        fixture.set_faults(Vec::new());
        fixture.until(|counts| counts.by_method.get(IN_SYNC) == Some(&1)).await;
        fixture.until(|counts| counts.by_method.get(KEEP_ALIVE) == Some(&2)).await;
        fixture.settled().await;
        assert!(fixture.seen(JVM).is_empty(), "counted twice is worse than not at all");
    });
}

#[test]
fn an_agent_with_a_deadline_of_its_own_is_answered_within_it() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        fixture.set_faults(vec![Fault::new(Effect::Hang)]);
        let short = request(KEEP_ALIVE, &[("grpc-timeout", "2S")]);
        let call = client.call(short, [framed(b"m")]);
        let reply = tokio::time::timeout(Duration::from_secs(2), call).await.unwrap().unwrap();
        assert_eq!(reply.status, Some(0));
    });
}

#[test]
fn unavailable_is_an_outage_and_other_answers_are_the_backends_own() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for (code, answered) in [(14, 0), (7, 7), (8, 8), (13, 13), (12, 12), (16, 16)] {
            fixture.set_faults(vec![Fault::status(code)]);
            let reply = client.report(KEEP_ALIVE, 1).await;
            assert_eq!(reply.status, Some(answered), "status {code}: {:?}", reply.message);
        }
        fixture.set_faults(Vec::new());
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        let done = stand_in(&fixture);
        assert_eq!((done.away, done.outages, done.answered, done.replayed), (false, 1, 1, 1));
    });
}

#[test]
fn a_report_that_finds_no_room_is_not_said_to_be_taken() {
    let settings =
        [("collector.backend_service", "127.0.0.1:1"), ("buffer.max_bytes", "1000"), PATIENCE];
    let fixture = Fixture::with(&settings, |_| {});
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let message = framed(&[7; 600]);
        let reply = client.call(request(JVM, &[]), [message.clone()]).await.unwrap();
        assert_eq!(reply.status, Some(0));
        let reply = client.call(request(JVM, &[]), [message]).await.unwrap();
        assert_eq!(reply.status, Some(8), "RESOURCE_EXHAUSTED");
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0), "this needs no room");
    });
}

#[test]
fn a_dialogue_ends_with_a_status_and_can_be_opened_again() {
    let mut fixture = Fixture::new();
    runtime().block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let call = client.open(request(PPROF, &[]));
        call.send.send(framed(b"meta")).await.unwrap();
        let (send, response) = call.answered().await.unwrap();
        let address = kill(&mut fixture).await;
        let reply = grpc_client::Reply::read(response).await.unwrap();
        assert_eq!(reply.status, Some(14), "{:?}", reply.message);
        drop(send);
        assert_eq!(client.report(PPROF, 1).await.status, Some(14), "while it is away");
        restart(&mut fixture, address).await;
        fixture.engine.as_ref().unwrap().transport().ready().await.unwrap();
        assert_eq!(client.report(PPROF, 1).await.status, Some(0), "the same connection");
        assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
    });
}

#[test]
fn an_outage_is_said_once_and_so_is_its_end() {
    let backend = Skytls::new(["collector", "--listen", "127.0.0.1:0"]).start();
    let address = listening(&backend.line("listening on "));
    let mut relay = Skytls::new(["run"]);
    for pair in ["relay.listen=127.0.0.1:0", &format!("collector.backend_service={address}")] {
        relay = relay.arg("--set").arg(pair);
    }
    let relay = relay.start();
    let local = listening(&relay.line("listening on "));
    let backend = runtime().block_on(async {
        let mut client = Client::plain(local).await;
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        backend.terminate();
        backend.finish().expect_code(0);
        for _ in 0..20 {
            assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        }
        let listen = address.to_string();
        let backend = Skytls::new(["collector", "--listen", &listen]).start();
        relay.line("the backend is back");
        backend
    });
    // The backend stays until the relay has stopped: it takes the sign of life that is told on its return.
    relay.terminate();
    let said = relay.finish().expect_code(0).stderr;
    backend.terminate();
    backend.finish().expect_code(0);
    assert_eq!(said.matches("the backend is away").count(), 1, "{said}");
    assert_eq!(said.matches("the backend is back").count(), 1, "{said}");
}

fn listening(line: &str) -> SocketAddr {
    line.trim_start_matches("listening on ").trim().parse().unwrap()
}
