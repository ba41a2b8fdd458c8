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
        let (marks, new_marks) = (segment::marks_path(&from), segment::marks_path(&to));
        match fs::hard_link(&marks, &new_marks) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&from, &to)?;
        // Marks without a file mean nothing, and are removed by whoever looks at the slot next.
        let _ = fs::remove_file(&marks);
        Ok(())
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
