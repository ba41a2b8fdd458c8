//! Unary and bidirectional calls: what the agent asks reaches the backend, and the backend's answer
//! reaches the agent, unchanged. Whatever the backend cannot answer is left to [`super::outage`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use super::connection::UNREAD;
use super::outage::{Unanswered, is_away};
use super::room::Partial;
use super::{Desk, answer, intake};
use crate::error::{Chain, Code, Error};
use crate::protocol::frame::{HEADER, MAX_MESSAGE, Splitter};
use crate::protocol::{Away, Method};
use crate::transport::Reach;

/// Passes a dialogue through; it lasts as long as its two ends want.
pub(super) async fn dialogue(
    desk: &Desk,
    method: &'static Method,
    request: Request<Incoming>,
) -> Response<Body> {
    if let Err(error) = desk.outage.connected(&desk.transport).await {
        return desk.outage.refuse(&error);
    }
    let mut unread = desk.unread.partial();
    // A backend that takes its time leaves what the agent sends unread.
    if !unread.hold(UNREAD) {
        return answer::no_patience(desk);
    }
    let (head, body) = request.into_parts();
    let onward = onward(desk, method, head, Body::new(Faithful { body, _unread: unread }));
    match desk.transport.send(onward).await {
        Ok(response) => response.map(|body| Body::new(Ending { body, over: false })),
        Err((error, _)) => answer::failure(&error),
    }
}

/// Passes a unary call through, or answers it while the backend is away.
pub(super) async fn unary(
    desk: &Desk,
    method: &'static Method,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let passport = intake::passport(desk, method, &head.headers);
    let patience = patience(&head.headers, desk.timeout);
    let mut partial = desk.room.partial();
    let data = match whole(desk, body, &mut partial).await {
        Ok(data) => data,
        Err(refusal) => return refusal,
    };
    let asked = match desk.outage.connected(&desk.transport).await {
        Ok(()) => {
            let onward = onward(desk, method, head, Body::new(Full::new(data.clone())));
            match timeout(patience, ask(desk, onward)).await {
                Ok(asked) => asked,
                Err(_) => {
                    let found = format!("no answer within {patience:?}");
                    Err((Error::new(Code::CallFailed).found(found), Reach::Unknown))
                }
            }
        }
        Err(error) => Err((error, Reach::None)),
    };
    let (error, reach) = match asked {
        Ok(response) => {
            desk.outage.end(&desk.uplink);
            return response;
        }
        Err(failed) => failed,
    };
    if method.away == Away::Fail {
        return desk.outage.refuse(&error);
    }
    let mut splitter = Splitter::new(desk.limits.message);
    splitter.push(data);
    let message = match splitter.next() {
        Ok(Some(message)) if matches!(splitter.next(), Ok(None)) && splitter.finish().is_ok() => {
            message
        }
        // The backend would have found the same.
        _ => return answer::status(Status::internal("the call is not one whole message")),
    };
    desk.outage.answer(desk, Unanswered { passport, message, patience, error, reach }).await
}

/// Makes the call and reads the answer to its end, so that a connection that breaks in the middle
/// of it is the relay's matter and not the agent's.
async fn ask(desk: &Desk, request: Request<Body>) -> Result<Response<Body>, (Error, Reach)> {
    let (head, body) = desk.transport.send(request).await?.into_parts();
    let lost =
        |error: hyper::Error| (Error::new(Code::ConnectionLost).because(error), Reach::Unknown);
    let mut body = body;
    let (mut data, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(lost)?.into_data() {
            Ok(more) => data.extend_from_slice(&more),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if data.len() > HEADER + MAX_MESSAGE {
            let error = Error::new(Code::CallFailed).found("an answer larger than any message");
            return Err((error, Reach::Unknown));
        }
    }
    let status = Status::from_header_map(&head.headers)
        .or_else(|| trailers.as_ref().and_then(Status::from_header_map));
    if is_away(head.status, status.as_ref()) {
        let found = match status {
            Some(status) => format!("gRPC status {:?} {}", status.code(), status.message()),
            None => format!("HTTP status {}", head.status),
        };
        return Err((Error::new(Code::CallFailed).found(found), Reach::Unknown));
    }
    let body = Full::new(data.freeze());
    Ok(Response::from_parts(
        head,
        match trailers {
            Some(trailers) => Body::new(body.with_trailers(async { Some(Ok(trailers)) })),
            None => Body::new(body),
        },
    ))
}

fn onward(desk: &Desk, method: &'static Method, head: Parts, body: Body) -> Request<Body> {
    let mut onward = Request::new(body);
    *onward.method_mut() = head.method;
    *onward.version_mut() = Version::HTTP_2;
    *onward.uri_mut() = http::Uri::from_static(method.path);
    *onward.headers_mut() = desk.policy.of_call(head.headers);
    onward
}

/// The data of a call that is to be one message; or the answer, if it is not taken.
async fn whole(
    desk: &Desk,
    mut body: Incoming,
    partial: &mut Partial,
) -> Result<Bytes, Response<Body>> {
    let limit = desk.limits.message;
    let mut data = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| answer::status(Status::cancelled(error.to_string())))?;
        let Ok(more) = frame.into_data() else { continue };
        let length = data.len() + more.len();
        if length > HEADER + limit {
            let text = format!("{} the call exceeds {limit} bytes", Code::MessageTooLarge);
            return Err(answer::status(Status::resource_exhausted(text)));
        }
        // A header more is no reason to refuse a message that fits.
        if !partial.hold(length.saturating_sub(HEADER)) {
            return Err(answer::no_room(desk));
        }
        data.extend_from_slice(&more);
    }
    if !body.is_end_stream() {
        return Err(answer::status(Status::cancelled("the call was not ended properly")));
    }
    Ok(data.freeze())
}

/// How long to wait for the backend: an answer that comes after the agent has given up is a failure
/// to it.
fn patience(headers: &HeaderMap, limit: Duration) -> Duration {
    let theirs = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    theirs.map_or(limit, |theirs| limit.min(theirs - theirs / 4))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The backend's half of a dialogue. A connection that breaks ends it with a status, not with a
/// reset: that is what agents expect of a server that goes away.
struct Ending {
    body: Incoming,
    over: bool,
}

impl hyper::body::Body for Ending {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Err(error)) = frame else { return Poll::Ready(frame) };
        self.over = true;
        let error = Error::new(Code::ConnectionLost).because(error);
        let mut trailers = HeaderMap::new();
        // An error: the text is no header. There is nothing better to say then.
        let _ = Status::unavailable(Chain(&error).to_string()).add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

/// A body that ends only as its sender has ended it: hyper ends the body of a stream that was reset
/// without an error as if it had been closed.
struct Faithful {
    body: Incoming,
    _unread: Partial,
}

impl hyper::body::Body for Faithful {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && !self.body.is_end_stream() {
            let reset = io::Error::new(io::ErrorKind::ConnectionReset, "the agent reset its call");
            return Poll::Ready(Some(Err(reset.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_answered_before_it_gives_up() {
        let limit = Duration::from_secs(30);
        for (text, millis) in [
            ("2S", 1500),
            ("30000m", 22_500),
            ("1H", 30_000),
            ("4000000u", 3000),
            ("S", 30_000),
            ("", 30_000),
            ("+2S", 30_000),
            ("123456789S", 30_000),
            ("2s", 30_000),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            let wanted = Duration::from_millis(millis);
            assert_eq!(patience(&headers, limit), wanted, "{text:?}");
        }
        assert_eq!(patience(&HeaderMap::new(), limit), limit);
    }
}
