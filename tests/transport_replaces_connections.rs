//! New targets are put in force without a call being lost: the old connection serves until a new one
//! stands, drains, and is cut when its time is over. How many connections live is there to be seen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod transport_fixture;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use skytls::server::{Effect, Fault};
use skytls::transport::{State, Transport, Upkeep};
use transport_fixture::*;

const AMPLE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn the_next_connection_takes_over_and_the_old_one_is_closed() {
    let first = collector(any()).await;
    let second = collector(any()).await;
    let transport = transport(&[first.address()]);
    keep_alive(&transport).await.unwrap();
    assert_eq!(transport.connections(), BTreeMap::from([(1, 1)]));
    let generation = transport.replace(targets_of(&[second.address()]), AMPLE);
    assert_eq!(generation, 2);
    within(transport.retired_before(generation)).await;
    keep_alive(&transport).await.unwrap();
    assert_eq!(transport.connections(), BTreeMap::from([(2, 1)]));
    counted(&first, |counts| counts.open_connections == 0).await;
    assert_eq!((first.counts().received, second.counts().received), (1, 1));
}

#[tokio::test]
async fn a_call_under_way_ends_on_the_old_connection() {
    let collector = collector(any()).await;
    collector.set_faults(vec![Fault::new(Effect::Delay(SHORT)).times(1)]);
    let transport = transport(&[collector.address()]);
    let call = tokio::spawn({
        let transport = transport.clone();
        async move { keep_alive(&transport).await }
    });
    counted(&collector, |counts| counts.calls == 1).await;
    let generation = transport.replace(targets_of(&[collector.address()]), AMPLE);
    // The new connection is in use while the old one still works on the call.
    counted(&collector, |counts| counts.connections == 2).await;
    within(call).await.unwrap().unwrap();
    within(transport.retired_before(generation)).await;
    counted(&collector, |counts| counts.open_connections == 1).await;
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_when_the_time_is_over() {
    let collector = collector(any()).await;
    collector.set_faults(vec![Fault::new(Effect::Hang).times(1)]);
    let transport = transport(&[collector.address()]);
    let call = tokio::spawn({
        let transport = transport.clone();
        async move { keep_alive(&transport).await }
    });
    counted(&collector, |counts| counts.calls == 1).await;
    let begun = Instant::now();
    let generation = transport.replace(targets_of(&[collector.address()]), SHORT);
    let status = within(call).await.unwrap().unwrap_err();
    let taken = begun.elapsed();
    assert!((SHORT..SHORT + Duration::from_secs(2)).contains(&taken), "{taken:?}");
    assert!(format!("{status:?}").contains("SKT-411"), "{status:?}");
    within(transport.retired_before(generation)).await;
    keep_alive(&transport).await.unwrap();
    assert_eq!(transport.connections(), BTreeMap::from([(generation, 1)]));
}

#[tokio::test]
async fn targets_that_do_not_work_leave_the_old_connection_its_time() {
    let collector = collector(any()).await;
    let transport = transport(&[collector.address()]);
    keep_alive(&transport).await.unwrap();
    let begun = Instant::now();
    let generation = transport.replace(targets_of(&[nobody()]), Duration::from_secs(1));
    while begun.elapsed() < Duration::from_millis(500) {
        keep_alive(&transport).await.unwrap();
    }
    // Then it is the new targets or nothing.
    within(transport.retired_before(generation)).await;
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    until(&transport, |state| matches!(state, State::Resting { .. })).await;
    counted(&collector, |counts| counts.open_connections == 0).await;
    // And when they work, they are used.
    transport.replace(targets_of(&[collector.address()]), AMPLE);
    within(transport.ready()).await.unwrap();
    keep_alive(&transport).await.unwrap();
}

/// `Duration::MAX` is how a host says "never".
#[tokio::test]
async fn times_without_an_end_are_taken_as_such() {
    let (first, second) = (collector(any()).await, collector(any()).await);
    let mut upkeep = Upkeep::default();
    upkeep.patience = Duration::MAX;
    upkeep.longest_rest = Duration::MAX;
    upkeep.lookup = Some(Duration::MAX);
    upkeep.max_age = Some(Duration::MAX);
    upkeep.ping = Some(Duration::MAX);
    let transport = Transport::with(targets_of(&[first.address()]), upkeep);
    keep_alive(&transport).await.unwrap();
    let generation = transport.replace(targets_of(&[second.address()]), Duration::MAX);
    within(transport.retired_before(generation)).await;
    keep_alive(&transport).await.unwrap();
    assert_eq!((first.counts().received, second.counts().received), (1, 1));
}

#[tokio::test]
async fn a_hundred_replacements_under_load_lose_no_call() {
    let collector = collector(any()).await;
    let transport = transport(&[collector.address()]);
    within(transport.ready()).await.unwrap();
    let (done, told) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (transport, told) = (transport.clone(), told.clone());
            tokio::spawn(async move {
                let mut calls = 0u64;
                while !*told.borrow() {
                    keep_alive(&transport).await.unwrap();
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut last = 1;
    for _ in 0..100 {
        last = transport.replace(targets_of(&[collector.address()]), AMPLE);
        within(transport.retired_before(last)).await;
    }
    done.send_replace(true);
    let mut calls = 0;
    for caller in callers {
        calls += within(caller).await.unwrap();
    }
    assert_eq!(transport.connections(), BTreeMap::from([(last, 1)]));
    let counts = collector.counts();
    assert_eq!((counts.received, counts.calls_broken), (calls, 0), "{counts:?}");
    assert!(counts.connections >= 101 && counts.open_connections <= 2, "{counts:?}");
}
