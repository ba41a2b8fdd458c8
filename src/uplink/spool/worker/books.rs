//! What the worker enters into the books: records that are done, too old, damaged, or made room.

use super::Worker;
use crate::protocol::Kind;
use crate::uplink::Uplink;
use crate::uplink::ledger::{Amount, Fate, Seat};
use crate::uplink::{DropReason, ledger::Ledger};

impl Worker {
    /// Carries out what was said about records that are done.
    pub(super) fn settle(&mut self, uplink: &Uplink) {
        for (shelf, places) in self.shelves.iter_mut().zip(&mut self.done) {
            if !places.is_empty() {
                let settled = shelf.settle(places);
                uplink.0.ledger.unstored(shelf.kind(), settled);
                places.clear();
            }
        }
    }

    pub(super) fn damaged(&mut self, uplink: &Uplink, kind: Kind, records: u32) {
        log::warn!("{records} {} records of the spool can no longer be read", kind.name());
        self.lost(uplink, kind, records.into(), DropReason::Damaged);
    }

    pub(super) fn expired(&mut self, uplink: &Uplink, kind: Kind, records: u32) {
        self.lost(uplink, kind, records.into(), DropReason::Expired);
    }

    /// Removes the oldest file of the kind that has most; `false` if there is none to remove.
    pub(super) fn drop_oldest(&mut self, uplink: &Uplink) -> bool {
        let largest = self.shelves.iter_mut().max_by_key(|shelf| shelf.bytes());
        let Some((kind, removed)) =
            largest.and_then(|shelf| Some((shelf.kind(), shelf.remove_oldest()?)))
        else {
            return false;
        };
        uplink.0.ledger.unstored(kind, removed.read);
        self.lost(uplink, kind, removed.unread, DropReason::Displaced);
        true
    }

    /// Records that were on disk only are given up.
    fn lost(&mut self, uplink: &Uplink, kind: Kind, records: u64, reason: DropReason) {
        if records == 0 {
            return;
        }
        let ledger: &Ledger = &uplink.0.ledger;
        ledger.unstored(kind, records);
        let amount = Amount { records, bytes: 0 };
        ledger.settle(kind, amount, Seat::Spooled, Fate::Dropped(reason));
        let shelf = &self.shelves[kind.index()];
        self.tickets.retain(|(theirs, place), ticket| {
            let stays = *theirs != kind || shelf.has(*place);
            if !stays {
                ticket.settle(1, Fate::Dropped(reason));
            }
            stays
        });
    }
}
