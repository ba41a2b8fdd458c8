//! Locks that belong to one process: no child has them, and the kernel gives them back however the
//! process ends.
//!
//! A lock of `flock` belongs to an open file, which a forked child has too: one that lives on would
//! keep the slot of a parent that is gone. Record locks (`fcntl`) belong to the process alone. But they do
//! not keep apart what is in one process, and go as soon as it closes *any* descriptor of the file;
//! therefore a list says what this process has, and a file on it is not even opened.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

/// A file that this process has locked, for as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: Option<File>,
    identity: Identity,
    owner: u32,
}

/// Device and inode.
type Identity = (u64, u64);

/// What the processes of one line of descent have locked, each its own: what a child finds of its parent
/// is not its own, and may be under a mutex that another thread held at the moment of the fork.
struct Held {
    process: u32,
    files: Mutex<HashSet<Identity>>,
    /// Of a child, or a child's child.
    next: OnceLock<Box<Self>>,
}

static HELD: OnceLock<Box<Held>> = OnceLock::new();

// === impl Lock ===

impl Lock {
    /// Locks a file, which is made if need be; `None` if somebody has it.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let owner = std::process::id();
        let held = Held::of(owner);
        let mut files = held.files();
        // Before it is opened: closing it again would unlock it.
        match fs::metadata(path) {
            Ok(found) if files.contains(&(found.dev(), found.ino())) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let found = file.metadata()?;
        let identity = (found.dev(), found.ino());
        files.insert(identity);
        Ok(Some(Self { file: Some(file), identity, owner }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut files = Held::of(self.owner).files();
        drop(self.file.take());
        files.remove(&self.identity);
    }
}

// === impl Held ===

impl Held {
    fn new(process: u32) -> Box<Self> {
        Box::new(Self { process, files: Mutex::default(), next: OnceLock::new() })
    }

    /// The list of a process: this one or one before.
    fn of(process: u32) -> &'static Self {
        let mut held = HELD.get_or_init(|| Self::new(process));
        while held.process != process {
            held = held.next.get_or_init(|| Self::new(process));
        }
        held
    }

    fn files(&self) -> MutexGuard<'_, HashSet<Identity>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_once_in_a_process_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("lock"), folder.path().join("link"));
        let lock = Lock::take(&path).unwrap().unwrap();
        std::os::unix::fs::symlink(&path, &other).unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        assert!(Lock::take(&other).unwrap().is_none(), "by whatever name");
        drop(lock);
        assert!(Lock::take(&other).unwrap().is_some());
    }

    #[test]
    fn what_another_process_has_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::take(&path).unwrap().unwrap();
        // The list of another process is another one: only the kernel's lock can keep it away.
        let child = Held::of(std::process::id() ^ 1);
        assert!(child.files().is_empty());
        drop(lock);
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
