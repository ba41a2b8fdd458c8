//! A relay with a service name is an instance of that service: it announces itself, keeps alive, and says
//! when it ends. A relay without one only carries what others say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent_fixture;
mod grpc_client;
mod support;

use agent_fixture::{Fixture, KEEP_ALIVE, PROPERTIES, SEGMENTS};
use grpc_client::{Client, EMPTY, request};
use skytls::protocol::v3::{Event, InstanceProperties};
use support::process::{Process, Skytls};

fn relay(fixture: &Fixture, more: &[&str]) -> (Process, std::net::SocketAddr) {
    let backend = format!("collector.backend_service={}", fixture.collector.address());
    let settings = [&backend, "relay.listen=127.0.0.1:0", "collector.heartbeat_period=1"];
    let all = settings.iter().chain(more);
    let relay = all.fold(Skytls::new(["run"]), |relay, pair| relay.arg("--set").arg(pair)).start();
    let line = relay.line("listening on ");
    let address = line.trim_start_matches("listening on ").trim().parse().unwrap();
    (relay, address)
}

fn report(fixture: &Fixture, address: std::net::SocketAddr) {
    fixture.runtime.block_on(async {
        let mut client = Client::plain(address).await;
        assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
    });
}

#[test]
fn with_a_name_it_does_an_agents_duties_and_its_last_word_is_the_shutdown() {
    let fixture = Fixture::new();
    let name =
        ["agent.service_name=relays", "agent.authentication=t0ken", "agent.instance_name=r-1"];
    let (relay, address) = relay(&fixture, &name);
    fixture.await_seen(KEEP_ALIVE, 1);
    report(&fixture, address);
    relay.terminate();
    relay.finish().expect_code(0);
    let properties: InstanceProperties = fixture.seen(PROPERTIES)[0].decode();
    assert_eq!((&*properties.service, &*properties.service_instance), ("relays", "r-1"));
    assert_eq!((fixture.events("Start").len(), fixture.seen(SEGMENTS).len()), (1, 1));
    let last: Event = fixture.all_seen().last().unwrap().decode();
    assert_eq!((&*last.name, &*last.source.unwrap().service), ("Shutdown", "relays"));
    for seen in fixture.all_seen() {
        assert_eq!(seen.metadata["authentication"], "t0ken", "{}", seen.path);
    }
}

#[test]
fn without_one_it_says_nothing_of_its_own() {
    for name in ["agent.service_name=", "agent.service_name=Your_ApplicationName"] {
        let fixture = Fixture::new();
        let (relay, address) = relay(&fixture, &[name]);
        report(&fixture, address);
        fixture.await_seen(SEGMENTS, 1);
        // Others pass, and the first word of its own would have come before them: it is due at once.
        for _ in 0..3 {
            let seen = fixture.seen(KEEP_ALIVE).len() as u64;
            fixture.runtime.block_on(async {
                let mut client = Client::plain(address).await;
                client.call(request(KEEP_ALIVE, &[]), [EMPTY.into()]).await.unwrap();
            });
            fixture.await_seen(KEEP_ALIVE, seen + 1);
        }
        relay.terminate();
        relay.finish().expect_code(0);
        assert_eq!(fixture.all_seen().len(), 4, "{name}: {:?}", fixture.all_seen());
    }
}
