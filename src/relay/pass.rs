//! Unary and bidirectional calls: what the agent asks reaches the backend, and the backend's answer
//! reaches the agent, unchanged.

use http::{Request, Response, Version};
use hyper::body::Incoming;
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
    let mut onward = Request::new(Body::new(body));
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
