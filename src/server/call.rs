//! One call: check it, take its messages in, answer as OAP does, or as a fault was ordered.
//!
//! It does not look into messages: whatever is framed correctly is taken.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::{Abort, Answer, Status};
use super::counts::{Outcome, Page, Tally};
use super::fault::{Effect, Order};
use super::listen::Connection;
use super::{CallInfo, Shared};
use crate::config::Secret;
use crate::protocol::frame::{MAX_MESSAGE, Splitter};
use crate::protocol::{self, Method, Shape};

/// A call whose messages are being taken in.
struct Call {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    info: CallInfo,
    page: Page,
    shape: Shape,
    /// The faults this call is under; nearly always none, and then nothing is asked per message.
    orders: Vec<Arc<Order>>,
    delay: Option<Duration>,
    throttle: Option<Throttle>,
    encoding: Encoding,
    body: Incoming,
    splitter: Splitter,
    /// Messages taken in.
    taken: u64,
    /// The content of a unary call's answer.
    answer: Bytes,
    entry: Entry,
}

/// Why a call is not read any further.
enum Stop {
    /// It is answered with this status.
    Status(Status),
    /// It is broken off.
    Reset,
    /// It is never heard of again.
    Silence,
}

/// Whether compressed messages can be what they claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

/// The call's line in the books; dropped without an outcome, the call counts as broken.
struct Entry {
    shared: Arc<Shared>,
    outcome: Outcome,
}

/// Reads no faster than a rate on average.
struct Throttle {
    bytes_per_second: u64,
    free_at: Instant,
}

