//! A small gRPC client on bare HTTP/2 for tests.
//!
//! It frames nothing by itself and judges nothing: tests send the bytes they mean and look at what
//! came back.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skytls::protocol::frame::header;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Far longer than anything takes: it only keeps a broken test from hanging.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub const EVENTS: &str = "/skywalking.v3.EventService/collect";
pub const LOGS: &str = "/skywalking.v3.LogReportService/collect";
pub const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
pub const KEEP_ALIVE: &str = "/skywalking.v3.ManagementService/keepAlive";
pub const PPROF: &str = "/skywalking.v10.PprofTask/collect";

/// One message of no bytes, with its header.
pub const EMPTY: &[u8] = &[0; 5];

/// One connection.
pub struct Client {
    send: SendRequest<Outgoing>,
    /// Ends with the connection.
    pub connection: JoinHandle<hyper::Result<()>>,
}

/// A call under way.
pub struct Call {
    /// Takes what is to be sent; dropping it ends the sending.
    pub send: mpsc::Sender<Bytes>,
    reply: JoinHandle<hyper::Result<Response<Incoming>>>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub http: u16,
    pub headers: HeaderMap,
    pub data: Bytes,
    /// `grpc-status`, wherever it was.
    pub status: Option<u8>,
    pub message: Option<String>,
    /// The status came without anything in front.
    pub trailers_only: bool,
}

/// A request body fed by a channel.
pub struct Outgoing(mpsc::Receiver<Bytes>);

/// A message with its header.
pub fn framed(data: &[u8]) -> Bytes {
    flagged(false, data)
}

/// A message with its header, said to be compressed or not.
pub fn flagged(compressed: bool, data: &[u8]) -> Bytes {
    [&header(compressed, data.len())[..], data].concat().into()
}

/// The request of a gRPC call.
pub fn request(path: &str, metadata: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://collector{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in metadata {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// A connection that does not hold small writes back.
pub async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Client {
    pub async fn plain(address: SocketAddr) -> Self {
        Self::over(tcp(address).await).await
    }

    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (send, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        Self { send, connection: tokio::spawn(connection) }
    }

    /// As [`Client::over`]; `None` if the other side is gone.
    pub async fn try_over(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Option<Self> {
        let (send, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.ok()?;
        Some(Self { send, connection: tokio::spawn(connection) })
    }

    /// Begins a call.
    pub fn open(&mut self, request: Request<()>) -> Call {
        let (send, receive) = mpsc::channel(1);
        let response = self.send.send_request(request.map(|()| Outgoing(receive)));
        Call { send, reply: tokio::spawn(response) }
    }

    /// Makes a whole call: each chunk of data as it is given.
    pub async fn call(
        &mut self,
        request: Request<()>,
        chunks: impl IntoIterator<Item = Bytes>,
    ) -> hyper::Result<Reply> {
        let call = self.open(request);
        for chunk in chunks {
            // An answer may come before everything is sent.
            if call.send.send(chunk).await.is_err() {
                break;
            }
        }
        call.finish().await
    }

    /// Makes a call of framed messages that must be answered.
    pub async fn report(&mut self, path: &str, messages: usize) -> Reply {
        let chunks = (0..messages).map(|_| framed(b"message"));
        self.call(request(path, &[]), chunks).await.unwrap()
    }
}

impl Call {
    /// Ends the sending and waits for everything that comes back.
    pub async fn finish(self) -> hyper::Result<Reply> {
        drop(self.send);
        Reply::read(self.reply.await.unwrap()?).await
    }

    /// Waits for the head of the response; the sending goes on.
    pub async fn answered(self) -> hyper::Result<(mpsc::Sender<Bytes>, Response<Incoming>)> {
        Ok((self.send, self.reply.await.unwrap()?))
    }

    /// Whether the head of the response is there.
    pub fn is_answered(&self) -> bool {
        self.reply.is_finished()
    }

    /// Resets the call. The sending stays open until then: its end would end the call properly.
    pub async fn cancel(self) {
        self.reply.abort();
        let _ = self.reply.await;
        drop(self.send);
    }
}

impl Reply {
    pub async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let trailers_only = head.headers.contains_key("grpc-status");
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let find = |name| {
            let value = head.headers.get(name).or(trailers.get(name))?;
            Some(value.to_str().unwrap().to_owned())
        };
        Ok(Self {
            http: head.status.as_u16(),
            status: find("grpc-status").map(|status| status.parse().unwrap()),
            message: find("grpc-message"),
            data: body.to_bytes(),
            headers: head.headers,
            trailers_only,
        })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = ready!(self.0.poll_recv(cx));
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }
}
