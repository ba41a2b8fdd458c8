//! One connection of a local client: its greeting, its TLS handshake, then HTTP/2 until it ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_openssl::SslStream;

use super::greeting::{self, Opening, Prefixed};
use super::gulp::Gulp;
use super::rotation::Retirement;
use super::{Course, Desk, route};
use crate::error::{Code, Error};
use crate::tls::{Acceptor, agreed_to_h2, client_failure, client_subject};

/// A client ready for HTTP/2.
enum Greeted<S> {
    Plain(Prefixed<S>),
    Tls(Prefixed<SslStream<BufReader<Prefixed<S>>>>),
}

/// What a connection is used for, to tell when it is not.
#[derive(Debug, Default)]
struct Activity(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    open: usize,
    /// When the last one was answered.
    last: Option<Instant>,
}

/// A call, as long as it lives.
struct Busy<'a>(&'a Activity);

/// What one stream may have in flight before it has to wait for the queue.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What a stream may take that is not being read: its window, and the frame in hand.
pub(super) const UNREAD: usize = STREAM_WINDOW as usize + 16 * 1024;
/// Many times the window of a stream: a stream that waits must not hold up the others, and h2 ends
/// connections on which small frames worth half of this lie unread.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// Answers are small.
const SEND_BUFFER: usize = 64 * 1024;
/// A client that has gone without a word is found out by pings, so far apart while nothing comes.
const PING: Duration = Duration::from_secs(60);
const PING_ANSWER: Duration = Duration::from_secs(20);
/// TLS records are read in one go up to here, instead of two system calls for each.
const READ_BUFFER: usize = 32 * 1024;
const HTTP_1_REFUSAL: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves a connection to its end, or to the end of the course.
pub(super) async fn serve<S>(
    stream: S,
    peer: Arc<str>,
    tls: Option<Acceptor>,
    desk: Arc<Desk>,
    mut course: watch::Receiver<Course>,
    retirement: Retirement,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let greeted = tokio::select! {
        greeted = timeout(desk.limits.greeting, greet(stream, &peer, tls.as_ref(), &desk)) => greeted,
        () = end(&mut course) => return,
    };
    match greeted {
        Ok(Some(Greeted::Plain(stream))) => {
            http2(Gulp::new(stream), peer, desk, course, retirement).await
        }
        Ok(Some(Greeted::Tls(stream))) => http2(stream, peer, desk, course, retirement).await,
        Ok(None) => {}
        Err(_) => log::debug!("{peer} did not greet in time"),
    }
}

/// Returns when no new connections are wanted.
pub(super) async fn end(course: &mut watch::Receiver<Course>) {
    // An error: the relay itself is gone.
    let _ = course.wait_for(|course| *course != Course::Serve).await;
}

/// Lets in whoever speaks what is spoken here, and tells why the others are not.
async fn greet<S>(stream: S, peer: &str, tls: Option<&Acceptor>, desk: &Desk) -> Option<Greeted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (opening, mut stream) = match greeting::read(stream).await {
        Ok(greeted) => greeted,
        Err(error) => {
            log::debug!("connection of {peer} ended before its greeting: {error}");
            return None;
        }
    };
    let code = match (opening, tls) {
        (Opening::Tls, Some(acceptor)) => {
            let stream = handshake(stream, peer, acceptor, desk).await?;
            return greeting::preface(stream).await.ok().map(Greeted::Tls);
        }
        (Opening::Http2, None) => return Some(Greeted::Plain(stream)),
        (Opening::Nothing, _) => return None,
        (Opening::Tls, None) => Code::ClientSpeaksTls,
        (Opening::Http2 | Opening::Http1 | Opening::Other, Some(_)) => Code::ClientSpeaksPlaintext,
        (Opening::Http1, None) => {
            refuse_http1(&mut stream).await;
            Code::ClientSpeaksHttp1
        }
        (Opening::Other, None) => {
            log::debug!("{peer} speaks neither HTTP/2 nor anything that is known here");
            return None;
        }
    };
    desk.complaints.say(&Error::new(code).peer(peer));
    None
}

