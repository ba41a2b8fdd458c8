//! The files of one kind of records: added to at one end, read and removed at the other.
//!
//! A shelf is either *level*, when whatever was written is in memory as well and nothing has to be
//! read, or *behind*: then a cursor stands where reading goes on, and everything new lies behind it,
//! so that the order of the kind is kept. It does not decide what is kept in memory.

mod compaction;
mod keeping;
mod place;
mod reading;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::{self, Stored};
use super::segment::{self, Frame, HEAD, Opened, Writer};
use crate::config::SpoolSync;
use crate::error::{Chain, Code, Error, Result};
use crate::protocol::Kind;
use crate::uplink::envelope::Passport;

pub(super) use compaction::COPY;
use place::{Cursor, Segment};

/// Where a record lies: the number of its file, and its number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::uplink) struct Place {
    pub(super) segment: u64,
    pub(super) index: u32,
}

/// Something to be written, in its order.
#[derive(Debug)]
pub(super) enum Line<'a> {
    Record { passport: &'a Arc<Passport>, stored: Stored },
    End(u64),
}

#[derive(Debug)]
pub(super) struct Shelf {
    kind: Kind,
    folder: PathBuf,
    /// From the oldest to the newest.
    segments: VecDeque<Segment>,
    /// The number of the next file.
    next: u64,
    /// Adds to the newest file.
    writer: Option<Writer>,
    /// What is written there already.
    numbers: HashMap<Arc<Passport>, u32>,
    /// Where to read on; none: the shelf is level.
    cursor: Option<Cursor>,
    sync: SpoolSync,
    /// Files were made or removed since the disk was last asked for their names.
    unlisted: bool,
    /// What the disk has refused since it was last asked for.
    refusal: Option<Refusal>,
}

/// A file with records that are to be sent.
#[derive(Debug)]
pub(super) struct Found(Segment);

/// What reading yields.
#[derive(Debug)]
pub(super) enum Read {
    Record {
        passport: Arc<Passport>,
        stored: Stored,
        place: Place,
        time: u64,
    },
    /// A stream has ended.
    End(u64),
    /// All streams of this process have.
    Gone(u32),
    /// So many records cannot be read any more.
    Damaged(u32),
    /// So many records are too old.
    Expired(u32),
    /// The next one cannot be read now: it stays, and is to be tried again.
    Failed(io::Error),
    /// That is all: the shelf is level.
    Level,
}

/// The disk did not take something.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Records that it may lose therefore.
    pub(super) records: u64,
    pub(super) error: io::Error,
}

/// Passports in one file, at most: readers keep them in memory.
const PASSPORTS: usize = 1024;
/// A file in use all of whose records are done is replaced from this size on.
const WORTH_REMOVING: u64 = 1 << 20;

// === impl Shelf ===

impl Shelf {
    pub(super) fn new(kind: Kind, folder: &Path, sync: SpoolSync) -> Self {
        Self {
            kind,
            folder: folder.to_owned(),
            segments: VecDeque::new(),
            next: 1,
            writer: None,
            numbers: HashMap::new(),
            cursor: None,
            sync,
            unlisted: false,
            refusal: None,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The name of a file of the spool.
    pub(super) fn name(kind: Kind, number: u64) -> String {
        format!("{}-{number:012}.log", kind.name())
    }

    /// What the name of a file says.
    pub(super) fn parse(name: &str) -> Option<(Kind, u64)> {
        let (kind, number) = name.strip_suffix(".log")?.split_once('-')?;
        let kind = Kind::ALL.into_iter().find(|other| other.name() == kind)?;
        Some((kind, number.parse().ok()?))
    }

    /// Takes over a file that is in the folder already, behind those it has; says how many records
    /// are to be sent.
    pub(super) fn take_over(&mut self, number: u64, origin: u32) -> Result<u64> {
        self.next = self.next.max(number + 1);
        let found = Self::survey(&self.path(number), origin)?;
        self.unlisted |= found.is_none();
        Ok(found.map_or(0, |found| self.receive(found, number)))
    }

    /// Looks at a file, in whatever folder; `None` if nothing of it is to be sent: then it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is of a later version: then it is as it was.
    pub(super) fn survey(path: &Path, origin: u32) -> Result<Option<Found>> {
        let unusable = |error| Error::new(Code::SpoolUnusable).file(path).because(error);
        let file = match segment::open(path)? {
            Opened::Good(file) => file,
            Opened::Empty => {
                keeping::remove(path);
                return Ok(None);
            }
            Opened::Foreign => {
                let aside = path.with_extension("damaged");
                fs::rename(path, &aside).map_err(unusable)?;
                let damaged = Error::new(Code::SpoolDamaged).file(path).found("no head");
                log::warn!("{}; put aside as {}", Chain(&damaged), aside.display());
                return Ok(None);
            }
        };
        let len = file.metadata().map_err(unusable)?.len();
        let mut found = Segment::new(0, origin);
        found.len = HEAD;
        loop {
            match segment::frame(&file, found.len, len).map_err(unusable)? {
                Frame::Whole(frame, next) if found.survey(frame.clone()).is_ok() => {
                    found.len = next;
                }
                Frame::End => break,
                Frame::Whole(..) | Frame::Torn => {
                    let damaged = Error::new(Code::SpoolDamaged).file(path).found(format_args!(
                        "{} bytes from {} on",
                        len - found.len,
                        found.len
                    ));
                    log::warn!("{}; the records before are kept", Chain(&damaged));
                    break;
                }
            }
        }
        let marks = segment::marks(path).map_err(unusable)?;
        found.marked = marks.len;
        for (first, count) in marks.runs {
            for index in first..first.saturating_add(count).min(found.records) {
                found.finish(index);
            }
        }
        if found.live == 0 {
            keeping::remove(path);
            return Ok(None);
        }
        Ok(Some(Found(found)))
    }

    /// Takes over a file that was looked at and is in the folder now, behind those it has; says how many records
    /// are to be sent.
    pub(super) fn receive(&mut self, Found(found): Found, number: u64) -> u64 {
        let live = found.live.into();
        self.seal();
        self.next = self.next.max(number + 1);
        self.segments.push_back(Segment { number, ..found });
        if self.cursor.is_none() {
            self.cursor = Some(Cursor::start(number));
        }
        live
    }

    /// The number that a file taken over next should have.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Bytes of all files, with the marks that their records will get.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::room).sum()
    }

    /// Bytes of all files as they are.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len + segment.marked).sum()
    }

