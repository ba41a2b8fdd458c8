//! The fourth layer: no HTTP/2 without both ends having agreed on it.
//!
//! A server or a TLS-inspecting proxy that ignores ALPN would take HTTP/2 frames for garbage; the
//! error would then come late and say nothing.

use std::sync::Arc;

use tower::ServiceExt;

use super::Target;
use super::layer::{Dials, Layer};
use super::stream::Io;
use crate::error::{Code, Error, Result};

/// Refuses TLS connections on which the peer did not choose `h2`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AlpnGuard;

impl<B: Dials<Io>> Layer<B> for AlpnGuard {
    type Made = Io;

    async fn dial(self, below: B, target: Arc<Target>) -> Result<Io> {
        let io = below.oneshot(target.clone()).await?;
        match io.negotiated() {
            Some(negotiated) => agreed(&target, &negotiated.alpn).map(|()| io),
            None => Ok(io),
        }
    }
}

/// Whether the peer's choice is HTTP/2.
pub(crate) fn agreed(target: &Target, alpn: &[u8]) -> Result<()> {
    let found = match alpn {
        b"h2" => return Ok(()),
        [] => "no choice of protocol".to_owned(),
        other => String::from_utf8_lossy(other).into_owned(),
    };
    Err(Error::new(Code::AlpnMissing).peer(target).found(found).expected("h2"))
}