/// In the words of HTTP/1, so that it can be read at the other end.
async fn refuse_http1<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut Prefixed<S>) {
    if stream.write_all(HTTP_1_REFUSAL).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    // Closing over unread bytes would reset the connection, and the answer might be lost.
    let mut rest = [0; 4096];
    for _ in 0..16 {
        if !stream.read(&mut rest).await.is_ok_and(|length| length > 0) {
            return;
        }
    }
}

async fn handshake<S>(
    stream: Prefixed<S>,
    peer: &str,
    acceptor: &Acceptor,
    desk: &Desk,
) -> Option<SslStream<BufReader<Prefixed<S>>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let buffered = BufReader::with_capacity(READ_BUFFER, stream);
    let mut stream = match acceptor.ssl().and_then(|ssl| SslStream::new(ssl, buffered)) {
        Ok(stream) => stream,
        Err(error) => {
            log::error!("{}", Error::new(Code::OpenSslFailed).peer(peer).because(error));
            return None;
        }
    };
    if let Err(error) = Pin::new(&mut stream).accept().await {
        desk.complaints.say(&client_failure(error, stream.ssl()).peer(peer));
        return None;
    }
    if !agreed_to_h2(stream.ssl()) {
        let error = Error::new(Code::ClientHandshakeFailed).peer(peer).found("no ALPN");
        let hint = "point only gRPC reporters at this address: they offer HTTP/2 by ALPN";
        desk.complaints.say(&error.expected("h2").hint(hint));
        return None;
    }
    let ssl = stream.ssl();
    log::debug!(
        "{peer} speaks {}, {}, as {}",
        ssl.version_str(),
        ssl.current_cipher().map_or("no cipher", |cipher| cipher.name()),
        client_subject(ssl).as_deref().unwrap_or("anybody")
    );
    Some(stream)
}

/// Waits for the end of a drain, if there is one.
async fn over(end: Option<Instant>) -> Option<()> {
    sleep_until(end?).await;
    Some(())
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Arc<str>,
    desk: Arc<Desk>,
    mut course: watch::Receiver<Course>,
    mut retirement: Retirement,
) {
    let limits = desk.limits;
    let activity = Arc::new(Activity::default());
    let service = service_fn({
        let (peer, activity) = (peer.clone(), activity.clone());
        move |request| {
            let (desk, peer, activity) = (desk.clone(), peer.clone(), activity.clone());
            async move {
                let _busy = activity.begin();
                route::call(desk, peer, request).await
            }
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.headers)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_ANSWER)
        .serve_connection(TokioIo::new(stream), service);
    let idle = activity.idle(limits.idle);
    tokio::pin!(connection, idle);
    let mut leaving = false;
    let mut retired = None;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    log::debug!("connection of {peer} ended: {error}");
                }
                return;
            }
            changed = course.changed() => match (changed, *course.borrow_and_update()) {
                (Err(_), _) | (_, Course::Cut) => return,
                (_, Course::Drain) => connection.as_mut().graceful_shutdown(),
                (_, Course::Serve) => {}
            },
            // A dialogue that still goes on may end.
            () = &mut idle, if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            drain = retirement.due(), if retired.is_none() => {
                log::debug!("{peer} is asked to come again: the listener's certificates are new");
                connection.as_mut().graceful_shutdown();
                retired = Some(Instant::now() + drain);
            }
            Some(()) = over(retired) => {
                log::info!("connection of {peer} is cut: it was made with replaced certificates");
                return;
            }
        }
    }
}

// === impl Activity ===

impl Activity {
    fn begin(&self) -> Busy<'_> {
        self.calls().open += 1;
        Busy(self)
    }

    /// Returns when there was no call for so long.
    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        let begun = Instant::now();
        let mut until = begun + limit;
        loop {
            sleep_until(until).await;
            let calls = self.calls();
            let quiet = match calls.open {
                0 => calls.last.unwrap_or(begun),
                _ => Instant::now(),
            };
            drop(calls);
            until = quiet + limit;
            if until <= Instant::now() {
                return;
            }
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.open -= 1;
        calls.last = Some(Instant::now());
    }
}
