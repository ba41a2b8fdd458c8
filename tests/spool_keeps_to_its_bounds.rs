//! The spool stays within its size, its age and its speed; what that costs is counted, and who may
//! read it, and when it is refused, is as documented.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use grpc_client::{Client, SEGMENTS, framed, request};
use relay_fixture::{DEADLINE, Fixture, assert_balanced};
use skytls::config::{Loader, SpoolSettings};
use skytls::engine::{Engine, Purpose};
use skytls::error::Code;
use skytls::server::{Collector, Effect, Fault};
use skytls::uplink::{Level, Snapshot};

/// A relay with a spool whose backend takes no records.
fn held(settings: &[(&str, &str)]) -> Fixture {
    let fixture = Fixture::with(&[&[("spool.path", "spool")], settings].concat(), |_| {});
    // UNAVAILABLE: everything waits.
    fixture.set_faults(vec![Fault::status(14)]);
    fixture
}

async fn report(client: &mut Client, path: &str, records: std::ops::Range<u64>) {
    assert_eq!(status(client, path, records).await, Some(0));
}

async fn status(client: &mut Client, path: &str, records: std::ops::Range<u64>) -> Option<u8> {
    let chunks = records.map(|number| {
        let mut data = vec![b'x'; 700];
        data[..8].copy_from_slice(&number.to_be_bytes());
        framed(&data)
    });
    client.call(request(path, &[]), chunks).await.unwrap().status
}

/// Waits until the books are as wanted.
async fn until(fixture: &Fixture, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let begun = Instant::now();
    loop {
        let books = fixture.books();
        assert_balanced(&books);
        if wanted(&books) {
            return books;
        }
        assert!(begun.elapsed() < DEADLINE, "{books:?}");
        tokio::task::yield_now().await;
    }
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        // Removed meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[test]
fn memory_stays_small_while_the_spool_takes_what_comes() {
    let fixture = held(&[("buffer.max_bytes", "262144")]);
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for batch in 0..40 {
            report(&mut client, SEGMENTS, batch * 100..batch * 100 + 100).await;
            assert!(fixture.books().total.pending_bytes <= 262_144);
        }
        let books = until(&fixture, |books| books.total.durable == 4000).await.total;
        assert_eq!(books.pending, 4000);
        assert!(books.spooled > 3000, "{books:?}");
        fixture.set_faults(Vec::new());
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.total()), (4000, 0));
        let numbers: std::collections::BTreeSet<_> =
            fixture.seen(SEGMENTS).into_iter().map(|seen| seen.data).collect();
        assert_eq!(numbers.len(), 4000);
    });
}

#[test]
fn a_full_spool_slows_the_agents_down_and_drops_nothing() {
    let fixture = held(&[("buffer.max_bytes", "131072"), ("spool.max_bytes", "1048576")]);
    let spool = fixture.folder.path().join("spool");
    fixture.runtime.block_on(async {
        let address = fixture.address();
        let sending = tokio::spawn(async move {
            let mut client = Client::plain(address).await;
            for batch in 0..30 {
                report(&mut client, SEGMENTS, batch * 100..batch * 100 + 100).await;
            }
        });
        until(&fixture, |_| {
            fixture.engine.as_ref().unwrap().uplink().spool().unwrap().bytes > 700_000
        })
        .await;
        // Long enough to have sent all of it, had it been taken.
        let more = until(&fixture, |books| books.total.accepted >= 3000);
        assert!(tokio::time::timeout(Duration::from_secs(2), more).await.is_err());
        assert!(size_of(&spool) <= 1_048_576, "{}", size_of(&spool));
        assert!(!sending.is_finished());
        fixture.set_faults(Vec::new());
        sending.await.unwrap();
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.total(), books.refused), (3000, 0, 0));
    });
}

