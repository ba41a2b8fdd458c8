//! A backend, or a gateway in its place, that accepts, answers and ends the connection in good order is
//! dialled again after growing pauses, and the log can be read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod raw_http2;
mod transport_fixture;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use raw_http2::{Answer, Server};
use skytls::transport::Transport;
use transport_fixture::*;

/// The lines that the library has logged.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("skytls") && metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// What was logged of a backend.
fn lines_of(server: &Server) -> Vec<String> {
    let address = server.address.to_string();
    LINES.lock().unwrap().iter().filter(|line| line.contains(&address)).cloned().collect()
}

const ROUNDS: usize = 12;
const RECOVERY: Duration = Duration::from_secs(2);

/// How long so many connections take, of a client that makes one call after the other without a pause, and
/// that client.
async fn rounds(server: &Server) -> (Duration, Transport) {
    log::set_max_level(log::LevelFilter::Info);
    // The other test may have been the first.
    let _ = log::set_logger(&Lines);
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

/// Three pauses whose ceiling doubles from 0.2 s, and eight of up to 1.5 s: seven seconds, give or take.
fn well_spaced(taken: Duration) {
    assert!(taken > Duration::from_millis(2500), "{taken:?}");
}

#[tokio::test]
async fn a_gateway_without_a_backend() {
    let has_backend = Arc::new(AtomicBool::new(false));
    let seen = has_backend.clone();
    let answer = move |_| if seen.load(SeqCst) { Answer::Ok } else { Answer::GatewayOnce };
    let server = Server::start(100, answer).await;
    let (taken, transport) = rounds(&server).await;
    well_spaced(taken);
    has_backend.store(true, SeqCst);
    let begun = Instant::now();
    served(&transport).await;
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_backend_that_goes_away_at_the_second_call_of_each_connection() {
    let server = Server::start(100, |_| Answer::OkOnce).await;
    let (taken, transport) = rounds(&server).await;
    well_spaced(taken);
    // Each kind of end is told once, and then each doubling; so are the returns.
    let lines = lines_of(&server);
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert!((1..=2).contains(&count("trying again with growing pauses")), "{lines:#?}");
    assert!(count("connected to") >= 4 && lines.len() <= 16, "{lines:#?}");
    served(&transport).await;
}
