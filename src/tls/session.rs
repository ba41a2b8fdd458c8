//! Sessions for reconnecting: kept in memory, for one peer each, and no longer than what was verified
//! holds.
//!
//! OpenSSL verifies nothing in a resumed handshake. So a session is bound to the address, the verified
//! name and the SNI it was made for, and to one generation of material, with which it vanishes; and it
//! ends with the first certificate of the verified chain, the first revocation list about one of them,
//! or the OCSP answer. Nothing is written to disk, and no early data is sent.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslContextBuilder, SslRef, SslSessionCacheMode};
use openssl::x509::{X509CrlRef, X509Ref};
use ossl_ext::Session;

use super::verify::Verifier;
use super::witness::Witness;
use super::{PeerName, unix_seconds};

/// The sessions of one generation. Cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Store<Session>>>);

/// Whom a session was made with, and so the only one it is offered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// As it was set.
    pub(crate) address: String,
    /// The name verified, and the one sent.
    pub(crate) name: PeerName,
}

/// What one connection has to do with sessions; kept at the connection itself.
struct Share {
    sessions: Sessions,
    peer: Peer,
    verifier: Verifier,
    /// Of the session that was offered, if one was: until when its verification holds.
    offered: Option<i64>,
    /// Until when this connection's verification holds; empty until the handshake has ended well.
    verified_until: OnceLock<i64>,
}

/// Oldest first.
#[derive(Debug)]
struct Store<S>(VecDeque<Kept<S>>);

/// A session with its bounds, in seconds since 1970.
#[derive(Debug)]
struct Kept<S> {
    peer: Peer,
    session: S,
    uses: Uses,
    /// When it came. A clock that says less has been set back, and is not to be trusted with dates.
    from: i64,
    /// When it ends, by its own lifetime or by `verified_until`.
    until: i64,
    /// When what was verified ends. Sessions that grow out of this one inherit it.
    verified_until: i64,
}

/// How often a session may be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uses {
    /// Tickets of TLS 1.3: whoever watches the wire could tie connections together by a ticket that
    /// is seen twice (RFC 8446 appendix C.4). A server gives several, and new ones each time.
    Once,
    /// Sessions of TLS 1.2. A new one replaces the old.
    Many,
}

/// However far off every end is: a chain is verified anew after this time.
const VERIFIED_FOR: i64 = 2 * 60 * 60;

/// The most sessions for one peer, and for all of them together.
const PER_PEER: usize = 4;
const TOTAL: usize = 64;

/// Lets a context collect sessions for those of its connections that take part.
pub(super) fn collect(context: &mut SslContextBuilder) {
    context.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
    // Tickets of TLS 1.3 come after the handshake. Sessions of TLS 1.2 are taken at its end.
    context.set_new_session_callback(|ssl, session| {
        if let Some(share) = Share::of(ssl)
            && let Ok(session) = Session::copy_of(&session)
            && session.is_tls_1_3()
        {
            share.keep(session, now());
        }
    });
}

/// After a handshake that ended well: how long it holds, and what can be kept of it.
pub(crate) fn settle(ssl: &SslRef) {
    let Some(share) = Share::of(ssl) else { return };
    let now = now();
    let until = if ssl.session_reused() {
        share.offered
    } else {
        holds_until(ssl, &share.verifier).map(|until| until.min(now + VERIFIED_FOR))
    };
    let Some(until) = until else { return };
    share.verified_until.get_or_init(|| until);
    // Without the extension, another handshake may have the same keys (RFC 7627 section 5.3).
    if let Some(Ok(session)) = ssl.session().map(Session::copy_of)
        && !session.is_tls_1_3()
        && session.is_resumable()
        && ossl_ext::has_extended_master_secret(ssl)
    {
        share.keep(session, now);
    }
}

/// Whether this connection was begun with a session to be resumed.
pub(crate) fn was_offered(ssl: &SslRef) -> bool {
    Share::of(ssl).is_some_and(|share| share.offered.is_some())
}

/// Drops all sessions for this connection's peer, so that the next handshake is a full one: after a
/// failure, whatever part the session had in it.
pub(crate) fn forget(ssl: &SslRef) {
    if let Some(share) = Share::of(ssl) {
        share.sessions.store().forget(&share.peer);
    }
}

