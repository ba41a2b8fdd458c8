//! Holds one connection to one of the backends and heals it; calls go through a cloneable service.
//!
//! One task per transport walks through the states: *connecting* → *ready* → (the end) → *resting*
//! → *connecting* …. Calls wait while it connects and fail at once, with the reason, while it
//! rests; whoever would rather wait uses [`Transport::ready`].

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::body::Body;
use tower::Service;

use super::backoff::Backoff;
use super::connection::{Connection, Refused};
use super::connector::Dial;
use super::stream::Negotiated;
use super::{Dialling, Target};
use crate::error::{Chain, Code, Error, Result};

/// Calls to whichever backend is connected. Cloning shares the connection.
#[derive(Debug, Clone)]
pub struct Transport {
    phase: watch::Receiver<Phase>,
    stop: Arc<watch::Sender<bool>>,
}

/// The state of the link.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum State {
    /// A connection is being made.
    Connecting,
    /// Calls can be made.
    Ready(Ready),
    /// The last attempt failed; the next one comes after a pause.
    Resting {
        /// When the next attempt starts.
        until: Instant,
        /// Why the last one failed.
        reason: Error,
    },
    /// Stopped for good.
    Stopped,
}

/// A connection that calls can be made on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ready {
    /// The backend as it was set.
    pub backend: String,
    /// What TLS agreed on; `None` for plaintext.
    pub negotiated: Option<Negotiated>,
}

/// The state with what belongs to this room alone.
#[derive(Debug, Clone)]
enum Phase {
    Connecting,
    Ready(Connection),
    Resting { until: Instant, reason: Error },
    Stopped,
}

// === impl Transport ===

impl Transport {
    /// Starts the keeper on the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as `tokio::spawn` does.
    pub fn start(targets: Vec<Arc<Target>>) -> Self {
        let (phases, phase) = watch::channel(Phase::Connecting);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Keeper { targets, phases, stopped, backoff: Backoff::default() }.run());
        Self { phase, stop: Arc::new(stop) }
    }

    /// The state at this moment.
    pub fn state(&self) -> State {
        self.phase.borrow().state()
    }

    /// Waits until calls can be made.
    ///
    /// # Errors
    ///
    /// [`Code::Stopped`] once the transport has been stopped.
    pub async fn ready(&self) -> Result<Ready> {
        let mut phase = self.phase.clone();
        match phase.wait_for(|phase| matches!(phase, Phase::Ready(_) | Phase::Stopped)).await {
            Ok(phase) => match phase.state() {
                State::Ready(ready) => Ok(ready),
                _ => Err(Error::new(Code::Stopped)),
            },
            Err(_) => Err(Error::new(Code::Stopped)),
        }
    }

    /// Waits for the next change of the state.
    pub async fn changed(&mut self) {
        // An error means the keeper is gone, and with it every further change.
        if self.phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops for good; calls under way end as they may.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Makes a call; the request's URI needs only a path.
    ///
    /// # Errors
    ///
    /// While the link rests, the reason why; otherwise what broke this very call. The second part
    /// says whether the request may have reached the backend.
    pub async fn send(
        &self,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, (Error, Reach)> {
        let mut phase = self.phase.clone();
        loop {
            let current = phase.borrow_and_update().clone();
            match current {
                Phase::Ready(connection) => match connection.send(request).await {
                    Ok(response) => return Ok(response),
                    Err(Refused::Failed(error)) => return Err((error, Reach::Unknown)),
                    Err(Refused::Closed(unsent)) => {
                        // GOAWAY: the keeper learns it here first.
                        connection.retire();
                        request = *unsent;
                    }
                },
                Phase::Connecting => {}
                Phase::Resting { reason, .. } => return Err((reason, Reach::None)),
                Phase::Stopped => return Err((Error::new(Code::Stopped), Reach::None)),
            }
            if phase.changed().await.is_err() {
                return Err((Error::new(Code::Stopped), Reach::None));
            }
        }
    }
}

/// Whether a failed call may have reached the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It was never sent.
    None,
    /// It may have been.
    Unknown,
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Incoming>;
    type Error = Error;
    type Future = Dialling<http::Response<Incoming>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move { transport.send(request).await.map_err(|(error, _)| error) })
    }
}

// === impl Phase ===

impl Phase {
    fn state(&self) -> State {
        match self {
            Self::Connecting => State::Connecting,
            Self::Ready(connection) => State::Ready(Ready {
                backend: connection.target.to_string(),
                negotiated: connection.negotiated.clone(),
            }),
            Self::Resting { until, reason } => {
                State::Resting { until: *until, reason: reason.clone() }
            }
            Self::Stopped => State::Stopped,
        }
    }
}

// === Keeper ===

struct Keeper {
    targets: Vec<Arc<Target>>,
    phases: watch::Sender<Phase>,
    stopped: watch::Receiver<bool>,
    backoff: Backoff,
}

/// A connection that held this long counts as healthy: the next failure starts from the shortest
/// rest again. A backend that accepts and drops connections at once must not be spun on.
const HEALTHY: Duration = Duration::from_secs(5);

impl Keeper {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = self.walk() => {}
            // An error: every handle is gone, which is a stop as well.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        self.phases.send_replace(Phase::Stopped);
    }

    async fn walk(&mut self) {
        // A random start spreads a fleet over the backends.
        let mut next = fastrand::usize(0..self.targets.len().max(1));
        let mut tried = 0;
        let mut complaints = Complaints::default();
        loop {
            let Some(target) = self.targets.get(next % self.targets.len().max(1)).cloned() else {
                return;
            };
            self.phases.send_replace(Phase::Connecting);
            let error = match Connection::open(target, Dial::default()).await {
                Ok(connection) => {
                    complaints.connected(&connection);
                    let since = Instant::now();
                    self.phases.send_replace(Phase::Ready(connection.clone()));
                    let error = connection.ended().await;
                    if since.elapsed() >= HEALTHY {
                        self.backoff.reset();
                        tried = 0;
                    }
                    error
                }
                Err(error) => error,
            };
            complaints.failed(&error);
            next += 1;
            tried += 1;
            // The other backends are tried at once; only a whole round of failures earns a rest.
            if tried % self.targets.len() == 0 {
                let rest = self.backoff.rest();
                self.phases
                    .send_replace(Phase::Resting { until: Instant::now() + rest, reason: error });
                tokio::time::sleep(rest).await;
            }
        }
    }
}

/// Logs each change once: failures of the same kind in a row are counted, not repeated.
#[derive(Default)]
struct Complaints {
    last: Option<Code>,
    count: u64,
}

impl Complaints {
    fn connected(&mut self, connection: &Connection) {
        let how = match &connection.negotiated {
            Some(Negotiated { protocol, cipher, resumed: true, .. }) => {
                format!("by {protocol} with {cipher}, session resumed")
            }
            Some(Negotiated { protocol, cipher, .. }) => format!("by {protocol} with {cipher}"),
            None => "in plaintext".to_owned(),
        };
        let after = match self.count {
            0 => String::new(),
            count => format!(" after {count} failed attempts"),
        };
        log::info!("connected to {} {how}{after}", connection.target);
        *self = Self::default();
    }

    fn failed(&mut self, error: &Error) {
        self.count += 1;
        if self.last.replace(error.code()) != Some(error.code()) {
            log::warn!("{}; trying again with growing pauses", Chain(error));
        } else if self.count.is_power_of_two() {
            log::warn!("{} (attempt {})", Chain(error), self.count);
        }
    }
}
