//! Holds one connection to one of the backends, heals it, and replaces it while it works.
//!
//! One task per transport. It always knows three things: the connection that serves, if any; the
//! attempts under way, if any; and how each backend is. Whatever happens changes one of them, and then
//! the next step follows from all three in [`Keeper::plan`]. It knows nothing of calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tower::ServiceExt;

use super::Target;
use super::attempts::Attempts;
use super::backends::{Backends, HEALTHY, Hurry};
use super::census::Census;
use super::connection::Connection;
use super::connector::Dial;
use super::resolve::Resolve;
use super::state::{BackendStatus, EVER, Phase, Upkeep};
use crate::error::{Chain, Code, Error, Result};

/// What the keeper is told.
#[derive(Debug)]
pub(super) enum Order {
    Replace { targets: Vec<Arc<Target>>, generation: u64, drain: Duration },
    Stop,
}

/// The task's own.
pub(super) struct Keeper {
    backends: Backends,
    upkeep: Upkeep,
    generation: u64,
    serving: Option<Serving>,
    attempts: Attempts,
    work: JoinSet<Done>,
    /// When the next steps were last thought of.
    planned: Instant,
    phases: watch::Sender<Phase>,
    statuses: watch::Sender<Vec<BackendStatus>>,
    census: Census,
}

/// The connection in use.
struct Serving {
    connection: Connection,
    /// Its place among the backends; `None` when it is no longer one of them.
    backend: Option<usize>,
    since: Instant,
    expires: Option<Instant>,
    lookup: Option<Instant>,
    /// The last lookup did not tell its address.
    missing: bool,
    /// Why another one is to take its place.
    outdated: Option<Outdated>,
}

#[derive(Debug, Clone, Copy)]
enum Outdated {
    Age,
    Address,
    /// Until when it may serve, and what is under way on it may end.
    Replaced(Instant),
}

/// A piece of work that is done.
enum Done {
    Dialled { at: usize, generation: u64, outcome: Result<Connection> },
    LookedUp { remote: SocketAddr, outcome: Result<Vec<SocketAddr>> },
}

enum Event {
    Ended(Error),
    Done(Result<Done, JoinError>),
    Order(Option<Order>),
    Time,
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(
        targets: Vec<Arc<Target>>,
        upkeep: Upkeep,
        phases: watch::Sender<Phase>,
        statuses: watch::Sender<Vec<BackendStatus>>,
        census: Census,
    ) -> Self {
        let upkeep = upkeep.bounded();
        Self {
            backends: Backends::new(targets, upkeep.longest_rest),
            upkeep,
            generation: super::service::FIRST_GENERATION,
            serving: None,
            attempts: Attempts::default(),
            work: JoinSet::new(),
            planned: Instant::now(),
            phases,
            statuses,
            census,
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            self.plan();
            match self.event(&mut orders).await {
                Event::Ended(error) => self.ended(error),
                Event::Done(Ok(done)) => self.done(done),
                Event::Done(Err(error)) => self.undone(&error),
                Event::Order(Some(Order::Replace { targets, generation, drain })) => {
                    self.replace(targets, generation, drain);
                }
                // `None`: every handle is gone, which is a stop as well.
                Event::Order(Some(Order::Stop) | None) => return,
                Event::Time => self.time(),
            }
        }
    }

