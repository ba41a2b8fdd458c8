//! Many rotations while records flow: none is lost or refused, connections that were made with replaced
//! files are gone within the bound, and bad files in between have no effect at all.
//!
//! `SKYTLS_ROTATIONS=1000` makes it 1,000 good and 100 bad ones: `ci/rotation`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::disallowed_macros, reason = "its figures are what ci/rotation is for")]

mod rotation_fixture;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rotation_fixture::*;
use skytls::protocol::{find, frame::Message};
use skytls::uplink::Passport;

const DRAIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_good_ones_and_bad_ones_between() {
    let good: u64 = std::env::var("SKYTLS_ROTATIONS").map_or(50, |text| text.parse().unwrap());
    let bed = Bed::with(|_, _| {}, |settings| settings.tls.drain_timeout = DRAIN).await;
    let begun = Instant::now();
    let (accepted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let feeders: Vec<_> = (0..4)
        .map(|_| {
            let mut reporter = bed.engine.uplink().reporter(Passport::new(find(SEGMENTS).unwrap()));
            let (accepted, stop) = (accepted.clone(), stop.clone());
            tokio::spawn(async move {
                let mut tick = tokio::time::interval(Duration::from_millis(2));
                while !stop.load(SeqCst) {
                    tick.tick().await;
                    let data = Bytes::copy_from_slice(&accepted.fetch_add(1, SeqCst).to_be_bytes());
                    reporter.report(Message { compressed: false, data }).await.unwrap();
                }
            })
        })
        .collect();
    let transport = bed.engine.transport();
    let (mut bad, mut slowest) = (0u64, Duration::ZERO);
    for round in 0..good {
        if round % 10 == 9 {
            let (before, refused) = (bed.connections(), bed.status().refused);
            let name = ["ca.crt", "client.crt", "client.pem"][usize::try_from(bad % 3).unwrap()];
            let kept = std::fs::read(bed.folder.join(name)).unwrap();
            bed.folder.replace(name, "garbage", 0o600);
            bed.refused(refused + 1).await;
            let seen = bed.seen.count();
            bed.folder.replace(name, kept, 0o600);
            bed.until(|status| status.failure.is_none()).await;
            assert_eq!(bed.status().generation, round + 1);
            assert_eq!((bed.connections(), transport.connections().len()), (before, 1));
            within(async {
                while bed.seen.count() <= seen {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            bad += 1;
        }
        let replaced = Instant::now();
        bed.renew(&bed.ca, &format!("agent {round}"));
        bed.in_use(round + 2).await;
        slowest = slowest.max(replaced.elapsed());
    }
    stop.store(true, SeqCst);
    for feeder in feeders {
        within(feeder).await.unwrap();
    }
    let uplink = bed.engine.uplink();
    assert_eq!(uplink.flush(support::DEADLINE).await, 0);
    let (books, accepted) = (uplink.books(), accepted.load(SeqCst));
    let total = books.total;
    assert_eq!((total.accepted, total.acknowledged), (accepted, accepted), "{books:?}");
    assert_eq!((total.dropped.total(), total.refused, total.pending), (0, 0, 0), "{books:?}");
    assert_eq!((bed.seen.count(), total.possibly_duplicated), (accepted, 0), "{books:?}");
    assert_eq!(transport.connections(), BTreeMap::from([(good + 1, 1)]));
    assert_eq!(bed.status().generation, good + 1);
    assert!(slowest < DRAIN + Duration::from_secs(5), "{slowest:?}");
    println!(
        "{good} good and {bad} bad rotations in {:.1?}, {accepted} records: all acknowledged, all \
         received, none possibly twice; {} connections; the slowest rotation took {slowest:.1?}",
        begun.elapsed(),
        bed.connections(),
    );
}
