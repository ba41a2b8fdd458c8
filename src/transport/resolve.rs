//! The first layer: from a target to the addresses of its name.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
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
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let host = host.to_owned();
        match self {
            Self::Other(lookup) => {
                let lookup = lookup.clone();
                let found = wait_for(move || lookup(&host)).await?;
                Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
            }
            Self::System => {
                let lookup = lookups::Lookup::begin();
                let look = move || {
                    let _lookup = lookup;
                    (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
                };
                wait_for(look).await
            }
        }
    }
}

/// Asks a resolver, which may block, on one of the threads for that. If all of them are held up until
/// nobody waits for this answer any more, it is not asked: what was given up must not pile up before
/// what is still wanted.
async fn wait_for<T: Send + 'static>(
    look: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (waiter, answer) = oneshot::channel();
    let task = tokio::task::spawn_blocking(move || {
        if !waiter.is_closed() {
            // Whoever waited may have gone meanwhile.
            let _ = waiter.send(look());
        }
    });
    match answer.await {
        Ok(found) => found,
        // It panicked.
        Err(gone) => Err(task.await.map_or_else(io::Error::from, |()| io::Error::other(gone))),
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    #[test]
    fn what_nobody_waits_for_any_more_is_not_looked_up() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // One thread, and the first lookup holds it up.
        let runtime = runtime.max_blocking_threads(1).enable_time().build().unwrap();
        let (tell, asked) = channel();
        let (go, hold) = channel::<()>();
        let hold: Mutex<Receiver<()>> = Mutex::new(hold);
        let names = Names::Other(Arc::new(move |name: &str| {
            tell.send(name.to_owned()).unwrap();
            hold.lock().unwrap().recv().unwrap();
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        }));
        runtime.block_on(async {
            let first = tokio::spawn({
                let names = names.clone();
                async move { names.lookup("first.example", 1).await }
            });
            tokio::task::yield_now().await;
            assert_eq!(asked.recv().unwrap(), "first.example");
            for _ in 0..10 {
                let given_up = timeout(std::time::Duration::ZERO, names.lookup("b.example", 1));
                assert!(given_up.await.is_err());
            }
            for _ in 0..2 {
                go.send(()).unwrap();
            }
            drop(go);
            // Its twin.
            let last = names.lookup("last.example", 1).await.unwrap();
            assert_eq!(last, first.await.unwrap().unwrap());
        });
        assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["last.example"]);
    }
}
