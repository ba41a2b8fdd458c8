//! Transports, collectors to connect to, and waiting for states of the link.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use skytls::config::{Loader, Settings};
use skytls::protocol::v3::InstancePingPkg;
use skytls::protocol::v3::management_service_client::ManagementServiceClient;
use skytls::server::{Collector, CollectorSettings};
use skytls::transport::{State, Target, Transport, Upkeep, targets};

/// Far longer than anything takes: it only keeps a broken test from hanging.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn settings(backends: &[SocketAddr], more: &[(&str, &str)]) -> Settings {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let mut loader =
        Loader::new().environment([]).set("collector.backend_service", backends.join(","));
    for (key, value) in more {
        loader = loader.set(*key, *value);
    }
    loader.load().unwrap().settings
}

pub fn targets_of(backends: &[SocketAddr]) -> Vec<Arc<Target>> {
    let settings = settings(backends, &[]);
    targets(&settings.link, &settings.tls, None).unwrap()
}

pub fn transport(backends: &[SocketAddr]) -> Transport {
    transport_with(backends, &[])
}

pub fn transport_with(backends: &[SocketAddr], more: &[(&str, &str)]) -> Transport {
    let settings = settings(backends, more);
    let targets = targets(&settings.link, &settings.tls, None).unwrap();
    Transport::with(targets, Upkeep::from(&settings.link))
}

pub async fn collector(listen: SocketAddr) -> Collector {
    Collector::start(CollectorSettings { listen, ..CollectorSettings::default() }).await.unwrap()
}

pub fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// An address that nobody listens on: the port was free a moment ago and is held by no one.
pub fn nobody() -> SocketAddr {
    TcpListener::bind(any()).unwrap().local_addr().unwrap()
}

pub async fn keep_alive(transport: &Transport) -> Result<(), tonic::Status> {
    let mut client = ManagementServiceClient::new(transport.clone());
    client.keep_alive(InstancePingPkg::default()).await.map(|_| ())
}

/// Calls until a call is answered.
pub async fn served(transport: &Transport) {
    within(async {
        while transport.ready().await.is_err() || keep_alive(transport).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

/// Waits for a state.
pub async fn until(transport: &Transport, wanted: impl Fn(&State) -> bool) -> State {
    let mut transport = transport.clone();
    let mut seen = Vec::new();
    let met = tokio::time::timeout(DEADLINE, async {
        loop {
            let state = transport.state();
            if wanted(&state) {
                return state;
            }
            seen.push(format!("{state:?}"));
            transport.changed().await;
        }
    })
    .await;
    met.unwrap_or_else(|_| panic!("the states were {seen:#?}"))
}

/// Waits until the collector's counts are as wanted.
pub async fn counted(
    collector: &Collector,
    wanted: impl Fn(&skytls::server::Counts) -> bool + Send,
) {
    assert!(collector.wait_for(wanted, DEADLINE).await, "{:?}", collector.counts());
}
