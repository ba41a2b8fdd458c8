//! The relay: local agents' gRPC in, records and calls out through the engine.
//!
//! Reports of client streams are queued and answered by the relay; unary and bidirectional calls
//! pass through with their metadata and the backend's own answer, and while the backend is away the
//! relay stands in for it; anything that is not SkyWalking's is answered with UNIMPLEMENTED. Nothing here knows how the way to the backend is protected.

mod answer;
mod complaints;
mod connection;
mod greeting;
mod gulp;
mod intake;
mod listener;
mod metadata;
mod outage;
mod pass;
mod room;
mod rotation;
mod route;
mod socket;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{Backend, ListenerLimits, RelayAck, Settings, reached};
use crate::error::{Code, Error, Result};
use crate::rotation::{Rotator, Rotor};
use crate::transport::Transport;
use crate::uplink::Uplink;

use complaints::Complaints;
use listener::Listener;
use metadata::Policy;
use outage::Outage;
use room::Room;

pub use outage::StandIn;

pub(crate) use listener::{Listener as OpenListener, open as open_listeners};

/// As errors call the addresses.
const LISTEN: &str = "relay.listen";

/// A relay that accepts local agents.
#[derive(Debug)]
pub struct Relay {
    addresses: Vec<SocketAddr>,
    sockets: Vec<PathBuf>,
    course: watch::Sender<Course>,
    listeners: JoinSet<()>,
    rotor: Option<Rotor>,
    desk: Arc<Desk>,
}

/// What every call needs.
#[derive(Debug)]
struct Desk {
    uplink: Uplink,
    transport: Transport,
    policy: Policy,
    complaints: Complaints,
    outage: Outage,
    ack: RelayAck,
    limits: ListenerLimits,
    /// For messages that are still arriving.
    room: Room,
    /// For what is under way to streams that nobody reads for the moment.
    unread: Room,
    /// One for each connection that may be open.
    doors: Arc<Semaphore>,
    /// How long the backend may take to answer a unary call.
    timeout: Duration,
}

/// What the connections are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Serve,
    /// No new calls; those under way may end.
    Drain,
    /// No more time.
    Cut,
}

// === impl Relay ===

impl Relay {
    /// Opens the listeners and begins to accept on the runtime of `handle`.
    ///
    /// # Errors
    ///
    /// When an address is taken, a backend turns out to be the relay itself, or a file of the
    /// listener's TLS is faulty.
    pub fn start(
        settings: &Settings,
        uplink: Uplink,
        transport: Transport,
        handle: &Handle,
    ) -> Result<Self> {
        let _entered = handle.enter();
        // Before a port is open: nobody must find one without its protection.
        let (tls, rotor) = match &settings.relay.tls {
            Some(tls) => {
                rotation::start(settings, tls).map(|(tls, rotor)| (Some(tls), Some(rotor)))?
            }
            None => (None, None),
        };
        let listeners = listener::open(&settings.relay.listen, settings.relay.unix_mode, LISTEN)?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(Listener::address).collect();
        let sockets = listeners.iter().filter_map(Listener::path).map(PathBuf::from).collect();
        refuse_itself(settings, &addresses, &listeners)?;
        let desk = Arc::new(Desk {
            uplink,
            transport,
            policy: Policy::new(settings),
            complaints: Complaints::default(),
            outage: Outage::default(),
            ack: settings.relay.ack,
            limits: settings.relay.limits,
            room: Room::new(settings.relay.limits.partial),
            unread: Room::new(settings.relay.limits.unread.max(connection::UNREAD)),
            doors: Arc::new(Semaphore::new(settings.relay.limits.connections)),
            timeout: settings.link.upstream_timeout,
        });
        handle.spawn(outage::watch(Arc::downgrade(&desk), desk.transport.clone()));
        let (course, watched) = watch::channel(Course::Serve);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn_on(listener.run(tls.clone(), desk.clone(), watched.clone()), handle);
        }
        Ok(Self { addresses, sockets, course, listeners: tasks, rotor, desk })
    }

    /// The addresses that are listened on, with the ports the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The Unix sockets that are listened on.
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// The rotation of the listener's certificate and client CA; `None` for plaintext.
    pub fn rotator(&self) -> Option<&Rotator> {
        self.rotor.as_ref().map(Rotor::handle)
    }

    /// What was answered in place of the backend.
    pub fn stand_in(&self) -> StandIn {
        self.desk.outage.tally()
    }

    /// The same for whoever looks at it later; it does not keep the relay alive.
    pub(crate) fn watcher(&self) -> impl Fn() -> Option<StandIn> + Send + Sync + 'static {
        let desk = Arc::downgrade(&self.desk);
        move || desk.upgrade().map(|desk| desk.outage.tally())
    }

    /// Stops accepting and lets calls under way end, at most for `limit`; then they are cut. What
    /// they have reported completely is queued in either case.
    pub async fn drain(mut self, limit: Duration) {
        self.course.send_replace(Course::Drain);
        let ended = timeout(limit, async { while self.listeners.join_next().await.is_some() {} });
        if ended.await.is_err() {
            self.course.send_replace(Course::Cut);
            while self.listeners.join_next().await.is_some() {}
        }
    }
}

/// A relay that sends to itself would multiply each record for ever. The settings already refuse
/// the obvious spellings; names and chosen ports show only now.
fn refuse_itself(
    settings: &Settings,
    listening: &[SocketAddr],
    listeners: &[Listener],
) -> Result<()> {
    let itself = |backend: &Backend| {
        Error::new(Code::BackendIsListener)
            .key("collector.backend_service")
            .found(backend)
            .expected("another address than relay.listen")
    };
    for backend in &settings.link.backends {
        let (host, port) = match backend {
            Backend::Tcp { host, port } => (host, port),
            Backend::Unix(path) if listeners.iter().any(|listener| listener.is_at(path)) => {
                return Err(itself(backend));
            }
            Backend::Unix(_) => continue,
        };
        if !listening.iter().any(|address| address.port() == *port) {
            continue;
        }
        // A name that cannot be resolved now is the transport's to complain about.
        let Ok(found) = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), *port)) else {
            continue;
        };
        for address in found {
            if listening.iter().any(|own| same_place(own, &address)) {
                return Err(itself(backend));
            }
        }
    }
    Ok(())
}

fn same_place(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.port() == other.port() && reached(one.ip()) == reached(other.ip())
}
