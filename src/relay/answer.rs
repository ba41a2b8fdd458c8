//! Answers that the relay gives itself.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::GRPC_CONTENT_TYPE;

use super::Desk;
use crate::error::{Chain, Code, Error, Kind};

/// What nearly every method answers: `Commands` without a command, which is an empty message.
const NO_COMMANDS: &[u8] = &[0, 0, 0, 0, 0];

/// The answer to a report that was taken over.
pub(super) fn no_commands() -> Response<Body> {
    let trailers = async {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    let body = Full::new(Bytes::from_static(NO_COMMANDS)).with_trailers(trailers);
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(http::header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    // Tells agents that compress what is understood here.
    let understood = HeaderValue::from_static("identity,deflate,gzip");
    response.headers_mut().insert("grpc-accept-encoding", understood);
    response
}

/// A failed call.
pub(super) fn status(status: Status) -> Response<Body> {
    status.into_http()
}

/// Unfinished messages take all the room there is for them.
pub(super) fn no_room(desk: &Desk) -> Response<Body> {
    let error = Error::new(Code::TooManyPartials);
    desk.complaints.say(&error);
    status(Status::resource_exhausted(Chain(&error).to_string()))
}

/// Streams that nobody reads for the moment take all the room there is for them.
pub(super) fn no_patience(desk: &Desk) -> Response<Body> {
    let error = Error::new(Code::TooManyWaiting);
    desk.complaints.say(&error);
    status(Status::resource_exhausted(Chain(&error).to_string()))
}

/// A failure of this side or of the way to the backend, with its id and cause.
pub(super) fn failure(error: &Error) -> Response<Body> {
    let text = Chain(error).to_string();
    status(match error.kind() {
        Kind::Bug => Status::internal(text),
        _ => Status::unavailable(text),
    })
}

/// Somebody speaks HTTP, but not gRPC.
pub(super) fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}
