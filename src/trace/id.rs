//! Ids as the Java agent makes them: `<32 hex>.<thread>.<milliseconds × 10000 + number>`.
//!
//! They are unique within a generator by the number alone, which only rises, and among processes by the
//! first part. A forked child has to make a generator of its own.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::now;

/// A generator of trace and segment ids.
#[derive(Debug)]
pub(super) struct Ids {
    process: String,
    /// The last number given out.
    last: AtomicU64,
}

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

static THREADS: AtomicU64 = AtomicU64::new(0);

/// Numbers of one millisecond.
const PER_MILLISECOND: u64 = 10_000;

// === impl Ids ===

impl Ids {
    pub(super) fn new() -> Self {
        Self { process: hex(), last: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> String {
        let earliest = u64::try_from(now()).unwrap_or_default().saturating_mul(PER_MILLISECOND);
        // A clock that is set back, or more than ten thousand ids in a millisecond: it goes on from
        // the last one.
        let follow = |last: u64| earliest.max(last + 1);
        let last = self.last.fetch_update(Relaxed, Relaxed, |last| Some(follow(last)));
        let number = follow(last.unwrap_or_default());
        let mut id = String::with_capacity(self.process.len() + 24);
        id.push_str(&self.process);
        // Writing to a String cannot fail.
        let _ = write!(id, ".{}.{number}", thread());
        id
    }
}

/// A random id of 32 hexadecimal digits, as a UUID without its dashes.
pub(crate) fn hex() -> String {
    let mut hex = String::with_capacity(32);
    for byte in uuid() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// A random UUID in its usual form.
pub(crate) fn dashed() -> String {
    let hex = hex();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Version 4 of RFC 9562.
fn uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // A system without random numbers: ids are no secrets, they only have to differ.
        fastrand::fill(&mut bytes);
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// A number for the current thread, from 1 on.
fn thread() -> u64 {
    THREAD.with(|own| {
        if own.get() == 0 {
            own.set(THREADS.fetch_add(1, Relaxed) + 1);
        }
        own.get()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_have_the_form_of_the_java_agents() {
        let before = u64::try_from(now()).unwrap();
        let id = Ids::new().next();
        let parts: Vec<&str> = id.split('.').collect();
        assert_eq!(parts.len(), 3, "{id}");
        assert!(parts[0].len() == 32 && parts[0].bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert!(parts[1].parse::<u64>().is_ok_and(|thread| thread > 0), "{id}");
        let number: u64 = parts[2].parse().unwrap();
        let after = u64::try_from(now()).unwrap();
        assert!((before..=after).contains(&(number / PER_MILLISECOND)), "{id}");
    }

    #[test]
    fn ids_of_many_threads_differ_also_beyond_ten_thousand_a_millisecond() {
        let ids = Ids::new();
        let mut all = HashSet::new();
        std::thread::scope(|scope| {
            let make = || (0..20_000).map(|_| ids.next()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            for thread in threads {
                all.extend(thread.join().unwrap());
            }
        });
        assert_eq!(all.len(), 80_000);
        let numbers: HashSet<&str> = all.iter().map(|id| id.rsplit('.').next().unwrap()).collect();
        assert_eq!(numbers.len(), 80_000);
    }

    #[test]
    fn uuids_are_of_version_4() {
        let uuid = dashed();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"), "{uuid}");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        assert_ne!(uuid, dashed());
    }
}
