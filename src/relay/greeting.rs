//! The first bytes of a connection: what the client speaks, told before anything is answered.
//!
//! They are read, not peeked at, and handed on in front of the rest: nothing waits that would not
//! wait anyway, since every client of HTTP/2 and of TLS speaks first.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Http2,
    Http1,
    Tls,
    Other,
    /// It left, or stopped in the middle of a word.
    Nothing,
}

/// A stream whose first bytes have been read already.
pub(super) struct Prefixed<S> {
    stream: S,
    first: [u8; LONGEST],
    filled: usize,
    taken: usize,
}

/// The longest word that has to be read: HTTP/2's preface.
const LONGEST: usize = 24;
/// The start of HTTP/2's connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HT";
/// A handshake record of any version of TLS.
const CLIENT_HELLO: &[u8] = b"\x16\x03";
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
];

/// Reads as much as it takes to know.
pub(super) async fn read<S: AsyncRead + Unpin>(
    mut stream: S,
) -> io::Result<(Opening, Prefixed<S>)> {
    let (mut first, mut filled) = ([0; LONGEST], 0);
    let opening = loop {
        if let Some(opening) = judge(&first[..filled]) {
            break opening;
        }
        match stream.read(&mut first[filled..]).await? {
            0 => break Opening::Nothing,
            length => filled += length,
        }
    };
    let mut stream = Prefixed { stream, first, filled, taken: 0 };
    if opening == Opening::Http2 {
        stream.complete().await?;
    }
    Ok((opening, stream))
}

/// Reads the whole preface of HTTP/2: the server behind would wait for it without a deadline.
pub(super) async fn preface<S: AsyncRead + Unpin>(stream: S) -> io::Result<Prefixed<S>> {
    let mut stream = Prefixed { stream, first: [0; LONGEST], filled: 0, taken: 0 };
    stream.complete().await?;
    Ok(stream)
}

/// `None`: too few bytes to know.
fn judge(bytes: &[u8]) -> Option<Opening> {
    let matches = |word: &[u8]| bytes.starts_with(word);
    if matches(PREFACE) {
        return Some(Opening::Http2);
    }
    if matches(CLIENT_HELLO) {
        return Some(Opening::Tls);
    }
    if METHODS.iter().any(|method| matches(method)) {
        return Some(Opening::Http1);
    }
    let begun = |word: &[u8]| word.starts_with(bytes);
    let open = begun(PREFACE) || begun(CLIENT_HELLO) || METHODS.iter().any(|method| begun(method));
    if open { None } else { Some(Opening::Other) }
}

// === impl Prefixed ===

impl<S: AsyncRead + Unpin> Prefixed<S> {
    async fn complete(&mut self) -> io::Result<()> {
        self.stream.read_exact(&mut self.first[self.filled..]).await?;
        self.filled = LONGEST;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken < self.filled {
            let length = buf.remaining().min(self.filled - self.taken);
            buf.put_slice(&self.first[self.taken..self.taken + length]);
            self.taken += length;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_are_told_apart_as_soon_as_they_can_be() {
        for (bytes, opening) in [
            (&b"PRI * HTTP/2.0\r\n"[..], Some(Opening::Http2)),
            (b"P", None),
            (b"PR", None),
            (b"PRINT ", Some(Opening::Other)),
            (b"GET / HTTP/1.1", Some(Opening::Http1)),
            (b"GE", None),
            (b"OPTIONS ", Some(Opening::Http1)),
            (b"\x16", None),
            (b"\x16\x03\x01\x02", Some(Opening::Tls)),
            (b"\x16\x02", Some(Opening::Other)),
            (b"\0", Some(Opening::Other)),
            (b"hello", Some(Opening::Other)),
            (b"", None),
        ] {
            assert_eq!(judge(bytes), opening, "{bytes:?}");
        }
        // The buffer always holds enough to know.
        assert!(METHODS.iter().chain([&PREFACE]).all(|word| word.len() <= LONGEST));
    }

    #[tokio::test]
    async fn nothing_is_lost_of_what_comes_in_pieces() {
        use tokio::io::AsyncWriteExt;
        let (mut client, server) = tokio::io::duplex(3);
        let sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let write = tokio::spawn(async move { client.write_all(sent).await });
        let (opening, mut stream) = read(server).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        write.await.unwrap().unwrap();
        assert_eq!((opening, &heard[..]), (Opening::Http2, &sent[..]));
        let (opening, _) = read(&b"GE"[..]).await.unwrap();
        assert_eq!(opening, Opening::Nothing);
    }
}
