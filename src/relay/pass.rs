//! Unary and bidirectional calls: what the agent asks reaches the backend, and the backend's answer
//! reaches the agent, unchanged.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use super::{Desk, answer};
use crate::protocol::{Method, Shape};

/// Passes a call through.
pub(super) async fn through(
    desk: &Desk,
    method: &'static Method,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut onward = Request::new(Body::new(Faithful(body)));
    *onward.method_mut() = head.method;
    *onward.version_mut() = Version::HTTP_2;
    *onward.uri_mut() = http::Uri::from_static(method.path);
    *onward.headers_mut() = desk.policy.of_call(head.headers);
    let sent = desk.transport.send(onward);
    let answered = match method.shape {
        // A dialogue lasts as long as its two ends want.
        Shape::Bidi => sent.await,
        _ => match timeout(desk.timeout, sent).await {
            Ok(answered) => answered,
            Err(_) => {
                let text = format!("the backend did not answer within {:?}", desk.timeout);
                return answer::status(Status::deadline_exceeded(text));
            }
        },
    };
    match answered {
        Ok(response) => response.map(Body::new),
        Err((error, _)) => answer::failure(&error),
    }
}

/// A body that ends only as its sender has ended it: hyper ends the body of a stream that was reset
/// without an error as if it had been closed.
struct Faithful(Incoming);

impl hyper::body::Body for Faithful {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        if frame.is_none() && !self.0.is_end_stream() {
            let reset = io::Error::new(io::ErrorKind::ConnectionReset, "the agent reset its call");
            return Poll::Ready(Some(Err(reset.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
