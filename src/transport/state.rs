//! The state of the link and of each backend, as others see it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::{Care, Connection};
use super::failure::needs_a_human;
use super::stream::Negotiated;
use crate::config::LinkSettings;
use crate::error::Error;

/// The state of the link.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum State {
    /// A connection is being made.
    Connecting,
    /// Calls can be made.
    Ready(Ready),
    /// The last attempts failed; the next one comes after a pause.
    Resting {
        /// When the next attempt starts.
        until: Instant,
        /// Why the last one failed.
        reason: Error,
    },
    /// Only a human can end this: a certificate is refused, on either side, or the token. It is
    /// tried again all the same, at longer intervals.
    Misconfigured {
        /// When the next attempt starts; `None` while a connection stands on which calls are refused.
        until: Option<Instant>,
        /// What is wrong.
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
    /// The address behind that name; of the proxy, if there is one; `None` for a Unix socket.
    pub remote: Option<SocketAddr>,
    /// Since when the connection stands.
    pub since: Instant,
    /// What TLS agreed on; `None` for plaintext.
    pub negotiated: Option<Negotiated>,
}

/// What is known of one backend.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackendStatus {
    /// The backend as it was set.
    pub backend: String,
    /// How it is.
    pub state: BackendState,
}

/// How one backend is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BackendState {
    /// Calls go there.
    InUse,
    /// Nothing is wrong with it, as far as is known.
    Spare,
    /// It has failed, and is looked at again later.
    Resting {
        /// When.
        until: Instant,
        /// Since when it has been failing.
        since: Instant,
        /// How often it has failed in a row.
        attempts: u64,
        /// Why it failed last.
        reason: Error,
    },
}

/// How connections are kept.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Upkeep {
    /// How long a backend may owe answers without a byte from it.
    pub patience: Duration,
    /// The longest pause between two attempts.
    pub longest_rest: Duration,
    /// How often names are looked up anew while a connection stands.
    pub lookup: Option<Duration>,
    /// After which time a connection is replaced, ± 20 %.
    pub max_age: Option<Duration>,
    /// HTTP/2 pings, so far apart, while calls are open.
    pub ping: Option<Duration>,
}

/// As good as for ever, for what a host gives, and yet a time that can be added to another.
pub(crate) const EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The state with what belongs to this room alone.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    Connecting,
    Ready { connection: Connection, denied: Option<Error> },
    Resting { until: Instant, reason: Error },
    Stopped,
}

// === impl Upkeep ===

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            longest_rest: Duration::from_secs(30),
            lookup: None,
            max_age: None,
            ping: None,
        }
    }
}

impl From<&LinkSettings> for Upkeep {
    fn from(link: &LinkSettings) -> Self {
        Self {
            patience: link.upstream_timeout,
            longest_rest: link.longest_rest,
            lookup: link.lookup_interval,
            max_age: link.connection_max_age,
            ping: link.keepalive_interval,
        }
    }
}

impl Upkeep {
    /// With times that can be added to others: for a host, `Duration::MAX` means never.
    pub(super) fn bounded(mut self) -> Self {
        let Self { patience, longest_rest, lookup, max_age, ping } = &mut self;
        for time in [patience, longest_rest].into_iter().chain(lookup).chain(max_age).chain(ping) {
            *time = EVER.min(*time);
        }
        self
    }

    pub(super) fn care(&self) -> Care {
        Care { patience: Some(self.patience), ping: self.ping }
    }
}

// === impl Phase ===

impl Phase {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Connecting => State::Connecting,
            Self::Ready { denied: Some(reason), .. } => {
                State::Misconfigured { until: None, reason: reason.clone() }
            }
            Self::Ready { connection, denied: None } => State::Ready(connection.ready()),
            Self::Resting { until, reason } if needs_a_human(reason) => {
                State::Misconfigured { until: Some(*until), reason: reason.clone() }
            }
            Self::Resting { until, reason } => {
                State::Resting { until: *until, reason: reason.clone() }
            }
            Self::Stopped => State::Stopped,
        }
    }
}

// === impl Connection ===

impl Connection {
    pub(super) fn ready(&self) -> Ready {
        Ready {
            backend: self.target.to_string(),
            remote: self.remote,
            since: self.since,
            negotiated: self.negotiated.clone(),
        }
    }
}
