//! Decides by the path what becomes of a call.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::{Code, Status};

use super::{Desk, answer, intake, pass};
use crate::error::Error;
use crate::protocol::{self, Shape};

/// Says nothing about what would have been right.
const DENIED: &str = "the relay demands another authentication";

/// Answers one call; what fails is answered as a gRPC status.
pub(super) async fn call(
    desk: Arc<Desk>,
    peer: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if request.method() != Method::POST || !is_grpc(&request) {
        return Ok(answer::not_grpc());
    }
    let path = request.uri().path();
    let Some(method) = protocol::find(path) else {
        log::debug!("refused an unknown method {path:?}");
        let text = format!("the relay knows no method {path}");
        return Ok(answer::status(Status::new(Code::Unimplemented, text)));
    };
    if !desk.policy.admits(request.headers()) {
        desk.complaints.say(&Error::new(crate::error::Code::TokenRefused).peer(&peer));
        return Ok(answer::status(Status::permission_denied(DENIED)));
    }
    Ok(match method.shape {
        Shape::ClientStream => intake::report(&desk, method, request).await,
        Shape::Unary => pass::unary(&desk, method, request).await,
        Shape::Bidi => pass::dialogue(&desk, method, request).await,
    })
}

/// `application/grpc`, alone or with a `+` and the encoding of messages; not `application/grpc-web`.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE).map(|value| value.as_bytes());
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    matches!(rest, Some([] | [b'+' | b';', ..]))
}
