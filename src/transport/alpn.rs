//! The fourth layer: no HTTP/2 without both ends having agreed on it.
//!
//! A server or a TLS-inspecting proxy that ignores ALPN would take HTTP/2 frames for garbage; the
//! error would then come late and say nothing.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Service, ServiceExt};

use super::stream::Io;
use super::{Dialling, Target};
use crate::error::{Code, Error};

/// Refuses TLS connections on which the peer did not choose `h2`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AlpnGuard<C>(pub(crate) C);

impl<C> Service<Arc<Target>> for AlpnGuard<C>
where
    C: Service<Arc<Target>, Response = Io, Error = Error> + Clone + Send + 'static,
    C::Future: Send,
{
    type Response = Io;
    type Error = Error;
    type Future = Dialling<Io>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, target: Arc<Target>) -> Self::Future {
        let protect = self.0.clone();
        Box::pin(async move {
            let io = protect.oneshot(target.clone()).await?;
            match io.negotiated() {
                Some(negotiated) => agreed(&target, &negotiated.alpn).map(|()| io),
                None => Ok(io),
            }
        })
    }
}

/// Whether the peer's choice is HTTP/2.
pub(crate) fn agreed(target: &Target, alpn: &[u8]) -> Result<(), Error> {
    let found = match alpn {
        b"h2" => return Ok(()),
        [] => "no choice of protocol".to_owned(),
        other => String::from_utf8_lossy(other).into_owned(),
    };
    Err(Error::new(Code::AlpnMissing).peer(target).found(found).expected("h2"))
}
