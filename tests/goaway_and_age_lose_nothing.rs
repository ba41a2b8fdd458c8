//! A backend that asks its clients to go away, and connections that reach their age, cost no record:
//! what is under way ends, the rest goes over the next connection. What a backend says it has not looked
//! at is sent again even if it must not be counted twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod raw_http2;
mod transport_fixture;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use h2::Reason;
use outage_fixture::*;
use raw_http2::{Answer, Server};
use skytls::protocol::find;
use skytls::uplink::Account;

#[tokio::test]
async fn a_dozen_goaways_cost_no_meter() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let address = [backend.address()];
    let mut link = Link::with(&settings(&address, &[]), targets_of(&address), received);
    link.feed();
    for round in 1..=12 {
        link.report(METERS, 20).await;
        served(&link.transport).await;
        backend.goaway();
        let begun = Instant::now();
        counted(&backend, |counts| counts.connections > round).await;
        // One pause for each: its ceiling grows from 0.2 s to 1.5 s, for no connection holds five seconds.
        let limit = Duration::from_secs(if round == 1 { 1 } else { 2 });
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
    }
    let books = link.everything_arrived().await;
    assert_eq!(books.total.possibly_duplicated, 0, "{books:?}");
}

#[tokio::test]
async fn a_connection_that_has_reached_its_age_is_replaced_while_it_works() {
    let received = Received::default();
    let (one, two) = (received.collector(any()).await, received.collector(any()).await);
    let all = [one.address(), two.address()];
    let settings = settings(&all, &[("collector.connection_max_age", "1")]);
    let mut link = Link::with(&settings, targets_of(&all), received);
    link.feed();
    // The next one is chosen at random: both get their turn.
    for backend in [&one, &two] {
        counted(backend, |counts| counts.received > 0 && counts.connections >= 2).await;
    }
    let books = link.everything_arrived().await;
    assert_eq!(books.total.possibly_duplicated, 0, "{books:?}");
    assert_eq!(one.counts().calls_broken + two.counts().calls_broken, 0);
}

#[tokio::test]
async fn what_was_refused_unread_is_sent_again_though_it_must_not_be_counted_twice() {
    for server in [refusing(Reason::REFUSED_STREAM).await, Server::going_away().await] {
        let books = ten_meters(&server).await;
        assert_eq!((books.accepted, books.acknowledged), (10, 10), "{books:?}");
        assert_eq!(books.possibly_duplicated, 0, "{books:?}");
    }
}

#[tokio::test]
async fn what_was_broken_off_otherwise_is_not() {
    let books = ten_meters(&refusing(Reason::INTERNAL_ERROR).await).await;
    assert_eq!(books.acknowledged + books.dropped.not_resent, 10, "{books:?}");
    assert!(books.dropped.not_resent > 0, "{books:?}");
}

/// Breaks the first call off for this reason.
async fn refusing(reason: Reason) -> Server {
    Server::start(100, move |call| if call == 0 { Answer::Reset(reason) } else { Answer::Ok }).await
}

async fn ten_meters(server: &Server) -> Account {
    assert!(!find(METERS).unwrap().resend);
    let address = [server.address];
    let link = Link::with(&settings(&address, &[]), targets_of(&address), Received::default());
    within(link.transport.ready()).await.unwrap();
    link.report(METERS, 10).await;
    assert_eq!(link.uplink.flush(DEADLINE).await, 0);
    link.uplink.books().total
}

#[tokio::test]
async fn a_backend_that_takes_one_call_at_a_time_gets_one_at_a_time() {
    let server = Server::start(1, |_| Answer::Ok).await;
    let address = [server.address];
    let mut link = Link::with(&settings(&address, &[]), targets_of(&address), Received::default());
    // The first SETTINGS frame says so; a call before it would not know.
    served(&link.transport).await;
    link.feed();
    for _ in 0..5 {
        link.report(METERS, 10).await;
        within(keep_alive(&link.transport)).await.unwrap();
    }
    link.stop_feeding().await;
    assert_eq!(link.uplink.flush(DEADLINE).await, 0);
    let books = link.uplink.books().total;
    assert_eq!((books.acknowledged, books.dropped.total()), (books.accepted, 0), "{books:?}");
    assert_eq!(server.most.load(SeqCst), 1);
}
