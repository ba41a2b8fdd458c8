//! The answer to a question that takes time, for async code and for plain threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::{self, Thread};

use tokio::sync::oneshot;

use crate::uplink::Uplink;

/// How many records were left: await it in async code, of any runtime, or [`wait`](Self::wait) for it.
/// The work is done whether or not anybody does.
#[derive(Debug)]
#[must_use = "it says how many records were left"]
pub struct Pending(Option<(oneshot::Receiver<u64>, Uplink)>);

struct Unpark(Thread);

// === impl Pending ===

impl Pending {
    pub(super) fn new(answer: oneshot::Receiver<u64>, uplink: Uplink) -> Self {
        Self(Some((answer, uplink)))
    }

    /// Nothing was left.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// Blocks this thread until the answer is there.
    pub fn wait(mut self) -> u64 {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut cx) {
                Poll::Ready(left) => return left,
                Poll::Pending => thread::park(),
            }
        }
    }
}

impl Future for Pending {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        let Some((answer, uplink)) = &mut self.0 else { return Poll::Ready(0) };
        // An error: the agent was dropped meanwhile. What is in the books then is the answer.
        let left =
            ready!(Pin::new(answer).poll(cx)).unwrap_or_else(|_| uplink.books().total.pending);
        self.0 = None;
        Poll::Ready(left)
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
