//! Records share a stream to the backend only with those they may share one with, and a stream that
//! is cut keeps its meaning.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use grpc_client::{Client, LOGS, SEGMENTS, flagged, framed, request};
use prost::Message;
use relay_fixture::{Fixture, Seen};
use skytls::protocol::v3::{LogData, MeterData};
use skytls::server::{Effect, Fault};

const METERS: &str = "/skywalking.v3.MeterReportService/collect";

fn log(service: &str, endpoint: &str) -> Bytes {
    let log = LogData {
        service: service.to_owned(),
        endpoint: endpoint.to_owned(),
        ..LogData::default()
    };
    log.encode_to_vec().into()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// What OAP makes of log streams: the first service named in a stream holds for all of it.
fn services(seen: &[Seen]) -> BTreeMap<String, BTreeSet<String>> {
    let mut of_call: BTreeMap<u64, String> = BTreeMap::new();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for seen in seen {
        let log = LogData::decode(seen.data.clone()).unwrap();
        let service = of_call.entry(seen.call).or_default();
        if service.is_empty() {
            service.clone_from(&log.service);
        }
        found.entry(service.clone()).or_default().insert(log.endpoint);
    }
    found
}

#[test]
fn logs_of_two_services_never_share_a_stream() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let mut calls = Vec::new();
        for round in 0..20 {
            for service in ["one", "two"] {
                let call = client.open(request(LOGS, &[]));
                call.send
                    .send(framed(&log(service, &format!("{service}/{round}/a"))))
                    .await
                    .unwrap();
                call.send.send(framed(&log("", &format!("{service}/{round}/b")))).await.unwrap();
                calls.push(call);
            }
        }
        for call in calls {
            assert_eq!(call.finish().await.unwrap().status, Some(0));
        }
        fixture.settled().await;
        let found = services(&fixture.seen(LOGS));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["one", "two"]);
        for (service, endpoints) in found {
            assert_eq!(endpoints.len(), 40);
            assert!(
                endpoints.iter().all(|endpoint| endpoint.starts_with(&service)),
                "{endpoints:?}"
            );
        }
    });
}

#[test]
fn a_log_stream_that_is_cut_keeps_its_service() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let call = client.open(request(LOGS, &[]));
        for number in 0..3_u64 {
            let service = if number == 0 { "one" } else { "" };
            call.send.send(framed(&log(service, &number.to_string()))).await.unwrap();
            // The relay's stream to the backend ends when nothing follows: each becomes its own.
            fixture.until(|counts| counts.calls_ok == number + 1).await;
        }
        assert_eq!(call.finish().await.unwrap().status, Some(0));
        let seen = fixture.seen(LOGS);
        assert_eq!(seen.iter().map(|seen| seen.call).collect::<BTreeSet<_>>().len(), 3);
        let found = services(&seen);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["one"]);
        assert_eq!(found["one"].len(), 3);
    });
}

#[test]
fn a_compressed_log_stream_that_is_cut_keeps_its_service() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let call = client.open(request(LOGS, &[("grpc-encoding", "gzip")]));
        call.send.send(flagged(true, &gzip(&log("one", "a")))).await.unwrap();
        fixture.until(|counts| counts.calls_ok == 1).await;
        call.send.send(flagged(true, &gzip(&log("", "b")))).await.unwrap();
        fixture.until(|counts| counts.calls_ok == 2).await;
        assert_eq!(call.finish().await.unwrap().status, Some(0));
        let seen = fixture.seen(LOGS);
        assert!(seen[0].compressed, "the first one stays as it came");
        let second = LogData::decode(seen[1].data.clone()).unwrap();
        assert_eq!((seen[1].compressed, &*second.service, &*second.endpoint), (false, "one", "b"));
    });
}

