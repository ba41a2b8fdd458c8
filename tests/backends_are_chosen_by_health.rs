//! Backends that work come before those that rest; the one in use stays so while it works; one that
//! failed is looked at in the background and comes back; a fleet spreads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod transport_fixture;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::transport::{BackendState, Ready, State, Transport};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt;

const FAILOVER: Duration = Duration::from_secs(1);
const RECOVERY: Duration = Duration::from_secs(2);

async fn ready(transport: &Transport) -> Ready {
    within(transport.ready()).await.unwrap()
}

/// Waits until a backend is as wanted.
async fn backend_until(
    transport: &Transport,
    backend: SocketAddr,
    wanted: impl Fn(&BackendState) -> bool,
) {
    let mut transport = transport.clone();
    let met = |transport: &Transport| {
        let status = transport.backends();
        status.iter().any(|status| status.backend == backend.to_string() && wanted(&status.state))
    };
    within(async {
        while !met(&transport) {
            transport.backends_changed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_of_three_is_dead() {
    let (one, two) = (collector(any()).await, collector(any()).await);
    let all = [nobody(), one.address(), two.address()];
    for _ in 0..10 {
        let begun = Instant::now();
        let transport = transport(&all);
        let backend = ready(&transport).await.backend;
        assert!(all[1..].iter().any(|address| address.to_string() == backend), "{backend}");
        assert!(begun.elapsed() < FAILOVER, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_next_one_takes_over_within_a_second_and_nothing_is_lost() {
    let received = Received::default();
    let (one, two) = (received.collector(any()).await, received.collector(any()).await);
    let all = [one.address(), two.address()];
    let mut link = Link::with(&settings(&all, &[]), targets_of(&all), received);
    link.feed();
    link.received.fresh().await;
    let in_use = ready(&link.transport).await.backend;
    let (dead, alive) = if in_use == one.address().to_string() { (one, two) } else { (two, one) };
    let begun = Instant::now();
    drop(dead);
    counted(&alive, |counts| counts.received > 0).await;
    assert!(begun.elapsed() < FAILOVER, "{:?}", begun.elapsed());
    link.everything_arrived().await;
}

/// One that accepts and says nothing costs half a second at most, wherever it stands in the row and whether or
/// not it is being tried already.
#[tokio::test]
async fn a_silent_one_ahead_does_not_hold_the_living_up() {
    // The start is random: each of the three has to be the first once.
    let mut begun_with = [false; 3];
    while begun_with != [true; 3] {
        // Whoever connects is in the backlog, and never served.
        let silent = std::net::TcpListener::bind(any()).unwrap();
        let received = Received::default();
        let (one, two) = (received.collector(any()).await, received.collector(any()).await);
        let all = [silent.local_addr().unwrap(), one.address(), two.address()];
        let mut link = Link::with(&settings(&all, &[]), targets_of(&all), received);
        let begun = Instant::now();
        let in_use = ready(&link.transport).await.backend;
        assert!(begun.elapsed() < FAILOVER, "{:?}", begun.elapsed());
        let silent_first = link.transport.connections().values().sum::<usize>() == 2;
        link.feed();
        link.received.fresh().await;
        let (dead, alive, place) =
            if in_use == one.address().to_string() { (one, two, 1) } else { (two, one, 2) };
        begun_with[if silent_first { 0 } else { place }] = true;
        let begun = Instant::now();
        drop(dead);
        counted(&alive, |counts| counts.received > 0).await;
        assert!(begun.elapsed() < FAILOVER, "{place}, {silent_first}: {:?}", begun.elapsed());
        link.everything_arrived().await;
        // The attempt at it is under way still.
        silent.set_nonblocking(true).unwrap();
        let attempts = std::iter::from_fn(|| silent.accept().ok()).count();
        assert!(attempts <= 1, "{attempts}");
    }
}

#[tokio::test]
async fn all_are_dead_and_then_one_is_back() {
    let all = [nobody(), nobody(), nobody()];
    let transport = transport(&all);
    until(&transport, |state| matches!(state, State::Resting { .. })).await;
    for backend in all {
        backend_until(&transport, backend, |state| matches!(state, BackendState::Resting { .. }))
            .await;
    }
    let _back = collector(all[1]).await;
    let begun = Instant::now();
    assert_eq!(ready(&transport).await.backend, all[1].to_string());
    assert!(begun.elapsed() < RECOVERY, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn one_that_failed_is_looked_at_and_comes_back_without_a_change_of_the_connection() {
    let living = collector(any()).await;
    let dead = nobody();
    // The start is random: until one has met the dead one first.
    let transport = within(async {
        loop {
            let transport = transport(&[dead, living.address()]);
            ready(&transport).await;
            let met = |state: &skytls::transport::BackendStatus| {
                matches!(state.state, BackendState::Resting { .. })
            };
            if transport.backends().iter().any(met) {
                return transport;
            }
        }
    })
    .await;
    keep_alive(&transport).await.unwrap();
    let back = collector(dead).await;
    backend_until(&transport, dead, |state| matches!(state, BackendState::Spare)).await;
    counted(&back, |counts| counts.connections == 1 && counts.open_connections == 0).await;
    keep_alive(&transport).await.unwrap();
    assert_eq!(ready(&transport).await.backend, living.address().to_string());
    assert_eq!(back.counts().calls, 0);
}

#[tokio::test]
async fn a_fleet_spreads_over_the_backends() {
    let backends = [collector(any()).await, collector(any()).await, collector(any()).await];
    let addresses = backends.each_ref().map(|backend| backend.address());
    let fleet: Vec<_> = (0..90).map(|_| transport(&addresses)).collect();
    for transport in &fleet {
        ready(transport).await;
    }
    for backend in &backends {
        // 30 are expected; fewer than 8 happen once in ten million runs.
        assert!(backend.counts().connections >= 8, "{:?}", backend.counts());
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_holds_the_others_up_for_a_quarter_second() {
    let living = collector(any()).await;
    let port = living.address().port();
    let silent = Ipv4Addr::new(127, 0, 0, 2);
    let _hole = full_backlog((silent, port).into());
    let settings = settings(&[living.address()], &[]);
    let settings = {
        let mut settings = settings;
        let host = "oap.example".to_owned();
        settings.link.backends = vec![skytls::config::Backend::Tcp { host, port }];
        settings
    };
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let target = skytls::transport::targets(&settings.link, &settings.tls, None).unwrap();
        let addresses = vec![IpAddr::V4(silent), IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let target = target[0].looked_up_by(move |_| Ok(addresses.clone()));
        let begun = Instant::now();
        let transport = Transport::start(vec![Arc::new(target)]);
        let ready = ready(&transport).await;
        assert_eq!(ready.backend, format!("oap.example:{port}"));
        // Which of its addresses it was, and since when.
        assert_eq!(ready.remote, Some(living.address()));
        assert!((begun..=Instant::now()).contains(&ready.since), "{ready:?}");
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < FAILOVER, "{slowest:?}");
    assert_eq!(living.counts().connections, 10);
}

/// The system repeats an unanswered SYN after pauses that double: left alone, it would find a way that is
/// open again four seconds late.
#[tokio::test]
async fn an_address_that_answers_again_is_reached_within_two_seconds() {
    tokio::join!(answers_after(3.2), answers_after(7.2));
}

async fn answers_after(seconds: f64) {
    let (listener, held) = full_backlog(any());
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let transport = transport(&[address]);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    assert!(matches!(transport.state(), State::Connecting), "{:?}", transport.state());
    // Room for others; whoever has waited is gone.
    let begun = Instant::now();
    listener.listen(16).unwrap();
    drop(held);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener.into()).unwrap();
    within(async {
        let mut preface = [0; 14];
        while &preface != b"PRI * HTTP/2.0" {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read_exact(&mut preface).await;
        }
    })
    .await;
    assert!(begun.elapsed() < RECOVERY, "after {seconds} s: {:?}", begun.elapsed());
}

/// A listener that accepts nothing and has no room: whoever connects is not answered.
fn full_backlog(address: SocketAddr) -> (Socket, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if client.connect_timeout(&address.into(), Duration::from_millis(200)).is_err() {
            return (listener, held);
        }
        held.push(client);
    }
}
