//! One file of the spool: a head with the version of its format, then frames with checksums.
//!
//! It does not know what is in a frame. A frame counts when all of it is there and its checksum
//! holds; the first one that does not ends the file for whoever reads it. Next to the file lies a
//! list of marks: the records, by their place in the file, that need not be sent any more. It is
//! only ever added to, and may be cut off anywhere.
//!
//! ```text
//! file  = "SKTSPOOL" version:u32 0:u32 frame*
//! frame = length:u32 crc32:u32 bytes
//! mark  = first:u32 count:u32 crc32:u32
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::{Code, Error, Result};

/// The newest format that is read.
pub(super) const VERSION: u32 = 2;
/// Files are of the oldest version that has all that is in them: an older skytls reads what it can.
pub(super) const PLAIN: u32 = 1;
pub(super) const WITH_GAPS: u32 = 2;
const MAGIC: &[u8; 8] = b"SKTSPOOL";
/// Where the first frame stands.
pub(super) const HEAD: u64 = 16;
/// What stands in front of a frame.
pub(super) const FRAME_HEAD: u64 = 8;
/// Longer than any frame: the largest message and what goes with it.
const LONGEST: u32 = 1 << 27;
/// Every frame has at least its moment.
const SHORTEST: u32 = 8;
/// One mark. A record is marked once: its marks never take more than this for each record.
pub(super) const MARK: usize = 12;
/// The disk is asked for room for marks in pieces of this size.
const PIECE: u64 = 4096;
/// Whoever can read the spool can read tokens.
const MODE: u32 = 0o600;

/// A file that frames are added to.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    len: u64,
    /// Something was written since the last flush to the disk.
    dirty: bool,
    /// Half a frame may stand behind `len`.
    torn: bool,
}

/// What a file turns out to be.
#[derive(Debug)]
pub(super) enum Opened {
    Good(File),
    /// Too short for a head: its writer came to an end before the first frame.
    Empty,
    /// Not a file of the spool, or damaged in its first bytes.
    Foreign,
}

/// The frame at some place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The frame, and where the next one stands.
    Whole(Bytes, u64),
    /// Nothing is left.
    End,
    /// Something is left that is no frame.
    Torn,
}

/// What a list of marks says.
#[derive(Debug)]
pub(super) struct Marks {
    /// First record and count of each.
    pub(super) runs: Vec<(u32, u32)>,
    /// Bytes that the list takes.
    pub(super) len: u64,
}

// === impl Writer ===

impl Writer {
    pub(super) fn create(path: &Path, version: u32) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(path)?;
        let mut head = [0; HEAD as usize];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&version.to_le_bytes());
        file.write_all(&head)?;
        Ok(Self { file, len: HEAD, dirty: true, torn: false })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds a frame; all of it or nothing.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        let len = u32::try_from(frame.len()).ok().filter(|len| *len <= LONGEST);
        let len = len.ok_or_else(|| io::Error::other("a frame that is too long"))?;
        let mut head = [0; FRAME_HEAD as usize];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4..].copy_from_slice(&crc32fast::hash(frame).to_le_bytes());
        let written = self
            .file
            .write_all_at(&head, self.len)
            .and_then(|()| self.file.write_all_at(frame, self.len + FRAME_HEAD));
        if let Err(error) = written {
            self.torn = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        self.dirty = true;
        self.len += FRAME_HEAD + u64::from(len);
        Ok(())
    }

    /// Waits until the disk has everything; `false`: it had.
    ///
    /// After an error the file must be given up: the kernel may have thrown away what it could not write, and
    /// would say at the next call that all is well.
    pub(super) fn sync(&mut self) -> io::Result<bool> {
        if self.dirty {
            self.file.sync_data()?;
        }
        Ok(std::mem::take(&mut self.dirty))
    }

    /// Puts a file in place of its own to which one can write, and which never gets to the disk.
    #[cfg(test)]
    pub(super) fn break_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/null").unwrap();
    }
}

// === reading ===

/// Opens a file for reading.
///
/// # Errors
///
/// [`Code::SpoolNewer`] for one of a later version, and when it cannot be read.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let unreadable = |error| Error::new(Code::SpoolUnusable).file(path).because(error);
    let file = File::open(path).map_err(unreadable)?;
    let mut head = [0; HEAD as usize];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Opened::Empty),
        Err(error) => return Err(unreadable(error)),
    }
    if head[..8] != MAGIC[..] {
        return Ok(Opened::Foreign);
    }
    match u32::from_le_bytes([head[8], head[9], head[10], head[11]]) {
        0 => Ok(Opened::Foreign),
        1..=VERSION => Ok(Opened::Good(file)),
        newer => Err(Error::new(Code::SpoolNewer)
            .file(path)
            .found(format_args!("version {newer}"))
            .expected(format_args!("version {VERSION} or older"))),
    }
}