/// Until when what a full handshake has verified holds, by the verified chain, the lists about it, and
/// what the witness took down. `None` when that is not known.
fn holds_until(ssl: &SslRef, verifier: &Verifier) -> Option<i64> {
    let chain = ssl.verified_chain()?;
    let mut until = Witness::of(ssl).and_then(|witness| witness.until()).unwrap_or(i64::MAX);
    for certificate in chain {
        until = until.min(unix_seconds(certificate.not_after())?);
    }
    let lists = verifier.lists().iter().filter(|list| chain.iter().any(|one| is_about(list, one)));
    for end in lists.filter_map(|list| list.next_update()) {
        until = until.min(unix_seconds(end)?);
    }
    Some(until)
}

/// Whether the clock says less than when that was verified: nothing holds longer than `VERIFIED_FOR`.
fn is_set_back(now: i64, verified_until: i64) -> bool {
    verified_until > now.saturating_add(VERIFIED_FOR)
}

fn is_about(list: &X509CrlRef, certificate: &X509Ref) -> bool {
    list.issuer_name().try_cmp(certificate.issuer_name()).is_ok_and(|order| order.is_eq())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

// === impl Sessions ===

impl Sessions {
    /// Lets a connection that is to be made take part: offers a session for this peer if there is one,
    /// and keeps what the peer gives. The verifier has to be attached too.
    ///
    /// # Errors
    ///
    /// OpenSSL's, when it has no memory.
    pub(crate) fn attach(
        &self,
        ssl: &mut SslRef,
        peer: Peer,
        verifier: &Verifier,
    ) -> Result<(), ErrorStack> {
        let kept = self.store().take(&peer, now());
        if let Some(kept) = &kept {
            kept.session.offer(ssl)?;
        }
        let share = Share {
            sessions: self.clone(),
            peer,
            verifier: verifier.clone(),
            offered: kept.map(|kept| kept.verified_until),
            verified_until: OnceLock::new(),
        };
        ssl.set_ex_data(Share::index()?, share);
        Ok(())
    }

    /// Whether there is a session for this peer.
    pub(crate) fn has(&self, peer: &Peer) -> bool {
        self.store().has(peer, now())
    }

    fn store(&self) -> MutexGuard<'_, Store<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("kept", &self.store().0.len()).finish()
    }
}

// === impl Share ===

impl Share {
    fn of(ssl: &SslRef) -> Option<&Self> {
        ssl.ex_data(Self::index().ok()?)
    }

    /// Where a connection keeps its share.
    fn index() -> Result<Index<Ssl, Self>, ErrorStack> {
        static INDEX: OnceLock<Index<Ssl, Share>> = OnceLock::new();
        if let Some(index) = INDEX.get() {
            return Ok(*index);
        }
        let new = Ssl::new_ex_index()?;
        Ok(*INDEX.get_or_init(|| new))
    }

    /// Keeps a session, if it is known how long its verification holds.
    fn keep(&self, session: Session, now: i64) {
        let Some(&verified_until) = self.verified_until.get() else { return };
        if is_set_back(now, verified_until) {
            return;
        }
        let (uses, lifetime) = match (session.is_tls_1_3(), session.ticket_lifetime()) {
            // To be discarded at once, if it says 0 (RFC 8446 section 4.6.1).
            (true, lifetime) => (Uses::Once, lifetime.unwrap_or(0)),
            // Not said, if it says 0 (RFC 5077 section 3.3).
            (false, lifetime) => (Uses::Many, lifetime.filter(|&l| l > 0).unwrap_or(i64::MAX)),
        };
        let until = now.saturating_add(lifetime.min(session.timeout())).min(verified_until);
        let peer = self.peer.clone();
        let kept = Kept { peer, session, uses, from: now, until, verified_until };
        self.sessions.store().keep(kept);
    }
}

// === impl Store ===

impl<S> Store<S> {
    fn keep(&mut self, new: Kept<S>) {
        match new.uses {
            Uses::Many => self.forget(&new.peer),
            Uses::Once => {
                if self.0.iter().filter(|kept| kept.peer == new.peer).count() >= PER_PEER
                    && let Some(oldest) = self.0.iter().position(|kept| kept.peer == new.peer)
                {
                    self.0.remove(oldest);
                }
            }
        }
        self.0.push_back(new);
        while self.0.len() > TOTAL {
            self.0.pop_front();
        }
    }

    /// The newest session for a peer. It is gone from here: one that is to be used again comes back
    /// after a handshake that ended well.
    fn take(&mut self, peer: &Peer, now: i64) -> Option<Kept<S>> {
        self.0.retain(|kept| kept.holds(now));
        let newest = self.0.iter().rposition(|kept| kept.peer == *peer)?;
        self.0.remove(newest)
    }

