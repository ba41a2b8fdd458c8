//! What `openssl s_server` does to a connection, another TLS stack than the collector's: it closes, it sends
//! an alert, it is killed, it comes back with other certificates. Each is noticed at once, the link is back
//! in a stated time with one attempt for each rest, and what it could not take arrives at the next one.
//!
//! `s_server` knows no HTTP/2. Its first frame, an empty SETTINGS, is typed for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod support;
mod transport_fixture;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::error::{Code, Error};
use skytls::transport::State;
use support::openssl::{Peer, Server};

const NOTICED: Duration = Duration::from_secs(1);
const RECOVERY: Duration = Duration::from_secs(2);
/// A certificate that was refused is tried again this late at the latest.
const GENTLE: Duration = Duration::from_secs(11);

fn server(tls: &Tls) -> Peer {
    Peer::server(tls.file("server.crt"), tls.file("server.pem")).h2()
}

fn link(tls: &Tls, backend: SocketAddr) -> Link {
    let settings = tls.settings(&[&backend.to_string()], &[]);
    let mut link = Link::with(&settings, Tls::targets(&settings), Received::default());
    link.feed();
    link
}

/// Waits until the server has agreed on TLS so many times, greets, and waits until the link stands.
async fn greet(server: &mut Server, link: &Link, times: usize) {
    server.process.lines("CIPHER is", times);
    server.process.send("\0\0\0\x04\0\0\0\0\0");
    until(&link.transport, |state| matches!(state, State::Ready(_))).await;
}

async fn given_up(link: &Link, backend: SocketAddr, since: Instant) -> Error {
    let reason = link.given_up(backend).await;
    assert!(since.elapsed() < NOTICED, "noticed after {:?}", since.elapsed());
    reason
}

/// What nobody has taken up to now arrives at a collector in the server's place.
async fn settle(tls: &Tls, server: Server, link: Link) {
    let address = server.address;
    server.process.signal("KILL");
    server.process.finish();
    let _backend = tls.collector(&link.received, address).await;
    link.everything_arrived().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_closes_in_the_middle_of_a_stream() {
    let tls = Tls::new("a.example");
    let mut server = server(&tls).listen();
    let link = link(&tls, server.address);
    for round in 1..=5 {
        greet(&mut server, &link, round).await;
        // By close_notify, an alert as well.
        server.process.send("q\n");
        let closed = Instant::now();
        let reason = given_up(&link, server.address, closed).await;
        // A call that was to begin just then finds that no more calls are taken.
        let expected = [Code::ConnectionLost, Code::BackendGoesAway];
        assert!(expected.contains(&reason.code()), "{reason:?}");
        server.process.lines("CIPHER is", round + 1);
        assert!(closed.elapsed() < RECOVERY, "{:?}", closed.elapsed());
    }
    // One connection for each time it closed, and the first: nothing was tried in between.
    assert_eq!(server.process.lines("CIPHER is", 6).len(), 6);
    settle(&tls, server, link).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sends_an_alert_in_the_middle_of_a_stream() {
    let tls = Tls::new("a.example");
    let mut server = server(&tls).listen();
    let cable = Cable::to(server.address).await;
    let link = link(&tls, cable.address);
    greet(&mut server, &link, 1).await;
    cable.set(Manner::Garbles);
    let reason = given_up(&link, cable.address, Instant::now()).await;
    assert!(format!("{reason:?}").contains("bad record mac"), "{reason:?}");
    cable.set(Manner::Passes);
    let begun = Instant::now();
    // No handshake has come to its end in between: no ClientHello arrived as it was sent.
    greet(&mut server, &link, 2).await;
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
    settle(&tls, server, link).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_killed_and_its_certificate_replaced() {
    let (tls, next, wrong) = (Tls::new("a.example"), Tls::new("a.example"), Tls::new("a.example"));
    tls.trust_also(&next);
    let mut current = server(&tls).listen();
    let address = current.address;
    let link = link(&tls, address);
    greet(&mut current, &link, 1).await;
    kill(current);
    given_up(&link, address, Instant::now()).await;

    // Another good one is an outage like others.
    let mut current = server(&next).listen_at(address);
    let begun = Instant::now();
    greet(&mut current, &link, 1).await;
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
    kill(current);

    // One that is not trusted is said to be so, and the server hears why.
    let current = server(&wrong).listen_at(address);
    let refused = |state: &State| matches!(state, State::Misconfigured { reason, .. } if reason.code() == Code::CertificateUntrusted);
    until(&link.transport, refused).await;
    current.process.line("unknown ca");
    kill(current);

    let mut current = server(&tls).listen_at(address);
    let begun = Instant::now();
    greet(&mut current, &link, 1).await;
    assert!(begun.elapsed() < GENTLE, "{:?}", begun.elapsed());
    settle(&tls, current, link).await;
}

fn kill(server: Server) {
    server.process.signal("KILL");
    server.process.finish();
}
