//! What the collector has received: the books it keeps, and the snapshot others get to see.
//!
//! A message costs its share of a few atomic additions per chunk, no lock and no allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;

use crate::protocol::{METHODS, Method};

/// A snapshot of what a collector has received.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Messages of all methods: the sum of `by_method`.
    pub received: u64,
    /// Messages by method path; a method without any is left out.
    pub by_method: BTreeMap<&'static str, u64>,
    /// Bytes of these messages as they came, compressed ones compressed, without their 5-byte headers.
    pub bytes: u64,
    /// Messages that came compressed.
    pub compressed: u64,
    /// Connections accepted, handshakes that failed included.
    pub connections: u64,
    /// Connections that are open now.
    pub open_connections: u64,
    /// TLS handshakes that failed, and connections that did not agree to HTTP/2.
    pub failed_handshakes: u64,
    /// Calls begun, those to unknown methods included.
    pub calls: u64,
    /// Calls answered with status 0.
    pub calls_ok: u64,
    /// Calls answered with any other status.
    pub calls_refused: u64,
    /// Calls that ended without an answer: reset, cancelled, or their connection was lost.
    pub calls_broken: u64,
    /// The TLS version of the newest TLS connection.
    pub protocol: Option<String>,
    /// The cipher suite of the newest TLS connection.
    pub cipher: Option<String>,
    /// The subjects of the client certificates seen, each once.
    pub client_certificates: Vec<String>,
}

/// The books themselves.
#[derive(Debug)]
pub(super) struct Books {
    /// One slot for each of [`METHODS`].
    messages: Box<[AtomicU64]>,
    bytes: AtomicU64,
    compressed: AtomicU64,
    connections: AtomicU64,
    closed_connections: AtomicU64,
    failed_handshakes: AtomicU64,
    calls: AtomicU64,
    calls_ok: AtomicU64,
    calls_refused: AtomicU64,
    calls_broken: AtomicU64,
    tls: Mutex<Tls>,
    changed: Notify,
}

/// The page of one method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page(usize);

/// Messages that are taken in but not in the books yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) compressed: u64,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Refused,
    Broken,
}

#[derive(Debug, Default)]
struct Tls {
    protocol: Option<String>,
    cipher: Option<String>,
    subjects: BTreeSet<String>,
}

/// A client that shows a new certificate with every connection must not fill the memory.
const MOST_SUBJECTS: usize = 256;

// === impl Books ===

