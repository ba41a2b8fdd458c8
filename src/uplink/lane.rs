//! A queue of records that may share a stream to the backend.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::envelope::Passport;
use super::inbox::{Inbox, Left};
use super::ledger::{Amount, Ledger};
use super::parcel::{Parcel, Run};
use super::spool::Place;
use super::ticket::Ticket;
use crate::protocol::frame::Message;

/// A record in its lane.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// In rising order within a lane: given at acceptance, and with a spool when the record comes from there.
    pub(super) id: u64,
    pub(super) message: Message,
    /// What goes in front of the message if it becomes the first of a stream.
    pub(super) prefix: Bytes,
    /// Where the spool has it.
    pub(super) place: Option<Place>,
    /// When it was accepted, in milliseconds since 1970.
    pub(super) time: u64,
    /// Who waits until the backend has it.
    pub(super) ticket: Option<Arc<Ticket>>,
}

/// What makes two streams alike enough to share a lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LaneKey {
    pub(super) passport: Arc<Passport>,
    /// The sticky fields they have in common.
    pub(super) head: Bytes,
}

#[derive(Debug)]
pub(super) struct Lane {
    passport: Arc<Passport>,
    key: Option<LaneKey>,
    state: Mutex<State>,
    /// Where threads of the host leave records, if they do.
    inbox: OnceLock<(Inbox, Arc<Ledger>)>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Parcel>,
    /// The sum of their lengths.
    bytes: usize,
    /// How many records they are.
    records: u64,
    /// Streams that may still add records.
    users: usize,
    /// The one task that waits for records: the sender or the body it has opened.
    waker: Option<Waker>,
    /// How many bytes it waits for.
    wanted: usize,
}

/// What a lane has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Records are waiting.
    Records,
    /// None is waiting, and none will come.
    Over,
}

// === impl Lane ===

impl Lane {
    pub(super) fn new(passport: Arc<Passport>, key: Option<LaneKey>) -> Self {
        Self { passport, key, state: Mutex::default(), inbox: OnceLock::new() }
    }

    pub(super) fn passport(&self) -> &Passport {
        &self.passport
    }

    pub(super) fn key(&self) -> Option<&LaneKey> {
        self.key.as_ref()
    }

