use std::sync::Arc;

use super::*;
use crate::uplink::DropReason;

fn balances(ledger: &Ledger) {
    let total = ledger.snapshot().total;
    assert_eq!(
        total.accepted + total.recovered,
        total.acknowledged + total.dropped.total() + total.pending
    );
}

fn of(records: u64, bytes: u64) -> Amount {
    Amount { records, bytes }
}

fn acknowledge(ledger: &Ledger, kind: Kind, records: u64, bytes: u64) {
    ledger.settle(kind, of(records, bytes), Seat::Queued, Fate::Acknowledged);
}

#[test]
fn one_kind_leaves_room_for_the_others() {
    let ledger = Ledger::new(100_000, usize::MAX);
    let mut logs = 0;
    while ledger.try_admit(Kind::Log, 904).unwrap().is_some() {
        logs += 1;
    }
    assert_eq!(logs, 80);
    let mut traces = 0;
    while ledger.try_admit(Kind::Trace, 904).unwrap().is_some() {
        traces += 1;
    }
    assert!((15..=20).contains(&traces), "{traces}");
    balances(&ledger);
}

#[test]
fn a_record_larger_than_the_room_is_taken_when_there_is_nothing_else() {
    let ledger = Ledger::new(1000, usize::MAX);
    assert!(ledger.try_admit(Kind::Trace, 5000).unwrap().is_some());
    assert!(ledger.try_admit(Kind::Trace, 1).unwrap().is_none());
    assert!(ledger.try_admit(Kind::Log, 1).unwrap().is_none());
    acknowledge(&ledger, Kind::Trace, 1, 5000);
    assert!(ledger.try_admit(Kind::Log, 5000).unwrap().is_some());
    balances(&ledger);
}

#[tokio::test]
async fn a_large_record_keeps_its_place_before_small_ones_of_its_kind() {
    let ledger = Arc::new(Ledger::new(10_000, usize::MAX));
    while ledger.try_admit(Kind::Trace, 904).unwrap().is_some() {}
    let admit = |len| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.admit(Kind::Trace, len).await.unwrap() })
    };
    let large = admit(50_000);
    tokio::task::yield_now().await;
    let small = admit(1);
    tokio::task::yield_now().await;
    for _ in 0..8 {
        assert!(!large.is_finished() && !small.is_finished());
        acknowledge(&ledger, Kind::Trace, 1, 904);
        tokio::task::yield_now().await;
    }
    let large = large.await.unwrap();
    acknowledge(&ledger, Kind::Trace, 1, 50_000);
    assert!(small.await.unwrap() > large);
}

#[tokio::test]
async fn a_large_record_is_not_starved_by_small_ones_of_other_kinds() {
    let ledger = Arc::new(Ledger::new(100_000, usize::MAX));
    let mut logs = 0;
    while ledger.try_admit(Kind::Log, 904).unwrap().is_some() {
        logs += 1;
    }
    let large = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.admit(Kind::Trace, 90_000).await.unwrap() }
    });
    tokio::task::yield_now().await;
    // As soon as a log has gone, the next one wants in.
    for _ in 0..2 * logs {
        if large.is_finished() {
            return;
        }
        acknowledge(&ledger, Kind::Log, 1, 904);
        assert!(ledger.try_admit(Kind::Log, 904).unwrap().is_none(), "room is kept free");
        tokio::task::yield_now().await;
    }
    panic!("{:?}", ledger.snapshot());
}

#[tokio::test]
async fn whoever_gives_up_waiting_gives_up_the_room_kept_for_it() {
    let ledger = Arc::new(Ledger::new(10_000, usize::MAX));
    while ledger.try_admit(Kind::Log, 904).unwrap().is_some() {}
    let large = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.admit(Kind::Trace, 9_000).await }
    });
    tokio::task::yield_now().await;
    acknowledge(&ledger, Kind::Log, 1, 904);
    assert!(ledger.try_admit(Kind::Log, 904).unwrap().is_none());
    large.abort();
    assert!(large.await.is_err());
    assert!(ledger.try_admit(Kind::Log, 904).unwrap().is_some());
    assert!(!ledger.is_pressed());
}

#[test]
fn lanes_take_room_too() {
    let ledger = Ledger::new(100_000, usize::MAX);
    ledger.try_admit(Kind::Meter, 10).unwrap();
    let mut lanes = 0;
    while ledger.try_admit(Kind::Meter, 10).unwrap().is_some() {
        ledger.charge_lane(Kind::Meter);
        lanes += 1;
        assert!(lanes < 1000);
    }
    assert!(lanes < 50, "{lanes}");
    ledger.discharge_lane(Kind::Meter);
    assert!(ledger.try_admit(Kind::Meter, 10).unwrap().is_some());
}

