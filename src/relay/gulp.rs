//! Reads all that a client has sent in one go, for HTTP/2 to take it in small pieces: one system call for many frames.
//!
//! A connection holds memory for that only as long as something is left in it: thousands of idle ones share what each
//! thread keeps. It knows nothing of HTTP/2.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that is read in gulps.
pub(super) struct Gulp<S> {
    stream: S,
    rest: Option<Rest>,
}

/// What was read and not taken yet: `bytes[taken..filled]`.
struct Rest {
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
}

/// As much as one stream may have in flight.
const GULP: usize = 64 * 1024;

thread_local! {
    /// Memory that no connection of this thread needs.
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

// === impl Gulp ===

impl<S> Gulp<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, rest: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gulp<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (mut rest, read) = match this.rest.take() {
            Some(rest) => (rest, Poll::Ready(Ok(()))),
            None => {
                let mut rest = Rest::empty();
                let read = rest.poll_fill(&mut this.stream, cx);
                (rest, read)
            }
        };
        rest.hand_over(buf);
        if rest.taken < rest.filled {
            this.rest = Some(rest);
        } else {
            rest.give_back();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gulp<S> {
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

// === impl Rest ===

impl Rest {
    fn empty() -> Self {
        // At the end of a thread there is nothing to spare.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        Self { bytes: spare.unwrap_or_else(|| vec![0; GULP]), taken: 0, filled: 0 }
    }

    fn poll_fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = ReadBuf::new(&mut self.bytes);
        let read = Pin::new(stream).poll_read(cx, &mut room);
        self.filled = room.filled().len();
        read
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let length = buf.remaining().min(self.filled - self.taken);
        buf.put_slice(&self.bytes[self.taken..self.taken + length]);
        self.taken += length;
    }

    fn give_back(self) {
        // As above.
        let _ = SPARE.try_with(|spare| spare.set(Some(self.bytes)));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Gives as much as there is room for, and counts how often it is asked.
    struct Tap {
        left: Vec<u8>,
        asked: usize,
    }

    impl AsyncRead for Tap {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked += 1;
            let length = buf.remaining().min(self.left.len());
            buf.put_slice(&self.left[..length]);
            self.left.drain(..length);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_taken_in_small_pieces_was_read_in_one_go() {
        let sent: Vec<u8> = (0..GULP + 1000).map(|at| (at % 251) as u8).collect();
        let mut gulp = Gulp::new(Tap { left: sent.clone(), asked: 0 });
        let (mut heard, mut piece) = (Vec::new(), [0; 1000]);
        loop {
            match gulp.read(&mut piece).await.unwrap() {
                0 => break,
                length => heard.extend_from_slice(&piece[..length]),
            }
        }
        assert!(heard == sent);
        assert_eq!(gulp.stream.asked, 3, "a full gulp, the rest, the end");
    }

    #[tokio::test]
    async fn a_connection_that_has_handed_over_everything_holds_no_memory() {
        let mut gulp = Gulp::new(Tap { left: vec![7; 1500], asked: 0 });
        let mut piece = [0; 1000];
        assert_eq!(gulp.read(&mut piece).await.unwrap(), 1000);
        assert!(gulp.rest.is_some());
        assert_eq!(gulp.read(&mut piece).await.unwrap(), 500);
        assert!(gulp.rest.is_none());
        let memory = SPARE.take().unwrap();
        let address = memory.as_ptr();
        SPARE.set(Some(memory));
        gulp.stream.left = vec![7; 10];
        assert_eq!(gulp.read(&mut piece[..5]).await.unwrap(), 5);
        assert_eq!(gulp.rest.as_ref().unwrap().bytes.as_ptr(), address, "it is used again");
    }
}