#[test]
fn a_full_spool_gives_up_the_oldest_records_when_told_to_and_counts_them() {
    let settings = [
        ("buffer.max_bytes", "131072"),
        ("spool.max_bytes", "1048576"),
        ("buffer.on_full", "drop_oldest"),
    ];
    let fixture = held(&settings);
    let spool = fixture.folder.path().join("spool");
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for batch in 0..50 {
            report(&mut client, SEGMENTS, batch * 100..batch * 100 + 100).await;
            assert!(size_of(&spool) <= 1_048_576, "{}", size_of(&spool));
        }
        let books = until(&fixture, |books| books.total.dropped.displaced > 0).await.total;
        assert_eq!((books.accepted, books.refused), (5000, 0));
        fixture.set_faults(Vec::new());
        let books = fixture.settled().await.total;
        assert_eq!(books.acknowledged + books.dropped.displaced, 5000);
        let numbers: Vec<u64> = fixture
            .seen(SEGMENTS)
            .iter()
            .map(|seen| u64::from_be_bytes(seen.data[..8].try_into().unwrap()))
            .collect();
        assert!((4900..5000).all(|number| numbers.contains(&number)), "the newest are kept");
    });
}

#[test]
fn records_that_are_too_old_are_given_up_and_counted() {
    let fixture = held(&[("buffer.max_bytes", "131072"), ("spool.max_age", "1")]);
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..1000).await;
        let books = until(&fixture, |books| books.total.pending == 0).await.total;
        assert_eq!((books.accepted, books.dropped.expired), (1000, 1000));
        fixture.set_faults(Vec::new());
        report(&mut client, SEGMENTS, 1000..1010).await;
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.expired), (10, 1000));
    });
}

#[test]
fn what_is_left_from_before_comes_back_no_faster_than_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let spool = spool.to_str().unwrap();
    let fixture = held(&[("spool.path", spool)]);
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..300).await;
    });
    assert_eq!(fixture.stop(Duration::ZERO), 0);
    let fixture = Fixture::with(&[("spool.path", spool), ("spool.replay_rate", "200")], |_| {});
    let begun = Instant::now();
    fixture.runtime.block_on(async {
        let books = fixture.settled().await.total;
        assert_eq!((books.recovered, books.acknowledged), (300, 300));
    });
    // A tenth of a second's worth may come at once.
    assert!(begun.elapsed() >= Duration::from_millis(1300), "{:?}", begun.elapsed());
}

#[test]
fn folders_and_files_are_for_their_owner_only() {
    let fixture = held(&[]);
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..10).await;
    });
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let root = fixture.folder.path().join("spool");
    let slot = root.join("slot-000");
    assert_eq!((mode(&root), mode(&slot)), (0o700, 0o700));
    let files: Vec<_> = std::fs::read_dir(&slot).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() >= 2);
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
}

#[test]
fn a_spool_that_cannot_be_used_or_is_newer_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let start = |path: &Path| {
        let loaded = Loader::new()
            .environment([])
            .set("collector.backend_service", "127.0.0.1:1")
            .set("spool.path", path.display().to_string())
            .load()
            .unwrap();
        Engine::start(&loaded.settings, Purpose::Library).map(drop)
    };
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(start(&file).unwrap_err().code(), Code::SpoolUnusable);
    assert!(start(&folder.path().join("new")).is_ok());
    // Another folder: a dropped engine may hold its slot for a moment longer.
    let spool = folder.path().join("newer");
    std::fs::create_dir_all(spool.join("slot-000")).unwrap();
    let newer = [b"SKTSPOOL", &3_u32.to_le_bytes()[..], &[0; 100]].concat();
    let path = spool.join("slot-000").join("trace-000000000001.log");
    std::fs::write(&path, &newer).unwrap();
    let error = start(&spool).unwrap_err();
    assert_eq!((error.code(), error.exit_code()), (Code::SpoolNewer, 2));
    assert_eq!(std::fs::read(&path).unwrap(), newer, "it is left as it was");
}

#[test]
fn answers_wait_for_the_backend_when_told_to() {
    let fixture = held(&[("relay.ack", "delivered"), ("buffer.max_bytes", "65536")]);
    fixture.runtime.block_on(async {
        let address = fixture.address();
        let answer = tokio::spawn(async move {
            let mut client = Client::plain(address).await;
            status(&mut client, SEGMENTS, 0..500).await
        });
        until(&fixture, |books| books.total.durable == 500).await;
        assert!(!answer.is_finished());
        assert!(fixture.books().total.spooled > 0, "most of it is not in memory");
        fixture.set_faults(Vec::new());
        assert_eq!(answer.await.unwrap(), Some(0));
        assert_eq!(fixture.books().total.acknowledged, 500);
        // What is refused for good is not answered as delivered.
        fixture.set_faults(vec![Fault::status(12)]);
        let mut client = Client::plain(address).await;
        assert_ne!(status(&mut client, SEGMENTS, 500..510).await, Some(0));
    });
}

