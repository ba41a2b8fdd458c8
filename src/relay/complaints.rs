//! What is wrong with local clients, said in the log once a minute at most for each kind.
//!
//! A misconfigured agent tries again every few seconds for ever, and there may be a hundred of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Chain, Code, Error};

/// Remembers what has been said lately.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<Code, Said>>);

#[derive(Debug, Clone, Copy)]
struct Said {
    at: Instant,
    /// How many more there were since.
    withheld: u64,
}

const PAUSE: Duration = Duration::from_secs(60);

// === impl Complaints ===

impl Complaints {
    /// Logs it, unless one of its kind was logged a short while ago.
    pub(super) fn say(&self, error: &Error) {
        match self.due(error.code(), Instant::now()) {
            None => log::debug!("{}", Chain(error)),
            Some(0) => log::warn!("{}", Chain(error)),
            Some(more) => log::warn!("{} ({more} more like it since the last line)", Chain(error)),
        }
    }

    /// How many were withheld, when it is time for another line.
    fn due(&self, code: Code, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(&code) {
            Some(said) if now.saturating_duration_since(said.at) < PAUSE => {
                said.withheld += 1;
                None
            }
            Some(said) => {
                let withheld = said.withheld;
                *said = Said { at: now, withheld: 0 };
                Some(withheld)
            }
            None => {
                said.insert(code, Said { at: now, withheld: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_minute() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        let due = |code, after| complaints.due(code, now + Duration::from_secs(after));
        assert_eq!(due(Code::ClientSpeaksTls, 0), Some(0));
        assert_eq!(due(Code::ClientSpeaksTls, 1), None);
        assert_eq!(due(Code::ClientSpeaksHttp1, 2), Some(0));
        assert_eq!(due(Code::ClientSpeaksTls, 59), None);
        assert_eq!(due(Code::ClientSpeaksTls, 60), Some(2));
        assert_eq!(due(Code::ClientSpeaksTls, 119), None);
        assert_eq!(due(Code::ClientSpeaksTls, 120), Some(1));
    }
}
