//! Files that are not sound, or not sound together, are not used: what was in force stays so, the
//! connection stays, the reason is there to be seen; and when they are sound, they are used.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rotation_fixture;
mod support;

use std::error::Error as _;
use std::fs;

use rotation_fixture::*;
use skytls::error::{Code, Error};
use skytls::pki::{Leaf, Profile, Validity};
use skytls::rotation::Failure;

const HOUR: i64 = 3600;

/// The cause underneath.
fn cause(failure: &Failure) -> Code {
    assert_eq!(failure.error.code(), Code::RotationRefused, "{failure:?}");
    failure.error.source().unwrap().downcast_ref::<Error>().unwrap().code()
}

/// Nothing has changed for the records, and it is still the first connection.
async fn nothing_happened(bed: &mut Bed) {
    assert!(bed.report().await.contains("agent 1"));
    assert_eq!((bed.status().generation, bed.connections()), (1, 1));
}

/// The files are renewed and taken.
async fn takes_good_ones(mut bed: Bed) {
    bed.renew(&bed.ca, "agent 2");
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
    assert!(bed.status().failure.is_none());
}

#[tokio::test]
async fn half_a_set_waits_for_the_other_half() {
    let mut bed = Bed::new().await;
    bed.report().await;
    let own = client(&bed.ca, "agent 2");
    bed.folder.replace("client.crt", own.chain_pem(), 0o644);
    let failure = bed.refused(3).await;
    assert_eq!(cause(&failure), Code::KeyMismatch);
    // One failure, however often it was looked at.
    assert!(failure.attempts >= 3, "{failure:?}");
    nothing_happened(&mut bed).await;
    bed.folder.replace("client.pem", own.key_pem(), 0o600);
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
    assert!(bed.status().failure.is_none());
}

#[tokio::test]
async fn garbage_in_any_of_them() {
    let mut bed = Bed::new().await;
    bed.report().await;
    for name in ["ca.crt", "client.crt", "client.pem"] {
        let good = fs::read(bed.folder.join(name)).unwrap();
        for bad in [&b"garbage"[..], b"", &good[..good.len() / 2]] {
            bed.folder.replace(name, bad, 0o600);
            let failure = bed.refused(bed.status().refused + 1).await;
            assert!(failure.error.to_string().contains("generation 1"), "{failure:?}");
            bed.folder.replace(name, &good, 0o600);
            bed.until(|status| status.failure.is_none()).await;
        }
    }
    nothing_happened(&mut bed).await;
    takes_good_ones(bed).await;
}

#[tokio::test]
async fn files_that_have_vanished_weaken_nothing() {
    let mut bed = Bed::new().await;
    bed.report().await;
    for names in [&["ca.crt"][..], &["client.crt", "client.pem"], &["client.pem"]] {
        let kept: Vec<_> =
            names.iter().map(|name| fs::read(bed.folder.join(name)).unwrap()).collect();
        names.iter().for_each(|name| bed.folder.remove(name));
        let failure = bed.refused(bed.status().refused + 1).await;
        assert_eq!(cause(&failure), Code::FileMissing);
        // A connection that is made now shows the same certificate, and demands the same.
        bed.collector.as_ref().unwrap().disconnect();
        assert!(bed.report().await.contains("agent 1"));
        for (name, content) in names.iter().zip(kept) {
            bed.folder.replace(name, content, 0o600);
        }
        bed.until(|status| status.failure.is_none()).await;
    }
    assert_eq!(bed.status().generation, 1);
    takes_good_ones(bed).await;
}

#[tokio::test]
async fn a_leaf_outside_its_dates() {
    let mut bed = Bed::new().await;
    bed.report().await;
    for (from, until, code) in
        [(-2 * HOUR, -HOUR, Code::OwnExpired), (HOUR, 2 * HOUR, Code::OwnNotYetValid)]
    {
        let leaf = Leaf::client("agent 2").unwrap().valid(Validity::relative(from, until));
        let own = bed.ca.issue(&leaf).unwrap();
        bed.folder.replace("client.crt", own.chain_pem(), 0o644);
        bed.folder.replace("client.pem", own.key_pem(), 0o600);
        bed.until(|status| status.failure.as_ref().is_some_and(|failure| cause(failure) == code))
            .await;
    }
    nothing_happened(&mut bed).await;
    takes_good_ones(bed).await;
}

#[tokio::test]
async fn a_chain_with_the_intermediate_of_another() {
    let mut bed = Bed::new().await;
    bed.report().await;
    let middle = |name: &str| bed.ca.intermediate(&Profile::new(name).unwrap()).unwrap();
    let (one, other) = (middle("middle 1"), middle("middle 2"));
    let own = client(&one, "agent 2");
    let wrong = format!("{}{}", own.certificate_pem(), other.certificate_pem());
    bed.folder.replace("client.pem", own.key_pem(), 0o600);
    bed.folder.replace("client.crt", wrong, 0o644);
    let broken = |failure: &Failure| cause(failure) == Code::ChainBroken;
    bed.until(|status| status.failure.as_ref().is_some_and(broken)).await;
    nothing_happened(&mut bed).await;
    bed.folder.replace("client.crt", own.chain_pem(), 0o644);
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
}

#[tokio::test]
async fn who_asks_for_a_reload_is_told_why_not() {
    let mut bed = Bed::with(|_, _| {}, |settings| settings.tls.reload_interval = None).await;
    bed.report().await;
    bed.folder.replace("client.pem", "garbage", 0o600);
    let error = bed.engine.reload().unwrap_err();
    assert_eq!(error.code(), Code::RotationRefused);
    let error = bed.rotator().reload().await.unwrap_err();
    assert!(error.to_string().contains("SKT-206"), "{error}");
    nothing_happened(&mut bed).await;
    bed.renew(&bed.ca, "agent 2");
    assert_eq!(bed.engine.reload().unwrap().unwrap().generation, 2);
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
}

#[tokio::test]
async fn a_file_that_is_written_to_without_end_is_not_read_by_halves() {
    let mut bed = Bed::with(|_, _| {}, |settings| settings.tls.reload_interval = None).await;
    bed.report().await;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let path = bed.folder.join("client.crt");
    let chain = fs::read(&path).unwrap();
    let writer = std::thread::spawn(move || {
        // Sound each time, and never the same twice.
        for comment in 0u64.. {
            let draft = path.with_extension("new");
            fs::write(&draft, [comment.to_string().as_bytes(), b"\n", &chain].concat()).unwrap();
            fs::rename(&draft, &path).unwrap();
            if stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                return;
            }
        }
    });
    let refused = async {
        loop {
            // Now and then it is quick enough to see a set that lasts.
            if let Err(error) = bed.rotator().reload().await {
                return error;
            }
        }
    };
    let error = within(refused).await;
    assert_eq!(cause(&bed.status().failure.unwrap()), Code::FilesChanging, "{error}");
    drop(stop);
    writer.join().unwrap();
    bed.rotator().reload().await.unwrap();
    bed.report().await;
}
