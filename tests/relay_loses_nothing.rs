//! What goes wrong behind the relay costs no record that may be sent again, counts none twice that
//! must not be, and leaves the books in balance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;

use std::collections::BTreeSet;
use std::time::Duration;

use grpc_client::{Client, SEGMENTS, framed, request};
use relay_fixture::{DEADLINE, Fixture, assert_balanced};
use skytls::server::{Collector, Effect, Fault};

const BATCHES: &str = "/skywalking.v3.MeterReportService/collectBatch";

/// Reports numbered records, many to a stream.
async fn report(client: &mut Client, path: &str, records: std::ops::Range<u32>) {
    let chunks = records.map(|number| framed(&number.to_be_bytes()));
    let reply = client.call(request(path, &[]), chunks).await.unwrap();
    assert_eq!(reply.status, Some(0), "{:?}", reply.message);
}

fn numbers(fixture: &Fixture, path: &str) -> BTreeSet<u32> {
    let number = |data: &[u8]| u32::from_be_bytes(data.try_into().unwrap());
    fixture.seen(path).iter().map(|seen| number(&seen.data)).collect()
}

#[test]
fn connections_that_break_in_the_middle_lose_no_segment() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        fixture.set_faults(vec![Fault::new(Effect::CloseAfter(700)).times(5)]);
        let mut client = Client::plain(fixture.address()).await;
        for batch in 0..50 {
            report(&mut client, SEGMENTS, batch * 100..(batch + 1) * 100).await;
        }
        let books = fixture.settled().await.total;
        assert_eq!((books.accepted, books.acknowledged), (5000, 5000));
        assert!(books.possibly_duplicated > 0, "{books:?}");
        assert_eq!(numbers(&fixture, SEGMENTS).len(), 5000);
        assert!(fixture.collector().counts().connections >= 6);
    });
}

#[test]
fn statuses_that_pass_lose_no_segment() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        // UNAVAILABLE, RESOURCE_EXHAUSTED, PERMISSION_DENIED, INTERNAL, in turn.
        let faults = [14, 8, 7, 13].map(|code| Fault::status(code).times(1));
        fixture.set_faults(faults.into());
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..500).await;
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.total()), (500, 0));
        assert_eq!(numbers(&fixture, SEGMENTS).len(), 500);
    });
}

#[test]
fn an_answer_in_the_middle_of_a_stream_loses_no_segment() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        fixture.set_faults(vec![Fault::new(Effect::Status { code: 14, after: 7 }).times(8)]);
        let mut client = Client::plain(fixture.address()).await;
        for batch in 0..40 {
            report(&mut client, SEGMENTS, batch * 100..(batch + 1) * 100).await;
        }
        let books = fixture.settled().await.total;
        assert_eq!((books.accepted, books.acknowledged), (4000, 4000));
        assert_eq!(numbers(&fixture, SEGMENTS).len(), 4000);
    });
}

#[test]
fn goaway_loses_nothing_and_doubles_nothing() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for batch in 0..20 {
            report(&mut client, SEGMENTS, batch * 50..(batch + 1) * 50).await;
            if batch % 5 == 2 {
                fixture.collector().goaway();
            }
        }
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.possibly_duplicated), (1000, 0));
        assert_eq!(fixture.seen(SEGMENTS).len(), 1000);
    });
}

#[test]
fn metrics_that_may_have_arrived_are_dropped_and_counted() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        fixture.set_faults(vec![Fault::new(Effect::CloseAfter(3)).times(1)]);
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, BATCHES, 0..3).await;
        let books = fixture.settled().await.total;
        assert_eq!((books.accepted, books.dropped.not_resent), (3, 3));
        report(&mut client, BATCHES, 3..6).await;
        let books = fixture.settled().await.total;
        assert_eq!((books.accepted, books.acknowledged, books.possibly_duplicated), (6, 3, 0));
        assert_eq!(fixture.seen(BATCHES).len(), 6, "none was sent twice");
    });
}

#[test]
fn metrics_wait_for_a_link_that_is_down() {
    let mut fixture = Fixture::new();
    let address = fixture.collector().address();
    let collector = fixture.collector.take().unwrap();
    fixture.runtime.block_on(collector.shutdown(Duration::ZERO));
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        // The connection that was cut is noticed when the state says so.
        let mut transport = fixture.engine.as_ref().unwrap().transport().clone();
        while matches!(transport.state(), skytls::transport::State::Ready(_)) {
            transport.changed().await;
        }
        report(&mut client, BATCHES, 0..10).await;
        report(&mut client, SEGMENTS, 0..10).await;
        assert_eq!(fixture.books().total.pending, 20, "answered while the backend is away");
    });
    let settings = fixture.collector_again(address);
    fixture.collector = Some(fixture.runtime.block_on(Collector::start(settings)).unwrap());
    fixture.runtime.block_on(async {
        fixture.until(|counts| counts.received == 20).await;
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.total()), (20, 0));
    });
}

