//! Accepts connections of local agents and serves HTTP/2 on them.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Course, Desk, route};
use crate::config::ListenAddress;
use crate::error::{Code, Error, Result};

/// One open address.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

/// What one local connection may have in flight before it has to wait for the queue.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Many times the window of a stream: a stream that waits must not hold up the others, and h2 ends
/// connections on which small frames worth half of this lie unread.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
const STREAMS: u32 = 1000;
const HEADERS: u32 = 64 * 1024;
const BACKLOG: i32 = 1024;
/// After an error of `accept` that is about this machine, such as too many open files.
const BREATH: Duration = Duration::from_millis(50);

/// Opens an address; `localhost` is both loopback addresses, if the machine has both.
pub(super) fn open(address: &ListenAddress) -> Result<Vec<Listener>> {
    match *address {
        ListenAddress::Ip(address) => Ok(vec![bind(address)?]),
        ListenAddress::Localhost(port) => {
            let first = bind((Ipv4Addr::LOCALHOST, port).into())?;
            let port = first.address.port();
            let mut listeners = vec![first];
            match bind((Ipv6Addr::LOCALHOST, port).into()) {
                Ok(second) => listeners.push(second),
                Err(error) => log::debug!("no listener on ::1: {error}"),
            }
            Ok(listeners)
        }
    }
}

fn bind(address: SocketAddr) -> Result<Listener> {
    let open = || -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted relay must not wait for connections of the last one to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        Ok(Listener { listener: Arc::new(listener), address })
    };
    open().map_err(|error| {
        let code = match error.kind() {
            ErrorKind::AddrInUse => Code::PortTaken,
            _ => Code::ListenFailed,
        };
        Error::new(code)
            .key("relay.listen")
            .found(address)
            .expected("a free port of this machine")
            .because(error)
    })
}

// === impl Listener ===

impl Listener {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until the course changes, then waits for the connections to end.
    pub(super) async fn run(self, desk: Arc<Desk>, course: watch::Receiver<Course>) {
        let mut ending = course.clone();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(serve(stream, peer, desk.clone(), course.clone()));
                    }
                    Err(error) => {
                        log::warn!("cannot accept a connection on {}: {error}", self.address);
                        tokio::time::sleep(BREATH).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = end(&mut ending) => break,
            }
        }
        drop(self);
        while connections.join_next().await.is_some() {}
    }
}

async fn end(course: &mut watch::Receiver<Course>) {
    // An error: the relay itself is gone.
    let _ = course.wait_for(|course| *course != Course::Serve).await;
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    desk: Arc<Desk>,
    mut course: watch::Receiver<Course>,
) {
    // Answers are small: waiting for more to send with them only delays them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| route::call(desk.clone(), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    log::debug!("connection of {peer} ended: {error}");
                }
                return;
            }
            changed = course.changed() => match (changed, *course.borrow_and_update()) {
                (Err(_), _) | (_, Course::Cut) => return,
                (_, Course::Drain) => connection.as_mut().graceful_shutdown(),
                (_, Course::Serve) => {}
            },
        }
    }
}
