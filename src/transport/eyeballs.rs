//! Many addresses, one connection: attempts begin one after the other and go on side by side, and the
//! first that succeeds wins (Happy Eyeballs, RFC 8305).
//!
//! hyper-util's connector has a part of this: it gives the second family of addresses one late start,
//! and tries the addresses of a family strictly one after the other, so that a single dead node of a
//! cluster holds up the rest for its whole share of the deadline. Here each address gets its own start.
//!
//! An address that does not answer is asked anew by a fresh try every few seconds: the system repeats an
//! unanswered SYN after pauses that double, and would find a way that is open again seconds late.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The recommended delay between two starts (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// How long each try may stay without an answer before the next one takes its place. The system sends
/// a SYN at once, after one second and, at the latest, after three: there is never more than two seconds
/// between two. The last length repeats; an answer that takes longer is none.
const TRIES: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(5)];

/// Why an address was not reached.
#[derive(Debug)]
pub(super) enum Miss {
    Failed(io::Error),
    TimedOut,
}

/// Connects to the first address that answers; each one has `limit` to do so. An error is that of the
/// last address that failed; `None`: there was no address.
pub(super) async fn connect(
    addresses: Vec<SocketAddr>,
    limit: Duration,
) -> Result<TcpStream, Option<(SocketAddr, Miss)>> {
    let mut waiting = in_order(addresses).into_iter();
    let mut racing = JoinSet::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.next() {
            racing.spawn(async move {
                match timeout(limit, reach(address)).await {
                    Ok(Ok(stream)) => Ok(stream),
                    Ok(Err(error)) => Err((address, Miss::Failed(error))),
                    Err(_) => Err((address, Miss::TimedOut)),
                }
            });
        }
        tokio::select! {
            joined = racing.join_next() => match joined {
                Some(Ok(Ok(stream))) => return Ok(stream),
                // The next one need not wait.
                Some(Ok(Err(miss))) => last = Some(miss),
                Some(Err(_)) => {}
                None => return Err(last),
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

/// Connects to one address, however long it takes. One try is under way at a time.
async fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    let [.., last] = TRIES;
    let mut lengths = TRIES.into_iter();
    loop {
        let length = lengths.next().unwrap_or(last);
        if let Ok(outcome) = timeout(length, TcpStream::connect(address)).await {
            return outcome;
        }
    }
}

/// Families take turns, beginning with the one that the resolver puts first. Within a family the order
/// is random: addresses of one name are nodes of one cluster, and a fleet is to spread over them.
fn in_order(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    fastrand::shuffle(&mut addresses);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut order = Vec::with_capacity(preferred.len() + other.len());
    loop {
        match (preferred.next(), other.next()) {
            (None, None) => return order,
            (a, b) => order.extend(a.into_iter().chain(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns_and_the_resolvers_first_one_begins() {
        let six = addresses(&["[::1]:1", "127.0.0.1:1", "127.0.0.2:1", "[::2]:1", "127.0.0.3:1"]);
        let families: Vec<_> = in_order(six.clone()).iter().map(SocketAddr::is_ipv6).collect();
        assert_eq!(families, [true, false, true, false, false]);
        let four: Vec<_> = six.into_iter().rev().collect();
        let families: Vec<_> = in_order(four).iter().map(SocketAddr::is_ipv6).collect();
        assert_eq!(families, [false, true, false, true, false]);
    }

    #[test]
    fn a_fleet_spreads_over_the_addresses_of_a_name() {
        let all = addresses(&["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]);
        for address in &all {
            assert!((0..1000).any(|_| in_order(all.clone()).first() == Some(address)));
        }
    }

    #[tokio::test]
    async fn no_address_is_an_error_and_not_a_wait() {
        assert!(matches!(connect(Vec::new(), STAGGER).await, Err(None)));
    }
}
