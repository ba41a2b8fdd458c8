//! The collector: a stand-in for the SkyWalking backend, for demos and for tests of agents.
//!
//! It takes in every method of the protocol, counts, answers as OAP does, and misbehaves to order. It
//! does not store or decode anything: whoever wants to see the messages sets an [`Observer`], and whoever
//! wants to send commands a [`Responder`].

mod answer;
mod call;
mod counts;
mod fault;
mod listen;
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{IdentitySource, Secret, Source};
use crate::error::{Code, Error, Result};
use crate::protocol::frame::Message;

pub use counts::Counts;
pub use fault::{Effect, Fault};

use counts::Books;
use fault::Orders;

/// How a [`Collector`] is set up; [`Default`] is plaintext on a free port of this machine.
#[derive(Clone)]
pub struct CollectorSettings {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// TLS instead of plaintext.
    pub tls: Option<CollectorTls>,
    /// The token every call must carry in its `authentication` metadata.
    pub authentication: Option<Secret>,
    /// Faults in force from the start.
    pub faults: Vec<Fault>,
    /// Sees every message.
    pub observer: Option<Observer>,
    /// Gives unary calls an answer with content.
    pub responder: Option<Responder>,
    /// How many bytes of one call may be on the way unread.
    pub stream_window: u32,
    /// How many bytes of one connection may be on the way unread.
    pub connection_window: u32,
}

/// What the collector shows of itself and demands of clients in the TLS handshake. Everything else is
/// left to the system's openssl.cnf, but never below TLS 1.2.
#[derive(Debug, Clone)]
pub struct CollectorTls {
    /// The server's chain and key.
    pub identity: IdentitySource,
    /// The CA certificates that client certificates must come from; none are asked for without it.
    pub client_ca: Option<Source>,
}

/// Called for every message once it is counted, on the task that serves the call: while it runs, the
/// call waits.
pub type Observer = Arc<dyn Fn(&CallInfo, &Message) + Send + Sync>;

/// Asked for every unary call that is answered with OK: the encoded answer, or `None` for an empty one.
pub type Responder = Arc<dyn Fn(&CallInfo, &Message) -> Option<Bytes> + Send + Sync>;

/// What is known about the call that a message came in.
#[derive(Debug)]
#[non_exhaustive]
pub struct CallInfo {
    /// The path of the method, such as `/skywalking.v3.EventService/collect`.
    pub path: &'static str,
    /// All request headers.
    pub metadata: HeaderMap,
    /// The connection, counted from 1.
    pub connection: u64,
    /// The call, counted from 1 over all connections.
    pub call: u64,
    /// The client's end of the connection.
    pub remote: SocketAddr,
    /// The subject of the client's certificate, if it showed one.
    pub client_certificate: Option<Arc<str>>,
}

/// A running collector. Dropping it closes the port and every connection at once.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    control: watch::Sender<Control>,
    listener: JoinHandle<()>,
}

/// What all connections have in common.
struct Shared {
    authentication: Option<Secret>,
    observer: Option<Observer>,
    responder: Option<Responder>,
    orders: Orders,
    books: Books,
    stream_window: u32,
    connection_window: u32,
}

/// What the collector tells its connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Control {
    stage: Stage,
    /// How often all connections were closed.
    cuts: u64,
    /// How often all connections were asked to go away.
    goaways: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Serving,
    /// No new connections, no new calls.
    Draining,
    Stopped,
}

// === impl Collector ===

impl Collector {
    /// Opens the port and serves it on the caller's runtime.
    ///
    /// # Errors
    ///
    /// The codes of certificate and key files, [`Code::OpenSslFailed`], [`Code::PortTaken`] and
    /// [`Code::ListenFailed`].
    pub async fn start(settings: CollectorSettings) -> Result<Self> {
        let tls = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        let (socket, address) = listen::bind(settings.listen).await?;
        let shared = Arc::new(Shared {
            authentication: settings.authentication,
            observer: settings.observer,
            responder: settings.responder,
            orders: Orders::new(settings.faults),
            books: Books::default(),
            stream_window: settings.stream_window,
            connection_window: settings.connection_window,
        });
        let (control, told) = watch::channel(Control::default());
        let listener = tokio::spawn(listen::serve(socket, tls, shared.clone(), told));
        Ok(Self { address, shared, control, listener })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has been received so far.
    pub fn counts(&self) -> Counts {
        self.shared.books.counts()
    }

    /// Replaces all faults, for calls that begin from now on. Calls under way keep theirs.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.orders.replace(faults);
    }

    /// Waits until the counts satisfy a condition, at most for `deadline`; says whether they do.
    pub async fn wait_for(
        &self,
        condition: impl Fn(&Counts) -> bool + Send,
        deadline: Duration,
    ) -> bool {
        let reached = self.shared.books.reached(&condition);
        tokio::time::timeout(deadline, reached).await.is_ok()
    }

    /// Closes every connection now, without a word; new ones are welcome.
    pub fn disconnect(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }

    /// Asks every connection to go away (GOAWAY): calls under way may end, new ones need a new
    /// connection.
    pub fn goaway(&self) {
        self.control.send_modify(|control| control.goaways += 1);
    }

    /// Closes the port, lets calls under way end within `grace`, and closes what is left.
    pub async fn shutdown(mut self, grace: Duration) -> Counts {
        self.control.send_modify(|control| control.stage = Stage::Draining);
        if tokio::time::timeout(grace, &mut self.listener).await.is_err() {
            self.control.send_modify(|control| control.stage = Stage::Stopped);
            // It ends by itself: it only waits for connections, and they drop what they have.
            if let Err(error) = (&mut self.listener).await {
                log::error!("the collector's listener failed: {error}");
            }
        }
        self.counts()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.control.send_modify(|control| control.stage = Stage::Stopped);
    }
}

// === impl CollectorSettings ===

impl Default for CollectorSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            authentication: None,
            faults: Vec::new(),
            observer: None,
            responder: None,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
        }
    }
}

impl fmt::Debug for CollectorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorSettings")
            .field("listen", &self.listen)
            .field("tls", &self.tls)
            .field("authentication", &self.authentication)
            .field("faults", &self.faults)
            .field("observer", &self.observer.as_ref().map(|_| "…"))
            .field("responder", &self.responder.as_ref().map(|_| "…"))
            .field("stream_window", &self.stream_window)
            .field("connection_window", &self.connection_window)
            .finish()
    }
}

// === impl Shared ===

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("orders", &self.orders).finish_non_exhaustive()
    }
}

/// The error of a port that cannot be opened.
fn cannot_listen(address: SocketAddr, error: std::io::Error) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::AddrInUse => Code::PortTaken,
        _ => Code::ListenFailed,
    };
    let failed =
        Error::new(code).found(address).expected("a free port of this machine").because(error);
    match code {
        Code::PortTaken => failed.hint("stop the other program, or choose another address"),
        _ => failed,
    }
}
