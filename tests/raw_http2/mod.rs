//! An HTTP/2 server of frames and decisions, for what a decent server does not do.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What is done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Read to its end and answered with OK.
    Ok,
    /// Broken off by RST_STREAM, before anything is read.
    Reset(Reason),
    /// Answered with OK if it is the first of its connection; at the next one the connection ends.
    OkOnce,
    /// The same, but answered as by a gateway without a backend.
    GatewayOnce,
}

/// What a server of bare frames objects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    /// More pings than so many: ENHANCE_YOUR_CALM.
    Pings(usize),
    /// Any call: GOAWAY, without an error, and without having looked at it.
    FirstCall,
}

/// A server whose every call is decided by its number, counted from 0 over all connections.
pub struct Server {
    pub address: SocketAddr,
    pub calls: Arc<AtomicUsize>,
    pub connections: watch::Receiver<usize>,
    /// The most calls that were open at a time.
    pub most: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Takes so many calls of a connection at a time.
    pub async fn start(
        streams: u32,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::new(streams, false, answer).await
    }

    /// Answers the first call by a GOAWAY that says that nothing was looked at, and all others with OK.
    pub async fn going_away() -> Self {
        Self::new(100, true, |_| Answer::Ok).await
    }

    async fn new(
        streams: u32,
        mut going_away: bool,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (accepted, connections) = watch::channel(0);
        let (answer, counters) = (Arc::new(answer), (calls.clone(), most.clone()));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.send_modify(|accepted| *accepted += 1);
                let (answer, (calls, most)) = (answer.clone(), counters.clone());
                if std::mem::take(&mut going_away) {
                    let (signs, _) = mpsc::unbounded_channel();
                    tokio::spawn(async move { frames(stream, Complaint::FirstCall, &signs).await });
                    continue;
                }
                tokio::spawn(async move {
                    let open = Arc::<AtomicUsize>::default();
                    let mut builder = Builder::new();
                    builder.max_concurrent_streams(streams);
                    let Ok(mut connection) = builder.handshake::<_, bytes::Bytes>(stream).await
                    else {
                        return;
                    };
                    let mut first = true;
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let is_first = std::mem::take(&mut first);
                        match answer(calls.fetch_add(1, SeqCst)) {
                            Answer::OkOnce | Answer::GatewayOnce if !is_first => {
                                connection.abrupt_shutdown(Reason::NO_ERROR);
                            }
                            Answer::Ok | Answer::OkOnce => {
                                most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
                                let open = open.clone();
                                tokio::spawn(async move {
                                    take(request, respond, &open).await;
                                });
                            }
                            Answer::Reset(reason) => respond.send_reset(reason),
                            Answer::GatewayOnce => {
                                let head = Response::builder().status(503).body(()).unwrap();
                                let _ = respond.send_response(head, true);
                            }
                        }
                    }
                });
            }
        });
        Self { address, calls, connections, most, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(
    request: Request<RecvStream>,
    mut respond: SendResponse<bytes::Bytes>,
    open: &AtomicUsize,
) {
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    // Before the client can know that there is room again.
    open.fetch_sub(1, SeqCst);
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let _ = stream.send_data(bytes::Bytes::from_static(&[0; 5]), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = stream.send_trailers(trailers);
}

/// What a client of [`pinged`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Connected(Instant),
    Ping(Instant),
}

/// A server that answers pings and nothing else, and after so many on a connection says
/// ENHANCE_YOUR_CALM and closes it, as gRPC's servers do.
pub async fn pinged(patience: usize) -> (SocketAddr, mpsc::UnboundedReceiver<Sign>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (signs, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = signs.send(Sign::Connected(Instant::now()));
            let _ = frames(stream, Complaint::Pings(patience), &signs).await;
        }
    });
    (address, receiver)
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

async fn frames(
    mut stream: TcpStream,
    complaint: Complaint,
    signs: &mpsc::UnboundedSender<Sign>,
) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frame(SETTINGS, 0, &[])).await?;
    let mut pings = 0;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        let is_answer = head[4] & 1 == 1;
        match head[3] {
            SETTINGS if !is_answer => stream.write_all(&frame(SETTINGS, 1, &[])).await?,
            PING if !is_answer => {
                pings += 1;
                let _ = signs.send(Sign::Ping(Instant::now()));
                if matches!(complaint, Complaint::Pings(patience) if pings > patience) {
                    return goaway(stream, Reason::ENHANCE_YOUR_CALM).await;
                }
                stream.write_all(&frame(PING, 1, &payload)).await?;
            }
            HEADERS if complaint == Complaint::FirstCall => {
                return goaway(stream, Reason::NO_ERROR).await;
            }
            _ => {}
        }
    }
}

/// Says that not even the first stream was looked at.
async fn goaway(mut stream: TcpStream, reason: Reason) -> std::io::Result<()> {
    let mut payload = vec![0; 4];
    payload.extend(u32::from(reason).to_be_bytes());
    stream.write_all(&frame(GOAWAY, 0, &payload)).await?;
    // Let it be read before the socket is closed.
    let rest = stream.read_to_end(&mut payload);
    tokio::time::timeout(Duration::from_secs(1), rest).await??;
    Ok(())
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}
