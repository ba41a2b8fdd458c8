//! Which backend is next: those that work before those that rest, and the same one as long as it works.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::Target;
use super::backoff::{Backoff, LONG, SHORT, jittered};
use super::failure::needs_a_human;
use super::state::{BackendState, BackendStatus};
use crate::error::{Chain, Code, Error};

/// The backends in their order, each with what is known of its health.
#[derive(Debug)]
pub(super) struct Backends {
    members: Vec<Member>,
    /// The one to try first.
    cursor: usize,
    /// No rest is longer, whatever happens.
    longest: Duration,
    /// Since when nothing works, as far as a failure has shown it.
    outage: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    target: Arc<Target>,
    backoff: Backoff,
    trouble: Option<Trouble>,
    /// The last trouble, and when it was over: for a while it may turn out that it was not.
    past: Option<(Trouble, Instant)>,
}

/// A backend that has failed and not worked since.
#[derive(Debug, Clone)]
struct Trouble {
    since: Instant,
    until: Instant,
    reason: Error,
    attempts: u64,
    /// The kinds of failure that have been logged.
    said: Vec<Code>,
    /// How often it seemed to be over, and was not; and since when it has been there this time.
    relapses: u64,
    lapsed: Instant,
}

/// What hurry there is to find a failed backend well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hurry {
    /// Nothing else works.
    Yes,
    /// Another one does the work.
    No,
}

/// A connection that held for so long counts as healthy: the next failure starts from the shortest rest
/// again, and is said. A backend that answers, and breaks again and again, must not be spun on.
pub(super) const HEALTHY: Duration = Duration::from_secs(5);
/// From here on an outage is not expected to be over soon.
const LASTING: Duration = Duration::from_secs(60);
/// The longest rest of a backend while another one works.
const SPARE: Duration = Duration::from_secs(60);

// === impl Backends ===

impl Backends {
    /// A random start spreads a fleet over the backends.
    pub(super) fn new(targets: Vec<Arc<Target>>, longest: Duration) -> Self {
        let member =
            |target| Member { target, backoff: Backoff::default(), trouble: None, past: None };
        let cursor = fastrand::usize(0..targets.len().max(1));
        let members = targets.into_iter().map(member).collect();
        Self { members, cursor, longest, outage: None }
    }

    /// Puts other targets in place of these; a backend that stays keeps its health and its turn.
    pub(super) fn replace(&mut self, targets: Vec<Arc<Target>>) {
        let current = self.members.get(self.cursor).map(|member| member.target.backend.clone());
        let mut next = Self { outage: self.outage, ..Self::new(targets, self.longest) };
        for member in &mut next.members {
            let old =
                self.members.iter_mut().find(|old| old.target.backend == member.target.backend);
            if let Some(old) = old {
                member.backoff = old.backoff.clone();
                member.trouble = old.trouble.take();
                member.past = old.past.take();
                if let Some(trouble) = &mut member.trouble {
                    // The new material may be what was missing.
                    trouble.until = Instant::now();
                }
            }
        }
        if let Some(at) =
            next.members.iter().position(|member| Some(&member.target.backend) == current.as_ref())
        {
            next.cursor = at;
        }
        *self = next;
    }

    pub(super) fn target(&self, at: usize) -> Option<&Arc<Target>> {
        self.members.get(at).map(|member| &member.target)
    }

    /// The one to try now beside those that are `busy` being tried: one without trouble, or else the one
    /// whose rest has been over for longest.
    pub(super) fn choose(&self, now: Instant, busy: impl Fn(usize) -> bool) -> Option<usize> {
        let free = || self.ring().filter(|&at| !busy(at));
        let rested = |&at: &usize| self.members[at].rests_until().is_some_and(|until| until <= now);
        free()
            .find(|&at| self.members[at].trouble.is_none())
            .or_else(|| free().filter(rested).min_by_key(|&at| self.members[at].rests_until()))
    }

    /// The others that have rested and may be looked at, while the one at `busy` does the work.
    pub(super) fn due(&self, busy: usize, now: Instant) -> Vec<usize> {
        let due = |at: &usize| self.members[*at].rests_until().is_some_and(|until| until <= now);
        self.ring().filter(|&at| at != busy).filter(due).collect()
    }

