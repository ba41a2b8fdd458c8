//! What the spool costs the relay for each record, against memory only, in one run: processor time
//! of its process, which other programs do not change much.

#![allow(clippy::disallowed_macros, reason = "the figures are the point")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod spool_fixture;
mod support;

use grpc_client::{Client, SEGMENTS};
use spool_fixture::{World, address, report};
use support::process::Process;

const RECORDS: u64 = 20_000;

/// User and system time of a process, in hundredths of a second.
fn time(process: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Microseconds of the relay for each record, all the way to the backend.
fn cost(world: &World, first: u64, settings: &[&str]) -> f64 {
    let relay = world.skytls(settings).start();
    world.runtime.block_on(async {
        let mut client = Client::plain(address(&relay)).await;
        let mut batch = async |from: u64| {
            assert!(report(&mut client, SEGMENTS, from..from + 500).await);
        };
        // The first ones pay for the handshake.
        batch(first).await;
        let arrived =
            |count| world.arrivals.until(move |arrivals| arrivals.count() as u64 == count);
        arrived(first + 500).await;
        let before = time(&relay);
        for from in (first + 500..first + 500 + RECORDS).step_by(500) {
            batch(from).await;
        }
        arrived(first + 500 + RECORDS).await;
        (time(&relay) - before) as f64 * 10_000.0 / RECORDS as f64
    })
}

#[test]
fn the_spool_costs_less_than_the_way_itself() {
    let world = World::new();
    let _collector = world.collector();
    let memory = cost(&world, 0, &[]);
    let spool = cost(&world, RECORDS + 500, &["spool.path=spool"]);
    println!(
        "processor time of the relay for each record of 700 bytes: {memory:.1} us in memory, \
         {spool:.1} us through the spool, {:.2} times as much",
        spool / memory
    );
    assert!(spool < memory * 3.0, "{memory} us, {spool} us");
}
