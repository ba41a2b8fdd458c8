//! Whether the next connection will be cheaper: one more handshake, which resumes the session of the
//! first or does not.
//!
//! Nothing here is a fault: without a session a handshake is a full one, as the first was.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tower::ServiceExt;

use super::Check;
use crate::error::Result;
use crate::transport::tls::{Attempt, attempt};
use crate::transport::{Protection, Routed, Target};

/// A backend that serves one connection at a time must not hold the report up for long.
const LIMIT: Duration = Duration::from_secs(2);

/// The line, and whether the session was resumed; `None` when that was not to be found out.
pub(super) async fn check(target: &Arc<Target>, protection: &Protection) -> (Check, Option<bool>) {
    let (value, resumed) = if protection.has_session(target) {
        match timeout(LIMIT, again(target, protection)).await {
            Ok(Ok(true)) => ("a second handshake was a short one".to_owned(), Some(true)),
            Ok(Ok(false)) => {
                ("the backend offers it, and did not take it up".to_owned(), Some(false))
            }
            Ok(Err(error)) => (format!("a second handshake ended in {}", error.id()), None),
            Err(_) => (format!("a second handshake had no end within {LIMIT:?}"), None),
        }
    } else {
        ("the backend offers none".to_owned(), Some(false))
    };
    let fact = "the session is resumed where the backend offers it";
    (Check::ok("tls.session", fact, value), resumed)
}

async fn again(target: &Arc<Target>, protection: &Protection) -> Result<bool> {
    let stream = Routed::default().oneshot(target.clone()).await?;
    let Attempt { mut stream, outcome, .. } = attempt(target, protection, stream).await?;
    outcome?;
    let resumed = stream.ssl().session_reused();
    // An orderly end; what the peer makes of it does not matter.
    let _ = stream.shutdown().await;
    Ok(resumed)
}
