//! The second layer: a TCP connection to the first address that answers, see [`super::eyeballs`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::Target;
use super::eyeballs::{self, Miss};
use super::layer::{Dials, Layer};
use crate::error::{Code, Error, Result};

/// Probes of an idle connection, so that middle boxes do not forget it and a dead peer is noticed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long sent bytes may stay unacknowledged by the peer's TCP.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes may wait in the kernel: what waits there looks like progress and is none.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// Connects to one of the addresses that the layer underneath finds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tcp;

impl<B: Dials<Vec<SocketAddr>>> Layer<B> for Tcp {
    type Made = TcpStream;

    async fn dial(self, below: B, target: Arc<Target>) -> Result<TcpStream> {
        let addresses = below.oneshot(target.clone()).await?;
        let limit = target.deadlines.connect;
        match eyeballs::connect(addresses, limit).await {
            Ok(stream) => match tune(&stream) {
                Ok(()) => Ok(stream),
                Err(error) => Err(Error::new(Code::ConnectFailed).peer(&target).because(error)),
            },
            Err(Some((address, Miss::Failed(error)))) => Err(failed(&target, address, error)),
            Err(Some((address, Miss::TimedOut))) => Err(Error::new(Code::ConnectTimedOut)
                .peer(&target)
                .found(format!("no answer of {address} within {limit:?}"))),
            Err(None) => Err(Error::new(Code::ConnectFailed).peer(&target)),
        }
    }
}

fn failed(target: &Target, address: SocketAddr, error: io::Error) -> Error {
    let code = match error.kind() {
        ErrorKind::ConnectionRefused => Code::ConnectRefused,
        ErrorKind::TimedOut => Code::ConnectTimedOut,
        _ => Code::ConnectFailed,
    };
    Error::new(code).peer(target).found(format!("address {address}")).because(error)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(())
}
