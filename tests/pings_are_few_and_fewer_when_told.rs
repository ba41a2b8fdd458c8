//! HTTP/2 pings go out only if they are set, only while a call is open, and less often once the backend
//! has complained.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod raw_http2;
mod transport_fixture;

use std::time::{Duration, Instant};

use raw_http2::{Sign, pinged};
use skytls::config::{Loader, WarningKind};
use skytls::transport::State;
use tokio::sync::mpsc::UnboundedReceiver;
use transport_fixture::*;

const EVERY_SECOND: (&str, &str) = ("collector.keepalive_interval", "1");

async fn next(signs: &mut UnboundedReceiver<Sign>) -> Sign {
    within(signs.recv()).await.unwrap()
}

async fn connected(signs: &mut UnboundedReceiver<Sign>) -> Instant {
    loop {
        if let Sign::Connected(at) = next(signs).await {
            return at;
        }
    }
}

async fn ping(signs: &mut UnboundedReceiver<Sign>) -> Instant {
    loop {
        if let Sign::Ping(at) = next(signs).await {
            return at;
        }
    }
}

/// A call that is never answered, for as long as the test lasts.
fn call(transport: &skytls::transport::Transport) {
    let transport = transport.clone();
    tokio::spawn(async move {
        loop {
            let _ = transport.ready().await;
            let _ = keep_alive(&transport).await;
        }
    });
}

#[tokio::test]
async fn only_while_a_call_is_open() {
    let (address, mut signs) = pinged(usize::MAX).await;
    let transport = transport_with(&[address], &[EVERY_SECOND]);
    connected(&mut signs).await;
    within(transport.ready()).await.unwrap();
    let idle = tokio::time::timeout(Duration::from_millis(2500), signs.recv()).await;
    assert!(idle.is_err(), "{idle:?}");
    call(&transport);
    let (first, second) = (ping(&mut signs).await, ping(&mut signs).await);
    assert!(second - first >= Duration::from_millis(900), "{:?}", second - first);
}

#[tokio::test]
async fn none_at_all_unless_they_are_set() {
    let (address, mut signs) = pinged(usize::MAX).await;
    let transport = transport(&[address]);
    connected(&mut signs).await;
    call(&transport);
    let silence = tokio::time::timeout(Duration::from_millis(2500), signs.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test]
async fn half_as_often_after_a_complaint() {
    let (address, mut signs) = pinged(1).await;
    let transport = transport_with(&[address], &[EVERY_SECOND]);
    call(&transport);
    connected(&mut signs).await;
    let state = until(&transport, |state| matches!(state, State::Resting { .. })).await;
    assert!(format!("{state:?}").contains("SKT-605"), "{state:?}");
    let again = connected(&mut signs).await;
    let next = ping(&mut signs).await;
    assert!(next - again >= Duration::from_millis(1900), "{:?}", next - again);
}

#[test]
fn an_interval_that_oap_does_not_tolerate_is_warned_about() {
    let warnings = |interval: &str| {
        let loader = Loader::new().environment([]).set("collector.backend_service", "127.0.0.1:1");
        loader.set("collector.keepalive_interval", interval).load().unwrap().warnings
    };
    let frequent =
        |interval| warnings(interval).iter().any(|w| w.kind == WarningKind::KeepaliveTooFrequent);
    assert!(frequent("1") && frequent("299"));
    assert!(!frequent("0") && !frequent("300"));
}
