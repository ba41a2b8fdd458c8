//! The port and its connections: accept, handshake, HTTP/2, and the end of each.
//!
//! It knows nothing of messages; what happens in a call is decided in [`super::call`].

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_openssl::SslStream;

use super::{Control, Shared, Stage, call, cannot_listen};
use crate::error::Result;
use crate::tls::{Acceptor, agreed_to_h2, client_subject};

/// One connection, as its calls see it.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) remote: SocketAddr,
    pub(super) client_certificate: Option<Arc<str>>,
    /// Messages over all its calls.
    pub(super) messages: AtomicU64,
    closed: AtomicBool,
    close: Notify,
    going_away: AtomicBool,
    goaway: Notify,
}

/// Takes a connection off the list of open ones, however its task ends.
struct Open(Arc<Shared>);

/// A client that connects and says nothing is let go after this time.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Pause after a failed accept: when file descriptors run out, trying at once only burns the CPU.
const PAUSE: Duration = Duration::from_millis(50);

/// OAP sets no limit. This one is beyond what an agent opens, and below what fills the memory.
const CALLS_PER_CONNECTION: u32 = 16_384;

/// TLS records are read in one go up to here, instead of two system calls for each.
const READ_BUFFER: usize = 64 << 10;

/// Opens the port.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let failed = |error| cannot_listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// Serves the port until it is told to stop, then waits for the connections.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Acceptor>,
    shared: Arc<Shared>,
    mut told: watch::Receiver<Control>,
) {
    let mut connections = JoinSet::new();
    while stage(&told) == Stage::Serving {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    let number = shared.books.connected();
                    let open = Open(shared.clone());
                    let serve = connection(stream, remote, number, tls.clone(), open, told.clone());
                    connections.spawn(serve);
                }
                Err(error) => {
                    log::warn!("the collector cannot accept a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // Fails when the collector is gone, which `stage` notices.
            _ = told.changed() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn stage(told: &watch::Receiver<Control>) -> Stage {
    // The sender is dropped only after it has said `Stopped`.
    told.borrow().stage
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    number: u64,
    tls: Option<Acceptor>,
    open: Open,
    mut told: watch::Receiver<Control>,
) {
    let shared = &open.0;
    let start = *told.borrow_and_update();
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("connection {number} from {remote}: {error}");
    }
    let Some(acceptor) = tls else {
        let connection = Arc::new(Connection::new(number, remote, None));
        return http2(stream, shared, connection, told, start).await;
    };
    let secured = tokio::select! {
        secured = tokio::time::timeout(HANDSHAKE, secure(stream, &acceptor)) => secured,
        () = interrupted(&mut told, start) => return,
    };
    let stream = match secured {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            log::debug!("connection {number} from {remote}: TLS handshake: {error}");
            return shared.books.handshake_failed();
        }
        Err(_) => {
            log::debug!("connection {number} from {remote}: TLS handshake timed out");
            return shared.books.handshake_failed();
        }
    };
    let ssl = stream.ssl();
    if !agreed_to_h2(ssl) {
        log::debug!("connection {number} from {remote}: the client did not offer HTTP/2 by ALPN");
        return shared.books.handshake_failed();
    }
    let subject: Option<Arc<str>> = client_subject(ssl).map(Arc::from);
    let cipher = ssl.current_cipher().map(|cipher| cipher.name());
    shared.books.secured(ssl.version_str(), cipher, subject.as_deref());
    let connection = Arc::new(Connection::new(number, remote, subject));
    http2(stream, shared, connection, told, start).await;
}

async fn secure(
    stream: TcpStream,
    acceptor: &Acceptor,
) -> Result<SslStream<BufReader<TcpStream>>, openssl::ssl::Error> {
    let mut stream =
        SslStream::new(acceptor.ssl()?, BufReader::with_capacity(READ_BUFFER, stream))?;
    Pin::new(&mut stream).accept().await?;
    Ok(stream)
}

/// Returns when a handshake is not worth finishing.
async fn interrupted(told: &mut watch::Receiver<Control>, start: Control) {
    let over = |now: &Control| now.stage != Stage::Serving || now.cuts != start.cuts;
    // An error means that the collector is gone.
    let _ = told.wait_for(over).await;
}

/// Speaks HTTP/2 until either side ends it. When this returns, the stream is dropped with it.
async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: &Arc<Shared>,
    connection: Arc<Connection>,
    mut told: watch::Receiver<Control>,
    start: Control,
) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(shared.stream_window)
        .initial_connection_window_size(shared.connection_window)
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .auto_date_header(false);
    let service = service_fn({
        let shared = shared.clone();
        let connection = connection.clone();
        move |request| call::serve(shared.clone(), connection.clone(), request)
    });
    let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut goaways = start.goaways;
    loop {
        let now = *told.borrow_and_update();
        if now.stage == Stage::Stopped || now.cuts != start.cuts {
            break;
        }
        if now.stage == Stage::Draining || now.goaways != goaways {
            goaways = now.goaways;
            http.as_mut().graceful_shutdown();
        }
        tokio::select! {
            result = http.as_mut() => {
                if let Err(error) = result {
                    log::debug!("connection {} from {}: {error}", connection.number, connection.remote);
                }
                break;
            }
            () = connection.close.notified() => break,
            () = connection.goaway.notified() => http.as_mut().graceful_shutdown(),
            changed = told.changed() => if changed.is_err() {
                break;
            },
        }
    }
    // Calls that still hold data of the dropped connection must not count it.
    connection.closed.store(true, Relaxed);
}

// === impl Connection ===

impl Connection {
    fn new(number: u64, remote: SocketAddr, client_certificate: Option<Arc<str>>) -> Self {
        Self {
            number,
            remote,
            client_certificate,
            messages: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            close: Notify::new(),
            going_away: AtomicBool::new(false),
            goaway: Notify::new(),
        }
    }

    /// Drops the connection without a word.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.close.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Asks the client to go away; calls under way may end.
    pub(super) fn goaway(&self) {
        self.going_away.store(true, Relaxed);
        self.goaway.notify_one();
    }

    pub(super) fn is_going_away(&self) -> bool {
        self.going_away.load(Relaxed)
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.books.disconnected();
    }
}
