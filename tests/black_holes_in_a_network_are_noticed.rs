//! A network that swallows packets without a word, between an agent and backends on machines of their own:
//! noticed in the stated time, and another backend takes over; once the way is open again it is used within
//! two seconds. A connection of which only one side still knows ends with the first packet that gets through.
//!
//! `ci/black-hole` runs it, as root.

#![allow(clippy::disallowed_macros, reason = "its figures are what ci/black-hole is for")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod network_fixture;
mod outage_fixture;
mod transport_fixture;

use std::time::{Duration, Instant};

use network_fixture::{Machine, Network, Remote};
use outage_fixture::*;
use skytls::error::{Code, Error};
use skytls::transport::State;

/// `collector.grpc_upstream_timeout` here, in place of thirty seconds; and by how much the notice may come
/// later, see `docs/reconnecting.md`.
const PATIENCE: Duration = Duration::from_secs(5);
const NOTICE: Duration = Duration::from_secs(2);
const SETTINGS: [(&str, &str); 2] =
    [("collector.grpc_upstream_timeout", "5"), ("agent.ssl_server_name", "oap.example")];
const DIALLING: Duration = Duration::from_secs(10);
const FAILOVER: Duration = Duration::from_secs(1);
const RECOVERY: Duration = Duration::from_secs(2);

/// A network with what its machines need of each other.
struct World {
    network: Network,
    tls: Tls,
    received: Received,
}

impl World {
    fn new() -> Self {
        let (network, tls) = (Network::new(), Tls::new("oap.example"));
        Self { network, tls, received: Received::default() }
    }

    fn serve(&self, machine: Machine) -> Remote {
        self.network.serve(machine, self.tls.served(&self.received, machine.address()))
    }

    fn link(&self, machines: &[Machine]) -> Link {
        let backends: Vec<_> = machines.iter().map(|one| one.address().to_string()).collect();
        let backends: Vec<_> = backends.iter().map(String::as_str).collect();
        let settings = self.tls.settings(&backends, &SETTINGS);
        Link::with(&settings, Tls::targets(&settings), self.received.clone())
    }
}

/// Waits until a backend is given up; why, and how long it took.
async fn given_up(link: &Link, machine: Machine, since: Instant) -> (Error, Duration) {
    (link.given_up(machine.address()).await, since.elapsed())
}

#[test]
fn the_other_backend_takes_over() {
    let world = World::new();
    let _both = [world.serve(Machine::One), world.serve(Machine::Two)];
    world.network.agent().block_on(async {
        let mut link = world.link(&[Machine::One, Machine::Two]);
        link.feed();
        world.received.fresh().await;
        let in_use = within(link.transport.ready()).await.unwrap().backend;
        let machine = [Machine::One, Machine::Two]
            .into_iter()
            .find(|machine| machine.address().to_string() == in_use)
            .unwrap();
        world.network.swallow(machine);
        let begun = Instant::now();
        let (reason, noticed) = given_up(&link, machine, begun).await;
        assert_eq!(reason.code(), Code::BackendSilent, "{reason:?}");
        assert!(noticed < PATIENCE + NOTICE, "noticed after {noticed:?}");
        let begun = Instant::now();
        world.received.fresh().await;
        println!(
            "noticed after {noticed:.1?}, at the other one after {:.1?} more",
            begun.elapsed()
        );
        assert!(begun.elapsed() < FAILOVER, "{:?}", begun.elapsed());
        link.everything_arrived().await;
    });
}

#[test]
fn the_only_backend_is_reached_within_two_seconds_after_the_way_is_open_again() {
    let world = World::new();
    let _backend = world.serve(Machine::One);
    world.network.agent().block_on(async {
        let mut link = world.link(&[Machine::One]);
        link.feed();
        // How long after the notice the way is open again: in the middle of the dialling, at its end, and
        // in a later one.
        for longer in [0.3, 3.3, 7.7, 12.4] {
            world.received.fresh().await;
            world.network.swallow(Machine::One);
            let (reason, noticed) = given_up(&link, Machine::One, Instant::now()).await;
            assert_eq!(reason.code(), Code::BackendSilent, "{reason:?}");
            assert!(noticed < PATIENCE + NOTICE, "noticed after {noticed:?}");
            tokio::time::sleep(Duration::from_secs_f64(longer)).await;
            world.network.pass(Machine::One);
            let open = Instant::now();
            world.received.fresh().await;
            let taken = open.elapsed();
            println!("noticed after {noticed:.1?}, open {longer} s later, used after {taken:.2?}");
            assert!(taken < RECOVERY, "after {longer} s more: {taken:?}");
        }
        link.everything_arrived().await;
    });
}

#[test]
fn dialling_into_it_ends_in_time() {
    let world = World::new();
    let _backend = world.serve(Machine::One);
    world.network.swallow(Machine::One);
    world.network.agent().block_on(async {
        let begun = Instant::now();
        let mut link = world.link(&[Machine::One]);
        link.feed();
        let (reason, taken) = given_up(&link, Machine::One, begun).await;
        assert_eq!(reason.code(), Code::ConnectTimedOut, "{reason:?}");
        assert!((DIALLING..DIALLING + FAILOVER).contains(&taken), "{taken:?}");
        world.network.pass(Machine::One);
        link.everything_arrived().await;
    });
}

/// The machine is cut off, loses its power, and is back with the same address: its system knows nothing of
/// the connection, and the agent knows nothing of that.
#[test]
fn a_connection_that_only_one_side_knows_of_ends_with_the_first_packet() {
    for feeding in [true, false] {
        let world = World::new();
        let backend = world.serve(Machine::One);
        world.network.agent().block_on(async {
            let mut link = world.link(&[Machine::One]);
            link.feed();
            world.received.fresh().await;
            if !feeding {
                // Nothing is under way: it is the next call that finds out.
                link.stop_feeding().await;
                assert_eq!(link.uplink.flush(DEADLINE).await, 0);
            }
            world.network.swallow(Machine::One);
            world.network.reboot(Machine::One, backend);
            let _again = world.serve(Machine::One);
            assert!(matches!(link.transport.state(), State::Ready(_)), "it cannot know yet");
            world.network.pass(Machine::One);
            let open = Instant::now();
            if !feeding {
                link.feed();
            }
            world.received.fresh().await;
            let taken = open.elapsed();
            println!("half-open, feeding {feeding}: records flow again after {taken:.2?}");
            assert!(taken < RECOVERY, "feeding {feeding}: {taken:?}");
            link.everything_arrived().await;
        });
    }
}
