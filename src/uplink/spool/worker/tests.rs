use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Loader;
use crate::protocol::find;
use crate::protocol::frame::Message;
use crate::transport::{Transport, targets};
use crate::uplink::lane::Lane;
use crate::uplink::ledger::{Fate, Seat};
use crate::uplink::parcel::Parcel;
use crate::uplink::{Passport, Uplink, UplinkSettings};

const RECORDS: u64 = 12_000;

/// With little memory, a spool, and a backend that is never there.
fn uplink(folder: &std::path::Path) -> Uplink {
    let settings = Loader::new()
        .environment([])
        .set("collector.backend_service", "127.0.0.1:1")
        .set("buffer.max_bytes", "65536")
        .set("spool.path", folder.display().to_string())
        .load()
        .unwrap()
        .settings;
    let transport = Transport::start(targets(&settings.link, &settings.tls, None).unwrap());
    let limits = UplinkSettings::new(&settings.buffer, Duration::MAX, crate::config::OnFull::Block)
        .bounded_by_bytes();
    Uplink::with_spool(limits, settings.spool.as_ref().unwrap(), transport).unwrap()
}

fn only_lane(uplink: &Uplink) -> Option<Arc<Lane>> {
    uplink.lanes().values().next().cloned()
}

/// While some wait to be written others come back from the disk, and a sender counts on the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_into_their_lane_in_their_order_whichever_way_they_take() {
    let folder = tempfile::tempdir().unwrap();
    let uplink = uplink(folder.path());
    let reporting = tokio::spawn({
        let uplink = uplink.clone();
        async move {
            let mesh = "/skywalking.v3.ServiceMeshMetricService/collect";
            let mut reporter = uplink.reporter(Passport::new(find(mesh).unwrap()));
            for number in 0..RECORDS {
                let mut data = vec![0; 700];
                data[..8].copy_from_slice(&number.to_be_bytes());
                let message = Message { compressed: false, data: Bytes::from(data) };
                reporter.report(message).await.unwrap();
                // More than memory takes, then single ones, while the others come back.
                for _ in 0..if number % 150 > 100 { 50 } else { 0 } {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    let (mut expected, mut last) = (0, 0);
    let begun = Instant::now();
    while expected < RECORDS {
        assert!(begun.elapsed() < Duration::from_secs(60), "{expected} have come");
        let mut parcels = Vec::new();
        if let Some(lane) = only_lane(&uplink) {
            lane.take(1, None, |parcel| {
                parcels.push(parcel);
                (parcels.len() < 20).then_some(1)
            });
        }
        for parcel in &parcels {
            let Parcel::One(record) = parcel else { panic!("what the spool has seen comes alone") };
            let number = u64::from_be_bytes(record.message.data[..8].try_into().unwrap());
            assert_eq!(number, expected, "as they were reported");
            assert!(record.id > last, "{} after {last}", record.id);
            (expected, last) = (expected + 1, record.id);
        }
        // They leave memory, and more of them come from the disk.
        let kind = find("/skywalking.v3.ServiceMeshMetricService/collect").unwrap().kind;
        uplink.settle(kind, &parcels, Seat::Queued, Fate::Acknowledged);
        tokio::task::yield_now().await;
    }
    reporting.await.unwrap();
    let books = uplink.books().total;
    assert_eq!((books.accepted, books.acknowledged, books.pending), (RECORDS, RECORDS, 0));
    uplink.abandon();
}
