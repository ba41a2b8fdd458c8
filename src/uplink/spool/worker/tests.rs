use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::config::Loader;
use crate::protocol::find;
use crate::protocol::frame::Message;
use crate::transport::{Transport, targets};
use crate::uplink::lane::{Lane, Record};
use crate::uplink::ledger::{Fate, Seat};
use crate::uplink::parcel::Parcel;
use crate::uplink::spool::segment::SYNCED;
use crate::uplink::{Level, Passport, UplinkSettings};

const RECORDS: u64 = 12_000;

/// What a disk may take to write it.
const LIMIT: Duration = Duration::from_secs(30);

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
    uplink.abandon(LIMIT);
}

const METERS: &str = "/skywalking.v3.MeterReportService/collectBatch";

/// A worker without a thread, and an uplink whose books it keeps.
fn worker(folder: &std::path::Path, sync: &str) -> (Worker, Uplink) {
    worker_of(folder, "uplink", sync)
}

fn worker_of(folder: &std::path::Path, name: &str, sync: &str) -> (Worker, Uplink) {
    let uplink = uplink(&folder.join(name));
    let path = folder.join("worker").display().to_string();
    let loader = Loader::new().environment([]).set("spool.path", path).set("spool.sync", sync);
    let loader = loader.set("collector.backend_service", "127.0.0.1:1");
    let opened = Opened::new(loader.load().unwrap().settings.spool.as_ref().unwrap()).unwrap();
    let (_, orders) = std::sync::mpsc::channel();
    (Worker::new(opened, Weak::new(), orders, Arc::default(), Arc::default()), uplink)
}

