//! What the worker enters into the books: records that are done, too old, damaged, or made room.

use super::Worker;
use crate::config::SpoolSync;
use crate::error::{Chain, Code, Error};
use crate::protocol::Kind;
use crate::uplink::Uplink;
use crate::uplink::ledger::{Amount, Fate, Seat};
use crate::uplink::{DropReason, ledger::Ledger};

impl Worker {
    /// Carries out what was said about records that are done, and answers whoever waits for that.
    pub(super) fn settle(&mut self) {
        let mut result = Ok(());
        for (shelf, places) in self.shelves.iter_mut().zip(&mut self.done) {
            if !places.is_empty() {
                result = result.and(shelf.settle(places));
            }
        }
        let failed = std::mem::replace(&mut self.unmarked, result.is_err());
        if let Err(error) = result
            && !failed
        {
            let failing = Error::new(Code::SpoolFailing).file(self.slot.folder()).because(error);
            log::warn!("{}; metrics that it holds wait until they can be marked", Chain(&failing));
        }
        let mut answers = std::mem::take(&mut self.answers);
        // Those of one kind have one answer.
        answers.sort_by_key(|(kind, _)| kind.index());
        for run in answers.chunk_by_mut(|(a, _), (b, _)| a == b) {
            let Some(kind) = run.first().map(|(kind, _)| *kind) else { continue };
            let marked = self.done[kind.index()].is_empty() && self.sync_marks(kind);
            for (_, answer) in run {
                // Whoever asked may be gone.
                let _ = answer.take().map(|answer| answer.send(marked));
            }
        }
    }

    /// Whether the disk has the marks of a kind, if it is to.
    fn sync_marks(&mut self, kind: Kind) -> bool {
        if self.settings.sync != SpoolSync::Always {
            return true;
        }
        match self.shelves[kind.index()].sync_marks() {
            Ok(_) => true,
            Err(error) => {
                self.unsynced(0, &error);
                false
            }
        }
    }

    /// Enters what there is on disk, as far as it is safe there.
    pub(super) fn count(&mut self, uplink: &Uplink) {
        for (shelf, counted) in self.shelves.iter().zip(&mut self.counted) {
            let durable = shelf.durable();
            if counted.replace(durable) != Some(durable) {
                uplink.0.ledger.set_durable(shelf.kind(), durable);
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
        let removed = largest.and_then(|shelf| Some((shelf.kind(), shelf.remove_oldest()?)));
        let Some((kind, unread)) = removed else { return false };
        self.lost(uplink, kind, unread, DropReason::Displaced);
        true
    }

    /// Records that were on disk only are given up.
    fn lost(&mut self, uplink: &Uplink, kind: Kind, records: u64, reason: DropReason) {
        if records == 0 {
            return;
        }
        let ledger: &Ledger = &uplink.0.ledger;
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
