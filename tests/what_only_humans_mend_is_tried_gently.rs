//! A token or a certificate that is refused is said to be so, is not hammered on, and works again soon
//! after it has been corrected at the backend. A certificate that is replaced by a good one, and TLS that
//! breaks in the middle of a stream, are outages like others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod transport_fixture;

use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::error::Code;
use skytls::server::Fault;
use skytls::transport::State;

const RECOVERY: Duration = Duration::from_secs(2);
const GENTLE: Duration = Duration::from_secs(11);
const PERMISSION_DENIED: u8 = 7;
const UNAUTHENTICATED: u8 = 16;

async fn misconfigured(link: &Link, code: Code) {
    let met = |state: &State| matches!(state, State::Misconfigured { reason, .. } if reason.code() == code);
    until(&link.transport, met).await;
}

#[tokio::test]
async fn a_token_that_is_wrong_and_then_right() {
    for status in [PERMISSION_DENIED, UNAUTHENTICATED] {
        let received = Received::default();
        let backend = received.collector(any()).await;
        backend.set_faults(vec![Fault::status(status)]);
        let address = [backend.address()];
        let link = Link::with(&settings(&address, &[]), targets_of(&address), received);
        link.report(SEGMENTS, 100).await;
        // Meters too: a call that was refused for its token has reached no handler.
        link.report(METERS, 100).await;
        misconfigured(&link, Code::BackendDenies).await;
        let calls = || backend.counts().calls;
        let before = calls();
        let begun = Instant::now();
        counted(&backend, |counts| counts.calls >= before + 6).await;
        // Two lanes with three more tries each, and rests that grow.
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
        assert!(calls() < 40, "{}", calls());
        assert_eq!(backend.counts().connections, 1);
        backend.set_faults(Vec::new());
        let begun = Instant::now();
        within(async {
            while link.uplink.books().total.pending > 0 {
                link.uplink.flush(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert!(begun.elapsed() < GENTLE, "{:?}", begun.elapsed());
        until(&link.transport, |state| matches!(state, State::Ready(_))).await;
        link.everything_arrived().await;
    }
}

#[tokio::test]
async fn one_agents_wrong_token_is_not_the_links_fault() {
    let received = Received::default();
    let backend = received.collector(any()).await;
    let address = [backend.address()];
    let transport = Link::with(&settings(&address, &[]), targets_of(&address), received).transport;
    keep_alive(&transport).await.unwrap();
    backend.set_faults(vec![Fault::status(PERMISSION_DENIED).times(1)]);
    keep_alive(&transport).await.unwrap_err();
    assert!(matches!(transport.state(), State::Ready(_)), "{:?}", transport.state());
}

#[tokio::test]
async fn a_certificate_that_is_wrong_and_then_right() {
    let (right, wrong) = (Tls::new("a.example"), Tls::new("b.example"));
    let received = Received::default();
    let backend = wrong.collector(&received, any()).await;
    let address = backend.address();
    let settings = right.settings(&[&address.to_string()], &[]);
    let mut link = Link::with(&settings, Tls::targets(&settings), received.clone());
    link.feed();
    misconfigured(&link, Code::CertificateUntrusted).await;
    assert_eq!(received.count(), 0);
    drop(backend);
    let _backend = started(&right, &received, address).await;
    let begun = Instant::now();
    received.fresh().await;
    assert!(begun.elapsed() < GENTLE, "{:?}", begun.elapsed());
    link.everything_arrived().await;
}

#[tokio::test]
async fn a_certificate_that_is_replaced_by_another_good_one() {
    let (tls, received) = (Tls::new("a.example"), Received::default());
    let backend = tls.collector(&received, any()).await;
    let address = backend.address();
    // Both CAs are trusted: the second one signs the next certificate.
    let next = Tls::new("a.example");
    tls.trust_also(&next);
    let settings = tls.settings(&[&address.to_string()], &[]);
    let mut link = Link::with(&settings, Tls::targets(&settings), received.clone());
    link.feed();
    received.fresh().await;
    drop(backend);
    let _backend = started(&next, &received, address).await;
    let begun = Instant::now();
    received.fresh().await;
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
    link.everything_arrived().await;
}

#[tokio::test]
async fn an_alert_in_the_middle_of_a_stream() {
    let (tls, received) = (Tls::new("a.example"), Received::default());
    let backend = tls.collector(&received, any()).await;
    let cable = Cable::to(backend.address()).await;
    let settings = tls.settings(&[&cable.address.to_string()], &[]);
    let mut link = Link::with(&settings, Tls::targets(&settings), received.clone());
    link.feed();
    received.fresh().await;
    // The backend finds a record that it cannot decrypt, says so by an alert, and closes.
    cable.set(Manner::Garbles);
    let lost = |state: &State| matches!(state, State::Resting { reason, .. } if format!("{reason:?}").contains("bad record mac"));
    until(&link.transport, lost).await;
    cable.set(Manner::Passes);
    let begun = Instant::now();
    received.fresh().await;
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
    link.everything_arrived().await;
}

/// The port of a collector that was dropped is closed a moment later.
async fn started(
    tls: &Tls,
    received: &Received,
    address: std::net::SocketAddr,
) -> skytls::server::Collector {
    within(async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    tls.collector(received, address).await
}
