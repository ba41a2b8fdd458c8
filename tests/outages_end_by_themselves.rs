//! Whatever happens to the backend or to the way there, the link comes back by itself in a stated time,
//! and what was accepted arrives. The times stand in `docs/reconnecting.md`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod transport_fixture;

use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::error::Code;
use skytls::server::{Collector, CollectorSettings, Effect, Fault};
use skytls::transport::State;

/// Within this time after the backend is back, records flow again.
const RECOVERY: Duration = Duration::from_secs(2);
/// So long a silent backend is waited for, here one second instead of thirty.
const PATIENCE: (&str, &str) = ("collector.grpc_upstream_timeout", "1");
/// How long after the patience the silence is noticed at the latest: a stream that is fed all the time
/// is open for a second before it is the backend's turn, and so is the one before it.
const NOTICE: Duration = Duration::from_secs(3);

async fn recovered(link: &Link, since: Instant, limit: Duration) {
    link.received.fresh().await;
    let taken = since.elapsed();
    assert!(taken < limit, "{taken:?}");
}

async fn rests(link: &Link) {
    until(&link.transport, |state| matches!(state, State::Resting { .. })).await;
}

#[tokio::test]
async fn a_backend_that_is_killed_and_started_again() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let address = backend.address();
    let settings = settings(&[address], &[]);
    let mut link = Link::with(&settings, targets_of(&[address]), received.clone());
    link.feed();
    received.fresh().await;
    drop(backend);
    rests(&link).await;
    let _backend = received.collector(address).await;
    recovered(&link, Instant::now(), RECOVERY).await;
    link.everything_arrived().await;
}

#[tokio::test]
async fn a_port_that_is_closed_for_a_while_gets_one_attempt_for_each_rest() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let cable = Cable::to(backend.address()).await;
    let mut link =
        Link::with(&settings(&[cable.address], &[]), targets_of(&[cable.address]), received);
    link.feed();
    link.received.fresh().await;
    let before = cable.accepted().len();
    cable.set(Manner::Resets);
    // As many rests as are begun within seven seconds, counted by their ends.
    let mut transport = link.transport.clone();
    let mut ends = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        if let State::Resting { until, .. } = transport.state()
            && ends.last() != Some(&until)
        {
            ends.push(until);
        }
        let _ = tokio::time::timeout(Duration::from_secs(2), transport.changed()).await;
    }
    let attempts = cable.accepted().len() - before;
    // The first rest follows the lost connection, not an attempt.
    assert!(attempts <= ends.len(), "{attempts} attempts in {} rests", ends.len());
    assert!(attempts >= 5, "{attempts} attempts in {} rests", ends.len());
    cable.set(Manner::Passes);
    recovered(&link, Instant::now(), RECOVERY).await;
    link.everything_arrived().await;
}

