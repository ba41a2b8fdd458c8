//! What is known about one file of a shelf, and where reading stands.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::io::Errno;

use super::Shelf;
use crate::error::Result;
use crate::protocol::Kind;
use crate::uplink::envelope::Passport;
use crate::uplink::spool::bits::Bits;
use crate::uplink::spool::codec::{self, Item};
use crate::uplink::spool::segment::{self, Frame, HEAD, MARK};

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) len: u64,
    pub(super) records: u32,
    pub(super) live: u32,
    /// Records that are in the file, those that are done included: a copy leaves some out.
    pub(super) kept: u32,
    /// Records that need not be sent any more.
    pub(super) done: Bits,
    /// When its last frame was written, in milliseconds since 1970.
    pub(super) newest: u64,
    /// Which process wrote it: 0 this one, else counted in the order they were found.
    pub(super) origin: u32,
    /// The disk did not take it: its records may be lost with the power, or even now.
    pub(super) doubtful: bool,
    /// Its name is not known to be on the disk.
    pub(super) unlisted: bool,
    pub(super) marks: Option<File>,
    /// Whether the disk has its marks.
    pub(super) marks_on_disk: OnDisk,
    /// Bytes of its marks.
    pub(super) marked: u64,
    /// For so many bytes of marks the disk has room kept.
    pub(super) reserved: u64,
}

/// How much of a list the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OnDisk {
    All,
    Some,
    /// It has refused some: then the kernel may have thrown away what it says was written.
    Unknown,
}

/// More records than this are not in one file: each takes more than 16 bytes.
const MOST: u32 = 1 << 24;

#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) segment: u64,
    /// Where the next frame stands.
    pub(super) at: u64,
    /// The number of the next record.
    pub(super) index: u32,
    pub(super) passports: HashMap<u32, Option<Arc<Passport>>>,
    pub(super) file: Option<File>,
    /// What is left of the last frame.
    pub(super) frame: Bytes,
    /// When that was written.
    pub(super) time: u64,
    /// Since when the file cannot be read.
    pub(super) failing: Option<Instant>,
}

/// Why there is no next frame.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What stands there is none, and never will be.
    Torn,
    /// It cannot be read now; later it may.
    Failed(io::Error),
}

/// A file that cannot be read for longer than this is damaged, unless it is the process that lacks something.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

// === impl Segment ===

impl Segment {
    pub(super) fn new(number: u64, origin: u32) -> Self {
        Self {
            number,
            len: 0,
            records: 0,
            live: 0,
            kept: 0,
            done: Bits::default(),
            newest: 0,
            origin,
            doubtful: false,
            unlisted: false,
            marks: None,
            marks_on_disk: OnDisk::All,
            marked: 0,
            reserved: 0,
        }
    }

    /// Takes note of a frame that was found.
    pub(super) fn survey(&mut self, mut frame: Bytes) -> Result<(), codec::Garbled> {
        let time = codec::time(&mut frame)?;
        let (mut gaps, mut records) = (Vec::new(), self.records);
        let mut kept = 0;
        while let Some(item) = codec::next(&mut frame)? {
            match item {
                Item::Record(..) => {
                    records += 1;
                    kept += 1;
                }
                Item::Gap(left_out) => {
                    let end = records.checked_add(left_out).filter(|end| *end <= MOST);
                    let end = end.ok_or(codec::Garbled)?;
                    gaps.push(records..end);
                    records = end;
                }
                Item::Passport(..) | Item::End(_) => {}
            }
        }
        for index in gaps.into_iter().flatten() {
            self.done.set(index);
        }
        self.newest = self.newest.max(time);
        self.records = records;
        self.live += kept;
        self.kept += kept;
        Ok(())
    }

    /// `false` if it was done already.
    pub(super) fn finish(&mut self, index: u32) -> bool {
        let fresh = index < self.records && self.done.set(index);
        self.live -= u32::from(fresh);
        fresh
    }

    /// The disk did not take it; says how many records that concerns which were taken for safe.
    pub(super) fn doubt(&mut self) -> u64 {
        match std::mem::replace(&mut self.doubtful, true) {
            true => 0,
            false => self.live.into(),
        }
    }