/// Serves one request of HTTP/2.
pub(super) async fn serve(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Abort> {
    let number = shared.books.called();
    let mut entry = Entry { shared: shared.clone(), outcome: Outcome::Broken };
    let (head, body) = request.into_parts();
    let (method, page, encoding) = match accept(&shared, &head) {
        Ok(accepted) => accepted,
        Err(refusal) => {
            entry.outcome = Outcome::Refused;
            return Ok(refusal);
        }
    };
    let mut metadata = head.headers;
    if let Some(token) = metadata.get_mut(AUTHENTICATION) {
        // Whoever prints the metadata does not print the token.
        token.set_sensitive(true);
    }
    let orders = shared.orders.for_call(method.path);
    let call = Call {
        info: CallInfo {
            path: method.path,
            metadata,
            connection: connection.number,
            call: number,
            remote: connection.remote,
            client_certificate: connection.client_certificate.clone(),
        },
        shared,
        connection,
        page,
        shape: method.shape,
        orders,
        delay: None,
        throttle: None,
        encoding,
        body,
        splitter: Splitter::new(MAX_MESSAGE),
        taken: 0,
        answer: Bytes::new(),
        entry,
    };
    call.run().await
}

const AUTHENTICATION: &str = "authentication";

/// The message of a status that comes from a fault.
const ORDERED: &str = "a fault to order";

type Accepted = (&'static Method, Page, Encoding);

/// What is refused before a message is read, in the order in which a gRPC server of OAP's kind does.
#[allow(clippy::result_large_err)] // the error is the answer, made once per refused call
fn accept(shared: &Shared, head: &http::request::Parts) -> Result<Accepted, Response<Answer>> {
    if head.method != Verb::POST {
        return Err(Answer::http(StatusCode::METHOD_NOT_ALLOWED));
    }
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
        return Err(Answer::http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let found =
        protocol::find(head.uri.path()).and_then(|method| Some((method, Page::of(method)?)));
    let Some((method, page)) = found else {
        return Err(Status::new(12, "there is no such method").alone());
    };
    let encoding = match head.headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Encoding::Identity,
        Some(b"gzip") => Encoding::Gzip,
        Some(_) => return Err(Status::new(12, "the grpc-encoding is not supported").alone()),
    };
    if let Some(token) = &shared.authentication
        && !carries(&head.headers, token)
    {
        return Err(Status::PERMISSION_DENIED.alone());
    }
    Ok((method, page, encoding))
}

fn carries(metadata: &HeaderMap, token: &Secret) -> bool {
    let token = token.expose().as_bytes();
    metadata.get(AUTHENTICATION).is_some_and(|found| {
        // `eq` takes the same time for every wrong token, but panics on another length.
        found.len() == token.len() && openssl::memcmp::eq(found.as_bytes(), token)
    })
}

// === impl Call ===

impl Call {
    async fn run(mut self) -> Result<Response<Answer>, Abort> {
        let shape = self.shape;
        let mut ended = self.begin();
        if ended.is_ok() {
            ended = match shape {
                Shape::Unary => self.read(u64::MAX).await.and_then(|()| self.exactly_one()),
                Shape::Bidi => match self.read(1).await {
                    // Both sides of a profiling stream wait for each other: an empty answer, which
                    // is status 0, lets the client go on.
                    Ok(()) if self.taken > 0 => {
                        self.pause().await;
                        return Ok(Answer::open(Box::pin(self.rest())));
                    }
                    ended => ended,
                },
                _ => self.read(u64::MAX).await,
            };
        }
        match self.end(ended).await? {
            status if status.is_ok() && shape != Shape::Bidi => {
                Ok(status.with_message(&self.answer))
            }
            status => Ok(status.alone()),
        }
    }

    /// What follows the first message of a dialogue.
    async fn rest(mut self) -> Result<Status, Abort> {
        let ended = self.read(u64::MAX).await;
        self.delay = None;
        self.end(ended).await
    }

    /// Puts the faults in force that are about the call as a whole.
    fn begin(&mut self) -> Result<(), Stop> {
        let mut hang = false;
        for order in &self.orders {
            match order.effect() {
                Effect::Hang => hang |= order.strike(),
                Effect::Delay(time) if order.strike() => {
                    self.delay = Some(self.delay.unwrap_or_default().saturating_add(time));
                }
                Effect::Slow(rate) if order.strike() => self.throttle = Some(Throttle::new(rate)),
                _ => {}
            }
        }
        if hang {
            return Err(Stop::Silence);
        }
        self.orders.retain(|order| {
            !matches!(order.effect(), Effect::Hang | Effect::Delay(_) | Effect::Slow(_))
        });
        self.strike()
    }

    /// Takes messages in until there are `enough` of them, or no more.
    async fn read(&mut self, enough: u64) -> Result<(), Stop> {
        loop {
            let mut tally = Tally::default();
            let stopped = self.take_in(enough, &mut tally);
            self.book(&mut tally);
            stopped?;
            if self.taken >= enough {
                return Ok(());
            }
            let data = match self.body.frame().await {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                // The connection is lost, or the client has cancelled the call.
                Some(Err(_)) => return Err(Stop::Reset),
                // hyper also ends the body when the client resets the call with NO_ERROR.
                None if !self.body_is_whole() => return Err(Stop::Reset),
                None => {
                    self.splitter.finish().map_err(|error| Stop::Status(error.into()))?;
                    return Ok(());
                }
            };
            if self.connection.is_closed() {
                return Err(Stop::Silence);
            }
            if let Some(throttle) = &mut self.throttle {
                throttle.wait(data.len()).await;
            }
            self.splitter.push(data);
        }
    }

    /// Takes in what has arrived.
    fn take_in(&mut self, enough: u64, tally: &mut Tally) -> Result<(), Stop> {
        while self.taken < enough {
            let message = match self.splitter.next() {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(error) => return Err(Stop::Status(error.into())),
            };
            if message.compressed && self.encoding == Encoding::Identity {
                let why = "a compressed message without a grpc-encoding";
                return Err(Stop::Status(Status::new(13, why)));
            }
            self.taken += 1;
            tally.messages += 1;
            tally.bytes += message.data.len() as u64;
            tally.compressed += u64::from(message.compressed);
            let watched = self.shared.observer.is_some() || self.shared.responder.is_some();
            if watched || !self.orders.is_empty() {
                // One by one, so that whoever hears of a message finds it counted.
                self.book(tally);
                if let Some(observer) = &self.shared.observer {
                    observer(&self.info, &message);
                }
                if let Some(responder) = &self.shared.responder
                    && self.shape == Shape::Unary
                {
                    self.answer = responder(&self.info, &message).unwrap_or_default();
                }
                self.strike()?;
            }
        }
        Ok(())
    }

    fn book(&self, tally: &mut Tally) {
        if tally.messages > 0 {
            self.connection.messages.fetch_add(tally.messages, Relaxed);
            self.shared.books.received(self.page, std::mem::take(tally));
        }
    }

    /// Carries out what was ordered for this very point of the call.
    fn strike(&self) -> Result<(), Stop> {
        for order in &self.orders {
            match order.effect() {
                Effect::Status { code, after } if self.taken >= after && order.strike() => {
                    return Err(Stop::Status(Status::new(code, ORDERED)));
                }
                Effect::ResetAfter(n) if self.taken >= n && order.strike() => {
                    return Err(Stop::Reset);
                }
                Effect::CloseAfter(n) if self.connection_took(n) && order.strike() => {
                    self.connection.close();
                    return Err(Stop::Silence);
                }
                Effect::GoawayAfter(n)
                    if self.connection_took(n)
                        && !self.connection.is_going_away()
                        && order.strike() =>
                {
                    self.connection.goaway();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn connection_took(&self, messages: u64) -> bool {
        self.connection.messages.load(Relaxed) >= messages
    }

    fn body_is_whole(&self) -> bool {
        hyper::body::Body::is_end_stream(&self.body)
    }

    fn exactly_one(&self) -> Result<(), Stop> {
        match self.taken {
            0 => Err(Stop::Status(Status::new(13, "the call ends without a request"))),
            1 => Ok(()),
            _ => Err(Stop::Status(Status::new(13, "more than one request"))),
        }
    }

    /// The status that the call ends with.
    async fn end(&mut self, ended: Result<(), Stop>) -> Result<Status, Abort> {
        let status = match ended.and_then(|()| self.late_status()) {
            Ok(()) => Status::OK,
            Err(Stop::Status(status)) => status,
            Err(Stop::Reset) => return Err(Abort),
            // hyper drops this when the call or the connection is over.
            Err(Stop::Silence) => pending().await,
        };
        self.pause().await;
        self.entry.outcome = if status.is_ok() { Outcome::Ok } else { Outcome::Refused };
        Ok(status)
    }

    /// The status that was ordered for a later message than the last one.
    fn late_status(&self) -> Result<(), Stop> {
        for order in &self.orders {
            if let Effect::Status { code, .. } = order.effect()
                && order.strike()
            {
                return Err(Stop::Status(Status::new(code, ORDERED)));
            }
        }
        Ok(())
    }

    async fn pause(&self) {
        if let Some(time) = self.delay {
            tokio::time::sleep(time).await;
        }
    }
}

// === impl Entry ===

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.books.ended(self.outcome);
    }
}

// === impl Throttle ===

impl Throttle {
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Instant::now() }
    }

    async fn wait(&mut self, bytes: usize) {
        let seconds = bytes as f64 / self.bytes_per_second as f64;
        self.free_at = self.free_at.max(Instant::now()) + Duration::from_secs_f64(seconds);
        tokio::time::sleep_until(self.free_at).await;
    }
}