/// Accepts so many metrics and hands them to the worker.
fn submit(worker: &mut Worker, uplink: &Uplink, records: u64) {
    worker.exposed.waiting.fetch_add(records, Ordering::Relaxed);
    let passport = Arc::new(Passport::new(find(METERS).unwrap()));
    for _ in 0..records {
        let id = uplink.0.ledger.try_admit(Kind::Meter, 3).unwrap().unwrap();
        let message = Message { compressed: false, data: Bytes::from_static(b"abc") };
        let (prefix, place, time, ticket) = (Bytes::new(), None, 0, None);
        let record = Record { id, message, prefix, place, time, ticket };
        let (passport, company) = (passport.clone(), Company::Head(Bytes::new()));
        worker.note(Command::Record(Entry { record, passport, company, stream: 0 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_marked_is_not_answered_as_marked() {
    for sync in ["always", "interval"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut worker, uplink) = worker(folder.path(), sync);
        submit(&mut worker, &uplink, 10);
        worker.round(&uplink);
        let shelf = &mut worker.shelves[Kind::Meter.index()];
        assert_eq!(shelf.durable(), 10);
        shelf.seal();
        let marks = worker.slot.folder().join(Shelf::name(Kind::Meter, 1)).with_extension("done");
        std::fs::remove_file(&marks).unwrap();
        std::fs::create_dir(&marks).unwrap();
        let taken = |worker: &mut Worker| {
            let (answer, mut answered) = oneshot::channel();
            let places = (0..10).map(|index| Place { segment: 1, index }).collect();
            worker.note(Command::Taken(Kind::Meter, places, answer));
            worker.settle();
            answered.try_recv().unwrap()
        };
        assert!(!taken(&mut worker), "{sync}");
        assert!(!taken(&mut worker), "nor the next time, {sync}");
        std::fs::remove_dir(&marks).unwrap();
        assert!(taken(&mut worker), "{sync}");
        uplink.abandon(LIMIT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_refuses_shows_in_state_and_books_until_it_takes_something_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, uplink) = worker(folder.path(), "always");
    let durable = || uplink.books().by_kind["meter"].durable;
    let state = |worker: &Worker| {
        let doubtful = worker.gauge.doubtful.load(Ordering::Relaxed);
        (worker.gauge.failing.load(Ordering::Relaxed), doubtful)
    };
    submit(&mut worker, &uplink, 10);
    worker.round(&uplink);
    assert_eq!((durable(), state(&worker)), (10, (false, 0)));
    worker.shelves[Kind::Meter.index()].break_disk();
    submit(&mut worker, &uplink, 5);
    worker.round(&uplink);
    assert_eq!((durable(), state(&worker)), (0, (true, 15)));
    // Nothing is written for a second: these are in memory only.
    submit(&mut worker, &uplink, 3);
    worker.round(&uplink);
    assert_eq!((durable(), state(&worker)), (0, (true, 15)));
    worker.retry = None;
    submit(&mut worker, &uplink, 4);
    worker.round(&uplink);
    assert_eq!((durable(), state(&worker)), (4, (false, 15)));
    assert_eq!(uplink.books().total.pending, 22, "whatever becomes of the disk");
    uplink.abandon(LIMIT);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_given_up_waiting_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, uplink) = worker(folder.path(), "interval");
    let at = Kind::Meter.index();
    // Behind what is on disk, and the disk is not to be had for an hour.
    submit(&mut worker, &uplink, 1);
    let Some(first) = worker.pending[at].pop_front() else { panic!("it is there") };
    worker.append(Kind::Meter, &[first], true).unwrap();
    worker.retry = Some(Instant::now() + Duration::from_secs(3600));
    submit(&mut worker, &uplink, 1);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (answer, answered) = oneshot::channel();
            worker.note(Command::Barrier(Kind::Meter, answer));
            answered
        })
        .collect();
    worker.write(&uplink);
    assert_eq!(worker.pending[at].len(), 101);
    let last = waiting.into_iter().next_back();
    worker.write(&uplink);
    assert_eq!(worker.pending[at].len(), 2, "the record, and the one who still waits");
    drop(last);
    uplink.abandon(LIMIT);
}

/// The names of slots and files are lost with the power as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_asked_for_the_names_of_slots_and_files() {
    for (sync, asked) in [("always", true), ("interval", true), ("never", false)] {
        let folder = tempfile::tempdir().unwrap();
        let synced = || SYNCED.take();
        synced();
        let (mut dead, uplink) = worker(folder.path(), sync);
        let root = folder.path().join("worker");
        assert_eq!(synced().contains(&root), asked, "{sync}");
        submit(&mut dead, &uplink, 10);
        dead.round(&uplink);
        let slot = dead.slot.folder().to_owned();
        // One that answers only then, or a second later.
        assert_eq!(synced().contains(&slot), sync == "always", "{sync}");
        let (mut living, other) = worker_of(folder.path(), "other", sync);
        drop(dead);
        synced();
        living.adopt(&other);
        let folders = synced();
        assert_eq!(other.books().total.recovered, 10);
        for folder in [living.slot.folder(), &slot] {
            assert_eq!(folders.iter().any(|one| one == folder), asked, "{sync}: {folders:?}");
        }
        uplink.abandon(LIMIT);
        other.abandon(LIMIT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_cannot_be_read_waits_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, uplink) = worker(folder.path(), "interval");
    let at = Kind::Meter.index();
    submit(&mut worker, &uplink, 10);
    let items: Vec<Pending> = worker.pending[at].drain(..).collect();
    worker.append(Kind::Meter, &items, true).unwrap();
    worker.unwritten[at] = Amount::default();
    uplink.0.ledger.release(Kind::Meter, Amount { records: 10, bytes: 30 });
    let path = worker.slot.folder().join(Shelf::name(Kind::Meter, 1));
    let (aside, unread) = (path.with_extension("aside"), |worker: &Worker| {
        worker.gauge.unread.load(Ordering::Relaxed)
    });
    std::fs::rename(&path, &aside).unwrap();
    worker.round(&uplink);
    assert!(unread(&worker) && worker.rests(at));
    let books = uplink.books().total;
    assert_eq!((books.pending, books.dropped.damaged), (10, 0));
    // After a second it is tried again.
    std::fs::rename(&aside, &path).unwrap();
    worker.unread[at] = Some(Instant::now());
    worker.round(&uplink);
    assert!(!unread(&worker));
    assert!(!worker.shelves[at].is_behind(), "all have been read");
    assert_eq!(only_lane(&uplink).unwrap().waiting().records, 10);
    uplink.abandon(LIMIT);
}

/// A file of an owner that is gone stays there until it can be read, and is found again.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_left_is_taken_over_when_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut dead, uplink) = worker(folder.path(), "interval");
    submit(&mut dead, &uplink, 10);
    dead.round(&uplink);
    dead.done[Kind::Meter.index()] = (0..4).map(|index| Place { segment: 1, index }).collect();
    dead.settle();
    let marks = dead.slot.folder().join(Shelf::name(Kind::Meter, 1)).with_extension("done");
    let (mut living, other) = worker_of(folder.path(), "other", "interval");
    drop(dead);
    let aside = marks.with_extension("aside");
    std::fs::rename(&marks, &aside).unwrap();
    std::fs::create_dir(&marks).unwrap();
    living.adopt(&other);
    assert_eq!(other.books().total.recovered, 0);
    assert!(marks.with_extension("log").exists(), "where it was");
    std::fs::remove_dir(&marks).unwrap();
    std::fs::rename(&aside, &marks).unwrap();
    living.adopt(&other);
    assert_eq!(other.books().total.recovered, 6, "the others have been sent");
    uplink.abandon(LIMIT);
    other.abandon(LIMIT);
}

/// They are not written later either: a disk that takes others again does not make them safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_has_passed_by_is_not_durable_until_it_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let uplink = uplink(folder.path());
    let mut reporter = uplink.reporter(Passport::new(find(METERS).unwrap()));
    let mut report = || {
        reporter
            .try_report(Message { compressed: false, data: Bytes::from_static(b"abc") })
            .unwrap()
    };
    let limit = Duration::from_secs(30);
    // In the way of the first file.
    let path = folder.path().join("slot-000").join(Shelf::name(Kind::Meter, 1));
    std::fs::create_dir(&path).unwrap();
    (0..100).for_each(|_| report());
    assert_eq!(uplink.flush_to(Level::Durable, limit).await, 100);
    std::fs::remove_dir(&path).unwrap();
    let take = || {
        let mut parcels = Vec::new();
        if let Some(lane) = only_lane(&uplink) {
            lane.take(1, None, |parcel| {
                parcels.push(parcel);
                Some(1)
            });
        }
        parcels
    };
    let deliver = |parcels: &[Parcel]| {
        uplink.settle(Kind::Meter, parcels, Seat::Queued, Fate::Acknowledged);
    };
    let passed_by = take();
    assert_eq!(passed_by.len(), 100);
    let (begun, mut left) = (Instant::now(), 100);
    while uplink.spool().unwrap().failing {
        assert!(begun.elapsed() < limit, "the disk can be written");
        deliver(&take());
        report();
        left = uplink.flush_to(Level::Durable, limit).await;
    }
    assert_eq!(left, 100);
    assert_eq!(uplink.books().total.durable, 1, "the last one");
    deliver(&passed_by);
    assert_eq!(uplink.flush_to(Level::Durable, limit).await, 0);
    uplink.abandon(LIMIT);
}
