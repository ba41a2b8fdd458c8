//! The handle on the link: calls, the state, and orders to the keeper.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};
use tonic::body::Body;
use tower::Service;

use super::census::Census;
use super::connection::{Connection, Reach, Refused};
use super::keeper::{Keeper, Order};
use super::state::{BackendStatus, Phase, Ready, State, Upkeep};
use super::{Dialling, Target};
use crate::error::{Chain, Code, Error, Result};

/// Calls to whichever backend is connected. Cloning shares the connection.
#[derive(Debug, Clone)]
pub struct Transport {
    phase: watch::Receiver<Phase>,
    backends: watch::Receiver<Vec<BackendStatus>>,
    shared: Arc<Shared>,
}

/// The last handle takes the keeper with it.
#[derive(Debug)]
struct Shared {
    phases: watch::Sender<Phase>,
    orders: mpsc::UnboundedSender<Order>,
    census: Census,
    generation: AtomicU64,
}

// === impl Transport ===

impl Transport {
    /// Starts the keeper on the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as `tokio::spawn` does.
    pub fn start(targets: Vec<Arc<Target>>) -> Self {
        Self::with(targets, Upkeep::default())
    }

    /// Starts the keeper on the current tokio runtime, and tells it how connections are kept.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as `tokio::spawn` does.
    pub fn with(targets: Vec<Arc<Target>>, upkeep: Upkeep) -> Self {
        let (phases, phase) = watch::channel(Phase::Connecting);
        let (statuses, backends) = watch::channel(Vec::new());
        let (orders, receiver) = mpsc::unbounded_channel();
        let census = Census::new();
        let keeper = Keeper::new(targets, upkeep, phases.clone(), statuses, census.clone());
        tokio::spawn(keeper.run(receiver));
        let generation = AtomicU64::new(FIRST_GENERATION);
        Self { phase, backends, shared: Arc::new(Shared { phases, orders, census, generation }) }
    }

    /// The state at this moment.
    pub fn state(&self) -> State {
        self.phase.borrow().state()
    }

    /// What is known of each backend at this moment.
    pub fn backends(&self) -> Vec<BackendStatus> {
        self.backends.borrow().clone()
    }

    /// Waits until calls can be made.
    ///
    /// # Errors
    ///
    /// [`Code::Stopped`] once the transport has been stopped.
    pub async fn ready(&self) -> Result<Ready> {
        let mut phase = self.phase.clone();
        let met = |phase: &Phase| matches!(phase, Phase::Ready { .. } | Phase::Stopped);
        match phase.wait_for(met).await.as_deref() {
            Ok(Phase::Ready { connection, .. }) => Ok(connection.ready()),
            _ => Err(Error::new(Code::Stopped)),
        }
    }

    /// Waits for the next change of the state.
    pub async fn changed(&mut self) {
        // An error means the keeper is gone, and with it every further change.
        if self.phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the next change of what is known of any backend.
    pub async fn backends_changed(&mut self) {
        if self.backends.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Puts other targets in force: other material, other backends, or both. Gives their generation.
    ///
    /// From now on connections are made for these targets only. The one in use goes on until the
    /// first of them stands, or for `drain` if none does; then it takes no more calls. What is under
    /// way on it may end within `drain` from now; then it is cut.
    pub fn replace(&self, targets: Vec<Arc<Target>>, drain: Duration) -> u64 {
        let generation = self.shared.generation.fetch_add(1, Relaxed) + 1;
        // An error means that it has been stopped, and needs no targets.
        let _ = self.shared.orders.send(Order::Replace { targets, generation, drain });
        generation
    }

    /// How many connections are open, by the generation of targets they were made for; the first
    /// generation is 1. Those that are being made or drain count too.
    pub fn connections(&self) -> BTreeMap<u64, usize> {
        self.shared.census.counts()
    }

    /// Waits until no connection of an older generation is open.
    pub async fn retired_before(&self, generation: u64) {
        self.shared.census.none_before(generation).await;
    }

    /// Stops for good; calls under way end as they may.
    pub fn stop(&self) {
        let _ = self.shared.orders.send(Order::Stop);
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
                Phase::Ready { connection, .. } => match connection.send(request).await {
                    Ok(response) => {
                        self.take_note(&connection, response.headers());
                        return Ok(response);
                    }
                    Err(Refused::Failed(error, reach)) => return Err((error, reach)),
                    Err(Refused::Closed(unsent)) => {
                        // GOAWAY: the keeper learns it here first.
                        connection.going_away();
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

    /// Looks whether the backend refuses the token.
    fn take_note(&self, connection: &Connection, headers: &HeaderMap) {
        let denied = headers
            .get("grpc-status")
            .is_some_and(|status| PERMISSION_DENIED == *status || UNAUTHENTICATED == *status);
        if !connection.note_denied(denied) {
            return;
        }
        self.shared.phases.send_if_modified(|phase| match phase {
            Phase::Ready { connection: current, denied: found } if current.is(connection) => {
                if denied {
                    let error = Error::new(Code::BackendDenies).peer(&current.target);
                    log::warn!("{}", Chain(&error));
                    *found = Some(error);
                } else {
                    log::info!("{} takes calls again", current.target);
                    *found = None;
                }
                true
            }
            _ => false,
        });
    }
}

pub(super) const FIRST_GENERATION: u64 = 1;
const PERMISSION_DENIED: &str = "7";
const UNAUTHENTICATED: &str = "16";

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
