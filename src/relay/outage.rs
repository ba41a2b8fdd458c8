//! Stands in for the backend while it is away, so that an outage of the backend is not one of the
//! agents: a Java agent stops tracing when its heartbeat fails.
//!
//! What each method gets stands in the table of methods ([`Away`]). Only the latest sign of life of
//! an instance is kept, and told when the backend is back. Queueing and sending are the uplink's.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Response;
use serde::Serialize;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use super::{Desk, answer};
use crate::config::RelayAck;
use crate::error::{Chain, Code, Error};
use crate::protocol::frame::Message;
use crate::protocol::{Away, scan};
use crate::transport::{Reach, State, Transport};
use crate::uplink::{Envelope, Level, Metadata, Passport, Uplink};

/// What the relay has answered in place of the backend since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StandIn {
    /// Whether the backend is away now.
    pub away: bool,
    /// How often it has been.
    pub outages: u64,
    /// Calls that were answered here.
    pub answered: u64,
    /// Those of them that were reports, and were queued.
    pub queued: u64,
    /// Those of them that may have arrived, and would be counted twice if they were sent again.
    pub not_resent: u64,
    /// Calls that failed, for only the backend could have answered them.
    pub refused: u64,
    /// Signs of life told when the backend was back.
    pub replayed: u64,
    /// Signs of life that were answered and not kept, for there were too many others.
    pub forgotten: u64,
}

/// The present outage, if there is one.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tally: StandIn,
    /// `tally.answered` when the outage began.
    before: u64,
    latest: HashMap<Sign, (Passport, Message)>,
    bytes: usize,
}

/// Whose sign of life it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sign {
    path: &'static str,
    metadata: Metadata,
    /// The encoded names of service and instance.
    who: Vec<u8>,
}

/// A call that the backend does not answer.
pub(super) struct Unanswered {
    pub(super) passport: Passport,
    pub(super) message: Message,
    /// How long its agent can be kept waiting.
    pub(super) patience: Duration,
    pub(super) error: Error,
    pub(super) reach: Reach,
}

/// So long a call waits for a connection that is being made, unless the backend is known to be away.
const CONNECTING: Duration = Duration::from_secs(1);
/// Instances whose latest signs of life are kept, each with two of them.
const SIGNS: usize = 20_000;
const BYTES: usize = 16 * 1024 * 1024;
/// `service` and `serviceInstance`, of `InstancePingPkg` as of `InstanceProperties`.
const WHO: [u32; 2] = [1, 2];

// === impl Outage ===

impl Outage {
    /// What was done so far.
    pub(super) fn tally(&self) -> StandIn {
        self.inner().tally
    }

    /// Waits for a connection as long as that makes sense.
    pub(super) async fn connected(&self, transport: &Transport) -> Result<(), Error> {
        match transport.state() {
            State::Ready(_) | State::Misconfigured { until: None, .. } => Ok(()),
            State::Resting { reason, .. } | State::Misconfigured { reason, .. } => Err(reason),
            State::Stopped => Err(Error::new(Code::Stopped)),
            State::Connecting if self.inner().tally.away => Err(not_connected()),
            State::Connecting => match timeout(CONNECTING, transport.ready()).await {
                Ok(ready) => ready.map(drop),
                Err(_) => Err(not_connected()),
            },
        }
    }

    /// Answers in place of the backend.
    pub(super) async fn answer(&self, desk: &Desk, call: Unanswered) -> Response<Body> {
        self.begin(&call.error);
        let method = call.passport.method;
        match method.away {
            Away::Queue if call.reach == Reach::Unknown && !method.resend => {
                let mut inner = self.inner();
                inner.tally.not_resent += 1;
                inner.tally.answered += 1;
            }
            Away::Queue => {
                match timeout(call.patience, queue(desk, call.passport, call.message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) if error.code() != Code::QueueFull => {
                        return answer::failure(&error);
                    }
                    // It is not accepted, and so must not look so.
                    _ => {
                        let error = Error::new(Code::QueueFull).because(call.error);
                        return answer::status(Status::resource_exhausted(
                            Chain(&error).to_string(),
                        ));
                    }
                }
                let mut inner = self.inner();
                inner.tally.queued += 1;
                inner.tally.answered += 1;
            }
            Away::Latest => self.inner().keep(call.passport, call.message),
            Away::Nothing => self.inner().tally.answered += 1,
            Away::Fail => return self.refuse(&call.error),
        }
        answer::no_commands()
    }

    /// Refuses a call that only the backend can answer.
    pub(super) fn refuse(&self, error: &Error) -> Response<Body> {
        self.begin(error);
        self.inner().tally.refused += 1;
        answer::failure(error)
    }

    /// The backend is away: said once.
    fn begin(&self, error: &Error) {
        let mut inner = self.inner();
        if inner.tally.away {
            return;
        }
        inner.tally.away = true;
        inner.tally.outages += 1;
        inner.before = inner.tally.answered;
        drop(inner);
        log::warn!("the backend is away, local agents are answered here: {}", Chain(error));
    }

