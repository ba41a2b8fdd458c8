//! Client streams of local agents: taken apart into records, queued, answered by the relay.
//!
//! The answer waits for what `relay.ack` says: memory, disk or the backend.
//! Reading stops while the queue is full: the stream's flow-control window then fills, and the
//! agent waits.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tonic::Status;
use tonic::body::Body;

use super::connection::UNREAD;
use super::{Desk, answer};
use crate::config::RelayAck;
use crate::error::{Code, Error};
use crate::protocol::Method;
use crate::protocol::frame::{FrameError, Splitter};
use crate::uplink::{Level, Passport, Reporter};

/// Takes a stream of reports over.
pub(super) async fn report(
    desk: &Desk,
    method: &'static Method,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut reporter = desk.uplink.reporter(passport(desk, method, &head.headers));
    if desk.ack == RelayAck::Delivered {
        reporter = reporter.tracked();
    }
    let outcome = match read(desk, body, &mut reporter).await {
        Ok(()) => settle(desk, reporter).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(()) => answer::no_commands(),
        Err(Refusal::Frame(error)) => {
            log::warn!("a local agent's stream to {} was refused: {error}", method.path);
            answer::status(status_of(&error))
        }
        Err(Refusal::Gone(error)) => {
            // What was complete is queued; the agent has given the rest up itself.
            let why = error.map_or_else(|| "reset".to_owned(), |error| error.to_string());
            log::debug!("a local agent left its stream to {}: {why}", method.path);
            answer::status(Status::cancelled("the stream was not ended properly"))
        }
        Err(Refusal::NoRoom) => answer::no_room(desk),
        Err(Refusal::NoPatience) => answer::no_patience(desk),
        Err(Refusal::Queue(error)) if error.code() == Code::QueueFull => {
            answer::status(Status::resource_exhausted(error.to_string()))
        }
        Err(Refusal::Queue(error)) => answer::failure(&error),
    }
}

pub(super) fn passport(desk: &Desk, method: &'static Method, headers: &HeaderMap) -> Passport {
    Passport::new(method)
        .with_metadata(desk.policy.of_records(headers))
        .with_encoding(headers.get("grpc-encoding").cloned())
}

enum Refusal {
    Frame(FrameError),
    Gone(Option<hyper::Error>),
    NoRoom,
    NoPatience,
    Queue(Error),
}

/// Waits until the records have come as far as the relay promises.
async fn settle(desk: &Desk, reporter: Reporter) -> Result<(), Refusal> {
    let level = match desk.ack {
        RelayAck::Queued => return Ok(()),
        RelayAck::Spooled => Level::Durable,
        RelayAck::Delivered => Level::Delivered,
    };
    reporter.finish(level).await.map_err(Refusal::Queue)
}

async fn read(desk: &Desk, mut body: Incoming, reporter: &mut Reporter) -> Result<(), Refusal> {
    let mut splitter = Splitter::new(desk.limits.message);
    let mut partial = desk.room.partial();
    // Small messages are taken over by the chunk.
    let longest = reporter.longest_run();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Gone(Some(error)))?;
        let Ok(data) = frame.into_data() else { continue };
        splitter.push(data);
        loop {
            if let Some((frames, records)) = longest.and_then(|longest| splitter.run(longest)) {
                if !in_time(desk, reporter.report_frames(frames, records)).await? {
                    (0..records).for_each(|_| reporter.refuse());
                    return Err(Refusal::NoPatience);
                }
            } else if let Some(message) = splitter.next().map_err(Refusal::Frame)? {
                if !in_time(desk, reporter.report(message)).await? {
                    reporter.refuse();
                    return Err(Refusal::NoPatience);
                }
            } else {
                break;
            }
        }
        if !partial.hold(splitter.unfinished()) {
            return Err(Refusal::NoRoom);
        }
    }
    // hyper ends the body of a stream that was reset without an error as if it had been closed.
    if !body.is_end_stream() {
        return Err(Refusal::Gone(None));
    }
    splitter.finish().map_err(Refusal::Frame)
}

/// Waits until messages are queued. If they have to wait for that, what the agent goes on sending fills the
/// window of its stream meanwhile: there is room for so many of them, and `false` for the others.
async fn in_time(
    desk: &Desk,
    queued: impl Future<Output = Result<(), Error>>,
) -> Result<bool, Refusal> {
    let mut queued = pin!(queued);
    let at_once = poll_fn(|cx| Poll::Ready(queued.as_mut().poll(cx))).await;
    if let Poll::Ready(outcome) = at_once {
        return outcome.map(|()| true).map_err(Refusal::Queue);
    }
    let mut waiting = desk.unread.partial();
    if waiting.hold(UNREAD) {
        return queued.await.map(|()| true).map_err(Refusal::Queue);
    }
    Ok(false)
}

fn status_of(error: &FrameError) -> Status {
    match error {
        FrameError::TooLarge { .. } => {
            Status::resource_exhausted(format!("{} {error}", Code::MessageTooLarge))
        }
        _ => Status::internal(error.to_string()),
    }
}
