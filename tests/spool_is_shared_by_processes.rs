//! Several processes on one spool folder: each has its own slot, and what a dead one left is taken
//! over by a living one. A disk that cannot be written is done without.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod spool_fixture;
mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use grpc_client::{Client, SEGMENTS};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use spool_fixture::{World, address, files, report};
use support::process::Process;

async fn send(relay: &Process, numbers: std::ops::Range<u64>) {
    let mut client = Client::plain(address(relay)).await;
    assert!(report(&mut client, SEGMENTS, numbers).await);
}

fn logs(world: &World) -> Vec<PathBuf> {
    let mut found = files(&world.spool());
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    found
}

#[test]
fn each_process_has_its_slot_and_an_orphan_is_adopted() {
    let world = World::new();
    let first = world.relay(&[]);
    world.runtime.block_on(send(&first, 0..100));
    let second = world.relay(&[]);
    world.runtime.block_on(send(&second, 100..200));
    let slots: Vec<PathBuf> =
        logs(&world).iter().map(|path| path.parent().unwrap().to_owned()).collect();
    assert_eq!(slots, ["slot-000", "slot-001"].map(|slot| world.spool().join(slot)));
    second.signal("KILL");
    second.finish();
    // The first one finds it while it runs: nobody else is there to deliver these.
    let collector = world.collector();
    world.runtime.block_on(world.arrivals.until(|arrivals| arrivals.of(SEGMENTS).len() == 200));
    first.line("100 records taken over");
    first.terminate();
    first.finish().expect_code(0);
    assert_eq!(logs(&world), Vec::<PathBuf>::new());
    drop(collector);
}

#[test]
fn the_next_process_adopts_all_that_others_left() {
    let world = World::new();
    let relays: Vec<Process> = (0..3).map(|_| world.relay(&[])).collect();
    for (relay, at) in relays.iter().zip(0..) {
        world.runtime.block_on(send(relay, at * 100..at * 100 + 100));
    }
    for relay in relays {
        relay.signal("KILL");
        relay.finish();
    }
    let _collector = world.collector();
    let _relay = world.relay(&[]);
    world.runtime.block_on(world.arrivals.until(|arrivals| arrivals.of(SEGMENTS).len() == 300));
}

#[test]
fn a_disk_that_is_full_is_done_without_and_used_again_when_it_can_be() {
    let world = World::new();
    // Stands for a full disk: no file of this process may grow, and the signal that would end it
    // is ignored.
    let mut command = Command::new("sh");
    support::process::clean(&mut command);
    let backend = format!("collector.backend_service={}", world.backend);
    command.current_dir(world.folder.path()).args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    command.args([env!("CARGO_BIN_EXE_skytls"), "run", "--set", "spool.path=spool"]);
    for pair in [
        &backend,
        "relay.listen=127.0.0.1:0",
        "agent.ssl_trusted_ca_path=ca/ca.crt",
        "agent.ssl_cert_chain_path=ca/client.crt",
        "agent.ssl_key_path=ca/client.pem",
    ] {
        command.args(["--set", pair]);
    }
    let relay = Process::start(command, Stdio::null());
    address(&relay);
    let pid = Pid::from_raw(i32::try_from(relay.id()).unwrap());
    let room = |bytes| {
        prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    };
    room(Some(0));
    world.runtime.block_on(send(&relay, 0..100));
    relay.line("SKT-806");
    assert_eq!(logs(&world), Vec::<PathBuf>::new());
    room(None);
    // Writing is tried again after a second.
    let mut next = 100;
    while logs(&world).is_empty() {
        world.runtime.block_on(send(&relay, next..next + 10));
        next += 10;
    }
    relay.line("the spool can be written again");
    let collector = world.collector();
    world
        .runtime
        .block_on(world.arrivals.until(|arrivals| arrivals.of(SEGMENTS).len() as u64 == next));
    relay.terminate();
    relay.finish().expect_code(0);
    drop(collector);
}
