//! One HTTP/2 connection to one target, driven by a task of its own until it ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;
use tonic::body::Body;
use tower::ServiceExt;

use super::Target;
use super::census::Present;
use super::connector::Dial;
use super::failure::{Greeting, explain, reach};
use super::leash::Leash;
use super::pulse::{Pulse, Tracked};
use super::stream::{Autopsy, Io, Negotiated};
use crate::error::{Code, Error, Result};

/// A live connection; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(super) target: Arc<Target>,
    pub(super) negotiated: Option<Negotiated>,
    pub(super) remote: Option<SocketAddr>,
    pub(super) since: Instant,
    sender: http2::SendRequest<Tracked>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    autopsy: Autopsy,
    pulse: Pulse,
    leash: Leash,
    /// Becomes `Some` when the connection takes no more calls.
    end: watch::Sender<Option<Error>>,
    /// Closed when the socket is.
    heard: watch::Receiver<bool>,
    standing: Mutex<Standing>,
}

/// What the backend makes of our tokens.
#[derive(Debug, Default)]
struct Standing {
    denied: bool,
    accepted: Option<Instant>,
}

/// What is asked of a connection beyond being one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Care {
    /// How long the backend may owe an answer without a byte from it.
    pub(crate) patience: Option<Duration>,
    /// HTTP/2 pings, so far apart, while calls are open.
    pub(crate) ping: Option<Duration>,
}

/// Answers are small, but many streams may wait for one at a time.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What a stream lays out ahead of the socket: little enough to be in the processor's cache still when
/// it is encrypted.
const SEND_BUFFER: usize = 256 * 1024;
/// How long the answer to a ping may take.
const PING_ANSWER: Duration = Duration::from_secs(20);
/// So long a call that was taken speaks for the connection.
const OTHERS: Duration = Duration::from_secs(30);

impl Connection {
    /// Dials the target and greets it by HTTP/2.
    pub(super) async fn open(
        target: Arc<Target>,
        dial: Dial,
        care: Care,
        present: Present,
    ) -> Result<Self> {
        let mut io = dial.oneshot(target.clone()).await?;
        io.count(present);
        Self::with(target, io, care).await
    }

    /// Greets by HTTP/2 over a stream that stands.
    pub(crate) async fn over(target: Arc<Target>, io: Io) -> Result<Self> {
        Self::with(target, io, Care::default()).await
    }

