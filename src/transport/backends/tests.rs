use super::*;
use crate::config::Loader;
use crate::transport::backoff::FIRST;
use crate::transport::targets;

fn backends(count: u16) -> Backends {
    let names: Vec<String> = (1..=count).map(|port| format!("127.0.0.1:{port}")).collect();
    let loader = Loader::new().environment([]).set("collector.backend_service", names.join(","));
    let settings = loader.load().unwrap().settings;
    let targets = targets(&settings.link, &settings.tls, None).unwrap();
    let mut backends = Backends::new(targets, LONG);
    backends.stick_to(0);
    backends
}

fn fail(backends: &mut Backends, at: usize) -> Instant {
    backends.failed(at, Error::new(Code::ConnectFailed), Hurry::Yes);
    backends.members[at].rests_until().unwrap()
}

#[test]
fn one_without_trouble_comes_before_one_that_has_rested() {
    let mut backends = backends(3);
    let now = Instant::now();
    let free = |_| false;
    assert_eq!(backends.choose(now, free), Some(0));
    let first = fail(&mut backends, 0);
    // The ring begins with it again.
    backends.stick_to(0);
    assert_eq!(backends.choose(first, free), Some(1));
    let second = fail(&mut backends, 1);
    assert_eq!(backends.choose(first.max(second), free), Some(2));
    let third = fail(&mut backends, 2);
    assert_eq!(backends.choose(now, free), None);
    // Then whoever has waited for longest.
    let ends = [first, second, third];
    let earliest = (0..3).min_by_key(|at| ends[*at]);
    assert_eq!(backends.choose(now + LONG, free), earliest);
}

#[test]
fn one_that_is_being_tried_is_passed_over() {
    let mut backends = backends(2);
    let now = Instant::now();
    assert_eq!(backends.choose(now, |at| at == 0), Some(1));
    assert_eq!(backends.choose(now, |_| true), None);
    let rested = fail(&mut backends, 1);
    assert_eq!(backends.choose(rested, |at| at == 0), Some(1));
    assert_eq!(backends.choose(rested, |at| at == 1), Some(0));
}

#[test]
fn an_outage_begins_when_health_ends() {
    let mut backends = backends(1);
    fail(&mut backends, 0);
    fail(&mut backends, 0);
    let attempts = |backends: &Backends| match &backends.status(None)[0].state {
        BackendState::Resting { since, attempts, .. } => Some((*since, *attempts)),
        _ => None,
    };
    let (before, count) = attempts(&backends).unwrap();
    assert_eq!(count, 2);
    backends.is_healthy(0);
    assert_eq!(attempts(&backends), None);
    fail(&mut backends, 0);
    let (after, count) = attempts(&backends).unwrap();
    assert!(after > before);
    assert_eq!(count, 1);
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The rest after a failure at that time.
fn rest(backends: &mut Backends, at: usize, hurry: Hurry, now: Instant) -> Duration {
    backends.failed_at(at, Error::new(Code::ConnectFailed), hurry, now);
    backends.members[at].rests_until().unwrap() - now
}

#[test]
fn rests_are_short_for_the_first_minute_in_which_nothing_works_however_long_one_has_been_away() {
    let mut backends = backends(2);
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    // The first one is away for five minutes, and the second one does the work.
    backends.stick_to(1);
    for seconds in 0..300 {
        rest(&mut backends, 0, Hurry::No, at(seconds));
    }
    backends.hurry_at(at(300));
    assert!(backends.members[0].rests_until().unwrap() <= at(300) + SHORT);
    assert!(rest(&mut backends, 1, Hurry::Yes, at(300)) <= SHORT);
    for seconds in 300..360 {
        let rest = rest(&mut backends, 0, Hurry::Yes, at(seconds));
        assert!(rest <= SHORT, "{rest:?} after {seconds} s");
    }
    // Its twin: that minute is over.
    let longest = (360..420).map(|seconds| rest(&mut backends, 0, Hurry::Yes, at(seconds))).max();
    assert!(longest.unwrap() > SHORT, "{longest:?}");
    // The next outage is another one.
    backends.stick_to(1);
    backends.hurry_at(at(500));
    assert!(rest(&mut backends, 0, Hurry::Yes, at(501)) <= SHORT);
}

#[test]
fn one_that_breaks_soon_after_its_return_has_not_recovered() {
    let mut backends = backends(1);
    let begun = Instant::now();
    let mut told = Vec::new();
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        let now = begun + Duration::from_secs(round);
        longest = longest.max(rest(&mut backends, 0, Hurry::Yes, now));
        if backends.works_at(0, now) == Level::Info {
            told.push(round + 1);
        }
        backends.stick_to(0);
    }
    assert!(longest > FIRST && longest <= SHORT, "{longest:?}");
    assert_eq!(told, [1, 2, 4, 8, 16]);
    // Its twin held for long enough: whatever comes is new, and told.
    let now = begun + DAY;
    backends.is_healthy(0);
    assert!(rest(&mut backends, 0, Hurry::Yes, now) <= FIRST);
    assert_eq!(backends.works_at(0, now), Level::Info);
    // And so is what comes to a spare one that had its trouble long ago.
    let later = now + HEALTHY;
    rest(&mut backends, 0, Hurry::Yes, later);
    assert_eq!(backends.members[0].trouble.as_ref().map(|trouble| trouble.since), Some(later));
}
