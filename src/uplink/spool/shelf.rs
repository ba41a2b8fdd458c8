//! The files of one kind of records: added to at one end, read and removed at the other.
//!
//! A shelf is either *level*, when whatever was written is in memory as well and nothing has to be
//! read, or *behind*: then a cursor stands where reading goes on, and everything new lies behind it,
//! so that the order of the kind is kept. It does not decide what is kept in memory.

mod compaction;
mod place;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::{self, Item, Stored};
use super::segment::{self, Frame, HEAD, Opened, Writer};
use crate::error::{Chain, Code, Error, Result};
use crate::protocol::Kind;
use crate::uplink::envelope::Passport;

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
    /// Where records are now that were copied to another file.
    moved: HashMap<Place, Place>,
}

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
    /// That is all: the shelf is level.
    Level,
}

/// What went with a file that was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removed {
    /// Records that were nowhere else.
    pub(super) unread: u64,
    /// Records that are in memory as well.
    pub(super) read: u64,
}

/// Passports in one file, at most: readers keep them in memory.
const PASSPORTS: usize = 1024;
/// A file in use all of whose records are done is replaced from this size on.
const WORTH_REMOVING: u64 = 1 << 20;

// === impl Shelf ===

impl Shelf {
    pub(super) fn new(kind: Kind, folder: &Path) -> Self {
        Self {
            kind,
            folder: folder.to_owned(),
            segments: VecDeque::new(),
            next: 1,
            writer: None,
            numbers: HashMap::new(),
            cursor: None,
            moved: HashMap::new(),
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
        let path = self.path(number);
        self.next = self.next.max(number + 1);
        let unusable = |error| Error::new(Code::SpoolUnusable).file(&path).because(error);
        let file = match segment::open(&path)? {
            Opened::Good(file) => file,
            Opened::Empty => {
                remove(&path);
                return Ok(0);
            }
            Opened::Foreign => {
                let aside = path.with_extension("damaged");
                let damaged = Error::new(Code::SpoolDamaged).file(&path).found("no head");
                log::warn!("{}; put aside as {}", Chain(&damaged), aside.display());
                fs::rename(&path, aside).map_err(unusable)?;
                return Ok(0);
            }
        };
        let len = file.metadata().map_err(unusable)?.len();
        let mut found = Segment::new(number, origin);
        found.len = HEAD;
        loop {
            match segment::frame(&file, found.len, len).map_err(unusable)? {
                Frame::Whole(frame, next) if found.survey(frame.clone()).is_ok() => {
                    found.len = next;
                }
                Frame::End => break,
                Frame::Whole(..) | Frame::Torn => {
                    let damaged = Error::new(Code::SpoolDamaged).file(&path).found(format_args!(
                        "{} bytes from {} on",
                        len - found.len,
                        found.len
                    ));
                    log::warn!("{}; the records before are kept", Chain(&damaged));
                    break;
                }
            }
        }
        found.marked = fs::metadata(segment::marks_path(&path)).map_or(0, |marks| marks.len());
        for (first, count) in segment::marks(&path) {
            for index in first..first.saturating_add(count).min(found.records) {
                found.finish(index);
            }
        }
        let live = u64::from(found.live);
        if live == 0 {
            remove(&path);
            return Ok(0);
        }
        self.seal();
        self.segments.push_back(found);
        if self.cursor.is_none() {
            self.cursor = Some(Cursor::start(number));
        }
        Ok(live)
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

    /// Waits until the disk has everything.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Writer::sync)
    }

    /// Reads on; records written before `cutoff` are passed over.
    pub(super) fn read(&mut self, cutoff: u64) -> Read {
        loop {
            let Some(cursor) = &mut self.cursor else { return Read::Level };
            let Some(at) = self.segments.iter().position(|one| one.number == cursor.segment) else {
                self.cursor = None;
                return Read::Level;
            };
            let whole = self.segments[at].newest < cutoff && at + 1 < self.segments.len();
            let item = match codec::next(&mut cursor.frame) {
                _ if whole => Err(Stop::Expired),
                Ok(Some(item)) => Ok(item),
                Ok(None) => match cursor.turn(&self.folder, self.kind, &self.segments[at]) {
                    Ok(true) => continue,
                    Ok(false) => Err(Stop::End),
                    Err(()) => Err(Stop::Damaged),
                },
                Err(codec::Garbled) => Err(Stop::Damaged),
            };
            match item {
                Ok(Item::Passport(number, passport)) => {
                    let passport = passport.map(|passport| Arc::new(*passport));
                    cursor.passports.insert(number, passport);
                }
                Ok(Item::End(stream)) => return Read::End(stream),
                Ok(Item::Record(number, stored)) => {
                    let place = Place { segment: cursor.segment, index: cursor.index };
                    cursor.index += 1;
                    let segment = &mut self.segments[at];
                    if segment.done.has(place.index) {
                        continue;
                    }
                    let passport = cursor.passports.get(&number).cloned().flatten();
                    let (expired, time) = (cursor.time < cutoff, cursor.time);
                    match passport {
                        Some(passport) if !expired => {
                            return Read::Record { passport, stored, place, time };
                        }
                        passport => {
                            segment.finish(place.index);
                            return if expired && passport.is_some() {
                                Read::Expired(1)
                            } else {
                                Read::Damaged(1)
                            };
                        }
                    }
                }
                Err(stop) => {
                    let lost = self.segments[at].finish_from(cursor.index);
                    let origin = self.segments[at].origin;
                    let following =
                        self.segments.get(at + 1).map(|next| (next.number, next.origin));
                    match following {
                        Some((number, _)) => *cursor = Cursor::start(number),
                        None => self.cursor = None,
                    }
                    self.sweep();
                    match stop {
                        Stop::Expired if lost > 0 => return Read::Expired(lost),
                        Stop::Damaged | Stop::End if lost > 0 => return Read::Damaged(lost),
                        _ => {}
                    }
                    if origin != 0 && following.is_none_or(|(_, next)| next != origin) {
                        return Read::Gone(origin);
                    }
                }
            }
        }
    }

    /// Whether what is to be read next was written before `cutoff`.
    pub(super) fn has_expired(&mut self, cutoff: u64) -> bool {
        let Some(cursor) = &mut self.cursor else { return false };
        let found = self.segments.binary_search_by_key(&cursor.segment, |one| one.number);
        let Some(segment) = found.ok().map(|at| &self.segments[at]) else { return false };
        if segment.newest < cutoff {
            return true;
        }
        if cursor.frame.is_empty() {
            // What goes wrong here goes wrong again when it is read.
            let _ = cursor.turn(&self.folder, self.kind, segment);
        }
        !cursor.frame.is_empty() && cursor.time < cutoff
    }

    /// Whether a record is there and still to be sent.
    pub(super) fn has(&self, place: Place) -> bool {
        let segment = self.find(place.segment).map(|at| &self.segments[at]);
        segment.is_some_and(|one| place.index < one.records && !one.done.has(place.index))
    }

    /// The process that wrote what was read last: 0 is this one.
    pub(super) fn origin(&self, place: Place) -> u32 {
        self.find(place.segment).map_or(0, |at| self.segments[at].origin)
    }

    /// Records need not be sent any more; says how many of them were still to be.
    pub(super) fn settle(&mut self, places: &mut [Place]) -> u64 {
        for place in &mut *places {
            if let Some(new) = self.moved.remove(place) {
                *place = new;
            }
        }
        places.sort_unstable();
        let mut settled = 0;
        let (reading, in_use) = (self.reading(), self.in_use());
        for run in places.chunk_by(|a, b| a.segment == b.segment) {
            let Some(at) = run.first().and_then(|first| self.find(first.segment)) else { continue };
            let segment = &mut self.segments[at];
            let fresh: Vec<u32> = run
                .iter()
                .map(|place| place.index)
                .filter(|index| segment.finish(*index))
                .collect();
            settled += fresh.len() as u64;
            // A file that is about to go needs no marks.
            let number = segment.number;
            let stays = segment.live > 0 || number >= reading || in_use == Some(number);
            if !fresh.is_empty() && stays {
                let path = self.folder.join(Self::name(self.kind, segment.number));
                if let Err(error) = segment.mark(&path, &fresh) {
                    log::debug!("{}: marks are lost: {error}", path.display());
                }
            }
        }
        self.sweep();
        settled
    }

    /// Removes the oldest file, whatever is in it; `None` if there is only the one in use.
    pub(super) fn remove_oldest(&mut self) -> Option<Removed> {
        if self.segments.len() < 2 {
            return None;
        }
        let segment = self.segments.pop_front()?;
        let unread = match &self.cursor {
            Some(cursor) if cursor.segment == segment.number => segment.live_from(cursor.index),
            Some(cursor) if cursor.segment < segment.number => segment.live,
            _ => 0,
        };
        let next = self.segments.front().map_or(segment.number + 1, |next| next.number);
        if let Some(cursor) = &mut self.cursor
            && cursor.segment <= segment.number
        {
            *cursor = Cursor::start(next);
        }
        remove(&self.path(segment.number));
        Some(Removed { unread: unread.into(), read: (segment.live - unread).into() })
    }

    /// Ends the file in use; the next frame opens another.
    pub(super) fn seal(&mut self) {
        if let Some(mut writer) = self.writer.take()
            && let Err(error) = writer.sync()
        {
            log::debug!("{} spool: {error}", self.kind.name());
        }
        self.numbers.clear();
    }

    /// Removes the files that have been done with.
    fn sweep(&mut self) {
        let reading = self.reading();
        let newest = self.writer.as_ref().and(self.segments.back()).map(|one| one.number);
        let in_use = self.in_use();
        let mut gone = Vec::new();
        self.segments.retain(|one| {
            let keep = one.live > 0 || one.number >= reading || in_use == Some(one.number);
            if !keep {
                gone.push(one.number);
            }
            keep
        });
        for number in gone {
            if newest == Some(number) {
                // Its content is of no use: it need not reach the disk.
                self.writer = None;
                self.numbers.clear();
            }
            remove(&self.path(number));
        }
    }

    /// The file that is read next; those behind it stay until they have been.
    fn reading(&self) -> u64 {
        self.cursor.as_ref().map_or(u64::MAX, |cursor| cursor.segment)
    }

    /// The file that stays although all its records are done, for more will be added to it.
    fn in_use(&self) -> Option<u64> {
        let newest = self.writer.as_ref().and(self.segments.back())?;
        (newest.len < WORTH_REMOVING).then_some(newest.number)
    }

    /// Removes what has been done with at the end, the file in use included.
    pub(super) fn close(&mut self) {
        self.seal();
        self.sweep();
    }

    fn begin(&mut self) -> io::Result<Writer> {
        let number = self.next;
        let path = self.path(number);
        let writer = Writer::create(&path).inspect_err(|_| remove(&path))?;
        self.next += 1;
        self.numbers.clear();
        self.segments.push_back(Segment { len: HEAD, ..Segment::new(number, 0) });
        Ok(writer)
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.segments.binary_search_by_key(&number, |segment| segment.number).ok()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(Self::name(self.kind, number))
    }
}

/// Why reading a file stops.
enum Stop {
    End,
    Damaged,
    Expired,
}

/// Removes a file and its marks. What cannot be removed is found at the next start.
fn remove(path: &Path) {
    for path in [path.to_owned(), segment::marks_path(path)] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests;