/// `SKYTLS_RESTARTS` says how many; two hundred take five minutes, since the rests grow up to 1.5 s: no connection
/// holds for five seconds.
#[tokio::test]
async fn restarts_in_a_row() {
    let rounds = std::env::var("SKYTLS_RESTARTS").map_or(30, |number| number.parse().unwrap());
    let received = Received::default();
    let mut backend = received.collector(any()).await;
    let address = backend.address();
    let mut link = Link::with(&settings(&[address], &[]), targets_of(&[address]), received.clone());
    link.feed();
    for round in 0..rounds {
        served(&link.transport).await;
        // Every third time it is killed, else stopped in an orderly way.
        if round % 3 == 0 {
            drop(backend);
        } else {
            backend.shutdown(Duration::from_millis(20)).await;
        }
        backend = within(async {
            loop {
                match Collector::start(received.settings(address)).await {
                    Ok(backend) => return backend,
                    // The port of one that was dropped is closed a moment later.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
    }
    received.fresh().await;
    let books = link.everything_arrived().await;
    assert!(books.total.accepted >= rounds, "{books:?}");
}

#[tokio::test]
async fn a_connection_reset_in_the_middle_of_a_stream() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let cable = Cable::to(backend.address()).await;
    let mut link =
        Link::with(&settings(&[cable.address], &[]), targets_of(&[cable.address]), received);
    link.feed();
    for _ in 0..5 {
        link.received.fresh().await;
        cable.set(Manner::Resets);
        rests(&link).await;
        cable.set(Manner::Passes);
        recovered(&link, Instant::now(), RECOVERY).await;
    }
    link.everything_arrived().await;
}

#[tokio::test]
async fn a_way_that_swallows_everything() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let cable = Cable::to(backend.address()).await;
    let spare = received.collector(any()).await;
    let settings = settings(&[cable.address], &[PATIENCE]);
    let mut link = Link::with(&settings, targets_of(&[cable.address]), received);
    link.feed();
    link.received.fresh().await;
    // A second way, used only when the first one is given up.
    let both = targets_of(&[cable.address, spare.address()]);
    let generation = link.transport.replace(both, Duration::from_secs(5));
    within(link.transport.retired_before(generation)).await;
    link.received.fresh().await;
    // The one that was in use stays so.
    assert_eq!(spare.counts().connections, 0);
    cable.set(Manner::BlackHole);
    let begun = Instant::now();
    counted(&spare, |counts| counts.received > 0).await;
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(1) + NOTICE, "{taken:?}");
    link.everything_arrived().await;
}

#[tokio::test]
async fn a_backend_that_hangs() {
    let received = Received::default();
    let hung = received.collector(any()).await;
    let settings = settings(&[hung.address()], &[PATIENCE]);
    let mut link = Link::with(&settings, targets_of(&[hung.address()]), received);
    link.feed();
    link.received.fresh().await;
    hung.set_faults(vec![Fault::new(Effect::Hang)]);
    let begun = Instant::now();
    let is_silent = |state: &State| matches!(state, State::Resting { reason, .. } if reason.code() == Code::BackendSilent);
    until(&link.transport, is_silent).await;
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(1) + NOTICE, "{taken:?}");
    // It still accepts connections: the first one is left all the same.
    counted(&hung, |counts| counts.connections >= 2).await;
    hung.set_faults(Vec::new());
    recovered(&link, Instant::now(), RECOVERY + Duration::from_secs(1) + NOTICE).await;
    link.everything_arrived().await;
}

#[tokio::test]
async fn a_backend_that_reads_slowly_is_not_given_up() {
    let received = Received::default();
    let narrow = CollectorSettings { stream_window: 8 << 10, ..received.settings(any()) };
    let slow = Collector::start(narrow).await.unwrap();
    let settings = settings(&[slow.address()], &[PATIENCE]);
    let link = Link::with(&settings, targets_of(&[slow.address()]), received);
    // Two seconds for one stream, twice the patience.
    slow.set_faults(vec![Fault::new(Effect::Slow(26 * 1024)).times(1)]);
    link.report(SEGMENTS, 4000).await;
    link.received.fresh().await;
    assert_eq!(link.uplink.flush(DEADLINE).await, 0);
    assert_eq!(slow.counts().connections, 1);
    link.everything_arrived().await;
}

#[tokio::test]
async fn a_backend_without_room_is_asked_gently_over_the_same_connection() {
    const RESOURCE_EXHAUSTED: u8 = 8;
    let received = Received::default();
    let full = received.collector(any()).await;
    let mut link =
        Link::with(&settings(&[full.address()], &[]), targets_of(&[full.address()]), received);
    link.feed();
    link.received.fresh().await;
    full.set_faults(vec![Fault::status(RESOURCE_EXHAUSTED)]);
    // The stream that is open goes on to its end; then every call is refused.
    let before = full.counts().calls;
    counted(&full, |counts| counts.calls > before).await;
    let (before, begun) = (full.counts().calls, Instant::now());
    counted(&full, |counts| counts.calls >= before + 4).await;
    // Each pause is a tenth of 0.2, 0.4, 0.8 and 1.6 s at least.
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    assert!(matches!(link.transport.state(), State::Ready(_)), "{:?}", link.transport.state());
    full.set_faults(Vec::new());
    recovered(&link, Instant::now(), Duration::from_secs(10)).await;
    assert_eq!(full.counts().connections, 1);
    link.everything_arrived().await;
}
