//! Who may write where: each process has a slot of the spool folder, a folder with a lock.
//!
//! The lock is the kernel's, and goes with the process however that ends. A slot without a living
//! owner is an orphan: its files are moved into the slot of whoever finds it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::segment;
use super::shelf::{self, Shelf};
use crate::config::SpoolSync;
use crate::error::{Chain, Code, Error, Result};
use crate::protocol::Kind;

/// A slot that is ours for as long as this lives.
#[derive(Debug)]
pub(super) struct Slot {
    root: PathBuf,
    folder: PathBuf,
    _lock: Lock,
}

/// More processes than this do not share a folder.
const SLOTS: usize = 1000;
const LOCK: &str = "lock";

// === impl Slot ===

impl Slot {
    /// Takes the first free slot of a folder, which is made if need be.
    pub(super) fn take(root: &Path, sync: SpoolSync) -> Result<Self> {
        let unusable = |path: &Path, error: io::Error| {
            Error::new(Code::SpoolUnusable)
                .key("spool.path")
                .file(path)
                .expected("a folder that only skytls writes")
                .because(error)
        };
        make(root).map_err(|error| unusable(root, error))?;
        for number in 0..SLOTS {
            let folder = root.join(format!("slot-{number:03}"));
            make(&folder).map_err(|error| unusable(&folder, error))?;
            if let Some(lock) = lock(&folder).map_err(|error| unusable(&folder, error))? {
                if sync != SpoolSync::Never {
                    list(root).map_err(|error| unusable(root, error))?;
                }
                return Ok(Self { root: root.to_owned(), folder, _lock: lock });
            }
        }
        Err(Error::new(Code::SpoolUnusable)
            .key("spool.path")
            .file(root)
            .found(format_args!("{SLOTS} processes that use it"))
            .expected("a free slot"))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files in it, each kind from the oldest on.
    pub(super) fn files(&self) -> Result<Vec<(Kind, u64)>> {
        files(&self.folder)
            .map_err(|error| Error::new(Code::SpoolUnusable).file(&self.folder).because(error))
    }

    /// The slots whose owners are gone. They are locked while they are held here.
    pub(super) fn orphans(&self) -> Vec<Orphan> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("slot-") && *path != self.folder
        });
        let orphan = |folder: PathBuf| {
            let lock = lock(&folder).ok()??;
            let files = files(&folder).ok().filter(|files| !files.is_empty())?;
            Some(Orphan { folder, files, _lock: lock })
        };
        folders.filter_map(orphan).collect()
    }
}

/// A slot whose owner is gone.
#[derive(Debug)]
pub(super) struct Orphan {
    folder: PathBuf,
    files: Vec<(Kind, u64)>,
    _lock: Lock,
}

// === impl Orphan ===

impl Orphan {
    pub(super) fn files(&self) -> &[(Kind, u64)] {
        &self.files
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, kind: Kind, number: u64) -> PathBuf {
        self.folder.join(Shelf::name(kind, number))
    }

    /// Whether this version can read it.
    pub(super) fn is_readable(&self) -> bool {
        self.files.iter().all(|(kind, number)| match segment::open(&self.path(*kind, *number)) {
            Ok(_) => true,
            Err(error) => {
                log::warn!("a spool without an owner is left alone: {}", Chain(&error));
                false
            }
        })
    }

    /// Moves a file to another slot, under another number there. Its marks are there before it is.
    pub(super) fn hand_over(&self, kind: Kind, number: u64, to: &Slot, as_: u64) -> io::Result<()> {
        let from = self.path(kind, number);
        let to = to.folder.join(Shelf::name(kind, as_));
        let moved = segment::pass_marks(&from, &to).and_then(|()| fs::rename(&from, &to));
        // Marks without a file mean nothing. If these cannot be removed, whoever looks at the slot next does, or the
        // file that gets their number.
        let left = if moved.is_ok() { from } else { to };
        let _ = segment::remove_marks(&left);
        moved
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)
        }
        result => result,
    }
}

/// Has the disk take the names of the slots, and that of their folder as far as its own is ours to open.
fn list(root: &Path) -> io::Result<()> {
    segment::sync_folder(root)?;
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent.map_or(Ok(()), segment::sync_folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Locks a slot; `None` if somebody has it.
fn lock(folder: &Path) -> io::Result<Option<Lock>> {
    Lock::take(&folder.join(LOCK))
}

fn files(folder: &Path) -> io::Result<Vec<(Kind, u64)>> {
    let mut files = Vec::new();
    let mut marks = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        match Shelf::parse(name) {
            Some(file) => files.push(file),
            None => marks.extend(name.strip_suffix(".done").map(str::to_owned)),
        }
        if Path::new(name).extension().is_some_and(|end| end == shelf::COPY) {
            // Its file is still there.
            let _ = fs::remove_file(folder.join(name));
        }
    }
    files.sort_unstable();
    for stem in marks {
        // Marks whose file is gone mean nothing, and must not be taken for another's.
        if Shelf::parse(&format!("{stem}.log")).is_some_and(|file| !files.contains(&file)) {
            let _ = fs::remove_file(folder.join(format!("{stem}.done")));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one that is gone has left: a file with marks.
    fn orphan(root: &Path) -> (Orphan, PathBuf) {
        let dead = Slot::take(root, SpoolSync::Never).unwrap();
        let path = dead.folder.join(Shelf::name(Kind::Meter, 7));
        fs::write(&path, "records").unwrap();
        segment::mark_anew(&path, &[1, 2]).unwrap();
        let folder = dead.folder.clone();
        drop(dead);
        let lock = lock(&folder).unwrap().unwrap();
        (Orphan { files: vec![(Kind::Meter, 7)], folder, _lock: lock }, path)
    }

    #[test]
    fn a_takeover_that_fails_leaves_nothing_and_the_next_one_is_none_the_worse() {
        let root = tempfile::tempdir().unwrap();
        let (orphan, from) = orphan(root.path());
        let slot = Slot::take(root.path(), SpoolSync::Never).unwrap();
        let to = slot.folder.join(Shelf::name(Kind::Meter, 1));
        // In the way of the file, not of its marks.
        fs::create_dir(&to).unwrap();
        orphan.hand_over(Kind::Meter, 7, &slot, 1).unwrap_err();
        assert!(!segment::marks_path(&to).exists());
        assert_eq!(segment::marks(&from).unwrap().runs, [(1, 2)], "all is where it was");
        fs::remove_dir(&to).unwrap();
        // As if they could not be removed then.
        segment::mark_anew(&to, &[5]).unwrap();
        orphan.hand_over(Kind::Meter, 7, &slot, 1).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"records");
        assert_eq!(segment::marks(&to).unwrap().runs, [(1, 2)]);
        assert!(!from.exists() && !segment::marks_path(&from).exists());
    }

    /// `/dev/shm` is another file system than that of the folder, so that no link leads from one to the other.
    #[test]
    fn marks_are_copied_where_there_are_no_links() {
        let (one, other) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let (from, to) = (one.path().join("a.log"), other.path().join("b.log"));
        segment::mark_anew(&from, &[1, 2]).unwrap();
        let link = other.path().join("link");
        assert!(fs::hard_link(segment::marks_path(&from), link).is_err(), "the test is one");
        segment::pass_marks(&from, &to).unwrap();
        assert_eq!(segment::marks(&to).unwrap().runs, [(1, 2)]);
    }
}