    async fn with(target: Arc<Target>, io: Io, care: Care) -> Result<Self> {
        let (negotiated, remote) = (io.negotiated(), io.remote());
        let (autopsy, pulse, heard) = (io.autopsy(), io.pulse(), io.heard());
        let leash = Leash::default();
        let (sender, connection) = http2::Builder::new(leash.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(care.ping)
            .keep_alive_timeout(PING_ANSWER)
            .handshake(io)
            .await
            .map_err(|error| explain(&target, &autopsy, Greeting::Awaited, error))?;
        let (end, _) = watch::channel(None);
        let shared = Arc::new(Shared {
            autopsy,
            pulse: pulse.clone(),
            leash: leash.clone(),
            end,
            heard,
            standing: Mutex::default(),
        });
        // The task must not hold the sender: hyper closes the connection when nobody has one.
        let watched = (target.clone(), shared.clone());
        leash.spawn(async move {
            let (target, shared) = watched;
            let stopped = async {
                match care.patience {
                    Some(patience) => {
                        pulse.stopped(patience).await;
                        Error::new(Code::BackendSilent).peer(&target).found(format!(
                            "not a byte within {patience:?}, though it owes answers"
                        ))
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = connection => {
                    let error = match ended {
                        // Also what hyper says when it learns of a broken connection by a detour.
                        Ok(()) => shared.autopsy.finding().unwrap_or_else(|| {
                            Error::new(Code::ConnectionLost).peer(&target).found("an orderly end")
                        }),
                        Err(error) => shared.explain(&target, error),
                    };
                    shared.end(error);
                }
                error = stopped => shared.cut(error),
            }
        });
        let since = Instant::now();
        let connection = Self { target, negotiated, remote, since, sender, shared };
        connection.greeted().await?;
        Ok(connection)
    }

    /// Waits for the first bytes of the server, which are its HTTP/2 preface (RFC 9113 section
    /// 3.4). With TLS 1.3 this is the first sign that it took our certificate: records sent before
    /// it would count as possibly delivered.
    async fn greeted(&self) -> Result<()> {
        let mut heard = self.shared.heard.clone();
        let limit = self.target.deadlines.handshake;
        tokio::select! {
            // An error means that the stream is gone; then `ended` knows why.
            Ok(_) = heard.wait_for(|heard| *heard) => Ok(()),
            error = self.ended() => Err(error),
            () = tokio::time::sleep(limit) => Err(Error::new(Code::Http2Failed)
                .peer(&self.target)
                .found(format!("no HTTP/2 greeting within {limit:?}"))),
        }
    }

    /// Sends a request, whose URI gets this target's scheme and authority.
    ///
    /// # Errors
    ///
    /// Says whether the request was sent: one that was not comes back.
    pub(crate) async fn send(
        &self,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<hyper::body::Incoming>, Refused> {
        let mut sender = self.sender.clone();
        if sender.ready().await.is_err() {
            return Err(Refused::Closed(Box::new(request)));
        }
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.target.scheme.clone());
        parts.authority = Some(self.target.authority.clone());
        *request.uri_mut() = http::Uri::from_parts(parts)
            .map_err(|error| Refused::Failed(Error::new(Code::Bug).because(error), Reach::None))?;
        let (head, body) = request.into_parts();
        let (turn, body) = self.shared.pulse.call(body);
        match sender.try_send_request(http::Request::from_parts(head, body)).await {
            Ok(response) => {
                turn.answered();
                Ok(response)
            }
            Err(mut error) => Err(match error.take_message() {
                Some(unsent) => Refused::Closed(Box::new(unsent.map(Tracked::into_body))),
                None => {
                    let error = error.into_error();
                    let reach = reach(&error);
                    Refused::Failed(self.shared.explain(&self.target, error), reach)
                }
            }),
        }
    }

    /// Waits until no more calls are taken and says why.
    pub(crate) async fn ended(&self) -> Error {
        let mut end = self.shared.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or_else(|| self.lost()),
            Err(_) => self.lost(),
        }
    }

    /// The backend takes no more calls here: those under way end as they may.
    pub(super) fn going_away(&self) {
        self.shared.end(
            self.shared
                .autopsy
                .finding()
                .unwrap_or_else(|| Error::new(Code::BackendGoesAway).peer(&self.target)),
        );
    }

    /// What cuts it, once nobody else has it, and what tells that it is closed.
    pub(super) fn remains(&self) -> Remains {
        Remains { target: self.target.clone(), shared: self.shared.clone() }
    }

    /// Whether this is the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Notes whether the backend has refused a token; says whether that changes how we stand. As long
    /// as others are taken, it is one agent's token that is wrong.
    pub(super) fn note_denied(&self, denied: bool) -> bool {
        let mut standing = self.shared.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if !denied {
            standing.accepted = Some(Instant::now());
            return std::mem::take(&mut standing.denied);
        }
        let others = standing.accepted.is_some_and(|accepted| accepted.elapsed() < OTHERS);
        !others && !std::mem::replace(&mut standing.denied, true)
    }

    fn lost(&self) -> Error {
        Error::new(Code::ConnectionLost).peer(&self.target)
    }
}

/// A connection that is out of use. It does not keep the connection open.
#[derive(Debug)]
pub(super) struct Remains {
    target: Arc<Target>,
    shared: Arc<Shared>,
}

impl Remains {
    /// Lets calls under way end, for so long at most.
    pub(super) async fn drain(self, limit: Duration) {
        let mut heard = self.shared.heard.clone();
        let closed = async { while heard.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, closed).await.is_err() {
            let error = Error::new(Code::ConnectionReplaced)
                .peer(&self.target)
                .found(format!("calls that did not end within {limit:?}"));
            log::info!("the replaced connection to {} is cut: {}", self.target, error);
            self.shared.cut(error);
        }
    }
}

// === impl Shared ===

impl Shared {
    fn explain(&self, target: &Target, error: hyper::Error) -> Error {
        let greeting = if *self.heard.borrow() { Greeting::Heard } else { Greeting::Awaited };
        explain(target, &self.autopsy, greeting, error)
    }

    fn end(&self, error: Error) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(error);
            first
        });
    }

    fn cut(&self, error: Error) {
        self.autopsy.note(error.clone());
        self.end(error);
        self.leash.cut();
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The connection was closed before; the request comes back unsent.
    Closed(Box<http::Request<Body>>),
    /// It may have reached the backend, or not.
    Failed(Error, Reach),
}

/// Whether a failed call may have reached the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It was never sent, or the backend says that it has not looked at it.
    None,
    /// It may have been.
    Unknown,
}