    async fn event(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Event {
        let due = self.due();
        let connection = self.serving.as_ref().map(|serving| &serving.connection);
        tokio::select! {
            Some(error) = async { Some(connection?.ended().await) } => Event::Ended(error),
            Some(done) = self.work.join_next() => Event::Done(done),
            order = orders.recv() => Event::Order(order),
            Some(()) = async { tokio::time::sleep_until(due?.into()).await; Some(()) } => Event::Time,
        }
    }

    /// The next steps: what is to be tried now, and what others get to see.
    fn plan(&mut self) {
        let now = Instant::now();
        self.planned = now;
        if self.is_wanted()
            && self.attempts.may_begin(now, self.hurry())
            && let Some(at) = self.backends.choose(now, |at| self.attempts.include(at))
        {
            self.dial(at);
            self.attempts.wait_for(at, now);
        }
        if let Some(busy) = self.serving.as_ref().and_then(|serving| serving.backend) {
            self.backends.due(busy, now).into_iter().for_each(|at| self.dial(at));
        }
        if self.serving.is_none() {
            let rest = self.backends.reason().zip(self.backends.next_end(now));
            self.show(match rest.filter(|_| self.attempts.is_empty()) {
                Some((reason, until)) => Phase::Resting { until, reason: reason.clone() },
                None => Phase::Connecting,
            });
        }
        let serving = self.serving.as_ref().and_then(|serving| serving.backend);
        self.statuses.send_replace(self.backends.status(serving));
    }

    /// Whether a connection is to be made.
    fn is_wanted(&self) -> bool {
        self.serving.as_ref().is_none_or(|serving| serving.outdated.is_some())
    }

    /// Whether it must be soon: the one in use, if there is one, ends whatever happens.
    fn hurry(&self) -> Hurry {
        match &self.serving {
            Some(Serving { outdated: Some(Outdated::Replaced(_)), .. }) | None => Hurry::Yes,
            Some(_) => Hurry::No,
        }
    }

    /// When to look again if nothing else happens.
    fn due(&self) -> Option<Instant> {
        // What had ended when the plan was made is being tried.
        let rest = self.backends.next_end(self.planned);
        let serving = self.serving.as_ref();
        let expires = serving.and_then(|serving| match serving.outdated {
            Some(Outdated::Replaced(bound)) => Some(bound),
            Some(_) => None,
            None => serving.expires,
        });
        let lookup = serving.and_then(|serving| serving.lookup);
        // Whoever has passed it without another one to try waits for the other events.
        let another =
            self.attempts.patience().filter(|end| self.is_wanted() && *end > self.planned);
        [rest, expires, lookup, another].into_iter().flatten().min()
    }

    /// Dials a backend, unless that is under way.
    fn dial(&mut self, at: usize) {
        let Some(target) = self.backends.target(at).cloned() else { return };
        if self.attempts.include(at) {
            return;
        }
        let (generation, care) = (self.generation, self.upkeep.care());
        let present = self.census.enter(generation);
        let task = self.work.spawn(async move {
            let outcome = Connection::open(target, Dial::default(), care, present).await;
            Done::Dialled { at, generation, outcome }
        });
        self.attempts.begun(at, task.id());
    }

    fn done(&mut self, done: Done) {
        match done {
            // Made for targets that are no longer in force.
            Done::Dialled { generation, .. } if generation != self.generation => {}
            Done::Dialled { at, outcome, .. } => {
                self.attempts.over(at);
                match outcome {
                    Ok(connection) if self.is_wanted() => self.serve(at, connection),
                    // Closed again at once: another one was quicker, or it was only to be seen that it works.
                    Ok(_) => _ = self.backends.works(at),
                    Err(error) => self.failed(at, error),
                }
            }
            Done::LookedUp { remote, outcome } => self.looked_up(remote, outcome),
        }
    }

    /// A task that was cancelled is not missed. One that broke must not stop the others.
    fn undone(&mut self, error: &JoinError) {
        if let Some(at) = self.attempts.of_task(error.id()) {
            self.attempts.over(at);
            self.failed(at, Error::new(Code::Bug).found("an attempt to connect broke"));
        }
    }

    /// Puts a new connection in use, and the old one, if there is one, out of use.
    fn serve(&mut self, at: usize, connection: Connection) {
        let level = self.backends.works(at);
        self.backends.stick_to(at);
        let how = match &connection.negotiated {
            Some(negotiated) => format!("by {negotiated}"),
            None => "in plaintext".to_owned(),
        };
        log::log!(level, "connected to {} {how}", connection.target);
        let now = Instant::now();
        let spread = |age: Duration| age.mul_f64(0.8 + 0.4 * fastrand::f64());
        let next = Serving {
            connection: connection.clone(),
            backend: Some(at),
            since: now,
            expires: self.upkeep.max_age.map(|age| now + spread(age)),
            lookup: self.upkeep.lookup.map(|period| now + period),
            missing: false,
            outdated: None,
        };
        self.show(Phase::Ready { connection, denied: None });
        if let Some(old) = self.serving.replace(next) {
            old.retire();
        }
    }

    fn failed(&mut self, at: usize, error: Error) {
        self.backends.failed(at, error, self.hurry());
    }

    /// The connection in use takes no more calls.
    fn ended(&mut self, error: Error) {
        let Some(serving) = self.serving.take() else { return };
        self.backends.hurry();
        let lasted = serving.since.elapsed() >= HEALTHY;
        let Some(at) = serving.backend else { return };
        if lasted {
            self.backends.is_healthy(at);
        }
        match error.code() {
            // One that goes away again and again must not be spun on: it rests like the others.
            Code::BackendGoesAway if lasted => {
                log::info!("{error}; connecting anew");
                self.backends.move_on();
            }
            Code::PingsRefused => {
                self.ping_less(&error);
                self.backends.failed(at, error, Hurry::Yes);
            }
            _ => self.backends.failed(at, error, Hurry::Yes),
        }
    }

    /// The backend has complained of our pings.
    fn ping_less(&mut self, error: &Error) {
        const LONGEST: Duration = Duration::from_secs(3600);
        self.upkeep.ping =
            self.upkeep.ping.map(|interval| interval * 2).filter(|interval| *interval <= LONGEST);
        let now = match self.upkeep.ping {
            Some(interval) => format!("the next connection pings every {interval:?}"),
            None => "the next connection does not ping".to_owned(),
        };
        log::warn!("{}: {now}", Chain(error));
    }

    fn replace(&mut self, targets: Vec<Arc<Target>>, generation: u64, drain: Duration) {
        self.generation = generation;
        self.backends.replace(targets);
        // What is under way is for the old targets.
        self.work.abort_all();
        self.attempts = Attempts::default();
        let bound = Instant::now() + drain.min(EVER);
        if let Some(serving) = &mut self.serving {
            serving.backend = None;
            serving.lookup = None;
            serving.outdated = Some(match serving.outdated {
                // Replaced once more before the first time came to an end.
                Some(Outdated::Replaced(earlier)) => Outdated::Replaced(bound.min(earlier)),
                _ => Outdated::Replaced(bound),
            });
            log::info!(
                "new connections are made with new settings; the one in use ends within {drain:?}"
            );
        }
    }

    /// Something is due by the clock.
    fn time(&mut self) {
        let now = Instant::now();
        let Some(serving) = &mut self.serving else { return };
        match serving.outdated {
            Some(Outdated::Replaced(bound)) if bound <= now => {
                if let Some(old) = self.serving.take() {
                    old.retire();
                }
                self.backends.hurry();
                return;
            }
            None if serving.expires.is_some_and(|expires| expires <= now) => {
                log::info!("the connection to {} has reached its age", serving.connection.target);
                serving.outdated = Some(Outdated::Age);
                self.backends.shuffle();
            }
            _ => {}
        }
        if serving.lookup.is_some_and(|lookup| lookup <= now) {
            serving.lookup = self.upkeep.lookup.map(|period| now + period);
            if let Some(remote) = serving.connection.remote {
                let peer = serving.connection.target.peer();
                self.work.spawn(async move {
                    Done::LookedUp { remote, outcome: Resolve.oneshot(peer).await }
                });
            }
        }
    }

    /// Replaces the connection when its address is no longer one of its name, at two lookups in a row: a
    /// resolver may tell some of many addresses at a time.
    fn looked_up(&mut self, remote: SocketAddr, outcome: Result<Vec<SocketAddr>>) {
        let Some(serving) = &mut self.serving else { return };
        if serving.connection.remote != Some(remote) || serving.outdated.is_some() {
            return;
        }
        match outcome {
            Ok(addresses) if addresses.contains(&remote) => serving.missing = false,
            Ok(_) if !std::mem::replace(&mut serving.missing, true) => {}
            Ok(_) => {
                let target = &serving.connection.target;
                log::info!("{target} has moved away from {}", remote.ip());
                serving.outdated = Some(Outdated::Address);
            }
            // The connection works: its name can wait.
            Err(error) => log::debug!("{}", Chain(&error)),
        }
    }

    fn show(&self, phase: Phase) {
        self.phases.send_if_modified(|current| {
            let same = matches!((&*current, &phase), (Phase::Connecting, Phase::Connecting))
                || matches!(
                    (&*current, &phase),
                    (Phase::Resting { until: a, .. }, Phase::Resting { until: b, .. }) if a == b
                );
            if !same {
                *current = phase;
            }
            !same
        });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.phases.send_replace(Phase::Stopped);
    }
}

// === impl Serving ===

impl Serving {
    /// New calls go elsewhere; those under way end as they may, or within the bound if there is one.
    fn retire(self) {
        if let Some(Outdated::Replaced(bound)) = self.outdated {
            let limit = bound.saturating_duration_since(Instant::now());
            tokio::spawn(self.connection.remains().drain(limit));
        }
    }
}
