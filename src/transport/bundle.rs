//! Between OpenSSL and the socket: finished records leave together, and what arrives is read in one go.
//!
//! OpenSSL writes one record at a time and reads each in two steps, header and content. Under load a
//! system call costs more than the encryption of a record, so records are collected here until there
//! are a few of them or HTTP/2 has no more. It knows nothing of TLS, and does not decide when that is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection with room for a few records in front of it.
#[derive(Debug)]
pub(crate) struct Bundle<S = TcpStream> {
    socket: BufReader<S>,
    /// Records to be sent; the first `sent` bytes are.
    records: Vec<u8>,
    sent: usize,
    /// Until then, all is written at once: OpenSSL does not expect to wait for a flush.
    gathering: bool,
}

/// Four full records with what TLS adds to each: more of them make a system call no cheaper.
const RECORDS: usize = 4 * (16 * 1024 + 64);
/// A full record is read at once.
const READ: usize = 16 * 1024 + 512;

// === impl Bundle ===

impl<S: AsyncRead + AsyncWrite + Unpin> Bundle<S> {
    pub(crate) fn new(socket: S) -> Self {
        let socket = BufReader::with_capacity(READ, socket);
        Self { socket, records: Vec::new(), sent: 0, gathering: false }
    }

    /// From now on what is written waits for [`poll_leave`](Self::poll_leave), or for more than there is
    /// room for.
    pub(super) fn gather(&mut self) {
        self.records.reserve_exact(RECORDS);
        self.gathering = true;
    }

    pub(crate) fn socket(&self) -> &S {
        self.socket.get_ref()
    }

    /// Hands over to the system what waits here.
    pub(super) fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.records.len() {
            let rest = &self.records[self.sent..];
            let written = ready!(Pin::new(self.socket.get_mut()).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.records.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Bundle<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Not through `poll_read`, which would go past the buffer for the content of a large record, and
        // read no more than that.
        let this = self.get_mut();
        let mut socket = Pin::new(&mut this.socket);
        let found = ready!(socket.as_mut().poll_fill_buf(cx))?;
        let taken = found.len().min(buf.remaining());
        buf.put_slice(&found[..taken]);
        socket.consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bundle<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.gathering {
            return Pin::new(this.socket.get_mut()).poll_write(cx, buf);
        }
        if this.records.len() + buf.len() > RECORDS {
            ready!(this.poll_leave(cx))?;
        }
        let taken = buf.len().min(RECORDS);
        this.records.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Nothing: OpenSSL asks for it in between and takes "not yet" for a failure. See `poll_leave`.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_leave(cx))?;
        Pin::new(this.socket.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// What the other end has got so far.
    async fn arrived(peer: &mut DuplexStream) -> usize {
        let mut room = vec![0; 4 * RECORDS];
        let read = std::future::poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut room);
            let _ = Pin::new(&mut *peer).poll_read(cx, &mut buf);
            Poll::Ready(buf.filled().len())
        });
        read.await
    }

    #[tokio::test]
    async fn records_wait_until_they_are_told_to_leave() {
        let (ours, mut theirs) = duplex(4 * RECORDS);
        let mut bundle = Bundle::new(ours);
        bundle.write_all(b"a handshake does not wait").await.unwrap();
        assert_eq!(arrived(&mut theirs).await, 25);
        bundle.gather();
        bundle.write_all(&[1; 1000]).await.unwrap();
        bundle.write_all(&[2; 500]).await.unwrap();
        bundle.flush().await.unwrap();
        assert_eq!(arrived(&mut theirs).await, 0);
        assert!(bundle.poll_leave(&mut cx()).is_ready());
        assert_eq!(arrived(&mut theirs).await, 1500);
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_makes_the_others_leave() {
        let (ours, mut theirs) = duplex(4 * RECORDS);
        let mut bundle = Bundle::new(ours);
        bundle.gather();
        for _ in 0..4 {
            bundle.write_all(&[0; 16 * 1024 + 22]).await.unwrap();
        }
        assert_eq!(arrived(&mut theirs).await, 0);
        bundle.write_all(&[0; 1000]).await.unwrap();
        assert_eq!(arrived(&mut theirs).await, 4 * (16 * 1024 + 22));
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for_and_nothing_is_lost() {
        let (ours, mut theirs) = duplex(1000);
        let mut bundle = Bundle::new(ours);
        bundle.gather();
        bundle.write_all(&[7; 2500]).await.unwrap();
        assert!(bundle.poll_leave(&mut cx()).is_pending());
        let mut got = arrived(&mut theirs).await;
        while bundle.poll_leave(&mut cx()).is_pending() {
            got += arrived(&mut theirs).await;
        }
        assert_eq!(got + arrived(&mut theirs).await, 2500);
    }

    #[tokio::test]
    async fn whoever_shuts_down_leaves_nothing_behind() {
        let (ours, mut theirs) = duplex(4 * RECORDS);
        let mut bundle = Bundle::new(ours);
        bundle.gather();
        bundle.write_all(b"the end").await.unwrap();
        bundle.shutdown().await.unwrap();
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"the end");
    }
}
