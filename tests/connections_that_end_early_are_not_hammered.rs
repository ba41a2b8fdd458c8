//! A backend, or a gateway in its place, that accepts, answers and ends the connection in good order is
//! dialled again after pauses: growing ones if there was no answer of use, short ones if there was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod raw_http2;
mod transport_fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use raw_http2::{Answer, Server};
use skytls::transport::Transport;
use transport_fixture::*;

const ROUNDS: usize = 12;
const RECOVERY: Duration = Duration::from_secs(2);

/// How long so many connections take, of a client that makes one call after the other without a pause, and
/// that client.
async fn rounds(server: &Server) -> (Duration, Transport) {
    let transport = transport(&[server.address]);
    let begun = Instant::now();
    let mut connections = server.connections.clone();
    within(async {
        tokio::select! {
            () = calls(&transport) => {}
            met = connections.wait_for(|count| *count == ROUNDS) => drop(met.unwrap()),
        }
    })
    .await;
    (begun.elapsed(), transport)
}

async fn calls(transport: &Transport) {
    loop {
        let _ = transport.ready().await;
        let _ = keep_alive(transport).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_gateway_without_a_backend() {
    let has_backend = Arc::new(AtomicBool::new(false));
    let seen = has_backend.clone();
    let answer = move |_| if seen.load(SeqCst) { Answer::Ok } else { Answer::GatewayOnce };
    let server = Server::start(100, answer).await;
    let (taken, transport) = rounds(&server).await;
    // Three pauses whose ceiling doubles from 0.2 s, and eight of up to 1.5 s: seven seconds, give or take.
    assert!(taken > Duration::from_millis(2500), "{taken:?}");
    has_backend.store(true, SeqCst);
    let begun = Instant::now();
    served(&transport).await;
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_backend_that_goes_away_at_the_second_call_of_each_connection() {
    let server = Server::start(100, |_| Answer::OkOnce).await;
    let (taken, transport) = rounds(&server).await;
    // Eleven pauses of up to 0.2 s each: they do not grow.
    assert!(taken > Duration::from_millis(300), "{taken:?}");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    served(&transport).await;
}
