//! The lanes that the worker has records for, so that none of them closes between two records.

use std::collections::HashMap;
use std::sync::Arc;

use crate::uplink::Uplink;
use crate::uplink::envelope::Passport;
use crate::uplink::lane::{Lane, LaneKey, Record};
use crate::uplink::sticky::Company;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    shared: HashMap<LaneKey, Arc<Lane>>,
    /// Of streams whose records keep to themselves, with the process that wrote them.
    own: HashMap<u64, (Arc<Lane>, u32)>,
}

/// Shared lanes that are kept open at a time.
const MOST: usize = 256;

// === impl Lanes ===

impl Lanes {
    pub(super) fn push(
        &mut self,
        uplink: &Uplink,
        passport: &Arc<Passport>,
        company: &Company,
        (stream, origin): (u64, u32),
        record: Record,
    ) {
        let lane = match company {
            Company::Own => {
                let make = || (uplink.lane(passport, company), origin);
                &self.own.entry(stream).or_insert_with(make).0
            }
            Company::Head(head) => {
                let key = LaneKey { passport: passport.clone(), head: head.clone() };
                if self.shared.len() >= MOST && !self.shared.contains_key(&key) {
                    self.rest();
                }
                self.shared.entry(key).or_insert_with(|| uplink.lane(passport, company))
            }
        };
        lane.push(record);
    }

    /// A stream has ended.
    pub(super) fn end(&mut self, stream: u64) {
        if let Some((lane, _)) = self.own.remove(&stream) {
            lane.leave();
        }
    }

    /// All streams that a process wrote have ended.
    pub(super) fn end_all_of(&mut self, origin: u32) {
        self.own.retain(|_, (lane, theirs)| {
            let stays = *theirs != origin;
            if !stays {
                lane.leave();
            }
            stays
        });
    }

    pub(super) fn is_idle(&self) -> bool {
        self.shared.is_empty()
    }

    /// Lets shared lanes close that nobody else needs.
    pub(super) fn rest(&mut self) {
        for (_, lane) in self.shared.drain() {
            lane.leave();
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.rest();
        for (_, (lane, _)) in self.own.drain() {
            lane.leave();
        }
    }
}