#[test]
fn a_record_that_is_refused_for_good_does_not_hold_the_others_up() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        // UNIMPLEMENTED for everything but logs: nothing else is ever taken.
        fixture.set_faults(vec![Fault::status(12).on("Trace")]);
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..64).await;
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.rejected), (0, 64));
    });
}

#[test]
fn a_backend_that_hangs_is_given_up_and_the_records_are_sent_again() {
    let fixture = Fixture::with(&[("collector.grpc_upstream_timeout", "1")], |_| {});
    fixture.runtime.block_on(async {
        fixture.set_faults(vec![Fault::new(Effect::Hang).times(1)]);
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..100).await;
        let books = fixture.settled().await.total;
        assert_eq!(books.acknowledged, 100);
        // All of them, unless the client paused and they were two streams.
        assert!((1..=100).contains(&books.possibly_duplicated), "{books:?}");
    });
}

#[test]
fn a_large_record_over_a_slow_link_arrives_at_the_first_attempt() {
    // 12 MB at 3 MB/s take twice the time that the backend may be without progress.
    let fixture = Fixture::with(&[("collector.grpc_upstream_timeout", "2")], |_| {});
    fixture.runtime.block_on(async {
        fixture.set_faults(vec![Fault::new(Effect::Slow(3_000_000))]);
        let mut client = Client::plain(fixture.address()).await;
        let record = framed(&vec![7_u8; 12_000_000]);
        let reply = client.call(request(SEGMENTS, &[]), [record]).await.unwrap();
        assert_eq!(reply.status, Some(0));
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.possibly_duplicated), (1, 0), "{books:?}");
    });
}

#[test]
fn a_full_queue_slows_the_agent_down_and_drops_nothing() {
    let settings = [("buffer.max_bytes", "65536"), ("collector.grpc_upstream_timeout", "60")];
    let fixture = Fixture::with(&settings, |_| {});
    fixture.runtime.block_on(async {
        // Nothing is answered until the faults are lifted.
        fixture.set_faults(vec![Fault::new(Effect::Hang)]);
        let mut client = Client::plain(fixture.address()).await;
        let call = client.open(request(SEGMENTS, &[]));
        let payload = vec![0_u8; 8 * 1024];
        // The windows between client and relay hold a few megabytes; then sending has to wait.
        let sending = tokio::spawn(async move {
            for _ in 0..4096 {
                call.send.send(framed(&payload)).await.unwrap();
            }
            call.finish().await.unwrap()
        });
        // Memory stays bounded while the agent is held back.
        let wait = tokio::time::timeout(Duration::from_millis(500), async {
            loop {
                assert!(fixture.books().total.pending_bytes <= 65536);
                assert!(!sending.is_finished());
                tokio::task::yield_now().await;
            }
        });
        assert!(wait.await.is_err());
        fixture.set_faults(Vec::new());
        fixture.collector().disconnect();
        assert_eq!(sending.await.unwrap().status, Some(0));
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.total(), books.refused), (4096, 0, 0));
    });
}

#[test]
fn small_records_are_slowed_down_too() {
    let settings = [("buffer.max_bytes", "65536"), ("collector.grpc_upstream_timeout", "60")];
    let fixture = Fixture::with(&settings, |_| {});
    fixture.runtime.block_on(async {
        fixture.set_faults(vec![Fault::new(Effect::Hang)]);
        let mut client = Client::plain(fixture.address()).await;
        let call = client.open(request(SEGMENTS, &[]));
        // One frame each: more than h2 lets lie unread on a connection with small windows.
        let sending = tokio::spawn(async move {
            for number in 0..50_000_u32 {
                call.send.send(framed(&number.to_be_bytes())).await.unwrap();
            }
            call.finish().await.unwrap()
        });
        while fixture.books().total.pending < 300 {
            tokio::task::yield_now().await;
        }
        fixture.set_faults(Vec::new());
        fixture.collector().disconnect();
        assert_eq!(sending.await.unwrap().status, Some(0));
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.total()), (50_000, 0));
    });
}

#[test]
fn a_stop_delivers_what_is_pending_and_says_what_was_left() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..1000).await;
    });
    assert_eq!(fixture.stop(DEADLINE), 0);

    let fixture = Fixture::new();
    fixture.set_faults(vec![Fault::new(Effect::Hang)]);
    let uplink = fixture.engine.as_ref().unwrap().uplink().clone();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..1000).await;
    });
    assert_eq!(fixture.stop(Duration::from_millis(200)), 1000);
    let books = uplink.books();
    assert_eq!(books.total.dropped.shutdown, 1000);
    assert_balanced(&books);
}