    pub(super) fn join(&self) {
        self.state().users += 1;
    }

    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.users -= 1;
        if state.users == 0 {
            wake(state);
        }
    }

    /// From now on records may be left here; their ids come from this ledger.
    pub(super) fn open_inbox(&self, ledger: &Arc<Ledger>) {
        self.inbox.get_or_init(|| (Inbox::default(), ledger.clone()));
        // Whoever waits already knows nothing of it, and would not hear of what is left there.
        self.nudge();
    }

    /// Leaves a short record without waiting for anybody; `false`: this lane has no inbox.
    pub(super) fn leave_record(&self, data: &[u8]) -> bool {
        let Some((inbox, _)) = self.inbox.get() else { return false };
        if inbox.leave(data) == Left::FirstOfMany {
            self.nudge();
        }
        true
    }

    pub(super) fn push(&self, parcel: impl Into<Parcel>) {
        let mut state = self.state();
        state.push(parcel.into());
        if state.bytes >= state.wanted {
            wake(state);
        }
    }

    /// Puts records back that were sent in vain, in front of those that were not.
    pub(super) fn put_back(&self, parcels: Vec<Parcel>) {
        let mut state = self.state();
        for parcel in parcels.into_iter().rev() {
            state.count(&parcel);
            state.queue.push_front(parcel);
        }
        // Two streams that failed may come back in the wrong order.
        if !state.queue.iter().is_sorted_by_key(Parcel::first) {
            state.queue.make_contiguous().sort_by_key(Parcel::first);
        }
        wake(state);
    }

    /// Puts records behind all the others. They get new ids: by the old ones they would come to the front again
    /// as soon as others are put back.
    pub(super) fn defer(&self, parcels: Vec<Parcel>, ledger: &Ledger) {
        for mut parcel in parcels {
            parcel.renumber(ledger.ids(parcel.records()));
            self.push(parcel);
        }
    }

    /// How much is waiting.
    ///
    /// Looking into the inbox takes back the sender's request to be woken, so the sender is told to look, too.
    pub(super) fn waiting(&self) -> Amount {
        let state = self.filled();
        let waiting = Amount { records: state.records, bytes: state.bytes as u64 };
        wake(state);
        waiting
    }

    /// Takes the oldest record out. The sender is told to look, as by [`waiting`](Self::waiting).
    pub(super) fn take_oldest(&self) -> Option<Parcel> {
        let mut state = self.filled();
        let oldest = state.pop(1);
        wake(state);
        oldest
    }

    /// Takes out what was accepted before `cutoff`, as far as it is in front.
    pub(super) fn take_older(&self, cutoff: u64) -> Vec<Parcel> {
        let mut state = self.filled();
        let mut older = Vec::new();
        // Only records of the spool have an age.
        while let Some(Parcel::One(record)) = state.queue.front()
            && record.time < cutoff
        {
            older.extend(state.pop(1));
        }
        older
    }

    /// The places in the spool of the records in front, and the id of the last of them.
    pub(super) fn front(&self, records: usize, bytes: usize) -> (Vec<Place>, Option<u64>) {
        let state = self.filled();
        let (mut places, mut last, mut sum) = (Vec::new(), None, 0);
        for parcel in state.queue.iter().take(records) {
            if sum >= bytes {
                break;
            }
            sum += parcel.amount().bytes as usize;
            if let Parcel::One(record) = parcel {
                places.extend(record.place);
            }
            last = Some(parcel.last());
        }
        (places, last)
    }

    /// Records up to this id are not the spool's any more.
    pub(super) fn withdraw(&self, last: u64) {
        for parcel in &mut self.state().queue {
            if let Parcel::One(record) = parcel
                && record.id <= last
            {
                record.place = None;
            }
        }
    }

    /// Hands records, up to an id if there is one, to `take` as long as it says how many more it
    /// wants, `most` at first.
    pub(super) fn take(
        &self,
        most: u64,
        last: Option<u64>,
        mut take: impl FnMut(Parcel) -> Option<u64>,
    ) {
        let mut state = self.filled();
        let within = |parcel: &Parcel| last.is_none_or(|last| parcel.last() <= last);
        let mut wanted = Some(most);
        while let Some(most) = wanted
            && state.queue.front().is_some_and(within)
        {
            let Some(parcel) = state.pop(most) else { break };
            wanted = take(parcel);
        }
        drop(state);
        self.tend();
    }

    /// Says what the lane has to offer, or has `cx` woken when that changes.
    pub(super) fn poll_outlook(&self, cx: &mut Context<'_>) -> Poll<Outlook> {
        let mut state = self.filled();
        if !state.queue.is_empty() {
            return Poll::Ready(Outlook::Records);
        }
        if state.users == 0 {
            return Poll::Ready(Outlook::Over);
        }
        state.wake_later(cx, 0);
        if self.inbox.get().is_some_and(|(inbox, _)| !inbox.sleep()) {
            // Somebody is at it just now.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Is ready when `bytes` are waiting or no more can come. Has `cx` woken about then, and for nothing
    /// less; one may have to wake up by oneself.
    pub(super) fn poll_plenty(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        let mut state = self.filled();
        if state.users == 0 || state.bytes >= bytes {
            return Poll::Ready(());
        }
        state.wake_later(cx, bytes);
        if let Some((inbox, _)) = self.inbox.get() {
            inbox.doze();
        }
        Poll::Pending
    }

    /// Sees to the inbox, while nobody is kept waiting by it.
    fn tend(&self) {
        if let Some((inbox, _)) = self.inbox.get() {
            inbox.tend();
        }
    }

    /// Wakes whoever waits for records.
    pub(super) fn nudge(&self) {
        wake(self.state());
    }

    pub(super) async fn outlook(&self) -> Outlook {
        poll_fn(|cx| self.poll_outlook(cx)).await
    }

    /// Waits until no more records can come, or `bytes` are waiting.
    pub(super) async fn gathered(&self, bytes: usize) {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.users == 0 || state.bytes >= bytes {
                return Poll::Ready(());
            }
            state.wake_later(cx, bytes);
            Poll::Pending
        })
        .await;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled().queue.is_empty()
    }

    /// Whether nobody uses the lane and nothing waits in it.
    pub(super) fn is_abandoned(&self) -> bool {
        let state = self.filled();
        state.users == 0 && state.queue.is_empty()
    }

    /// The state, with what was left in the inbox.
    fn filled(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let Some((inbox, ledger)) = self.inbox.get() {
            inbox.take(|frames, records| {
                state.push(Parcel::Many(Run::new(ledger.ids(records), frames, records, None)));
            });
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn push(&mut self, parcel: Parcel) {
        self.count(&parcel);
        self.queue.push_back(parcel);
    }

    /// The oldest records, `most` at most, as far as they are one parcel.
    fn pop(&mut self, most: u64) -> Option<Parcel> {
        let (parcel, rest) = self.queue.pop_front()?.cut(most);
        let gone = parcel.amount();
        self.bytes -= gone.bytes as usize;
        self.records -= gone.records;
        if let Some(rest) = rest {
            self.queue.push_front(rest);
        }
        Some(parcel)
    }

    fn count(&mut self, parcel: &Parcel) {
        let more = parcel.amount();
        self.bytes += more.bytes as usize;
        self.records += more.records;
    }

    fn wake_later(&mut self, cx: &Context<'_>, wanted: usize) {
        self.wanted = wanted;
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

/// Wakes outside the lock: the woken task may run at once on another thread and want it.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    #[test]
    fn what_was_put_behind_stays_there_when_others_are_put_back() {
        let method = protocol::find("/skywalking.v3.EventService/collect").unwrap();
        let lane = Lane::new(Arc::new(Passport::new(method)), None);
        let ledger = Ledger::new(1000, 10);
        let parcel = |text: &'static str| {
            let frames =
                [&protocol::frame::header(false, text.len())[..], text.as_bytes()].concat();
            Parcel::Many(Run::new(ledger.ids(1), frames.into(), 1, None))
        };
        ["a", "b", "c", "d"].into_iter().for_each(|text| lane.push(parcel(text)));
        let take = || {
            let mut taken = Vec::new();
            lane.take(1, None, |parcel| {
                taken.push(parcel);
                None
            });
            taken
        };
        let (a, b, c) = (take(), take(), take());
        lane.defer(a, &ledger);
        // In the wrong order, as streams fail.
        lane.put_back(b);
        lane.put_back(c);
        let order: Vec<u64> = (0..4).map(|_| take()[0].first()).collect();
        assert_eq!(order, [2, 3, 4, 5], "the first one is the last");
    }

    #[tokio::test]
    async fn whoever_waits_before_there_is_an_inbox_hears_of_what_is_left_there() {
        let method = protocol::find("/skywalking.v3.EventService/collect").unwrap();
        let lane = Arc::new(Lane::new(Arc::new(Passport::new(method)), None));
        lane.join();
        let waiting = tokio::spawn({
            let lane = lane.clone();
            async move { lane.outlook().await }
        });
        tokio::task::yield_now().await;
        lane.open_inbox(&Arc::new(Ledger::new(1000, 10)));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(lane.leave_record(b"x"));
        let heard = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
        assert_eq!(heard.expect("it was woken").unwrap(), Outlook::Records);
    }

    #[test]
    fn memory_for_the_next_records_is_got_by_whoever_sends_and_without_the_lock() {
        let method = protocol::find("/skywalking.v3.EventService/collect").unwrap();
        let lane = Lane::new(Arc::new(Passport::new(method)), None);
        lane.join();
        lane.open_inbox(&Arc::new(Ledger::new(10_000_000, 1000)));
        let stocked = || lane.inbox.get().map_or(0, |(inbox, _)| inbox.stocked());
        for _ in 0..20 {
            assert!(lane.leave_record(&[0; super::super::inbox::LONGEST]));
        }
        // Threads that report look, too.
        let before = stocked();
        assert_eq!(lane.waiting().records, 20);
        assert!(lane.take_oldest().is_some());
        assert_eq!(stocked(), before);
        lane.take(1, None, |_| {
            assert_eq!(stocked(), before, "the lock is held");
            None
        });
        assert!(stocked() > before);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_after_somebody_else_has_looked_into_the_inbox() {
        let method = protocol::find("/skywalking.v3.EventService/collect").unwrap();
        let lane = Arc::new(Lane::new(Arc::new(Passport::new(method)), None));
        lane.join();
        lane.open_inbox(&Arc::new(Ledger::new(1000, 10)));
        let waiting = tokio::spawn({
            let lane = lane.clone();
            async move { lane.outlook().await }
        });
        tokio::task::yield_now().await;
        assert!(lane.take_oldest().is_none());
        tokio::task::yield_now().await;
        assert!(lane.leave_record(b"x"));
        let heard = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
        assert_eq!(heard.expect("it was woken").unwrap(), Outlook::Records);
    }
}