    pub(super) fn files(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is something that is not in memory.
    pub(super) fn is_behind(&self) -> bool {
        self.cursor.is_some()
    }

    /// Adds lines as one frame; says where the first record lies. `behind` leaves them to be read
    /// later.
    pub(super) fn append(
        &mut self,
        lines: &[Line<'_>],
        time: u64,
        segment_bytes: u64,
        behind: bool,
    ) -> io::Result<Place> {
        if self.writer.as_ref().is_some_and(|writer| writer.len() >= segment_bytes)
            || self.numbers.len() >= PASSPORTS
        {
            self.seal();
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin()?,
        };
        let mut frame = Vec::new();
        codec::put_time(&mut frame, time);
        for line in lines {
            match line {
                Line::Record { passport, stored } => {
                    let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
                    let number = *self.numbers.entry((*passport).clone()).or_insert_with(|| {
                        codec::put_passport(&mut frame, next, passport);
                        next
                    });
                    codec::put_record(&mut frame, number, stored);
                }
                Line::End(stream) => codec::put_end(&mut frame, *stream),
            }
        }
        let records = lines.iter().filter(|line| matches!(line, Line::Record { .. })).count();
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let at = writer.len();
        let written = self.reserve(records).and_then(|()| writer.append(&frame));
        let len = writer.len();
        self.writer = Some(writer);
        if let Err(error) = written {
            // The fault may be the file's: the next attempt begins another.
            self.seal();
            self.sweep();
            return Err(error);
        }
        let Some(segment) = self.segments.back_mut() else {
            return Err(io::Error::other("a writer without a file"));
        };
        let place = Place { segment: segment.number, index: segment.records };
        segment.len = len;
        segment.records += records;
        segment.live += records;
        segment.kept += records;
        segment.newest = segment.newest.max(time);
        if behind && self.cursor.is_none() {
            let passports = self.numbers.iter().map(|(p, number)| (*number, Some(p.clone())));
            self.cursor = Some(Cursor {
                at,
                index: place.index,
                passports: passports.collect(),
                ..Cursor::start(place.segment)
            });
        }
        Ok(place)
    }

    /// Room for the marks of so many more records in the newest file.
    fn reserve(&mut self, records: u32) -> io::Result<()> {
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        segment.reserve(&self.folder.join(Self::name(self.kind, segment.number)), records)
    }

    fn begin(&mut self) -> io::Result<Writer> {
        let number = self.next;
        let path = self.path(number);
        // Left by a takeover that came to nothing, they would count for this one.
        segment::remove_marks(&path)?;
        let writer = Writer::create(&path, segment::PLAIN).inspect_err(|error| {
            match error.kind() {
                // Not made here, and nothing is known of what is in it.
                io::ErrorKind::AlreadyExists => self.next += 1,
                _ => self.remove(number),
            }
        })?;
        self.next += 1;
        self.numbers.clear();
        self.unlisted = true;
        let begun = Segment { len: HEAD, unlisted: true, ..Segment::new(number, 0) };
        self.segments.push_back(begun);
        Ok(writer)
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.segments.binary_search_by_key(&number, |segment| segment.number).ok()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(Self::name(self.kind, number))
    }
}

#[cfg(test)]
mod tests;
