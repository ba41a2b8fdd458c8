//! The transport finds a backend that works, leaves one that does not, and says why it rests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod transport_fixture;

use std::time::Duration;

use skytls::error::Code;
use skytls::transport::State;
use transport_fixture::*;

#[tokio::test]
async fn generated_clients_work_over_it() {
    let collector = collector(any()).await;
    let transport = transport(&[collector.address()]);
    keep_alive(&transport).await.unwrap();
    assert_eq!(collector.counts().received, 1);
}

#[tokio::test]
async fn a_dead_backend_is_left_for_one_that_lives() {
    let living = collector(any()).await;
    for _ in 0..4 {
        // The start is random; either way the living one is found.
        let transport = transport(&[nobody(), living.address()]);
        let ready = within(transport.ready()).await.unwrap();
        assert_eq!(ready.backend, living.address().to_string());
    }
}

#[tokio::test]
async fn it_comes_back_when_the_backend_does() {
    let first = collector(any()).await;
    let address = first.address();
    let transport = transport(&[address]);
    keep_alive(&transport).await.unwrap();
    first.shutdown(Duration::ZERO).await;
    let State::Resting { reason, .. } =
        until(&transport, |state| matches!(state, State::Resting { .. })).await
    else {
        unreachable!()
    };
    assert!(matches!(reason.code(), Code::ConnectRefused | Code::ConnectionLost), "{reason:?}");
    // While it rests, calls fail at once and say why.
    let second = collector(address).await;
    within(transport.ready()).await.unwrap();
    keep_alive(&transport).await.unwrap();
    assert_eq!(second.counts().received, 1);
}

#[tokio::test]
async fn while_it_rests_calls_fail_with_the_reason() {
    let transport = transport(&[nobody()]);
    until(&transport, |state| matches!(state, State::Resting { .. })).await;
    // The first rests are short: ask until one of them is met.
    let status = within(async {
        loop {
            let status = keep_alive(&transport).await.unwrap_err();
            if status.code() != tonic::Code::Cancelled {
                return status;
            }
        }
    })
    .await;
    let chain = format!("{status:?}");
    assert!(chain.contains("SKT-402"), "{chain}");
}

#[tokio::test]
async fn a_stopped_transport_says_so() {
    let collector = collector(any()).await;
    let transport = transport(&[collector.address()]);
    keep_alive(&transport).await.unwrap();
    transport.stop();
    until(&transport, |state| matches!(state, State::Stopped)).await;
    assert_eq!(transport.ready().await.unwrap_err().code(), Code::Stopped);
    assert!(keep_alive(&transport).await.is_err());
}

#[tokio::test]
async fn a_backend_that_accepts_and_closes_is_not_spun_on() {
    let listener = tokio::net::TcpListener::bind(any()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let transport = transport(&[address]);
    let mut accepted = 0;
    // 1.5 seconds of closing each connection at once.
    let _ = tokio::time::timeout(Duration::from_millis(1500), async {
        loop {
            drop(listener.accept().await.unwrap());
            accepted += 1;
        }
    })
    .await;
    assert!((2..40).contains(&accepted), "{accepted} attempts");
    let State::Resting { reason, .. } =
        until(&transport, |state| matches!(state, State::Resting { .. })).await
    else {
        unreachable!()
    };
    assert_eq!(reason.stage(), skytls::error::Stage::Http2, "{reason:?}");
}
