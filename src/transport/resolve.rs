//! The first layer: from a target to the addresses of its name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::lookup_host;
use tokio::time::timeout;
use tower::Service;

use super::{Dialling, Target};
use crate::config::Backend;
use crate::error::{Code, Error};

/// Asks the system's resolver, each time anew: its answer is cached there if anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resolve;

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
            let found = timeout(target.deadlines.resolve, lookup_host((host.as_str(), *port)))
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