    fn has(&self, peer: &Peer, now: i64) -> bool {
        self.0.iter().any(|kept| kept.peer == *peer && kept.holds(now))
    }

    fn forget(&mut self, peer: &Peer) {
        self.0.retain(|kept| kept.peer != *peer);
    }
}

impl<S> Default for Store<S> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

// === impl Kept ===

impl<S> Kept<S> {
    fn holds(&self, now: i64) -> bool {
        (self.from..self.until).contains(&now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_700_000_000;

    fn peer(address: &str, name: &str) -> Peer {
        Peer { address: address.to_owned(), name: PeerName::new(name).expect("it is a name") }
    }

    fn here() -> Peer {
        peer("a.example:1", "a.example")
    }

    fn kept(peer: Peer, session: &str, uses: Uses) -> Kept<String> {
        let until = NOON + 60;
        let session = session.to_owned();
        Kept { peer, session, uses, from: NOON, until, verified_until: until }
    }

    fn taken(store: &mut Store<String>, peer: &Peer, now: i64) -> Option<String> {
        store.take(peer, now).map(|kept| kept.session)
    }

    #[test]
    fn a_session_is_for_one_address_one_verified_name_and_one_sni() {
        let mut store = Store::default();
        store.keep(kept(here(), "s", Uses::Many));
        let other_sni = PeerName::new("a.example").and_then(|name| name.with_sni("b.example"));
        for other in [
            peer("b.example:1", "a.example"),
            peer("a.example:2", "a.example"),
            peer("a.example:1", "b.example"),
            Peer { name: other_sni.expect("it is a name"), ..here() },
        ] {
            assert_eq!(taken(&mut store, &other, NOON), None, "{other:?}");
            assert!(!store.has(&other, NOON));
        }
        assert!(store.has(&here(), NOON));
        assert_eq!(taken(&mut store, &here(), NOON).as_deref(), Some("s"));
    }

    #[test]
    fn a_session_is_not_offered_from_the_second_on_in_which_it_ends() {
        for (now, expected) in
            [(NOON - 1, None), (NOON, Some("s")), (NOON + 59, Some("s")), (NOON + 60, None)]
        {
            let mut store = Store::default();
            store.keep(kept(here(), "s", Uses::Once));
            assert_eq!(taken(&mut store, &here(), now).as_deref(), expected, "{}", now - NOON);
            // What has ended is not kept either.
            assert!(store.0.is_empty());
        }
    }

    #[test]
    fn what_a_clock_that_was_set_back_would_prolong_is_not_kept() {
        let verified_until = NOON + VERIFIED_FOR;
        assert!(!is_set_back(NOON, verified_until) && !is_set_back(NOON + 60, verified_until));
        assert!(is_set_back(NOON - 1, verified_until));
        // What ends sooner by itself does so by every clock.
        assert!(!is_set_back(NOON - 1, verified_until - 1));
    }

    #[test]
    fn a_ticket_of_tls_1_3_is_taken_once_and_the_newest_first() {
        let mut store = Store::default();
        for name in ["1", "2", "3", "4", "5"] {
            store.keep(kept(here(), name, Uses::Once));
        }
        let all: Vec<_> = std::iter::from_fn(|| taken(&mut store, &here(), NOON)).collect();
        assert_eq!(all, ["5", "4", "3", "2"]);
    }

    #[test]
    fn a_session_of_tls_1_2_takes_the_place_of_the_one_before() {
        let mut store = Store::default();
        store.keep(kept(here(), "1", Uses::Many));
        store.keep(kept(here(), "2", Uses::Many));
        assert_eq!(taken(&mut store, &here(), NOON).as_deref(), Some("2"));
        assert_eq!(taken(&mut store, &here(), NOON), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut store = Store::default();
        for number in 0..1000 {
            let peer = peer(&format!("a.example:{number}"), "a.example");
            store.keep(kept(peer, "s", Uses::Once));
        }
        assert_eq!(store.0.len(), TOTAL);
        assert!(store.has(&peer("a.example:999", "a.example"), NOON));
        assert!(!store.has(&peer("a.example:0", "a.example"), NOON));
    }

    #[test]
    fn what_is_forgotten_is_that_peers_alone() {
        let mut store = Store::default();
        let other = peer("b.example:1", "b.example");
        store.keep(kept(here(), "1", Uses::Once));
        store.keep(kept(other.clone(), "2", Uses::Once));
        store.keep(kept(here(), "3", Uses::Once));
        store.forget(&here());
        assert!(!store.has(&here(), NOON) && store.has(&other, NOON));
    }
}
