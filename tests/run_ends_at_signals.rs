//! `skytls run` at the end: one signal drains, a second one ends the drain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod support;

use grpc_client::{Client, SEGMENTS};
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