    /// The backend is back: it is told who is alive.
    pub(super) fn end(&self, uplink: &Uplink) {
        let mut inner = self.inner();
        if !inner.tally.away {
            return;
        }
        inner.tally.away = false;
        inner.bytes = 0;
        let latest = std::mem::take(&mut inner.latest);
        let answered = inner.tally.answered - inner.before;
        drop(inner);
        let known = latest.len();
        let mut told = 0;
        for (passport, message) in latest.into_values() {
            // The next sign comes anyway: none of them waits for room.
            if uplink.report(Envelope { passport, message }).is_ok() {
                told += 1;
            }
        }
        let mut inner = self.inner();
        inner.tally.replayed += told;
        inner.tally.forgotten += known as u64 - told;
        drop(inner);
        log::info!(
            "the backend is back: {answered} calls were answered here, {told} signs of life are told"
        );
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queues a report, and waits for the disk if the relay promises that. What promises delivery cannot
/// keep that now, and an agent that waits for it would fail.
async fn queue(desk: &Desk, passport: Passport, message: Message) -> Result<(), Error> {
    let mut reporter = desk.uplink.reporter(passport);
    reporter.report(message).await?;
    match desk.ack {
        RelayAck::Queued => Ok(()),
        RelayAck::Spooled | RelayAck::Delivered => reporter.finish(Level::Durable).await,
    }
}

/// Ends the outage whenever a connection comes up, until the transport stops.
pub(super) async fn watch(desk: std::sync::Weak<Desk>, mut transport: Transport) {
    while transport.ready().await.is_ok() {
        match desk.upgrade() {
            Some(desk) => desk.outage.end(&desk.uplink),
            None => return,
        }
        while matches!(transport.state(), State::Ready(_)) {
            transport.changed().await;
        }
    }
}

fn not_connected() -> Error {
    Error::new(Code::CallFailed).found("no connection yet")
}

/// Whether a backend, or who stands in front of it, says that it is not there.
pub(super) fn is_away(http: http::StatusCode, status: Option<&Status>) -> bool {
    match status {
        Some(status) => status.code() == tonic::Code::Unavailable,
        // As gRPC reads the statuses of HTTP.
        None => matches!(http.as_u16(), 429 | 502..=504),
    }
}

// === impl Inner ===

impl Inner {
    fn keep(&mut self, passport: Passport, message: Message) {
        self.tally.answered += 1;
        let sign = Sign::new(&passport, &message);
        let (more, known) = (message.data.len(), self.latest.get(&sign));
        let less = known.map_or(0, |(_, message)| message.data.len());
        let full = known.is_none() && self.latest.len() >= SIGNS;
        if full || self.bytes - less + more > BYTES {
            self.tally.forgotten += 1;
            return;
        }
        self.bytes = self.bytes - less + more;
        // A message shares its memory with the chunk it came in.
        let message = Message { data: bytes::Bytes::copy_from_slice(&message.data), ..message };
        self.latest.insert(sign, (passport, message));
    }
}

// === impl Sign ===

impl Sign {
    fn new(passport: &Passport, message: &Message) -> Self {
        let Passport { method, metadata, .. } = passport;
        let names = match message.compressed {
            true => None,
            false => scan::pick(&message.data, &WHO).ok(),
        };
        // What cannot be read is known by itself.
        let who = names.unwrap_or_else(|| message.data.to_vec());
        Self { path: method.path, metadata: metadata.clone(), who }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{METHODS, Method};

    fn ping(instance: &str, layer: &str) -> Message {
        let mut data = b"\x0a\x01s".to_vec();
        for (tag, text) in [(0x12, instance), (0x1a, layer)] {
            data.extend([tag, text.len() as u8]);
            data.extend(text.as_bytes());
        }
        Message { compressed: false, data: data.into() }
    }

    fn passport() -> Passport {
        let keeps = |method: &&Method| method.away == Away::Latest;
        Passport::new(METHODS.iter().find(keeps).unwrap())
    }

    #[test]
    fn the_latest_sign_of_each_instance_is_kept() {
        let mut inner = Inner::default();
        for message in [ping("one", "GENERAL"), ping("two", "MESH"), ping("one", "")] {
            inner.keep(passport(), message);
        }
        let sign = Sign::new(&passport(), &ping("one", "anything"));
        assert_eq!(inner.latest[&sign].1, ping("one", ""));
        assert_eq!((inner.latest.len(), inner.tally.answered, inner.tally.forgotten), (2, 3, 0));
        let sizes: usize = inner.latest.values().map(|(_, message)| message.data.len()).sum();
        assert_eq!(inner.bytes, sizes);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut inner = Inner::default();
        for number in 0..SIGNS + 5 {
            inner.keep(passport(), ping(&number.to_string(), ""));
        }
        assert_eq!((inner.latest.len(), inner.tally.forgotten), (SIGNS, 5));
        // One that is known is still renewed.
        inner.keep(passport(), ping("7", "new"));
        assert_eq!(inner.tally.forgotten, 5);
        let large = "x".repeat(BYTES);
        let message = Message { compressed: false, data: large.into_bytes().into() };
        inner.keep(passport(), message);
        assert_eq!(inner.tally.forgotten, 6);
    }

    #[test]
    fn unavailable_means_away_by_whatever_words() {
        let ok = http::StatusCode::OK;
        assert!(is_away(ok, Some(&Status::unavailable("no healthy upstream"))));
        assert!(is_away(http::StatusCode::BAD_GATEWAY, None));
        assert!(!is_away(ok, Some(&Status::permission_denied("token"))));
        assert!(!is_away(http::StatusCode::NOT_FOUND, None) && !is_away(ok, None));
    }
}
