//! Says ahead of time that a certificate or a revocation list ends: 30, 7 and 1 days before, and when
//! it has ended; each once.
//!
//! A step that is more than a third of the whole lifetime is left out: whoever issues certificates for
//! a day does so every day.

use std::collections::BTreeMap;

use crate::error::{Chain, Code, Error};
use crate::tls::Description;

/// What has been said.
#[derive(Default)]
pub(super) struct Reminders(BTreeMap<Thing, Step>);

/// Something that ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Thing {
    /// What it is to be called once it is over.
    code: u16,
    subject: String,
    serial: String,
    from: i64,
    until: i64,
}

/// How near the end is, in days; 0: it is over.
type Step = i64;

const DAY: i64 = 86_400;
const STEPS: [Step; 3] = [1, 7, 30];

// === impl Reminders ===

impl Reminders {
    /// With everything that is over already: that is said where it is loaded.
    pub(super) fn of(material: &Description, now: i64) -> Self {
        let over = |(thing, ..): &(Thing, Code, String)| step(thing, now) == Some(0);
        Self(things(material).into_iter().filter(over).map(|(thing, ..)| (thing, 0)).collect())
    }

    /// Takes down what is over already in new material.
    pub(super) fn renew(&mut self, material: &Description, now: i64) {
        let Self(over) = Self::of(material, now);
        self.0.extend(over);
    }

    /// What is to be said now. What is no longer in force is forgotten.
    pub(super) fn due(&mut self, material: &Description, now: i64) -> Vec<String> {
        let things = things(material);
        self.0.retain(|thing, _| things.iter().any(|(other, ..)| other == thing));
        let mut due = Vec::new();
        for (thing, code, source) in things {
            let Some(step) = step(&thing, now) else { continue };
            if self.0.get(&thing).is_some_and(|said| *said <= step) {
                continue;
            }
            let left = thing.until - now;
            let found = match (step, left / DAY) {
                (0, _) => format!("{}, which has ended", thing.subject),
                (_, 0) => format!("{}, {} hours left", thing.subject, left / 3600),
                (_, days) => format!("{}, {days} days left", thing.subject),
            };
            let code = if step == 0 { code } else { Code::EndsSoon };
            due.push(Chain(&Error::new(code).file(source).found(found)).to_string());
            self.0.insert(thing, step);
        }
        due
    }
}

fn things(material: &Description) -> Vec<(Thing, Code, String)> {
    let certificates = |code, source: &Option<String>, list: &[crate::tls::CertificateInfo]| {
        let source = source.clone().unwrap_or_default();
        let thing = |one: &crate::tls::CertificateInfo| Thing {
            code: code as u16,
            subject: one.subject.clone(),
            serial: one.serial.clone(),
            from: one.from,
            until: one.until,
        };
        list.iter().map(|one| (thing(one), code, source.clone())).collect::<Vec<_>>()
    };
    let mut things = certificates(Code::OwnExpired, &material.identity_source, &material.chain);
    things.extend(certificates(Code::CaExpired, &material.ca_source, &material.ca));
    for list in &material.crls {
        let Some(until) = list.until else { continue };
        let code = Code::CrlOutdated;
        let thing = Thing {
            code: code as u16,
            subject: format!("the list of {}", list.issuer),
            serial: String::new(),
            from: list.from,
            until,
        };
        things.push((thing, code, material.crl_source.clone().unwrap_or_default()));
    }
    things
}

/// The nearest step that has been reached.
fn step(thing: &Thing, now: i64) -> Option<Step> {
    let (left, lifetime) = (thing.until - now, thing.until - thing.from);
    if left <= 0 {
        return Some(0);
    }
    STEPS.into_iter().find(|days| left <= days * DAY && days * DAY * 3 <= lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, Profile, Validity};
    use crate::tls::CertificateInfo;

    fn of_days(days: i64) -> (Description, i64) {
        let profile = Profile::new("ca").unwrap().valid(Validity::relative(0, days * DAY));
        let info = CertificateInfo::of(Authority::new(&profile).unwrap().certificate());
        let from = info.from;
        (Description { ca: vec![info], ..Description::default() }, from)
    }

    fn said(days: i64, at: &[i64]) -> Vec<usize> {
        let (material, from) = of_days(days);
        let mut reminders = Reminders::of(&material, from);
        at.iter().map(|day| reminders.due(&material, from + day * DAY + 1).len()).collect()
    }

    #[test]
    fn each_step_is_said_once() {
        assert_eq!(
            said(90, &[0, 59, 60, 61, 82, 83, 84, 88, 89, 89, 90, 91]),
            [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0]
        );
        // What was missed is not made up for.
        assert_eq!(said(90, &[85, 86]), [1, 0]);
    }

    #[test]
    fn a_short_life_is_not_nagged_about() {
        assert_eq!(said(1, &[0, 1]), [0, 1]);
        assert_eq!(said(10, &[0, 4, 9]), [0, 0, 1]);
    }

    #[test]
    fn what_is_over_at_the_start_is_not_said_again() {
        let (material, from) = of_days(90);
        let later = from + 91 * DAY;
        assert!(Reminders::of(&material, later).due(&material, later).is_empty());
    }
}
