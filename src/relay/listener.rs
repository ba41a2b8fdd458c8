//! Opens the addresses that local agents connect to, and accepts their connections.
//!
//! What is said on a connection is not looked at here, so that nobody holds up the next one.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;

use super::connection::{end, serve};
use super::rotation::{Acceptors, Retirement};
use super::socket::{self, SocketFile};
use super::{Course, Desk};
use crate::config::ListenAddress;
use crate::error::{Code, Error, Result};

/// One open address.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp {
        listener: TcpListener,
        address: SocketAddr,
    },
    /// The file goes before the listener: whoever finds it finds somebody who listens.
    Unix {
        file: SocketFile,
        listener: UnixListener,
    },
}

const BACKLOG: i32 = 1024;
/// After an error of `accept` that is about this machine, such as too many open files.
const BREATH: Duration = Duration::from_millis(50);

/// Opens every address that the setting `key` names.
pub(crate) fn open(
    addresses: &[ListenAddress],
    unix_mode: u32,
    key: &'static str,
) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match address {
            ListenAddress::Ip(address) => listeners.push(bind(*address, key)?.0),
            // Both loopback addresses, if the machine has both.
            ListenAddress::Localhost(port) => {
                let (first, address) = bind((Ipv4Addr::LOCALHOST, *port).into(), key)?;
                listeners.push(first);
                match bind((Ipv6Addr::LOCALHOST, address.port()).into(), key) {
                    Ok((second, _)) => listeners.push(second),
                    Err(error) => log::debug!("no listener on ::1: {error}"),
                }
            }
            ListenAddress::Unix(path) => {
                let (listener, file) = socket::bind(path, unix_mode, BACKLOG, key)?;
                listeners.push(Listener::Unix { file, listener });
            }
        }
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, key: &'static str) -> Result<(Listener, SocketAddr)> {
    let open = || -> io::Result<(Listener, SocketAddr)> {
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
        Ok((Listener::Tcp { listener, address }, address))
    };
    open().map_err(|error| {
        let code = match error.kind() {
            ErrorKind::AddrInUse => Code::PortTaken,
            _ => Code::ListenFailed,
        };
        Error::new(code)
            .key(key)
            .found(address)
            .expected("a free port of this machine")
            .because(error)
    })
}

// === impl Listener ===

impl Listener {
    /// The address and port; `None` for a Unix socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { address, .. } => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// The path of a Unix socket.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix { file, .. } => Some(file.path()),
        }
    }

    /// Whether a path leads to this Unix socket.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        matches!(self, Self::Unix { file, .. } if file.is(path))
    }

    /// Accepts until the course changes, then waits for the connections to end.
    pub(super) async fn run(
        self,
        tls: Option<Acceptors>,
        desk: Arc<Desk>,
        course: watch::Receiver<Course>,
    ) {
        let mut ending = course.clone();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.accept(tls.as_ref(), &desk, &course, &mut connections) => {
                    if let Err(error) = accepted {
                        let failed = Error::new(Code::AcceptFailed).found(&self).because(error);
                        desk.complaints.say(&failed);
                        tokio::time::sleep(BREATH).await;
                    }
                }
                () = end(&mut ending) => break,
            }
            while connections.try_join_next().is_some() {}
        }
        drop(self);
        while connections.join_next().await.is_some() {}
    }

    async fn accept(
        &self,
        tls: Option<&Acceptors>,
        desk: &Arc<Desk>,
        course: &watch::Receiver<Course>,
        connections: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let (desk, course) = (desk.clone(), course.clone());
        match self {
            Self::Tcp { listener, .. } => {
                let (stream, peer) = listener.accept().await?;
                let Some(door) = door(&desk, &peer) else { return Ok(()) };
                // Answers are small: waiting for more to send with them only delays them.
                let _ = stream.set_nodelay(true);
                let peer = Arc::from(peer.to_string());
                let (tls, retirement) = match tls.map(Acceptors::current) {
                    Some((tls, retirement)) => (Some(tls), retirement),
                    None => (None, Retirement::never()),
                };
                let serving = serve(stream, peer, tls, desk, course, retirement);
                connections.spawn(behind(door, serving));
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = match stream.peer_cred().ok().and_then(|peer| peer.pid()) {
                    Some(process) => Arc::from(format!("process {process}")),
                    None => Arc::from("a process of this machine"),
                };
                let Some(door) = door(&desk, &peer) else { return Ok(()) };
                // Plaintext that cannot leave the machine.
                let serving = serve(stream, peer, None, desk, course, Retirement::never());
                connections.spawn(behind(door, serving));
            }
        }
        Ok(())
    }
}

/// A place for one more connection. Nobody waits for one: an agent that is closed upon knows it, and
/// tries again or elsewhere.
fn door(desk: &Desk, peer: &impl std::fmt::Display) -> Option<OwnedSemaphorePermit> {
    let door = desk.doors.clone().try_acquire_owned().ok();
    if door.is_none() {
        let limit = desk.limits.connections;
        desk.complaints.say(&Error::new(Code::TooManyConnections).peer(peer).expected(limit));
    }
    door
}

async fn behind(door: OwnedSemaphorePermit, serving: impl Future<Output = ()>) {
    serving.await;
    drop(door);
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { address, .. } => address.fmt(f),
            Self::Unix { file, .. } => write!(f, "unix:{}", file.path().display()),
        }
    }
}
