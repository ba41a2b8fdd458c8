//! Relay and collector are killed at random and the link between them is cut, while agents report.
//! With a spool no record is missing that an agent got an answer for; without one the books balance.
//!
//! `ci/chaos SEED MINUTES` runs it for longer; alone it takes some seconds. The seed decides what
//! happens and in which order; what meets what on the way is the scheduler's.

#![allow(clippy::disallowed_macros, reason = "the figures are the point")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chaos_parts;
mod grpc_client;
mod spool_fixture;
mod support;

use std::time::{Duration, Instant};

use chaos_parts::{Backend, Fleet, Link, Tally};
use grpc_client::SEGMENTS;
use relay_parts::RelayHandle;
use spool_fixture::World;

/// What chaos does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    KillRelay,
    KillCollector,
    CutLink,
    CloseLink(u64),
}

mod relay_parts {
    use std::net::SocketAddr;

    use crate::spool_fixture::{World, address};
    use crate::support::process::Process;

    /// A relay that comes back on the same port.
    pub(crate) struct RelayHandle {
        pub(crate) address: SocketAddr,
        settings: Vec<String>,
        process: Option<Process>,
    }

    impl RelayHandle {
        pub(crate) fn start(world: &World, backend: SocketAddr, more: &[&str]) -> Self {
            let mut settings = vec![
                format!("collector.backend_service={backend}"),
                "agent.ssl_server_name=localhost".to_owned(),
                "buffer.max_bytes=4194304".to_owned(),
            ];
            settings.extend(more.iter().map(|text| (*text).to_owned()));
            let mut relay =
                Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), settings, process: None };
            relay.again(world);
            relay
        }

        pub(crate) fn again(&mut self, world: &World) {
            let listen = format!("relay.listen={}", self.address);
            let mut settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
            settings.push(&listen);
            let process = world.skytls(&settings).start();
            self.address = address(&process);
            self.process = Some(process);
        }

        pub(crate) fn kill(&mut self) {
            if let Some(process) = self.process.take() {
                process.signal("KILL");
                process.finish();
            }
        }

        /// Ends it properly; gives its last words.
        pub(crate) fn end(&mut self) -> String {
            let process = self.process.take().unwrap();
            process.terminate();
            process.finish().stderr
        }
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// The time between two events is part of what the seed decides.
fn pause(world: &World, millis: u64) {
    world.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(millis)).await });
}

fn seed() -> u64 {
    let seed = number("SKYTLS_CHAOS_SEED", 1);
    println!("seed {seed}");
    seed
}

fn duration() -> Duration {
    Duration::from_secs_f64(number("SKYTLS_CHAOS_SECONDS", 12) as f64)
}

/// The part of the collector's process: see [`Backend`].
#[test]
fn collector_child() {
    chaos_parts::collector_child();
}

#[test]
fn with_a_spool_no_record_is_missing_that_was_answered_for() {
    let (seed, limit) = (seed(), duration());
    let mut chance = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let mut backend = Backend::start(&world);
    let link = Link::start(&world, world.backend);
    let mut relay =
        RelayHandle::start(&world, link.address(), &["spool.path=spool", "relay.drain_timeout=60"]);
    let fleet = Fleet::start(&world, relay.address, 4, SEGMENTS);
    let begun = Instant::now();
    let (mut relays, mut collectors, mut cuts) = (0, 0, 0);
    while begun.elapsed() < limit {
        pause(&world, chance.u64(20..700));
        let act = match chance.u32(0..10) {
            0..4 => Act::KillRelay,
            4..7 => Act::KillCollector,
            7..9 => Act::CutLink,
            _ => Act::CloseLink(chance.u64(100..2000)),
        };
        match act {
            Act::KillRelay => {
                relay.kill();
                relay.again(&world);
                relays += 1;
            }
            Act::KillCollector => {
                backend.kill();
                backend.again(&world);
                collectors += 1;
            }
            Act::CutLink => {
                link.cut();
                cuts += 1;
            }
            Act::CloseLink(millis) => {
                link.close(true);
                pause(&world, millis);
                link.close(false);
                cuts += 1;
            }
        }
    }
    let reported = fleet.stop(&world);
    let words = relay.end();
    backend.kill();
    let arrived = backend.arrived();
    let tally = Tally::of(&reported, &arrived);
    println!(
        "{} records answered for, {} more sent, {relays} relays and {collectors} collectors killed, \
         {cuts} cuts: {} missing, {} invented, {} arrived more than once",
        reported.answered.len(),
        reported.sent - reported.answered.len() as u64,
        tally.missing,
        tally.invented,
        tally.repeated,
    );
    assert_eq!((tally.missing, tally.invented), (0, 0), "seed {seed}\n{words}");
    assert!(relays > 0 && collectors > 0 && reported.answered.len() > 1000);
}

#[test]
fn without_a_spool_the_books_balance() {
    let (seed, limit) = (seed(), duration() / 3);
    let mut chance = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let mut backend = Backend::start(&world);
    let link = Link::start(&world, world.backend);
    let mut relay = RelayHandle::start(&world, link.address(), &["relay.drain_timeout=60"]);
    let fleet = Fleet::start(&world, relay.address, 4, SEGMENTS);
    let begun = Instant::now();
    while begun.elapsed() < limit {
        pause(&world, chance.u64(20..700));
        if chance.bool() {
            backend.kill();
            backend.again(&world);
        } else {
            link.cut();
        }
    }
    let reported = fleet.stop(&world);
    let words = relay.end();
    backend.kill();
    let tally = Tally::of(&reported, &backend.arrived());
    assert_eq!((tally.missing, tally.invented), (0, 0), "seed {seed}\n{words}");
    // accepted A, recovered R, acknowledged K, dropped D, refused F, possibly duplicated P
    let line = words.lines().find(|line| line.contains("accepted ")).unwrap();
    let figure = |name: &str| -> u64 {
        let rest = line.split(&format!("{name} ")).nth(1).unwrap();
        rest.split([',', ' ']).next().unwrap().parse().unwrap()
    };
    println!("{line}");
    assert_eq!(
        figure("accepted") + figure("recovered"),
        figure("acknowledged") + figure("dropped"),
        "{line}"
    );
    assert!(figure("accepted") >= reported.answered.len() as u64);
}