impl Default for Books {
    fn default() -> Self {
        Self {
            messages: METHODS.iter().map(|_| AtomicU64::new(0)).collect(),
            bytes: AtomicU64::new(0),
            compressed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            closed_connections: AtomicU64::new(0),
            failed_handshakes: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            calls_ok: AtomicU64::new(0),
            calls_refused: AtomicU64::new(0),
            calls_broken: AtomicU64::new(0),
            tls: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl Books {
    /// A connection was accepted; gives its number, counted from 1.
    pub(super) fn connected(&self) -> u64 {
        let number = self.connections.fetch_add(1, Relaxed) + 1;
        self.changed.notify_waiters();
        number
    }

    /// A connection is gone.
    pub(super) fn disconnected(&self) {
        self.closed_connections.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }

    /// A handshake failed.
    pub(super) fn handshake_failed(&self) {
        self.failed_handshakes.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }

    /// A handshake ended well.
    pub(super) fn secured(&self, protocol: &str, cipher: Option<&str>, subject: Option<&str>) {
        let mut tls = self.tls();
        tls.protocol = Some(protocol.to_owned());
        tls.cipher = cipher.map(str::to_owned);
        if let Some(subject) = subject
            && tls.subjects.len() < MOST_SUBJECTS
        {
            tls.subjects.insert(subject.to_owned());
        }
        drop(tls);
        self.changed.notify_waiters();
    }

    /// A call begins; gives its number, counted from 1.
    pub(super) fn called(&self) -> u64 {
        let number = self.calls.fetch_add(1, Relaxed) + 1;
        self.changed.notify_waiters();
        number
    }

    /// A call has ended.
    pub(super) fn ended(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Ok => &self.calls_ok,
            Outcome::Refused => &self.calls_refused,
            Outcome::Broken => &self.calls_broken,
        };
        counter.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }

    /// Messages of one method were taken in.
    pub(super) fn received(&self, page: Page, tally: Tally) {
        if let Some(messages) = self.messages.get(page.0) {
            messages.fetch_add(tally.messages, Relaxed);
        }
        self.bytes.fetch_add(tally.bytes, Relaxed);
        if tally.compressed > 0 {
            self.compressed.fetch_add(tally.compressed, Relaxed);
        }
        self.changed.notify_waiters();
    }

    /// The books as they stand. Counters of different kinds are read one after the other.
    pub(super) fn counts(&self) -> Counts {
        let by_method: BTreeMap<_, _> = METHODS
            .iter()
            .zip(&self.messages)
            .map(|(method, messages)| (method.path, messages.load(Relaxed)))
            .filter(|(_, messages)| *messages > 0)
            .collect();
        // Before `connections`, so that the difference cannot be negative.
        let closed = self.closed_connections.load(Relaxed);
        let connections = self.connections.load(Relaxed);
        let tls = self.tls();
        Counts {
            received: by_method.values().sum(),
            by_method,
            bytes: self.bytes.load(Relaxed),
            compressed: self.compressed.load(Relaxed),
            connections,
            open_connections: connections.saturating_sub(closed),
            failed_handshakes: self.failed_handshakes.load(Relaxed),
            calls_ok: self.calls_ok.load(Relaxed),
            calls_refused: self.calls_refused.load(Relaxed),
            calls_broken: self.calls_broken.load(Relaxed),
            calls: self.calls.load(Relaxed),
            protocol: tls.protocol.clone(),
            cipher: tls.cipher.clone(),
            client_certificates: tls.subjects.iter().cloned().collect(),
        }
    }

    /// Waits until the counts satisfy a condition.
    pub(super) async fn reached(&self, condition: &(impl Fn(&Counts) -> bool + Send)) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between look and wait.
            changed.as_mut().enable();
            if condition(&self.counts()) {
                return;
            }
            changed.await;
        }
    }

    fn tls(&self) -> MutexGuard<'_, Tls> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Page ===

impl Page {
    /// The page of a method of the table.
    pub(super) fn of(method: &Method) -> Option<Self> {
        METHODS.binary_search_by(|other| other.path.cmp(method.path)).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::find;

    #[test]
    fn received_is_the_sum_of_the_methods() {
        let books = Books::default();
        let event = Page::of(find("/skywalking.v3.EventService/collect").unwrap()).unwrap();
        let last = Page::of(METHODS.last().unwrap()).unwrap();
        books.received(event, Tally { messages: 2, bytes: 20, compressed: 1 });
        books.received(last, Tally { messages: 3, bytes: 30, compressed: 0 });
        let counts = books.counts();
        assert_eq!((counts.received, counts.bytes, counts.compressed), (5, 50, 1));
        assert_eq!(counts.by_method.len(), 2);
        assert_eq!(counts.by_method["/skywalking.v3.EventService/collect"], 2);
    }

    #[test]
    fn the_subjects_are_bounded() {
        let books = Books::default();
        for i in 0..2 * MOST_SUBJECTS {
            books.secured("TLSv1.3", None, Some(&i.to_string()));
        }
        assert_eq!(books.counts().client_certificates.len(), MOST_SUBJECTS);
    }

    #[tokio::test]
    async fn a_waiter_sees_a_change_made_by_another_task() {
        let books = std::sync::Arc::new(Books::default());
        let waiter = tokio::spawn({
            let books = books.clone();
            async move { books.reached(&|counts: &Counts| counts.calls == 3).await }
        });
        for _ in 0..3 {
            tokio::task::yield_now().await;
            books.called();
        }
        waiter.await.unwrap();
    }
}
