//! The quick way in, for records that stand for themselves: from any thread, without a lock, and with one copy.
//!
//! Streams whose messages lean on one another, and records for the spool, go through a [`Reporter`].
//!
//! [`Reporter`]: super::Reporter

use std::sync::Arc;

use bytes::Bytes;

use super::Uplink;
use super::account::DropReason;
use super::envelope::Passport;
use super::inbox::LONGEST;
use super::lane::{Lane, Record};
use super::ledger::{Fate, Seat};
use super::sticky::Company;
use crate::error::{Code, Error, Result};
use crate::protocol::Sticky;
use crate::protocol::frame::Message;

/// Takes in records that share a passport. Any number of threads may use it at a time.
#[derive(Debug)]
pub struct Entrance {
    uplink: Uplink,
    lane: Arc<Lane>,
}

// === impl Entrance ===

impl Entrance {
    /// `None` where messages of a stream lean on one another, or a spool is to have them first.
    pub(super) fn new(uplink: &Uplink, passport: &Passport) -> Option<Self> {
        if passport.method.sticky != Sticky::None || uplink.0.spool.is_some() {
            return None;
        }
        let lane = uplink.lane(&Arc::new(passport.clone()), &Company::Head(Bytes::new()));
        lane.open_inbox(&uplink.0.ledger);
        Some(Self { uplink: uplink.clone(), lane })
    }

    /// Accepts an encoded message or refuses it, without waiting.
    ///
    /// # Errors
    ///
    /// [`Code::QueueFull`] when there is no room, [`Code::Stopped`] after the end.
    pub fn try_report(&self, data: &[u8]) -> Result<()> {
        let kind = self.lane.passport().method.kind;
        let ledger = &self.uplink.0.ledger;
        let mut admitted = ledger.try_admit_ahead(kind, data.len())?;
        if !admitted && self.uplink.may_displace(&self.lane, data.len()) {
            while !admitted && let Some(oldest) = self.lane.take_oldest() {
                let fate = Fate::Dropped(DropReason::Displaced);
                self.uplink.settle(kind, &[oldest], Seat::Queued, fate);
                admitted = ledger.try_admit_ahead(kind, data.len())?;
            }
        }
        if !admitted {
            ledger.refuse(kind);
            return Err(Error::new(Code::QueueFull).found(format_args!("kind {}", kind.name())));
        }
        if data.len() > LONGEST || !self.lane.leave_record(data) {
            let message = Message { compressed: false, data: Bytes::copy_from_slice(data) };
            let (prefix, place, time, ticket) = (Bytes::new(), None, 0, None);
            let id = ledger.ids(1);
            self.lane.push(Record { id, message, prefix, place, time, ticket });
        }
        Ok(())
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.lane.leave();
    }
}
