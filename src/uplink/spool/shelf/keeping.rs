//! What stays of a shelf, and what of it the disk is known to have.
//!
//! A disk that refuses to take something is not asked for the same once more: the kernel throws away what it could
//! not write, and would say then that all is well. The file is ended, and its records are *doubtful*: they are sent
//! like any others, and count as lost should they turn out to be unreadable, but never as safe.

use std::fs;
use std::io;
use std::path::Path;

use super::place::{Cursor, Segment};
use super::{Place, Refusal, Shelf, WORTH_REMOVING};
use crate::config::SpoolSync;
use crate::uplink::spool::segment;

impl Shelf {
    /// Records need not be sent any more. Those that could not be marked so are left in `places`: they may come
    /// back, and it is to be tried again. Says why.
    pub(in crate::uplink::spool) fn settle(&mut self, places: &mut Vec<Place>) -> io::Result<()> {
        places.sort_unstable();
        places.dedup();
        let newest = self.writer.as_ref().and(self.segments.back()).map(|one| one.number);
        let (mut failed, mut result) = (Vec::new(), Ok(()));
        for run in places.chunk_by(|a, b| a.segment == b.segment) {
            let Some(at) = run.first().and_then(|first| self.find(first.segment)) else { continue };
            let segment = &mut self.segments[at];
            let open =
                |place: &&Place| place.index < segment.records && !segment.done.has(place.index);
            let fresh: Vec<u32> = run.iter().filter(open).map(|place| place.index).collect();
            if fresh.is_empty() {
                continue;
            }
            // The list of marks may be a new file.
            self.unlisted |= segment.marked == 0;
            // Also for the last records of a file: it may not be possible to remove it.
            let path = self.folder.join(Self::name(self.kind, segment.number));
            if let Err(error) = segment.mark(&path, &fresh) {
                result = Err(error);
                failed.extend_from_slice(run);
                continue;
            }
            if newest != Some(segment.number) {
                segment.marks = None;
            }
            for index in fresh {
                segment.finish(index);
            }
        }
        *places = failed;
        self.sweep();
        result
    }

    /// Removes the oldest file, whatever is in it, and says how many of its records were nowhere else; `None` if
    /// there is only the one in use.
    pub(in crate::uplink::spool) fn remove_oldest(&mut self) -> Option<u64> {
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
        self.remove(segment.number);
        Some(unread.into())
    }

    /// Ends the file in use; the next frame opens another.
    pub(in crate::uplink::spool) fn seal(&mut self) {
        if self.sync != SpoolSync::Never {
            self.sync_records();
        }
        self.put_away();
    }

    /// Has the disk take everything: records, marks, and the names of files. What it does not take is its
    /// [`refusal`](Self::refusal). `false`: there was nothing to take.
    pub(in crate::uplink::spool) fn sync(&mut self) -> bool {
        let records = self.sync_records();
        let marks = match self.sync_marks() {
            Ok(some) => some,
            Err(error) => {
                self.worry(0, error);
                false
            }
        };
        records || marks
    }

    /// Has the disk take marks, and the names of files that are gone: whatever is marked does not come back.
    pub(in crate::uplink::spool) fn sync_marks(&mut self) -> io::Result<bool> {
        let newest = self.writer.as_ref().and(self.segments.back()).map(|one| one.number);
        let mut some = false;
        for segment in &mut self.segments {
            some |= segment.sync_marks(&self.folder.join(Self::name(self.kind, segment.number)))?;
            if newest != Some(segment.number) {
                segment.marks = None;
            }
        }
        self.sync_names()?;
        Ok(some)
    }

    /// What the disk has refused since this was last called.
    pub(in crate::uplink::spool) fn refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Records that are here, and that nothing has gone wrong with so far.
    pub(in crate::uplink::spool) fn durable(&self) -> u64 {
        self.segments.iter().filter(|one| !one.doubtful).map(|one| u64::from(one.live)).sum()
    }

    /// Records that the disk may lose, or has lost.
    pub(in crate::uplink::spool) fn doubtful(&self) -> u64 {
        self.segments.iter().filter(|one| one.doubtful).map(|one| u64::from(one.live)).sum()
    }

    /// From now on the disk takes nothing of the file in use.
    #[cfg(test)]
    pub(in crate::uplink::spool) fn break_disk(&mut self) {
        self.writer.as_mut().unwrap().break_disk();
    }

    /// The same for records and the names of their files.
    pub(in crate::uplink::spool) fn sync_records(&mut self) -> bool {
        let synced = match self.writer.as_mut().map(super::Writer::sync) {
            Some(Ok(some)) => some,
            Some(Err(error)) => {
                self.put_away();
                let newest = self.segments.back_mut();
                let records = newest.map_or(0, Segment::doubt);
                self.worry(records, error);
                return false;
            }
            None => false,
        };
        if let Err(error) = self.sync_names() {
            self.put_away();
            let unlisted = self.segments.iter_mut().filter(|one| one.unlisted);
            let records = unlisted.map(Segment::doubt).sum();
            self.worry(records, error);
            return false;
        }
        synced
    }

    fn sync_names(&mut self) -> io::Result<()> {
        if self.unlisted {
            segment::sync_folder(&self.folder)?;
            self.unlisted = false;
            self.segments.iter_mut().for_each(|one| one.unlisted = false);
        }
        Ok(())
    }

    fn worry(&mut self, records: u64, error: io::Error) {
        let before = self.refusal.take().map_or(0, |refusal| refusal.records);
        self.refusal = Some(Refusal { records: before + records, error });
    }

    /// Adds no more to the file in use.
    fn put_away(&mut self) {
        self.writer = None;
        self.numbers.clear();
        if let Some(newest) = self.segments.back_mut() {
            newest.marks = None;
        }
    }

    /// Removes the files that have been done with.
    pub(super) fn sweep(&mut self) {
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
            self.remove(number);
        }
    }

    /// The file that is read next; those behind it stay until they have been.
    pub(super) fn reading(&self) -> u64 {
        self.cursor.as_ref().map_or(u64::MAX, |cursor| cursor.segment)
    }

    /// The file that stays although all its records are done, for more will be added to it.
    fn in_use(&self) -> Option<u64> {
        let newest = self.writer.as_ref().and(self.segments.back())?;
        (newest.len < WORTH_REMOVING).then_some(newest.number)
    }

    /// Removes what has been done with at the end, the file in use included.
    pub(in crate::uplink::spool) fn close(&mut self) {
        self.seal();
        self.sweep();
        if self.sync != SpoolSync::Never {
            self.sync();
        }
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.unlisted = true;
        remove(&self.path(number));
    }
}

/// Removes a file and then its marks. What cannot be removed is found at the next start, with its marks.
pub(super) fn remove(path: &Path) {
    for path in [path, &segment::marks_path(path)] {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{}: {error}", path.display());
            return;
        }
    }
}
