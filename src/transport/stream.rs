//! The byte stream under HTTP/2. Its inside is private to this room: what lies between HTTP/2 and
//! OpenSSL can change without anyone noticing.
//!
//! One write to OpenSSL is one TLS record, and HTTP/2 hands its frames over in small pieces (a 9-byte
//! head, then the payload). So pieces are gathered here, across frames, until a record is full. Records
//! are gathered too, further below. HTTP/2 asks for a flush after every frame, and while frames are large
//! there are likely more of them.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::census::Present;
use super::pulse::Pulse;
use super::tls::Secured;
use crate::error::Error;
use crate::tls::{Role, later_failure, session, was_cut};

/// A connection to a peer, ready for HTTP/2.
///
/// Implements hyper's `Read` and `Write`; what it is made of is not part of the interface.
pub struct Io(TokioIo<Listening>);

/// What the two ends of a TLS connection agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Negotiated {
    /// The protocol version as OpenSSL names it, such as `TLSv1.3`.
    pub protocol: String,
    /// The cipher suite as OpenSSL names it.
    pub cipher: String,
    /// The group the keys were exchanged in, such as `x25519`; empty without such an exchange.
    pub group: String,
    /// Whether an earlier session was resumed, so that nothing was verified anew.
    pub resumed: bool,
    /// The protocol chosen by ALPN; empty when the peer chose none.
    #[serde(skip)]
    pub alpn: Vec<u8>,
}

/// Keeps the reason why a connection broke: HTTP/2 passes on only a text of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Autopsy(Arc<Mutex<Option<Error>>>);

/// A stream that tells when the peer has sent something.
struct Listening {
    stream: Stream,
    /// Becomes true with the first byte.
    heard: watch::Sender<bool>,
    pulse: Pulse,
    /// Its place in the count of open connections.
    present: Option<Present>,
}

enum Stream {
    Plain(TcpStream),
    Local(UnixStream),
    Tls(Box<Protected>),
}

struct Protected {
    stream: Secured,
    role: Role,
    autopsy: Autopsy,
    /// Pieces gathered for the next record.
    record: Vec<u8>,
    /// Bytes taken since a flush was asked for.
    fresh: usize,
    /// A flush has failed; the first time the reader is to tell why.
    mute: bool,
    loss: Option<io::Error>,
}

/// The most that fits into a TLS record (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;
/// After so much there is likely more to come.
const MUCH: usize = RECORD / 2;

// === impl Io ===

impl Io {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::new(Stream::Plain(stream))
    }

    pub(super) fn local(stream: UnixStream) -> Self {
        Self::new(Stream::Local(stream))
    }

    /// Over a connection whose handshake is done.
    pub(crate) fn tls(mut stream: Secured, role: Role) -> Self {
        stream.get_mut().gather();
        let record = Vec::with_capacity(RECORD);
        let autopsy = Autopsy::default();
        let protected =
            Protected { stream, role, autopsy, record, fresh: 0, mute: false, loss: None };
        Self::new(Stream::Tls(Box::new(protected)))
    }

    fn new(stream: Stream) -> Self {
        Self(TokioIo::new(Listening {
            stream,
            heard: watch::channel(false).0,
            pulse: Pulse::default(),
            present: None,
        }))
    }

    /// Counts the connection from now on until it is closed.
    pub(super) fn count(&mut self, present: Present) {
        self.0.inner_mut().present = Some(present);
    }

    /// What is known of the peer's signs of life.
    pub(super) fn pulse(&self) -> Pulse {
        self.0.inner().pulse.clone()
    }

    /// The peer's address; `None` for a socket of this machine.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        match &self.0.inner().stream {
            Stream::Plain(stream) => stream.peer_addr().ok(),
            Stream::Tls(protected) => protected.stream.get_ref().socket().peer_addr().ok(),
            Stream::Local(_) => None,
        }
    }

    /// What was agreed on; `None` on a plaintext connection.
    pub fn negotiated(&self) -> Option<Negotiated> {
        let Stream::Tls(protected) = &self.0.inner().stream else { return None };
        let ssl = protected.stream.ssl();
        Some(Negotiated {
            protocol: ssl.version_str().to_owned(),
            cipher: ssl.current_cipher().map_or("", |cipher| cipher.name()).to_owned(),
            group: ossl_ext::negotiated_group(ssl).unwrap_or_default(),
            resumed: ssl.session_reused(),
            alpn: ssl.selected_alpn_protocol().unwrap_or_default().to_vec(),
        })
    }

    pub(super) fn autopsy(&self) -> Autopsy {
        match &self.0.inner().stream {
            Stream::Plain(_) | Stream::Local(_) => Autopsy::default(),
            Stream::Tls(protected) => protected.autopsy.clone(),
        }
    }

    /// Becomes true with the first byte that the peer has sent inside the protection; closed when
    /// the stream is.
    pub(super) fn heard(&self) -> watch::Receiver<bool> {
        self.0.inner().heard.subscribe()
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("negotiated", &self.negotiated()).finish_non_exhaustive()
    }
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        match self.negotiated() {
            Some(negotiated) if negotiated.alpn == b"h2" => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        rt::Write::poll_write(Pin::new(&mut self.0), cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        rt::Write::poll_write_vectored(Pin::new(&mut self.0), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        rt::Write::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        rt::Write::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}

// === impl Negotiated ===

/// For the log: `TLSv1.3 with TLS_AES_256_GCM_SHA384, session resumed`.
impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.protocol, self.cipher)?;
        if self.resumed { f.write_str(", session resumed") } else { Ok(()) }
    }
}

