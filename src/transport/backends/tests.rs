use super::*;
use crate::config::Loader;
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
