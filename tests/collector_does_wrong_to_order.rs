//! Each fault that can be ordered of the collector happens, to the calls it was ordered for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;

use std::time::{Duration, Instant};

use bytes::Bytes;
use grpc_client::*;
use skytls::server::{Collector, CollectorSettings, Counts, Effect, Fault};

async fn start(faults: &[&str]) -> (Collector, Client) {
    let settings = CollectorSettings {
        faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
        stream_window: 65_535,
        ..CollectorSettings::default()
    };
    let collector = Collector::start(settings).await.unwrap();
    let client = Client::plain(collector.address()).await;
    (collector, client)
}

async fn sent(call: &Call, messages: usize) {
    for _ in 0..messages {
        call.send.send(framed(b"message")).await.unwrap();
    }
}

async fn reaches(collector: &Collector, condition: impl Fn(&Counts) -> bool + Send) {
    let reached = collector.wait_for(condition, DEADLINE).await;
    assert!(reached, "{:?}", collector.counts());
}

#[tokio::test]
async fn a_status_comes_at_once_and_for_every_nth_call() {
    let (collector, mut client) = start(&["status=unavailable:every=3"]).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let reply = client.report(SEGMENTS, 1).await;
        assert_eq!(reply.trailers_only, reply.status == Some(14));
        statuses.extend(reply.status);
    }
    assert_eq!(statuses, [0, 0, 14, 0, 0, 14]);
    let counts = collector.counts();
    assert_eq!((counts.received, counts.calls_ok, counts.calls_refused), (4, 4, 2));
}

#[tokio::test]
async fn a_status_comes_after_so_many_messages_or_at_the_end() {
    let (collector, mut client) =
        start(&["status=8:after=2:method=Log", "status=13:after=end"]).await;
    let call = client.open(request(LOGS, &[]));
    sent(&call, 2).await;
    // The client has not ended its side.
    let (_send, response) = call.answered().await.unwrap();
    assert_eq!(Reply::read(response).await.unwrap().status, Some(8));
    assert_eq!(collector.counts().by_method[LOGS], 2);

    assert_eq!(client.report(LOGS, 1).await.status, Some(8), "the call ended before");
    assert_eq!(client.report(SEGMENTS, 50).await.status, Some(13));
    assert_eq!(client.report(PPROF, 50).await.status, Some(13));
    let counts = collector.counts();
    assert_eq!((counts.by_method[SEGMENTS], counts.by_method[PPROF]), (50, 50));
    assert_eq!((counts.calls_ok, counts.calls_refused), (0, 4));
}

#[tokio::test]
async fn an_answer_is_delayed() {
    let (_collector, mut client) = start(&["delay=60:method=Log"]).await;
    for (path, messages) in [(LOGS, 1), (LOGS, 0)] {
        let begun = Instant::now();
        assert_eq!(client.report(path, messages).await.status, Some(0));
        assert!(begun.elapsed() >= Duration::from_millis(60));
    }
}

#[tokio::test]
async fn a_call_is_reset_after_so_many_messages_and_the_connection_goes_on() {
    let (collector, mut client) = start(&["reset-after=3:times=2"]).await;
    for path in [SEGMENTS, PPROF] {
        let call = client.open(request(path, &[]));
        sent(&call, 3).await;
        let broken = match call.finish().await {
            Err(error) => error,
            Ok(reply) => panic!("{reply:?}"),
        };
        assert!(!broken.is_canceled() && !broken.is_closed(), "{broken:?}");
    }
    reaches(&collector, |counts| counts.calls_broken == 2).await;
    assert_eq!(collector.counts().received, 6);
    assert_eq!(client.report(SEGMENTS, 9).await.status, Some(0), "two times are over");
    assert_eq!(collector.counts().connections, 1);
}

