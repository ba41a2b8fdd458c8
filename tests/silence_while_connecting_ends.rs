//! A backend that accepts the connection and then says nothing, in the TLS handshake or instead of the
//! HTTP/2 greeting, is left after the stated time; the next one takes over within a second, long before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod support;
mod transport_fixture;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::config::Settings;
use skytls::error::Code;
use skytls::server::Collector;
use support::openssl;
use support::peers::Peer;

/// So long each handshake may take, as `docs/reconnecting.md` says.
const SILENCE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(1);
const FAILOVER: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_tls_handshake() {
    let (tls, received, silent) = (Tls::new("a.example"), Received::default(), Peer::silent());
    let living = tls.collector(&received, any()).await;
    let settings = |backends: &[&str]| tls.settings(backends, &[]);
    is_left(silent.address, &living, received, settings, Code::HandshakeTimedOut).await;
}

/// `openssl s_server` agrees on TLS and on `h2`, and knows no HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instead_of_the_greeting_after_tls() {
    let (tls, received) = (Tls::new("a.example"), Received::default());
    let silent =
        openssl::Peer::server(tls.file("server.crt"), tls.file("server.pem")).h2().listen();
    let living = tls.collector(&received, any()).await;
    let settings = |backends: &[&str]| tls.settings(backends, &[]);
    is_left(silent.address, &living, received, settings, Code::Http2Failed).await;
    silent.process.line("ALPN protocols selected: h2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instead_of_the_greeting_in_plaintext() {
    let (received, silent) = (Received::default(), Peer::silent());
    let living = received.collector(any()).await;
    let plain = |backends: &[&str]| {
        let backends: Vec<_> = backends.iter().map(|backend| backend.parse().unwrap()).collect();
        settings(&backends, &[])
    };
    is_left(silent.address, &living, received, plain, Code::Http2Failed).await;
}

async fn is_left(
    silent: SocketAddr,
    living: &Collector,
    received: Received,
    settings: impl Fn(&[&str]) -> Settings,
    code: Code,
) {
    let (first, second) = (silent.to_string(), living.address().to_string());
    let both = settings(&[&first, &second]);
    let alone = Tls::targets_if_any(&settings(&[&first]));
    let begun = Instant::now();
    let mut link = Link::with(&both, alone, received);
    // The one that is tried stays the first, though there is another now.
    link.transport.replace(Tls::targets_if_any(&both), SLACK);
    link.feed();
    counted(living, |counts| counts.received > 0).await;
    assert!(begun.elapsed() < FAILOVER, "{:?}", begun.elapsed());
    let reason = link.given_up(silent).await;
    let taken = begun.elapsed();
    assert_eq!(reason.code(), code, "{reason:?}");
    assert!((SILENCE..SILENCE + SLACK).contains(&taken), "noticed after {taken:?}");
    link.everything_arrived().await;
}