#[test]
fn a_library_can_wait_until_its_records_are_durable_or_delivered() {
    let mut fixture = Fixture::new();
    fixture.set_faults(vec![Fault::new(Effect::Hang)]);
    let relay = fixture.relay.take().unwrap();
    fixture.runtime.block_on(relay.drain(Duration::ZERO));
    fixture.engine.take().unwrap().stop(Duration::ZERO);
    let backend = fixture.collector().address().to_string();
    fixture.start_relay(&backend, &[("spool.path", "spool")]);
    let uplink = fixture.engine.as_ref().unwrap().uplink().clone();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        report(&mut client, SEGMENTS, 0..100).await;
        assert_eq!(uplink.flush_to(Level::Durable, DEADLINE).await, 0);
        let brief = Duration::from_millis(100);
        assert_eq!(uplink.flush_to(Level::Delivered, brief).await, 100);
        fixture.set_faults(Vec::new());
        fixture.collector().disconnect();
        assert_eq!(uplink.flush_to(Level::Delivered, DEADLINE).await, 0);
    });
}

#[test]
fn records_of_one_stream_keep_together_through_the_spool() {
    let goes = "/skywalking.v3.ProfileTask/goProfileReport";
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let spool = spool.to_str().unwrap();
    let fixture = held(&[("spool.path", spool)]);
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let calls: Vec<_> = (0..3).map(|_| client.open(request(goes, &[]))).collect();
        for part in 0..40_u8 {
            for (stream, call) in calls.iter().enumerate() {
                let data = [&[u8::try_from(stream).unwrap(), part][..], &[0; 700]].concat();
                call.send.send(framed(&data)).await.unwrap();
            }
        }
        for call in calls {
            assert_eq!(call.finish().await.unwrap().status, Some(0));
        }
    });
    assert_eq!(fixture.stop(Duration::ZERO), 0);
    let fixture = Fixture::with(&[("spool.path", spool)], |_| {});
    fixture.runtime.block_on(async {
        let books = fixture.settled().await.total;
        assert_eq!((books.recovered, books.acknowledged, books.dropped.total()), (120, 120, 0));
    });
    let seen = fixture.seen(goes);
    for stream in 0..3 {
        let parts: Vec<_> = seen.iter().filter(|seen| seen.data[0] == stream).collect();
        assert_eq!(parts.len(), 40);
        assert!(parts.windows(2).all(|pair| pair[0].call == pair[1].call), "one call");
        assert!(parts.is_sorted_by_key(|seen| seen.data[1]));
    }
}

#[test]
fn the_outage_of_a_backend_is_bridged_by_the_disk() {
    let mut fixture =
        Fixture::with(&[("spool.path", "spool"), ("buffer.max_bytes", "131072")], |_| {});
    let address = fixture.collector().address();
    let collector = fixture.collector.take().unwrap();
    fixture.runtime.block_on(collector.shutdown(Duration::ZERO));
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for batch in 0..30 {
            report(&mut client, SEGMENTS, batch * 100..batch * 100 + 100).await;
        }
    });
    let settings = fixture.collector_again(address);
    fixture.collector = Some(fixture.runtime.block_on(Collector::start(settings)).unwrap());
    fixture.runtime.block_on(async {
        let books = fixture.settled().await.total;
        assert_eq!((books.acknowledged, books.dropped.total()), (3000, 0));
    });
}

#[test]
fn settings_of_the_spool_are_read() {
    let load = |lines: &[(&str, &str)]| -> Option<SpoolSettings> {
        let loader = Loader::new().environment([]).directory("/agent");
        let loader = lines.iter().fold(loader, |loader, (key, value)| loader.set(*key, *value));
        loader.load().unwrap().settings.spool
    };
    assert_eq!(load(&[]), None);
    let spool = load(&[("spool.path", "var/spool"), ("spool.max_age", "60")]).unwrap();
    assert_eq!(spool.path, Path::new("/agent/var/spool"));
    assert_eq!(spool.max_age, Some(Duration::from_secs(60)));
    assert_eq!((spool.max_bytes, spool.replay_rate), (1_073_741_824, None));
    assert_eq!(load(&[("spool.path", "/var/x")]).unwrap().path, Path::new("/var/x"));
}
