//! From when to when a certificate holds.
//!
//! It knows no time zones and no leap seconds: certificates are dated in UTC, to the second.

use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;

/// The dates of a certificate, as seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: i64,
    not_after: i64,
}

/// How far back a new certificate starts, so that a peer whose clock is behind ours accepts it at once.
const CLOCK_SKEW: i64 = 5 * 60;

const DAY: i64 = 24 * 60 * 60;

/// The last second an ASN.1 time can name: 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;

// === impl Validity ===

impl Validity {
    /// From a few minutes ago until so many days from now.
    pub fn days(days: u32) -> Self {
        Self::relative(-CLOCK_SKEW, i64::from(days).saturating_mul(DAY))
    }

    /// From and until so many seconds from now; negative ones lie in the past.
    pub fn relative(from: i64, until: i64) -> Self {
        let now = now();
        Self::absolute(now.saturating_add(from), now.saturating_add(until))
    }

    /// From and until these seconds since 1970, held within the years 1970 to 9999.
    pub fn absolute(not_before: i64, not_after: i64) -> Self {
        Self { not_before: not_before.clamp(0, LAST), not_after: not_after.clamp(0, LAST) }
    }

    /// The first second, since 1970.
    pub fn not_before(self) -> i64 {
        self.not_before
    }

    /// The last second, since 1970.
    pub fn not_after(self) -> i64 {
        self.not_after
    }

    /// Both as OpenSSL takes them: UTCTime until 2049 and GeneralizedTime from then on, as RFC 5280 asks.
    pub(super) fn to_asn1(self) -> Result<(Asn1Time, Asn1Time), ErrorStack> {
        Ok((Asn1Time::from_unix(self.not_before as _)?, Asn1Time::from_unix(self.not_after as _)?))
    }
}

/// Seconds since 1970 as `2026-11-24T08:12:00Z`.
///
/// ```
/// assert_eq!(skytls::pki::rfc3339(951_827_696), "2000-02-29T12:34:56Z");
/// ```
pub fn rfc3339(unix: i64) -> String {
    let (day, second) = (unix.div_euclid(DAY), unix.rem_euclid(DAY));
    let (year, month, day) = civil(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day since 1970. Years are counted from March, which puts the leap day last.
fn civil(day: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097; // days in 400 years
    let day = day + 719_468; // since 0000-03-01
    let (era, day) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, day - (153 * march + 2) / 5 + 1)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(LAST)
}
