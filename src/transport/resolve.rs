//! The first layer: from a target to the addresses of its name.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::timeout;
use tower::Service;

use super::{Dialling, Target, lookups};
use crate::config::Backend;
use crate::error::{Code, Error};

/// Asks the resolver, each time anew: its answer is cached there if anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resolve;

/// Who looks names up.
#[derive(Clone, Default)]
pub(crate) enum Names {
    #[default]
    System,
    Other(Arc<Lookup>),
}

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

impl Service<Arc<Target>> for Resolve {
    type Response = Vec<SocketAddr>;
    type Error = Error;
    type Future = Dialling<Vec<SocketAddr>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Arc<Target>) -> Self::Future {
        Box::pin(async move {
            let Backend::Tcp { host, port } = &target.backend else {
                // The layer on top has dialled it.
                return Err(Error::new(Code::Bug).peer(&target));
            };
            let failed = || Error::new(Code::NameNotFound).peer(&target);
            let found = timeout(target.deadlines.resolve, target.names.lookup(host, *port))
                .await
                .map_err(|_| {
                    failed().found(format!("no answer within {:?}", target.deadlines.resolve))
                })?
                .map_err(|error| failed().because(error))?;
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() { Err(failed().found("no address")) } else { Ok(addresses) }
        })
    }
}

// === impl Names ===

impl Names {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Other(lookup) if host.parse::<IpAddr>().is_err() => {
                let (lookup, host) = (lookup.clone(), host.to_owned());
                // Like the system's resolver, it may block.
                let found = tokio::task::spawn_blocking(move || lookup(&host)).await??;
                Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
            }
            Self::System | Self::Other(_) => {
                if let Ok(ip) = host.parse() {
                    return Ok(vec![SocketAddr::new(ip, port)]);
                }
                let (host, lookup) = (host.to_owned(), lookups::Lookup::begin());
                let look = move || {
                    let _lookup = lookup;
                    (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
                };
                tokio::task::spawn_blocking(look).await?
            }
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Other(_) => "Other",
        })
    }
}
