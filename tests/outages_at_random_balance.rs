//! A backend that comes and goes at random, in every way there is, over TLS: what was accepted arrives, to
//! the last record, and the memory does not grow. A few seconds here; `ci/soak` makes minutes of it.
//!
//! And a fleet whose backend restarts: its attempts stay bounded, and all are back in a stated time.

#![allow(clippy::disallowed_macros, reason = "its figures are what ci/soak is for")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod transport_fixture;

use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::server::{Collector, CollectorSettings, Effect, Fault};

/// So long until the memory has its size.
const SETTLING: Duration = Duration::from_secs(60);
/// KiB by which it may change after that: records that wait at the moment of looking, and the list of
/// what has arrived, one byte for each.
const GROWTH: u64 = 16 << 10;

/// A number from the environment, for `ci/soak`.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Resident memory in KiB, where the system tells.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_arrives_whatever_happens_meanwhile() {
    let seed = number("SKYTLS_SOAK_SEED", fastrand::u64(..));
    let length = Duration::from_secs(number("SKYTLS_SOAK_SECONDS", 8));
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let (tls, received) = (Tls::new("a.example"), Received::default());
    let mut backend = tls.collector(&received, any()).await;
    let address = backend.address();
    let again = || started(tls.served(&received, address));
    let cable = Cable::to(address).await;
    let more = [("collector.grpc_upstream_timeout", "1"), ("collector.connection_max_age", "20")];
    let settings = tls.settings(&[&cable.address.to_string()], &more);
    let mut link = Link::with(&settings, Tls::targets(&settings), received.clone());
    link.feed();
    let begun = Instant::now();
    let mut told = begun;
    let (mut outages, mut slowest) = (0u64, Duration::ZERO);
    // Taken once every way to fail has been met a few times: what grows after that is a leak.
    let mut start = None;
    while begun.elapsed() < length {
        received.fresh().await;
        let outage = Duration::from_millis(chance.u64(0..800));
        let what = chance.u8(0..7);
        match what {
            0 => {
                drop(backend);
                tokio::time::sleep(outage).await;
                backend = again().await;
            }
            1 => {
                backend.shutdown(Duration::from_millis(50)).await;
                tokio::time::sleep(outage).await;
                backend = again().await;
            }
            2 => {
                cable.set(Manner::Resets);
                tokio::time::sleep(outage).await;
                cable.set(Manner::Passes);
            }
            3 => {
                cable.set(Manner::BlackHole);
                tokio::time::sleep(outage).await;
                cable.set(Manner::Passes);
            }
            4 => backend.goaway(),
            5 => backend.disconnect(),
            _ => {
                let effect =
                    [Effect::Hang, Effect::ResetAfter(3), Effect::Status { code: 14, after: 2 }];
                let effect = *chance.choice(&effect).unwrap();
                backend.set_faults(vec![Fault::new(effect).times(2)]);
            }
        }
        let back = Instant::now();
        received.fresh().await;
        outages += 1;
        slowest = slowest.max(back.elapsed());
        // Ten seconds of a handshake into a black hole, and a rest.
        assert!(
            back.elapsed() < Duration::from_secs(14),
            "{what}: {:?}, seed {seed}",
            back.elapsed()
        );
        if begun.elapsed() > SETTLING {
            start.get_or_insert_with(memory);
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            let (time, books) = (begun.elapsed().as_secs(), link.uplink.books().total);
            let (accepted, pending) = (books.accepted, books.pending);
            println!(
                "{time} s: {outages} outages, {accepted} accepted, {pending} pending, {} KiB",
                memory()
            );
        }
    }
    backend.set_faults(Vec::new());
    let end = memory();
    let books = link.everything_arrived().await.total;
    println!(
        "{outages} outages in {:?}, slowest return {slowest:.1?}; {} accepted and acknowledged, {} sent twice at most, none lost; {start:?} KiB after {SETTLING:?}, {end} KiB at the end",
        begun.elapsed(),
        books.accepted,
        books.possibly_duplicated
    );
    if let Some(start) = start {
        assert!(end < start + GROWTH, "{start} KiB have become {end} KiB, seed {seed}");
    }
}

#[tokio::test]
async fn a_minute_without_a_backend_ends_within_two_seconds() {
    // As long as is patient in `cargo test`; a whole minute in `ci/soak`.
    let outage = Duration::from_secs(number("SKYTLS_SOAK_SECONDS", 4).min(58));
    let received = Received::default();
    let backend = received.collector(any()).await;
    let address = backend.address();
    let mut link = Link::with(&settings(&[address], &[]), targets_of(&[address]), received.clone());
    link.feed();
    received.fresh().await;
    drop(backend);
    tokio::time::sleep(outage).await;
    let _backend = started(received.settings(address)).await;
    let begun = Instant::now();
    received.fresh().await;
    let taken = begun.elapsed();
    println!("back {taken:.2?} after an outage of {outage:?}");
    assert!(taken < Duration::from_secs(2), "{taken:?}");
    link.everything_arrived().await;
}

/// The port of a collector that was dropped is closed a moment later.
async fn started(settings: CollectorSettings) -> Collector {
    within(async {
        loop {
            match Collector::start(settings.clone()).await {
                Ok(backend) => return backend,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_comes_back_without_a_stampede() {
    /// Rests of at least a tenth of 0.2, 0.4, 0.8 and 1.5 s: on average five attempts in two seconds.
    const ATTEMPTS: usize = 5;
    let size = number("SKYTLS_SOAK_FLEET", 300);
    // The longest rest, and what so many connections cost two busy cores that play both sides.
    let most_taken =
        Duration::from_secs(4) + Duration::from_millis(5) * u32::try_from(size).unwrap();
    let size = usize::try_from(size).unwrap();
    let backend = collector(any()).await;
    let address = backend.address();
    let counter = Cable::to(address).await;
    let fleet: Vec<_> = (0..size).map(|_| transport(&[counter.address])).collect();
    for transport in &fleet {
        served(transport).await;
    }
    let before = counter.accepted().len();
    assert_eq!(before, size);
    counter.set(Manner::Resets);
    tokio::time::sleep(Duration::from_secs(2)).await;
    counter.set(Manner::Passes);
    let back = Instant::now();
    for transport in &fleet {
        served(transport).await;
    }
    let taken = back.elapsed();
    let attempts = counter.accepted().split_off(before);
    let most = busiest(&attempts);
    println!(
        "{size} are back after {taken:.1?}; {} attempts, {most} in the busiest second",
        attempts.len()
    );
    assert!(taken < most_taken, "{taken:?}");
    assert!(attempts.len() < size * (ATTEMPTS + 3), "{} attempts", attempts.len());
    assert!(most < size * ATTEMPTS, "{most} attempts in one second");
}

/// The most attempts within any second.
fn busiest(attempts: &[Instant]) -> usize {
    let within = |at: &Instant| {
        attempts.iter().filter(|a| (**a >= *at) && **a < *at + Duration::from_secs(1)).count()
    };
    attempts.iter().step_by(16).map(within).max().unwrap_or_default()
}
