//! The layer beside the others: a Unix socket of this machine, which needs no name, no TCP and no TLS.
//!
//! What goes over it is plaintext. A target that is to be protected is refused here once more.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::time::timeout;
use tower::ServiceExt;

use super::Target;
use super::layer::{Dials, Layer};
use super::stream::Io;
use crate::config::Backend;
use crate::error::{Code, Error, Result};

/// Connects to sockets by itself, and leaves every other target to the layers underneath.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Local;

impl<B: Dials<Io>> Layer<B> for Local {
    type Made = Io;

    async fn dial(self, below: B, target: Arc<Target>) -> Result<Io> {
        match &target.backend {
            Backend::Unix(path) => connect(&target, path).await,
            Backend::Tcp { .. } => below.oneshot(target).await,
        }
    }
}

/// Connects to the socket of a target.
pub(crate) async fn connect(target: &Target, path: &Path) -> Result<Io> {
    if target.protection.is_some() {
        return Err(Error::new(Code::SocketBackendWithTls).peer(target));
    }
    match timeout(target.deadlines.connect, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(Io::local(stream)),
        Ok(Err(error)) => {
            let code = match error.kind() {
                ErrorKind::ConnectionRefused => Code::ConnectRefused,
                _ => Code::ConnectFailed,
            };
            let hint = match error.kind() {
                ErrorKind::NotFound => "check the path, and that the relay behind it runs",
                ErrorKind::PermissionDenied => {
                    "give this user access: relay.unix_mode, and the group of the socket and its folders"
                }
                _ => "check that the relay behind the socket runs",
            };
            Err(Error::new(code).peer(target).hint(hint).because(error))
        }
        Err(_) => Err(Error::new(Code::ConnectTimedOut).peer(target)),
    }
}