    /// When the next rest ends that has not ended at `now`.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        self.members.iter().filter_map(Member::rests_until).filter(|end| *end > now).min()
    }

    /// Why nothing works: a reason that may pass before one that only a human can end.
    pub(super) fn reason(&self) -> Option<&Error> {
        let reasons = || self.members.iter().filter_map(|member| member.trouble.as_ref());
        reasons()
            .map(|trouble| &trouble.reason)
            .find(|reason| !needs_a_human(reason))
            .or_else(|| reasons().map(|trouble| &trouble.reason).next())
    }

    /// This one works; says how loudly that is to be told.
    pub(super) fn works(&mut self, at: usize) -> Level {
        self.works_at(at, Instant::now())
    }

    fn works_at(&mut self, at: usize, now: Instant) -> Level {
        let Some(member) = self.members.get_mut(at) else { return Level::Debug };
        let Some(trouble) = member.trouble.take() else { return Level::Info };
        let level = if trouble.is_news(now) { Level::Info } else { Level::Debug };
        log::log!(
            level,
            "{} is back after {:.1?} and {} failures",
            member.target,
            now.saturating_duration_since(trouble.since),
            trouble.attempts
        );
        member.past = Some((trouble, now));
        level
    }

    /// This one has worked for long enough until now, even if no second connection could be made meanwhile:
    /// its next failure is its first.
    pub(super) fn is_healthy(&mut self, at: usize) {
        if let Some(member) = self.members.get_mut(at) {
            member.backoff.reset();
            (member.trouble, member.past) = (None, None);
        }
    }

    /// This one is used from now on, until it fails.
    pub(super) fn stick_to(&mut self, at: usize) {
        self.cursor = at;
        self.outage = None;
    }

    /// Another one, if there is one, is tried first.
    pub(super) fn move_on(&mut self) {
        self.cursor = (self.cursor + 1) % self.members.len().max(1);
    }

    /// Starts anew at random.
    pub(super) fn shuffle(&mut self) {
        self.cursor = fastrand::usize(0..self.members.len().max(1));
    }

    /// This one has failed, and rests.
    pub(super) fn failed(&mut self, at: usize, error: Error, hurry: Hurry) {
        self.failed_at(at, error, hurry, Instant::now());
    }

    fn failed_at(&mut self, at: usize, error: Error, hurry: Hurry, now: Instant) {
        let longest = self.longest;
        if at == self.cursor {
            self.move_on();
        }
        let Some(member) = self.members.get_mut(at) else { return };
        let mut trouble = member.fails(error, now);
        let ceiling = match hurry {
            Hurry::No => SPARE,
            // How long this one has been away does not matter: another one may have done the work.
            Hurry::Yes => {
                let since = *self.outage.get_or_insert(now);
                let lasts = now.saturating_duration_since(since) >= LASTING;
                if lasts || needs_a_human(&trouble.reason) { LONG } else { SHORT }
            }
        };
        trouble.until = now + member.backoff.rest_within(ceiling.min(longest));
        trouble.tell(now);
        member.trouble = Some(trouble);
    }

    /// Nothing works any more: long rests, taken while another one did the work, end soon.
    pub(super) fn hurry(&mut self) {
        self.hurry_at(Instant::now());
    }

    fn hurry_at(&mut self, now: Instant) {
        self.outage.get_or_insert(now);
        for trouble in self.members.iter_mut().filter_map(|member| member.trouble.as_mut()) {
            if trouble.until > now + SHORT {
                trouble.until = now + jittered(SHORT.min(self.longest));
            }
        }
    }

    /// What is known of each.
    pub(super) fn status(&self, serving: Option<usize>) -> Vec<BackendStatus> {
        let state = |(at, member): (usize, &Member)| BackendStatus {
            backend: member.target.to_string(),
            state: match &member.trouble {
                _ if serving == Some(at) => BackendState::InUse,
                Some(trouble) => BackendState::Resting {
                    until: trouble.until,
                    since: trouble.since,
                    attempts: trouble.attempts,
                    reason: trouble.reason.clone(),
                },
                None => BackendState::Spare,
            },
        };
        self.members.iter().enumerate().map(state).collect()
    }

    fn ring(&self) -> impl Iterator<Item = usize> {
        let count = self.members.len();
        let cursor = self.cursor;
        (0..count).map(move |step| (cursor + step) % count)
    }
}

// === impl Member ===

impl Member {
    /// The trouble it is in with this failure: what it was in a moment ago, or else a new one.
    fn fails(&mut self, reason: Error, now: Instant) -> Trouble {
        let past = self.past.take();
        let relapse = past.filter(|(_, over)| now.saturating_duration_since(*over) < HEALTHY);
        match (self.trouble.take(), relapse) {
            (Some(trouble), _) => Trouble { reason, attempts: trouble.attempts + 1, ..trouble },
            (None, Some((past, _))) => Trouble {
                reason,
                attempts: past.attempts + 1,
                relapses: past.relapses + 1,
                lapsed: now,
                ..past
            },
            (None, None) => Trouble {
                since: now,
                until: now,
                reason,
                attempts: 1,
                said: Vec::new(),
                relapses: 0,
                lapsed: now,
            },
        }
    }

    fn rests_until(&self) -> Option<Instant> {
        self.trouble.as_ref().map(|trouble| trouble.until)
    }
}

// === impl Trouble ===

impl Trouble {
    /// Each kind of failure is told once; what repeats is summarised.
    fn tell(&mut self, now: Instant) {
        let Self { reason, attempts, .. } = self;
        if !self.said.contains(&reason.code()) {
            self.said.push(reason.code());
            log::warn!("{}; trying again with growing pauses", Chain(reason));
        } else if attempts.is_power_of_two() {
            let elapsed = now.saturating_duration_since(self.since);
            log::warn!("after {elapsed:.1?}: {} (attempt {attempts})", Chain(reason));
        }
    }

    /// Whether its end is worth a line: at the first time, at every doubling, and after a long time.
    fn is_news(&self, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(self.lapsed) >= LASTING;
        lasted || (self.relapses + 1).is_power_of_two()
    }
}

#[cfg(test)]
mod tests;