#[tokio::test]
async fn the_connection_is_dropped_after_so_many_messages() {
    let (collector, mut client) = start(&["close-after=5:times=1"]).await;
    assert_eq!(client.report(EVENTS, 3).await.status, Some(0));
    // All in one chunk: what comes after the fifth is not counted.
    let chunk: Bytes = framed(b"message").repeat(10).into();
    assert!(client.call(request(SEGMENTS, &[]), [chunk]).await.is_err());
    let _ = tokio::time::timeout(DEADLINE, client.connection).await.unwrap();
    reaches(&collector, |counts| counts.calls_broken == 1 && counts.open_connections == 0).await;
    assert_eq!(collector.counts().received, 5);

    let mut client = Client::plain(collector.address()).await;
    assert_eq!(client.report(SEGMENTS, 10).await.status, Some(0));
    assert_eq!(collector.counts().received, 15);
}

#[tokio::test]
async fn a_connection_asked_to_go_away_ends_its_calls_and_begins_no_more() {
    let (collector, mut client) = start(&["goaway-after=2:times=1"]).await;
    let call = client.open(request(SEGMENTS, &[]));
    sent(&call, 4).await;
    assert_eq!(call.finish().await.unwrap().status, Some(0));
    tokio::time::timeout(DEADLINE, &mut client.connection).await.unwrap().unwrap().unwrap();
    assert!(client.call(request(EVENTS, &[]), []).await.is_err());

    let mut client = Client::plain(collector.address()).await;
    assert_eq!(client.report(SEGMENTS, 4).await.status, Some(0));
    assert_eq!(client.report(SEGMENTS, 4).await.status, Some(0));
    let counts = collector.counts();
    assert_eq!((counts.received, counts.calls_ok, counts.connections), (12, 3, 2));
}

#[tokio::test]
async fn a_hanging_call_is_neither_read_nor_answered() {
    let (collector, mut client) = start(&["hang:times=1"]).await;
    let call = client.open(request(SEGMENTS, &[]));
    let chunk = framed(&[7; 16_000]);
    let endless = async { while call.send.send(chunk.clone()).await.is_ok() {} };
    let stuck = tokio::time::timeout(Duration::from_millis(50), endless).await;
    assert!(stuck.is_err(), "the window must fill up");
    assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0), "other calls are served");
    assert_eq!(collector.counts().received, 1);
    call.cancel().await;
    reaches(&collector, |counts| counts.calls_broken == 1).await;
}

#[tokio::test]
async fn a_slow_call_takes_its_time() {
    let (collector, mut client) = start(&["slow=1000000"]).await;
    let begun = Instant::now();
    let chunks = (0..10).map(|_| framed(&[7; 10_000]));
    assert_eq!(client.call(request(SEGMENTS, &[]), chunks).await.unwrap().status, Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
    assert_eq!(collector.counts().received, 10);
}

#[tokio::test]
async fn faults_change_at_run_time() {
    let (collector, mut client) = start(&[]).await;
    assert_eq!(client.report(EVENTS, 1).await.status, Some(0));
    collector.set_faults(vec![
        Fault::status(8).on("Event"),
        Fault::new(Effect::ResetAfter(0)).on("Log"),
    ]);
    assert_eq!(client.report(EVENTS, 1).await.status, Some(8));
    assert!(client.call(request(LOGS, &[]), []).await.is_err());
    assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
    collector.set_faults(Vec::new());
    assert_eq!(client.report(EVENTS, 1).await.status, Some(0));
}

#[tokio::test]
async fn all_connections_are_cut_or_asked_to_go_away_on_request() {
    let (collector, mut cut) = start(&[]).await;
    let call = cut.open(request(SEGMENTS, &[]));
    sent(&call, 1).await;
    reaches(&collector, |counts| counts.received == 1).await;
    collector.disconnect();
    assert!(call.finish().await.is_err());

    let mut asked = Client::plain(collector.address()).await;
    let call = asked.open(request(SEGMENTS, &[]));
    sent(&call, 1).await;
    reaches(&collector, |counts| counts.received == 2).await;
    collector.goaway();
    sent(&call, 1).await;
    assert_eq!(call.finish().await.unwrap().status, Some(0));
    tokio::time::timeout(DEADLINE, asked.connection).await.unwrap().unwrap().unwrap();

    let mut fresh = Client::plain(collector.address()).await;
    assert_eq!(fresh.report(EVENTS, 1).await.status, Some(0));
    assert_eq!(collector.counts().open_connections, 1);
}
