//! What waits in a lane and travels as one: a record, or a run of records that are framed already.
//!
//! A run is handled as a whole, so that nothing is done for each of its records. It is cut only where a stream
//! has no room for all of it, or where one record is to be told from the others.

use std::sync::Arc;

use bytes::Bytes;

use super::lane::Record;
use super::ledger::Amount;
use super::ticket::Ticket;
use crate::protocol::frame::{self, HEADER};

#[derive(Debug, Clone)]
pub(super) enum Parcel {
    One(Record),
    Many(Run),
}

/// Records that follow one another, each a whole message with its header.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The id of the first; the others count up from it.
    first: u64,
    frames: Bytes,
    records: u64,
    ticket: Option<Arc<Ticket>>,
}

// === impl Parcel ===

impl Parcel {
    /// The id of its first record.
    pub(super) fn first(&self) -> u64 {
        match self {
            Self::One(record) => record.id,
            Self::Many(run) => run.first,
        }
    }

    /// Gives its records other ids, from this one on.
    pub(super) fn renumber(&mut self, first: u64) {
        match self {
            Self::One(record) => record.id = first,
            Self::Many(run) => run.first = first,
        }
    }

    /// The id of its last record.
    pub(super) fn last(&self) -> u64 {
        self.first() + self.records() - 1
    }

    pub(super) fn records(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(run) => run.records,
        }
    }

    pub(super) fn amount(&self) -> Amount {
        let bytes = match self {
            Self::One(record) => record.message.data.len(),
            Self::Many(run) => run.payload(),
        };
        Amount { records: self.records(), bytes: bytes as u64 }
    }

    pub(super) fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::One(record) => record.ticket.as_deref(),
            Self::Many(run) => run.ticket.as_deref(),
        }
    }

    /// The first `records` of it, at least one; the second part is the rest.
    pub(super) fn cut(self, records: u64) -> (Self, Option<Self>) {
        match self {
            Self::Many(run) if run.records > records.max(1) => {
                let (first, rest) = run.cut(records.max(1));
                (Self::Many(first), Some(Self::Many(rest)))
            }
            whole => (whole, None),
        }
    }
}

impl From<Record> for Parcel {
    fn from(record: Record) -> Self {
        Self::One(record)
    }
}

// === impl Run ===

impl Run {
    /// So many messages with their headers, and nothing else.
    pub(super) fn new(
        first: u64,
        frames: Bytes,
        records: u64,
        ticket: Option<Arc<Ticket>>,
    ) -> Self {
        Self { first, frames, records, ticket }
    }

    pub(super) fn frames(&self) -> &Bytes {
        &self.frames
    }

    fn payload(&self) -> usize {
        self.frames.len() - HEADER * self.records as usize
    }

    fn cut(mut self, records: u64) -> (Self, Self) {
        let mut end = 0;
        for _ in 0..records {
            let length = self.frames.get(end..).and_then(frame::length).unwrap_or_default();
            end += HEADER + length;
        }
        let frames = self.frames.split_to(end.min(self.frames.len()));
        let first = Self { first: self.first, frames, records, ticket: self.ticket.clone() };
        self.first += records;
        self.records -= records;
        (first, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lengths: &[usize]) -> Run {
        let frames: Vec<u8> = lengths
            .iter()
            .flat_map(|length| {
                let mut frame = frame::header(false, *length).to_vec();
                frame.resize(HEADER + length, 7);
                frame
            })
            .collect();
        Run::new(40, frames.into(), lengths.len() as u64, None)
    }

    #[test]
    fn a_run_is_cut_between_its_records() {
        let whole = Parcel::Many(run(&[3, 0, 500]));
        assert_eq!((whole.first(), whole.last()), (40, 42));
        assert_eq!(whole.amount(), Amount { records: 3, bytes: 503 });
        let (first, rest) = whole.cut(2);
        let rest = rest.unwrap();
        assert_eq!((first.first(), first.last(), rest.first(), rest.last()), (40, 41, 42, 42));
        assert_eq!(first.amount(), Amount { records: 2, bytes: 3 });
        assert_eq!(rest.amount(), Amount { records: 1, bytes: 500 });
        assert!(rest.cut(0).1.is_none(), "one record stays whole");
    }
}