#[test]
fn what_is_left_at_the_end_is_dropped_once_unless_it_is_in_the_spool() {
    let ledger = Ledger::new(1_000_000, usize::MAX);
    for _ in 0..10 {
        ledger.try_admit(Kind::Trace, 10).unwrap();
    }
    ledger.shift(Kind::Trace, 5, Seat::Queued, Seat::Sent);
    ledger.settle(Kind::Trace, of(3, 30), Seat::Sent, Fate::Acknowledged);
    ledger.settle(Kind::Trace, of(2, 20), Seat::Sent, Fate::Dropped(DropReason::Rejected));
    ledger.set_durable(Kind::Trace, 3);
    ledger.release(Kind::Trace, of(1, 10));
    balances(&ledger);
    assert_eq!(ledger.abandon(), 2);
    acknowledge(&ledger, Kind::Trace, 5, 50);
    let total = ledger.snapshot().total;
    assert_eq!((total.acknowledged, total.dropped.rejected, total.dropped.shutdown), (3, 2, 2));
    assert_eq!((total.pending, total.durable), (3, 3));
    assert_eq!(ledger.try_admit(Kind::Trace, 1).unwrap_err().code(), Code::Stopped);
    balances(&ledger);
}

#[test]
fn records_that_are_in_the_spool_only_take_no_memory() {
    let ledger = Ledger::new(1_000, 3);
    for _ in 0..3 {
        ledger.try_admit(Kind::Trace, 200).unwrap().unwrap();
    }
    assert!(ledger.try_admit(Kind::Trace, 1).unwrap().is_none());
    ledger.set_durable(Kind::Trace, 3);
    ledger.release(Kind::Trace, of(3, 600));
    assert!(ledger.try_admit(Kind::Trace, 1).unwrap().is_some());
    let total = ledger.snapshot().total;
    assert_eq!((total.pending, total.spooled, total.durable), (4, 3, 3));
    assert_eq!(total.pending_bytes, 1 + OVERHEAD);
    let first = ledger.load(Kind::Trace, of(3, 600));
    assert_eq!(first, 5);
    assert_eq!(ledger.snapshot().total.spooled, 0);
    balances(&ledger);
}

#[test]
fn what_is_accepted_ahead_of_the_books_is_in_every_snapshot() {
    const THREADS: u64 = 8;
    const EACH: u64 = 10_000;
    let ledger = Ledger::new(1 << 30, usize::MAX);
    let accepted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    assert!(ledger.try_admit_ahead(Kind::Trace, 904).unwrap());
                    let before = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                    if before.is_multiple_of(50) {
                        let account = ledger.snapshot().total;
                        assert!(account.accepted >= before);
                        assert_eq!(account.pending_bytes, account.pending * 1000);
                        balances(&ledger);
                    }
                    if before.is_multiple_of(3) {
                        ledger.shift(Kind::Trace, 1, Seat::Queued, Seat::Sent);
                        ledger.settle(Kind::Trace, of(1, 904), Seat::Sent, Fate::Acknowledged);
                    }
                }
            });
        }
    });
    let total = ledger.snapshot().total;
    assert_eq!(total.accepted, THREADS * EACH);
    assert_eq!(total.pending, THREADS * EACH - total.acknowledged);
    assert_eq!(ledger.abandon(), total.pending);
    assert_eq!(ledger.try_admit_ahead(Kind::Trace, 1).unwrap_err().code(), Code::Stopped);
    balances(&ledger);
}

#[test]
fn what_was_given_ahead_is_taken_back_when_room_gets_scarce() {
    let traces_beside_a_log = |ahead: bool| {
        let ledger = Ledger::new(100_000, usize::MAX);
        let log = match ahead {
            true => ledger.try_admit_ahead(Kind::Log, 904).unwrap(),
            false => ledger.try_admit(Kind::Log, 904).unwrap().is_some(),
        };
        assert!(log);
        let mut traces = 0;
        while ledger.try_admit(Kind::Trace, 904).unwrap().is_some() {
            traces += 1;
        }
        balances(&ledger);
        traces
    };
    assert_eq!(traces_beside_a_log(true), traces_beside_a_log(false));
}

#[test]
fn as_many_records_are_taken_ahead_as_without() {
    for records in [1, 2, 1500] {
        let ledger = Ledger::new(1 << 30, records);
        let mut taken = 0;
        while ledger.try_admit_ahead(Kind::Trace, 10).unwrap() {
            taken += 1;
        }
        assert_eq!(taken, records);
        ledger.settle(Kind::Trace, of(1, 10), Seat::Queued, Fate::Acknowledged);
        assert!(ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
        assert!(!ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
        balances(&ledger);
    }
}

#[test]
fn a_full_queue_refuses_until_something_moves() {
    let ledger = Ledger::new(1 << 30, 2);
    assert!(ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
    assert!(ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
    for _ in 0..3 {
        assert!(!ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
        ledger.refuse(Kind::Trace);
    }
    assert!(ledger.try_admit_ahead(Kind::Log, 10).unwrap(), "another kind has room");
    // Only what waits is counted: what is sent is not answered for a while.
    ledger.shift(Kind::Trace, 1, Seat::Queued, Seat::Sent);
    assert!(ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
    assert!(!ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
    ledger.settle(Kind::Trace, of(1, 10), Seat::Sent, Fate::Acknowledged);
    assert!(!ledger.try_admit_ahead(Kind::Trace, 10).unwrap());
    let snapshot = ledger.snapshot();
    assert_eq!((snapshot.total.refused, snapshot.total.queued), (3, 3));
    ledger.abandon();
    assert_eq!(ledger.try_admit_ahead(Kind::Trace, 10).unwrap_err().code(), Code::Stopped);
}