#[test]
fn a_stream_of_two_services_lends_neither_to_others() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let mixed = client.open(request(LOGS, &[]));
        let plain = client.open(request(LOGS, &[]));
        for round in 0..50 {
            for service in ["one", "two"] {
                let endpoint = format!("{service}/mixed/{round}");
                mixed.send.send(framed(&log(service, &endpoint))).await.unwrap();
            }
            let service = if round == 0 { "one" } else { "" };
            let endpoint = format!("one/plain/{round}");
            plain.send.send(framed(&log(service, &endpoint))).await.unwrap();
        }
        for call in [mixed, plain] {
            assert_eq!(call.finish().await.unwrap().status, Some(0));
        }
        fixture.settled().await;
        for (service, endpoints) in services(&fixture.seen(LOGS)) {
            assert!(
                endpoints.iter().all(|endpoint| endpoint.starts_with(&service)),
                "{endpoints:?}"
            );
        }
    });
}

#[test]
fn a_meter_stream_stays_one_stream_of_its_own() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let meter = |service: &str, timestamp| {
            let meter =
                MeterData { service: service.to_owned(), timestamp, ..MeterData::default() };
            framed(&meter.encode_to_vec())
        };
        let first = client.open(request(METERS, &[]));
        let second = client.open(request(METERS, &[]));
        for call in [&first, &second] {
            call.send.send(meter("one", 17)).await.unwrap();
            call.send.send(meter("", 0)).await.unwrap();
        }
        // An open stream of the agent's is not an open stream at the backend.
        while fixture.books().total.accepted < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fixture.collector().counts().received, 0);
        for call in [first, second] {
            assert_eq!(call.finish().await.unwrap().status, Some(0));
        }
        fixture.settled().await;
        let mut of_call: BTreeMap<u64, Vec<MeterData>> = BTreeMap::new();
        for seen in fixture.seen(METERS) {
            of_call.entry(seen.call).or_default().push(MeterData::decode(seen.data).unwrap());
        }
        assert_eq!(of_call.len(), 2);
        for meters in of_call.values() {
            assert_eq!(meters.iter().map(|meter| meter.timestamp).collect::<Vec<_>>(), [17, 0]);
        }
    });
}

#[test]
fn records_travel_only_with_records_of_the_same_metadata() {
    let settings = [("relay.forward_headers", "x-tenant"), ("agent.authentication", "relays-own")];
    let fixture = Fixture::with(&settings, |_| {});
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let kinds: [&[(&str, &str)]; 4] = [
            &[("authentication", "a")],
            &[("authentication", "b")],
            &[("authentication", "a"), ("x-tenant", "t")],
            &[("x-private", "p")],
        ];
        let mut calls = Vec::new();
        for round in 0..10 {
            for (kind, metadata) in kinds.iter().enumerate() {
                let call = client.open(request(SEGMENTS, metadata));
                call.send.send(framed(format!("{kind}/{round}").as_bytes())).await.unwrap();
                calls.push(call);
            }
        }
        for call in calls {
            assert_eq!(call.finish().await.unwrap().status, Some(0));
        }
        fixture.settled().await;
        let seen = fixture.seen(SEGMENTS);
        assert_eq!(seen.len(), 40);
        for seen in seen {
            let header = |name: &str| seen.metadata.get(name).map(|value| value.to_str().unwrap());
            let expected = match seen.data[0] {
                b'0' => (Some("a"), None),
                b'1' => (Some("b"), None),
                b'2' => (Some("a"), Some("t")),
                // The relay's own token, for an agent that has none.
                _ => (Some("relays-own"), None),
            };
            assert_eq!((header("authentication"), header("x-tenant")), expected);
            assert_eq!(header("x-private"), None, "not on the list");
        }
    });
}

#[test]
fn segments_of_many_agents_share_streams() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        // While the first answer is held back, the others gather.
        fixture.set_faults(vec![Fault::new(Effect::Delay(std::time::Duration::from_millis(300)))]);
        let mut client = Client::plain(fixture.address()).await;
        for _ in 0..200 {
            assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
        }
        fixture.settled().await;
        let calls: BTreeSet<u64> = fixture.seen(SEGMENTS).iter().map(|seen| seen.call).collect();
        assert!(calls.len() < 100, "{} streams for 200 reports", calls.len());
    });
}
