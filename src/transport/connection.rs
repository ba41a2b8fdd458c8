//! One HTTP/2 connection to one target, driven by a task of its own until it ends.

use std::sync::Arc;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;
use tonic::body::Body;
use tower::ServiceExt;

use super::Target;
use super::connector::Dial;
use super::stream::{Autopsy, Io, Negotiated};
use crate::error::{Code, Error, Result};

/// A live connection; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(super) target: Arc<Target>,
    pub(super) negotiated: Option<Negotiated>,
    sender: http2::SendRequest<Body>,
    autopsy: Autopsy,
    /// Becomes `Some` when the connection has ended.
    end: watch::Receiver<Option<Error>>,
    retired: watch::Sender<bool>,
}

/// Answers are small, but many streams may wait for one at a time.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

impl Connection {
    /// Dials the target and greets it by HTTP/2.
    pub(super) async fn open(target: Arc<Target>, dial: Dial) -> Result<Self> {
        let io = dial.oneshot(target.clone()).await?;
        Self::over(target, io).await
    }

    /// Greets by HTTP/2 over a stream that stands.
    pub(crate) async fn over(target: Arc<Target>, io: Io) -> Result<Self> {
        let (negotiated, autopsy, heard) = (io.negotiated(), io.autopsy(), io.heard());
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(io)
            .await
            .map_err(|error| explain(&target, &autopsy, error))?;
        let (ended, end) = watch::channel(None);
        let task = (target.clone(), autopsy.clone());
        tokio::spawn(async move {
            let error = match connection.await {
                // Also what hyper says when it learns of a broken connection by a detour.
                Ok(()) => task.1.finding().unwrap_or_else(|| {
                    Error::new(Code::ConnectionLost).peer(&task.0).found("an orderly end")
                }),
                Err(error) => explain(&task.0, &task.1, error),
            };
            ended.send_replace(Some(error));
        });
        let (retired, _) = watch::channel(false);
        let connection = Self { target, negotiated, sender, autopsy, end, retired };
        connection.greeted(heard).await?;
        Ok(connection)
    }

    /// Waits for the first bytes of the server, which are its HTTP/2 preface (RFC 9113 section
    /// 3.4). With TLS 1.3 this is the first sign that it took our certificate: records sent before
    /// it would count as possibly delivered.
    async fn greeted(&self, mut heard: watch::Receiver<bool>) -> Result<()> {
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
            .map_err(|error| Refused::Failed(Error::new(Code::Bug).because(error)))?;
        sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(unsent) => Refused::Closed(Box::new(unsent)),
            None => Refused::Failed(explain(&self.target, &self.autopsy, error.into_error())),
        })
    }

    /// Waits for the end and says why it came.
    pub(crate) async fn ended(&self) -> Error {
        let mut end = self.end.clone();
        let mut retired = self.retired.subscribe();
        tokio::select! {
            end = end.wait_for(Option::is_some) => match end {
                Ok(error) => error.clone().unwrap_or_else(|| self.lost()),
                Err(_) => self.lost(),
            },
            _ = retired.wait_for(|retired| *retired) => {
                self.autopsy.finding().unwrap_or_else(|| self.lost().found("no new calls are taken"))
            }
        }
    }

    /// Takes the connection out of use: calls under way end as they may, new ones go elsewhere.
    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    fn lost(&self) -> Error {
        Error::new(Code::ConnectionLost).peer(&self.target)
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The connection was closed before; the request comes back unsent.
    Closed(Box<http::Request<Body>>),
    /// It may or may not have reached the backend.
    Failed(Error),
}

/// TLS knows more than HTTP/2 about why a connection broke.
fn explain(target: &Target, autopsy: &Autopsy, error: hyper::Error) -> Error {
    if let Some(finding) = autopsy.finding() {
        return finding;
    }
    let code = if error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
        Code::ConnectionLost
    } else {
        Code::Http2Failed
    };
    Error::new(code).peer(target).because(error)
}
