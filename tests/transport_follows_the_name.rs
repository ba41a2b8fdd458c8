//! When the addresses of a name change, the connection follows, gently, and the name stays what is
//! verified.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod transport_fixture;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outage_fixture::*;
use skytls::config::Settings;
use skytls::server::{Effect, Fault};
use skytls::transport::{State, Target};

const NAME: &str = "oap.example";
const PERIODICALLY: [(&str, &str); 2] = [
    ("collector.is_resolve_dns_periodically", "true"),
    ("collector.grpc_channel_check_interval", "1"),
];

/// A resolver that gives its answers in turns, and how often it was asked.
#[derive(Clone)]
struct Zone(Arc<Mutex<(Vec<IpAddr>, usize)>>);

impl Zone {
    fn new(address: Ipv4Addr) -> Self {
        Self(Arc::new(Mutex::new((vec![address.into()], 0))))
    }

    /// One address at a time, of several.
    fn alternating(addresses: &[Ipv4Addr]) -> Self {
        let addresses = addresses.iter().copied().map(IpAddr::from).collect();
        Self(Arc::new(Mutex::new((addresses, 0))))
    }

    fn set(&self, address: Ipv4Addr) {
        self.0.lock().unwrap().0 = vec![address.into()];
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn targets(&self, settings: &Settings) -> Vec<Arc<Target>> {
        let look_up = |target: &Arc<Target>| {
            let zone = self.clone();
            Arc::new(target.looked_up_by(move |name| {
                assert_eq!(name, NAME);
                let mut zone = zone.0.lock().unwrap();
                let answer = zone.0[zone.1 % zone.0.len()];
                zone.1 += 1;
                Ok(vec![answer])
            }))
        };
        Tls::targets(settings).iter().map(look_up).collect()
    }
}

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
const AWAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test]
async fn while_connected_if_told_so_and_calls_under_way_end_where_they_began() {
    let (tls, received) = (Tls::new(NAME), Received::default());
    let old = tls.collector(&received, any()).await;
    let port = old.address().port();
    let new = tls.collector(&received, SocketAddr::from((AWAY, port))).await;
    let zone = Zone::new(HOME);
    let settings = tls.settings(&[&format!("{NAME}:{port}")], &PERIODICALLY);
    let mut link = Link::with(&settings, zone.targets(&settings), received);
    link.feed();
    link.received.fresh().await;
    old.set_faults(vec![Fault::new(Effect::Delay(Duration::from_secs(3))).on("keepAlive")]);
    let call = tokio::spawn({
        let transport = link.transport.clone();
        async move { keep_alive(&transport).await }
    });
    counted(&old, |counts| counts.open_connections == 1).await;
    zone.set(AWAY);
    let moved = Instant::now();
    counted(&new, |counts| counts.connections > 0).await;
    // Two intervals, and a handshake.
    assert!(moved.elapsed() < Duration::from_secs(3), "{:?}", moved.elapsed());
    counted(&new, |counts| counts.received > 0).await;
    within(call).await.unwrap().unwrap();
    counted(&old, |counts| counts.open_connections == 0).await;
    assert_eq!(old.counts().calls_broken, 0);
    assert_eq!(link.everything_arrived().await.total.possibly_duplicated, 0);
}

#[tokio::test]
async fn a_name_that_stays_where_it_is_keeps_its_connection() {
    // The other one's resolver tells one of two addresses at a time, and nobody listens on the second.
    for zone in [Zone::new(HOME), Zone::alternating(&[HOME, AWAY])] {
        let (tls, received) = (Tls::new(NAME), Received::default());
        let collector = tls.collector(&received, any()).await;
        let backend = format!("{NAME}:{}", collector.address().port());
        let settings = tls.settings(&[&backend], &PERIODICALLY);
        let mut link = Link::with(&settings, zone.targets(&settings), received);
        link.feed();
        within(async {
            while zone.asked() < 4 {
                link.received.fresh().await;
            }
        })
        .await;
        assert_eq!((zone.asked(), collector.counts().connections), (4, 1));
        link.everything_arrived().await;
    }
}

#[tokio::test]
async fn a_lost_connection_looks_the_name_up_again_without_being_told() {
    let (tls, received) = (Tls::new(NAME), Received::default());
    let old = tls.collector(&received, any()).await;
    let port = old.address().port();
    let new = tls.collector(&received, SocketAddr::from((AWAY, port))).await;
    let zone = Zone::new(HOME);
    let settings = tls.settings(&[&format!("{NAME}:{port}")], &[]);
    let mut link = Link::with(&settings, zone.targets(&settings), received);
    link.feed();
    link.received.fresh().await;
    zone.set(AWAY);
    drop(old);
    let lost = Instant::now();
    counted(&new, |counts| counts.received > 0).await;
    assert!(lost.elapsed() < Duration::from_secs(2), "{:?}", lost.elapsed());
    link.everything_arrived().await;
}

#[tokio::test]
async fn the_name_is_verified_and_not_the_address() {
    let (tls, received) = (Tls::new("another.example"), Received::default());
    // Its certificate is good for the address, and for another name.
    let collector = tls.collector(&received, any()).await;
    let zone = Zone::new(HOME);
    let backend = format!("{NAME}:{}", collector.address().port());
    let settings = tls.settings(&[&backend], &[]);
    let link = Link::with(&settings, zone.targets(&settings), received);
    let state = until(&link.transport, |state| matches!(state, State::Misconfigured { .. })).await;
    assert!(format!("{state:?}").contains("SKT-513"), "{state:?}");
}
