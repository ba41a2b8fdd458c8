//! What becomes of records for each gRPC status is what `docs/delivery.md` says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;

use std::time::Duration;

use grpc_client::{Client, SEGMENTS, framed, request};
use relay_fixture::{Fixture, assert_balanced};
use skytls::server::Fault;
use skytls::uplink::Account;

/// Metrics, of which none is sent twice.
const BATCHES: &str = "/skywalking.v3.MeterReportService/collectBatch";

/// The rows of the table: number, what happens to records, what to metrics.
fn table() -> Vec<(u8, String, String)> {
    let text = std::fs::read_to_string("docs/delivery.md").unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = cells.get(1)?.parse().ok()?;
        Some((number, cells[3].to_owned(), cells[4].to_owned()))
    });
    rows.collect()
}

async fn report(fixture: &Fixture, path: &str) {
    let mut client = Client::plain(fixture.address()).await;
    let chunks = (0..20_u8).map(|number| framed(&[number]));
    let reply = client.call(request(path, &[]), chunks).await.unwrap();
    assert_eq!(reply.status, Some(0));
}

/// Lets every call fail by this status until nothing is pending, or for a while; then none.
async fn suffer(status: u8, path: &str) -> (Account, Account) {
    let fixture = tokio::task::spawn_blocking(Fixture::new).await.unwrap();
    fixture.set_faults(vec![Fault::status(status)]);
    report(&fixture, path).await;
    let uplink = fixture.engine.as_ref().unwrap().uplink().clone();
    uplink.flush(Duration::from_millis(2500)).await;
    let during = uplink.books();
    assert_balanced(&during);
    fixture.set_faults(Vec::new());
    let after = fixture.settled().await;
    tokio::task::spawn_blocking(move || drop(fixture)).await.unwrap();
    (during.total, after.total)
}

#[test]
fn the_table_of_the_documentation_holds() {
    let table = table();
    assert_eq!(table.iter().map(|row| row.0).collect::<Vec<u8>>(), (1..=16).collect::<Vec<u8>>());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cases = table.into_iter().map(|(status, records, metrics)| {
        runtime.spawn(async move {
            for (path, what) in [(SEGMENTS, records), (BATCHES, metrics)] {
                let (during, after) = suffer(status, path).await;
                let (twice, left) = (during.possibly_duplicated > 0, during.pending);
                let case = format!("{status} {what} {path}: {during:?}, then {after:?}");
                let dropped = (after.dropped.rejected, after.dropped.not_resent);
                match what.as_str() {
                    "sent again" => assert!(left == 20 && twice && dropped == (0, 0), "{case}"),
                    "held" => assert!(left == 20 && !twice && dropped == (0, 0), "{case}"),
                    "dropped" if path == SEGMENTS => assert_eq!(dropped, (20, 0), "{case}"),
                    "dropped" => assert_eq!(dropped.0 + dropped.1, 20, "{case}"),
                    "searched" => assert_eq!(dropped, (20, 0), "{case}"),
                    other => panic!("{other}"),
                }
                assert_eq!(after.acknowledged + after.dropped.total(), 20, "{case}");
            }
        })
    });
    let cases: Vec<_> = cases.collect();
    for case in cases {
        runtime.block_on(case).unwrap();
    }
}
