//! What goes back to the client: a gRPC status, an empty message, or nothing at all.
//!
//! By itself the collector answers without content: an empty `Commands` is an empty message, and so is
//! every other answer of the protocol whose fields have their defaults.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};

use crate::protocol::frame::{self, FrameError};

/// A gRPC status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    code: u8,
    message: Option<&'static str>,
}

/// The body of a response.
pub(super) struct Answer {
    message: Option<Bytes>,
    end: End,
}

/// The call is broken off; hyper makes an RST_STREAM of it.
#[derive(Debug)]
pub(super) struct Abort;

/// Trailers that are known only when the client has sent everything.
pub(super) type Later = Pin<Box<dyn Future<Output = Result<Status, Abort>> + Send>>;

enum End {
    Now(Option<Status>),
    Later(Later),
    Over,
}

/// The header of an uncompressed message of no bytes, and with it the whole message.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

// === impl Status ===

impl Status {
    pub(super) const OK: Self = Self { code: 0, message: None };
    /// OAP sends no message with it.
    pub(super) const PERMISSION_DENIED: Self = Self { code: 7, message: None };

    pub(super) const fn new(code: u8, message: &'static str) -> Self {
        Self { code, message: Some(message) }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// The answer that is a status and nothing else: trailers without anything in front.
    pub(super) fn alone(self) -> Response<Answer> {
        let mut response = Answer { message: None, end: End::Over }.response();
        self.write(response.headers_mut());
        response
    }

    /// The answer with one message, mostly an empty one, and this status.
    pub(super) fn with_message(self, message: &[u8]) -> Response<Answer> {
        let message = match message {
            [] => Bytes::from_static(EMPTY_MESSAGE),
            message => [&frame::header(false, message.len())[..], message].concat().into(),
        };
        Answer { message: Some(message), end: End::Now(Some(self)) }.response()
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.code)));
        if let Some(message) = self.message {
            headers.insert(GRPC_MESSAGE, HeaderValue::from_static(message));
        }
    }
}

impl From<FrameError> for Status {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge { .. } => Self::new(8, "the message exceeds 50 MiB"),
            FrameError::BadFlag(_) => Self::new(13, "a message starts with neither 0 nor 1"),
            FrameError::Truncated { .. } => Self::new(13, "the stream ends within a message"),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// The answer with one empty message at once and the status later.
    pub(super) fn open(end: Later) -> Response<Self> {
        Self { message: Some(Bytes::from_static(EMPTY_MESSAGE)), end: End::Later(end) }.response()
    }

    /// A refusal in HTTP's own terms, for what is not gRPC.
    pub(super) fn http(status: StatusCode) -> Response<Self> {
        let mut response = Response::new(Self { message: None, end: End::Over });
        *response.status_mut() = status;
        response
    }

    fn response(self) -> Response<Self> {
        let mut response = Response::new(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, GRPC);
        headers.insert(GRPC_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip"));
        response
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        let status = match &mut self.end {
            End::Now(status) => Ok(status.take()),
            End::Later(later) => ready!(later.as_mut().poll(cx)).map(Some),
            End::Over => Ok(None),
        };
        self.end = End::Over;
        Poll::Ready(status.transpose().map(|status| {
            let mut trailers = HeaderMap::with_capacity(2);
            status?.write(&mut trailers);
            Ok(Frame::trailers(trailers))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && matches!(self.end, End::Over)
    }
}

// === impl Abort ===

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call is broken off")
    }
}

impl std::error::Error for Abort {}