/// Reads the frame that stands at `at` in a file of `len` bytes.
pub(super) fn frame(file: &File, at: u64, len: u64) -> io::Result<Frame> {
    if at >= len {
        return Ok(Frame::End);
    }
    if at + FRAME_HEAD > len {
        return Ok(Frame::Torn);
    }
    let mut head = [0; FRAME_HEAD as usize];
    file.read_exact_at(&mut head, at)?;
    let [a, b, c, d, e, f, g, h] = head;
    let (length, crc) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let next = at + FRAME_HEAD + u64::from(length);
    // A file system may leave zeros where data was lost: they are no frame of length 0.
    if !(SHORTEST..=LONGEST).contains(&length) || next > len {
        return Ok(Frame::Torn);
    }
    let mut data = vec![0; length as usize];
    file.read_exact_at(&mut data, at + FRAME_HEAD)?;
    if crc32fast::hash(&data) != crc {
        return Ok(Frame::Torn);
    }
    Ok(Frame::Whole(data.into(), next))
}

// === marks ===

/// Where the marks of a file are.
pub(super) fn marks_path(path: &Path) -> PathBuf {
    path.with_extension("done")
}

/// Removes the marks of a file, if it has any.
pub(super) fn remove_marks(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(marks_path(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file that takes the place of another the marks of that one; none, if that has none.
pub(super) fn pass_marks(from: &Path, to: &Path) -> io::Result<()> {
    // An earlier attempt may have left some.
    remove_marks(to)?;
    let (from, to) = (marks_path(from), marks_path(to));
    match std::fs::hard_link(&from, &to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Not every file system has links.
        Err(_) => copy(&from, &to),
        Ok(()) => Ok(()),
    }
}

/// The disk has it then, as it had what is copied.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = std::fs::read(from)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(to)?;
    file.write_all(&bytes)?;
    file.sync_data()
}

/// Opens the list of marks of a file, to add to it. It grows to no more than the records it marks.
pub(super) fn open_marks(path: &Path) -> io::Result<File> {
    let path = marks_path(path);
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    // What was cut off must not shift the marks that follow.
    let len = file.metadata()?.len();
    if !len.is_multiple_of(MARK as u64) {
        file.set_len(len - len % MARK as u64)?;
    }
    Ok(file)
}

/// Has the disk keep room for marks of so many bytes, beyond those there are; says for how many it does.
/// What must not be sent twice has to be marked on a disk that is full too.
pub(super) fn reserve_marks(file: &File, bytes: u64) -> io::Result<u64> {
    let wanted = bytes.next_multiple_of(PIECE);
    allocate(file, wanted)?;
    Ok(wanted)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        // Not every file system can.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => other.map_err(Into::into),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Has the disk take the names of a folder's files. Those of one journal come in the order they were made and removed in.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    #[cfg(test)]
    SYNCED.with_borrow_mut(|synced| synced.push(folder.to_owned()));
    Ok(())
}

#[cfg(test)]
thread_local! {
    /// The folders that this thread has synced.
    pub(super) static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Adds marks for these records, given in rising order; says how many bytes they take.
pub(super) fn mark(file: &mut File, records: &[u32]) -> io::Result<u64> {
    let out = marks_of(records);
    file.write_all(&out)?;
    Ok(out.len() as u64)
}

/// Writes all marks anew, given in rising order, over those there are: they say the same, and so does a mixture of
/// both. Says how many bytes they take.
pub(super) fn mark_anew(path: &Path, records: &[u32]) -> io::Result<u64> {
    let out = marks_of(records);
    let path = marks_path(path);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)?;
    file.write_all_at(&out, 0)?;
    file.set_len(out.len() as u64)?;
    file.sync_data()?;
    Ok(out.len() as u64)
}

fn marks_of(records: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    for run in records.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let Some(first) = run.first() else { continue };
        let mut mark = [0; MARK];
        mark[..4].copy_from_slice(&first.to_le_bytes());
        mark[4..8].copy_from_slice(&u32::try_from(run.len()).unwrap_or(u32::MAX).to_le_bytes());
        let crc = crc32fast::hash(&mark[..8]);
        mark[8..].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&mark);
    }
    out
}

/// The marks of a file; what is not sound is passed over.
pub(super) fn marks(path: &Path) -> io::Result<Marks> {
    let bytes = match std::fs::read(marks_path(path)) {
        // It has none so far, or has lost them: then its records are sent once more.
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        bytes => bytes?,
    };
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
    let sound = bytes.chunks_exact(MARK).filter(|mark| {
        let (content, crc) = mark.split_at(8);
        crc32fast::hash(content) == word(crc)
    });
    let runs = sound.map(|mark| (word(&mark[..4]), word(&mark[4..8]))).collect();
    Ok(Marks { runs, len: bytes.len() as u64 })
}