    pub(super) fn finish_from(&mut self, index: u32) -> u32 {
        let before = self.live;
        for index in index..self.records {
            self.finish(index);
        }
        before - self.live
    }

    pub(super) fn live_from(&self, index: u32) -> u32 {
        (index..self.records).map(|index| u32::from(!self.done.has(index))).sum()
    }

    /// Bytes of it and of all the marks it can ever get.
    pub(super) fn room(&self) -> u64 {
        self.len + (MARK as u64 * u64::from(self.records)).max(self.marked)
    }

    /// Sees to it that so many more records can be marked, also when the disk is full by then.
    pub(super) fn reserve(&mut self, path: &Path, records: u32) -> io::Result<()> {
        let bytes = MARK as u64 * u64::from(self.records.saturating_add(records));
        if bytes > self.reserved {
            self.reserved = segment::reserve_marks(self.marks(path)?, bytes)?;
        }
        Ok(())
    }

    pub(super) fn mark(&mut self, path: &Path, records: &[u32]) -> io::Result<()> {
        let written = segment::mark(self.marks(path)?, records).inspect_err(|_| {
            // Half a mark may stand there: it is cut off when the list is opened again.
            self.marks = None;
        })?;
        self.marked += written;
        self.marks_on_disk = self.marks_on_disk.max(OnDisk::Some);
        Ok(())
    }

    /// Waits until the disk has its marks; `false`: it had.
    pub(super) fn sync_marks(&mut self, path: &Path) -> io::Result<bool> {
        match self.marks_on_disk {
            OnDisk::All => return Ok(false),
            OnDisk::Some => {
                self.marks(path).and_then(|marks| marks.sync_data()).inspect_err(|_| {
                    self.marks = None;
                    self.marks_on_disk = OnDisk::Unknown;
                })?
            }
            OnDisk::Unknown => {
                let done = (0..self.records).filter(|index| self.done.has(*index));
                self.marked = segment::mark_anew(path, &done.collect::<Vec<u32>>())?;
            }
        }
        self.marks_on_disk = OnDisk::All;
        Ok(true)
    }

    fn marks(&mut self, path: &Path) -> io::Result<&mut File> {
        Ok(match &mut self.marks {
            Some(marks) => marks,
            none => none.insert(segment::open_marks(path)?),
        })
    }
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn start(segment: u64) -> Self {
        Self {
            segment,
            at: HEAD,
            index: 0,
            passports: HashMap::new(),
            file: None,
            frame: Bytes::new(),
            time: 0,
            failing: None,
        }
    }

    /// Reads the next frame; `false` if there is none. It stays where it is when that fails.
    pub(super) fn turn(
        &mut self,
        folder: &Path,
        kind: Kind,
        segment: &Segment,
    ) -> Result<bool, Trouble> {
        let mut read = || {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(File::open(folder.join(Shelf::name(kind, self.segment)))?),
            };
            segment::frame(file, self.at, segment.len)
        };
        let frame = read().map_err(|error| self.trouble(error))?;
        self.failing = None;
        match frame {
            Frame::Whole(mut frame, next) => {
                self.time = codec::time(&mut frame).map_err(|codec::Garbled| Trouble::Torn)?;
                self.frame = frame;
                self.at = next;
                Ok(true)
            }
            Frame::End => Ok(false),
            Frame::Torn => Err(Trouble::Torn),
        }
    }

    fn trouble(&mut self, error: io::Error) -> Trouble {
        self.file = None;
        let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        if Errno::from_io_error(&error).is_some_and(|errno| lacking.contains(&errno)) {
            return Trouble::Failed(error);
        }
        let since = *self.failing.get_or_insert_with(Instant::now);
        match error.kind() {
            // It is shorter than what was written.
            io::ErrorKind::UnexpectedEof => Trouble::Torn,
            _ if since.elapsed() >= PATIENCE => Trouble::Torn,
            _ => Trouble::Failed(error),
        }
    }
}
