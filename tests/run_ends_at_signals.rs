//! `skytls run` at the end: one signal drains, after a grace if one is set, a second one ends all of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use grpc_client::{Client, SEGMENTS, framed, request};
use support::process::{Process, Skytls};

/// A relay whose backend is away, with one record waiting and all the time in the world to drain.
fn relay_with_a_record() -> Process {
    let settings = [
        "collector.backend_service=127.0.0.1:1",
        "relay.listen=127.0.0.1:0",
        "relay.drain_timeout=600",
    ];
    let relay = Skytls::new(["run"]);
    let relay = settings.iter().fold(relay, |relay, pair| relay.arg("--set").arg(pair)).start();
    let line = relay.line("listening on ");
    let address = line.trim_start_matches("listening on ").trim().parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = Client::plain(address).await;
        assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
    });
    relay
}

#[test]
fn a_second_signal_ends_the_drain_and_says_what_was_left() {
    let relay = relay_with_a_record();
    relay.terminate();
    relay.line("stopping");
    relay.terminate();
    let finished = relay.finish().expect_code(1);
    assert!(finished.stderr.contains("a second signal"), "{}", finished.stderr);
    assert!(finished.stderr.contains("SKT-803"), "{}", finished.stderr);
}

/// A relay to a collector that goes on for a while after it was told to stop.
fn sidecar(grace: &str) -> (Process, Process, SocketAddr) {
    let collector = Skytls::new(["collector", "--listen", "127.0.0.1:0"]).start();
    let backend = listening(&collector);
    let mut relay = Skytls::new(["run"]);
    for pair in [
        "relay.listen=127.0.0.1:0".to_owned(),
        format!("collector.backend_service={backend}"),
        format!("relay.shutdown_grace={grace}"),
    ] {
        relay = relay.arg("--set").arg(pair);
    }
    let relay = relay.start();
    let address = listening(&relay);
    (collector, relay, address)
}

fn listening(process: &Process) -> SocketAddr {
    let line = process.line("listening on ");
    line.trim_start_matches("listening on ").trim().parse().unwrap()
}

fn report(address: SocketAddr) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = Client::plain(address).await;
        assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
    });
}

#[test]
fn a_sidecar_serves_its_agents_for_a_while_and_then_drains() {
    let (collector, relay, address) = sidecar("2");
    report(address);
    relay.terminate();
    relay.line("told to stop");
    // A new connection, as an application makes one that ends later.
    report(address);
    relay.line("stopping");
    let finished = relay.finish().expect_code(0);
    assert!(finished.stderr.contains("accepted 2, "), "{}", finished.stderr);
    assert!(finished.stderr.contains("acknowledged 2, "), "{}", finished.stderr);
    collector.terminate();
    collector.finish().expect_code(0);
}

#[test]
fn a_second_signal_ends_the_grace_too() {
    let (collector, relay, address) = sidecar("600");
    report(address);
    relay.terminate();
    relay.line("told to stop");
    relay.terminate();
    let finished = relay.finish();
    assert!(finished.stderr.contains("a second signal"), "{}", finished.stderr);
    collector.terminate();
    collector.finish().expect_code(0);
}

#[test]
fn a_dead_backend_does_not_hold_up_the_end() {
    let mut relay = Skytls::new(["run"]);
    for pair in [
        "collector.backend_service=127.0.0.1:1",
        "relay.listen=127.0.0.1:0",
        "relay.drain_timeout=1",
    ] {
        relay = relay.arg("--set").arg(pair);
    }
    let relay = relay.start();
    let address = listening(&relay);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = Client::plain(address).await;
        assert_eq!(client.report(SEGMENTS, 3).await.status, Some(0));
        // A stream that is never ended.
        let open = client.open(request(SEGMENTS, &[]));
        open.send.send(framed(b"m")).await.unwrap();
        let begun = Instant::now();
        relay.terminate();
        let finished = tokio::task::spawn_blocking(|| relay.finish().expect_code(1)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(finished.stderr.contains("4 records left"), "{}", finished.stderr);
    });
}