// === impl Listening ===

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Local(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(protected) => protected.poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            self.pulse.heard();
            if !*self.heard.borrow() {
                self.heard.send_replace(true);
            }
        } else if let (Stream::Tls(protected), Poll::Ready(_)) = (&self.stream, &result)
            && !*self.heard.borrow()
            && protected.stream.ssl().session_reused()
        {
            // The peer was done with us before its first word. That may be due to what the session
            // says of us, so the next handshake is a full one.
            session::forget(protected.stream.ssl());
        }
        result
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Local(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(protected) => protected.poll_gather(cx, &[IoSlice::new(buf)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Local(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(protected) => protected.poll_gather(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Local(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(protected) => protected.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Local(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(protected) => protected.poll_shutdown(cx),
        }
    }
}

// === impl Protected ===

impl Protected {
    /// Adds pieces to the next record, and writes each that gets full.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        for piece in bufs {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                if self.record.len() == RECORD {
                    match self.poll_write(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Pending | Poll::Ready(Err(_)) if taken > 0 => {
                            return Poll::Ready(Ok(taken));
                        }
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    }
                }
                let (now, later) = rest.split_at(rest.len().min(RECORD - self.record.len()));
                self.record.extend_from_slice(now);
                (rest, taken, self.fresh) = (later, taken + now.len(), self.fresh + now.len());
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Writes the record.
    ///
    /// A write that was pending is repeated with the same bytes in front, possibly with more behind
    /// them: OpenSSL takes that as the same write (`SSL_MODE_ENABLE_PARTIAL_WRITE` and
    /// `SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER`, see `SSL_write(3)`).
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.record.is_empty() {
            let result = Pin::new(&mut self.stream).poll_write(cx, &self.record);
            let written = ready!(self.examine(result))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.record.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Lets everything leave, but once after much gives HTTP/2 the time to add to it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.fresh) >= MUCH {
            // HTTP/2 flushes once more when it is woken, even if it has nothing to add.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        let left = match ready!(self.poll_write(cx)) {
            Ok(()) => ready!(self.stream.get_mut().poll_leave(cx)),
            // The others had to leave to make room.
            Err(error) => Err(error),
        };
        match left {
            // Its last words, such as an alert, may say why, and lie unread: the reader tells.
            Err(error) if !self.mute => {
                self.mute = true;
                self.loss = Some(error);
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            left => Poll::Ready(left),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let result = self.examine(result);
        // OpenSSL may have had to answer, as to a change of keys, and nobody else knows.
        let left = match self.loss.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => self.stream.get_mut().poll_leave(cx),
        };
        match (result, left) {
            // What was read, or why it cannot be, says more than that nothing can be sent.
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Err(error))) if buf.filled().len() == before => {
                Poll::Ready(Err(error))
            }
            (result, _) => result,
        }
    }

    /// Takes down why TLS broke after the handshake.
    fn examine<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = result else { return result };
        if was_cut(&error) {
            // Older OpenSSL has this end as if nothing were missing. HTTP/2 tells a lost connection by the kind.
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)));
        }
        if let Some(explained) = later_failure(&error, &self.role) {
            self.autopsy.note(explained);
        }
        Poll::Ready(Err(error))
    }
}

// === impl Autopsy ===

impl Autopsy {
    pub(super) fn note(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// What broke the connection, if TLS did.
    pub(super) fn finding(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
