//! What a relay with a spool has taken over arrives, whenever the relay is killed; metrics arrive at
//! most once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod spool_fixture;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use grpc_client::{Client, EVENTS, SEGMENTS};
use spool_fixture::{DEADLINE, World, address, files, report};
use support::process::Process;
use tokio::sync::Notify;

const BATCHES: &str = "/skywalking.v3.MeterReportService/collectBatch";

/// Numbers that a relay has answered for.
#[derive(Default)]
struct Accepted {
    numbers: Mutex<Vec<u64>>,
    moved: Notify,
}

/// Reports ever new records until the relay is gone.
async fn agent(relay: &Process, next: Arc<AtomicU64>, accepted: Arc<Accepted>) {
    let mut client = Client::plain(address(relay)).await;
    loop {
        let first = next.fetch_add(20, Ordering::Relaxed);
        if !report(&mut client, SEGMENTS, first..first + 20).await {
            return;
        }
        accepted.numbers.lock().unwrap().extend(first..first + 20);
        accepted.moved.notify_waiters();
    }
}

#[test]
fn every_record_that_was_answered_for_arrives_after_kills() {
    let world = World::new();
    let next = Arc::new(AtomicU64::new(0));
    let accepted = Arc::new(Accepted::default());
    for round in 1..=4_usize {
        let mut relay = world.relay(&["buffer.max_bytes=262144"]);
        world.runtime.block_on(async {
            let enough = async {
                while accepted.numbers.lock().unwrap().len() < round * 1000 {
                    accepted.moved.notified().await;
                }
                relay.signal("KILL");
                // The agents notice by themselves.
                std::future::pending::<()>().await;
            };
            let agents = async {
                let one = || agent(&relay, next.clone(), accepted.clone());
                tokio::join!(one(), one(), one());
            };
            tokio::select! {
                () = enough => {}
                () = agents => {}
                () = tokio::time::sleep(DEADLINE) => panic!("{}", relay.stderr()),
            }
        });
        relay.close_stdin();
        assert_eq!(relay.finish().code, 128 + 9);
    }
    let collector = world.collector();
    let relay = world.relay(&["relay.drain_timeout=30"]);
    address(&relay);
    let accepted = accepted.numbers.lock().unwrap().clone();
    assert!(accepted.len() >= 4000);
    world.runtime.block_on(world.arrivals.until(|arrivals| {
        let seen = arrivals.of(SEGMENTS);
        accepted.iter().all(|number| seen.contains_key(number))
    }));
    relay.terminate();
    let finished = relay.finish().expect_code(0);
    assert!(finished.stderr.contains("recovered"), "{}", finished.stderr);
    let seen = world.arrivals.of(SEGMENTS);
    let last = next.load(Ordering::Relaxed);
    assert!(seen.keys().all(|number| *number < last), "none was invented");
    // One after the other, since nothing went wrong on the way.
    assert!(seen.values().all(|times| *times == 1));
    let left: Vec<_> = files(&world.spool());
    assert!(left.iter().all(|path| path.ends_with("lock")), "{left:?}");
    drop(collector);
}

#[test]
fn a_drain_that_is_cut_short_leaves_the_rest_in_the_spool_and_loses_nothing() {
    let world = World::new();
    let relay = world.relay(&["relay.drain_timeout=0"]);
    world.runtime.block_on(async {
        let mut client = Client::plain(address(&relay)).await;
        assert!(report(&mut client, SEGMENTS, 0..500).await);
        assert!(report(&mut client, BATCHES, 0..50).await);
    });
    relay.terminate();
    let finished = relay.finish().expect_code(0);
    assert!(finished.stderr.contains("550 records stay in the spool"), "{}", finished.stderr);
    let _collector = world.collector();
    let relay = world.relay(&[]);
    world.runtime.block_on(
        world.arrivals.until(|arrivals| {
            arrivals.of(SEGMENTS).len() == 500 && arrivals.of(BATCHES).len() == 50
        }),
    );
    relay.terminate();
    relay.finish().expect_code(0);
    assert!(world.arrivals.of(BATCHES).values().all(|times| *times == 1));
}

#[test]
fn records_come_in_their_order_kind_by_kind() {
    let world = World::in_order();
    // Far less memory than records: most of them are read back.
    let settings = ["buffer.max_bytes=65536", "relay.ack=spooled"];
    for round in 0..3_u64 {
        let relay = world.relay(&settings);
        world.runtime.block_on(async {
            let mut client = Client::plain(address(&relay)).await;
            for batch in 0..10 {
                let first = round * 1000 + batch * 100;
                assert!(report(&mut client, SEGMENTS, first..first + 100).await);
                assert!(report(&mut client, EVENTS, first..first + 100).await);
            }
        });
        relay.signal("KILL");
        relay.finish();
    }
    let _collector = world.collector();
    let _relay = world.relay(&settings);
    world.runtime.block_on(world.arrivals.until(|arrivals| arrivals.count() == 6000));
    for path in [SEGMENTS, EVENTS] {
        let numbers = world.arrivals.in_order(path);
        assert_eq!(numbers.len(), 3000);
        let turned = numbers.windows(2).filter(|pair| pair[0] > pair[1]).collect::<Vec<_>>();
        assert!(turned.is_empty(), "{path}: {turned:?}");
    }
}
