//! A relay behind a Unix socket goes away and comes back, in an orderly way or by a kill: whoever sends
//! through that socket is back in a stated time, and nothing is lost. The file of the socket is another
//! one each time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod support;
mod transport_fixture;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::config::Loader;
use skytls::error::Code;
use skytls::transport::{State, targets};
use support::folder::Folder;
use support::process::{Process, Skytls};

/// Within this time after the relay listens again, records flow.
const RECOVERY: Duration = Duration::from_secs(2);

/// A relay that answers for what has been delivered only: a kill costs nothing that was answered for.
fn relay(folder: &Folder, socket: &Path, backend: SocketAddr) -> Process {
    let lines = format!(
        "collector.backend_service={backend}\nrelay.listen=unix:{}\nrelay.ack=delivered\n",
        socket.display()
    );
    folder.replace("config/agent.config", lines, 0o644);
    let process = Skytls::new(["run"]).arg("--config").arg(folder.config()).start();
    process.line("listening on unix:");
    process
}

fn link(socket: &Path, received: &Received) -> Link {
    let backend = format!("unix:{}", socket.display());
    let loader = Loader::new().environment([]).set("collector.backend_service", backend);
    let settings = loader.load().unwrap().settings;
    let targets = targets(&settings.link, &settings.tls, None).unwrap();
    Link::with(&settings, targets, received.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_stopped_or_killed_and_started_again() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let folder = Folder::empty();
    let socket = folder.join("relay.sock");
    let mut process = relay(&folder, &socket, backend.address());
    let mut link = link(&socket, &received);
    link.feed();
    for (signal, code, left) in [("TERM", 0, false), ("KILL", 128 + 9, true)].repeat(3) {
        received.fresh().await;
        process.signal(signal);
        process.finish().expect_code(code);
        assert_eq!(socket.exists(), left, "{signal}");
        // A file that is not there, and one that nobody listens on: both are an outage, not a mistake.
        let expected = if left { Code::ConnectRefused } else { Code::ConnectFailed };
        until(
            &link.transport,
            |state| matches!(state, State::Resting { reason, .. } if reason.code() == expected),
        )
        .await;
        process = relay(&folder, &socket, backend.address());
        let begun = Instant::now();
        received.fresh().await;
        assert!(begun.elapsed() < RECOVERY, "{signal}: {:?}", begun.elapsed());
    }
    link.everything_arrived().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_long_after_those_who_use_it() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let folder = Folder::empty();
    let socket = folder.join("relay.sock");
    let mut link = link(&socket, &received);
    link.feed();
    until(&link.transport, |state| matches!(state, State::Resting { .. })).await;
    let _process = relay(&folder, &socket, backend.address());
    let begun = Instant::now();
    received.fresh().await;
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
    link.everything_arrived().await;
}
