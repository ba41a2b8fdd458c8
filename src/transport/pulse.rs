//! Whether a backend that owes us something is still heard of.
//!
//! TCP's own timeouts see a peer that is gone, not one that holds the connection open and does
//! nothing. So each call says whose turn it is: ours while its body waits for more records, the
//! backend's otherwise, until the answer begins. A connection on which it has been the backend's
//! turn for the whole patience without a single byte from it is dead, whatever TCP thinks.

use std::pin::Pin;
use std::sync::atomic::{
    AtomicU8,
    Ordering::{AcqRel, Acquire},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tonic::body::Body;

/// What is known about the peer's signs of life. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Calls in which it is the backend's turn.
    owed: usize,
    /// Since when it has owed us something without being heard of.
    silent_since: Instant,
    /// `None`: nobody watches.
    patience: Option<Duration>,
    /// A call was given up after a silence that was long enough.
    given_up: bool,
}

/// One call's side of it. Dropping it ends the call's part.
#[derive(Debug)]
pub(super) struct Turn(Arc<Whose>);

#[derive(Debug)]
struct Whose {
    pulse: Pulse,
    turn: AtomicU8,
}

/// A request body that says whose turn it is.
pub(crate) struct Tracked {
    body: Body,
    whose: Arc<Whose>,
}

const OURS: u8 = 0;
const THEIRS: u8 = 1;
const OVER: u8 = 2;

// === impl Pulse ===

impl Pulse {
    /// Something has come from the peer.
    pub(super) fn heard(&self) {
        self.state().silent_since = Instant::now();
    }

    /// Begins a call: it is the backend's turn until its body waits for us.
    pub(super) fn call(&self, body: Body) -> (Turn, Tracked) {
        let whose = Arc::new(Whose { pulse: self.clone(), turn: AtomicU8::new(OURS) });
        whose.pass(THEIRS);
        (Turn(whose.clone()), Tracked { body, whose })
    }

    /// Returns once the backend has owed us something for so long without a byte from it.
    pub(super) async fn stopped(&self, patience: Duration) {
        self.state().patience = Some(patience);
        loop {
            let due = self.state().due(patience);
            match due {
                Some(due) if due <= Instant::now() => return,
                Some(due) => {
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = self.0.changed.notified() => {}
                    }
                }
                None => self.0.changed.notified().await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// When the patience ends if nothing happens; `None` as long as nothing is owed.
    fn due(&self, patience: Duration) -> Option<Instant> {
        if self.given_up {
            return Some(self.silent_since);
        }
        (self.owed > 0).then(|| self.silent_since + patience)
    }
}

impl Default for State {
    fn default() -> Self {
        Self { owed: 0, silent_since: Instant::now(), patience: None, given_up: false }
    }
}

// === impl Turn ===

impl Turn {
    /// The answer has begun.
    pub(super) fn answered(self) {
        self.0.pass(OVER);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.0.turn.load(Acquire) == THEIRS {
            // The caller's own deadline may be as long as our patience and run out a moment before.
            let mut state = self.0.pulse.state();
            let silent = state.silent_since.elapsed();
            state.given_up |=
                state.patience.is_some_and(|patience| silent >= patience.mul_f64(0.9));
            drop(state);
        }
        self.0.pass(OVER);
    }
}

// === impl Whose ===

impl Whose {
    fn pass(&self, turn: u8) {
        let before = self
            .turn
            .fetch_update(AcqRel, Acquire, |now| (now != OVER && now != turn).then_some(turn));
        let Ok(before) = before else { return };
        let mut state = self.pulse.state();
        if before == THEIRS {
            state.owed = state.owed.saturating_sub(1);
        } else if turn == THEIRS {
            state.owed += 1;
            if state.owed == 1 {
                state.silent_since = Instant::now();
            }
        }
        drop(state);
        self.pulse.0.changed.notify_one();
    }
}

// === impl Tracked ===

impl Tracked {
    /// The body of a call that was not made after all.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.whose.pass(if frame.is_pending() { OURS } else { THEIRS });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl std::fmt::Debug for Tracked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracked").field("whose", &self.whose).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A pulse that has been silent for so long.
    fn silent_for(pulse: &Pulse, time: Duration) {
        let mut state = pulse.state();
        state.patience = Some(PATIENCE);
        state.silent_since = Instant::now().checked_sub(time).expect("the machine is older");
    }

    fn due(pulse: &Pulse) -> Option<Instant> {
        pulse.state().due(PATIENCE)
    }

    #[test]
    fn silence_counts_only_while_the_backend_owes_an_answer() {
        let pulse = Pulse::default();
        silent_for(&pulse, PATIENCE * 2);
        assert_eq!(due(&pulse), None);
        let (turn, _body) = pulse.call(Body::empty());
        // A call after a long idle time starts the clock anew.
        assert!(due(&pulse).is_some_and(|due| due > Instant::now()));
        silent_for(&pulse, PATIENCE);
        assert!(due(&pulse).is_some_and(|due| due <= Instant::now()));
        turn.answered();
        assert_eq!(due(&pulse), None);
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let pulse = Pulse::default();
        let _call = pulse.call(Body::empty());
        silent_for(&pulse, PATIENCE);
        pulse.heard();
        assert!(due(&pulse).is_some_and(|due| due > Instant::now()));
    }

    #[tokio::test]
    async fn a_body_that_waits_for_us_is_no_debt_of_the_backend() {
        let pulse = Pulse::default();
        let (sender, receiver) =
            tokio::sync::mpsc::channel::<Result<Frame<Bytes>, tonic::Status>>(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let body = Body::new(http_body_util::StreamBody::new(stream));
        let (_turn, mut body) = pulse.call(body);
        let mut next = async || {
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending()))
                .await
        };
        assert!(next().await);
        assert_eq!(due(&pulse), None);
        sender.try_send(Ok(Frame::data(Bytes::from_static(b"x")))).expect("there is room");
        assert!(!next().await);
        assert!(due(&pulse).is_some());
    }

    #[tokio::test]
    async fn a_caller_who_gives_up_as_late_has_found_the_same() {
        let pulse = Pulse::default();
        let call = pulse.call(Body::empty());
        silent_for(&pulse, PATIENCE.mul_f64(0.95));
        drop(call);
        pulse.stopped(PATIENCE).await;
    }

    #[test]
    fn a_caller_who_gives_up_early_has_found_nothing() {
        let pulse = Pulse::default();
        let call = pulse.call(Body::empty());
        silent_for(&pulse, PATIENCE / 2);
        drop(call);
        assert_eq!(due(&pulse), None);
    }
}
