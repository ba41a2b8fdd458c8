//! Locks that belong to one process: no child has them, and the kernel gives them back however the
//! process ends.
//!
//! A lock of `flock` belongs to an open file, which a forked child has too: one that lives on would
//! keep the slot of a parent that is gone. Record locks (`fcntl`) belong to the process alone. But they do
//! not keep apart what is in one process, and go as soon as it closes *any* descriptor of the file;
//! therefore a list says what this process has, and a file on it is not even opened.
//!
//! A process may have two copies of this code, a program's own and that of libskytls, each with a list of its own.
//! They find each other by a file beside the lock whose name says which process has it: a file that only one can
//! make, and that may be looked for without touching the lock.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

/// A file that this process has locked, for as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: Option<File>,
    identity: Identity,
    held: &'static Held,
    /// Says that this process has it.
    sign: Option<PathBuf>,
}

/// Device and inode.
type Identity = (u64, u64);

/// What the processes of one line of descent have locked, each its own: what a child finds of its parent
/// is not its own, and may be under a mutex that another thread held at the moment of the fork.
#[derive(Debug)]
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
        Self::take_for(Held::of(std::process::id()), path)
    }

    fn take_for(held: &'static Held, path: &Path) -> io::Result<Option<Self>> {
        let mut files = held.files();
        // Before it is opened: closing it again would unlock it.
        match fs::metadata(path) {
            Ok(found) if files.contains(&(found.dev(), found.ino())) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let sign = sign(path);
        if let Some(sign) = &sign
            && sign.try_exists()?
        {
            return Ok(None);
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
        if let Some(sign) = &sign {
            remove_signs(path);
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(sign);
            if let Err(error) = made {
                if error.kind() != io::ErrorKind::AlreadyExists {
                    return Err(error);
                }
                // Another copy has it since a moment ago, and would lose it if this were closed.
                files.insert(identity);
                std::mem::forget(file);
                return Ok(None);
            }
        }
        files.insert(identity);
        Ok(Some(Self { file: Some(file), identity, held, sign }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut files = self.held.files();
        // A child that drops what its parent had leaves the sign alone.
        if let Some(sign) = self.sign.take().filter(|_| self.held.process == std::process::id())
            && let Err(error) = fs::remove_file(&sign)
        {
            log::debug!("{}: {error}", sign.display());
        }
        drop(self.file.take());
        files.remove(&self.identity);
    }
}

/// What the names of signs end with.
const SIGN: &str = "owner";

/// The file that says that this process has a lock. `None` where processes cannot be told from earlier ones with the
/// same number: in a container it is always the same.
fn sign(path: &Path) -> Option<PathBuf> {
    // What stands before the last bracket may be anything: it is the name of the program.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse::<u64>().ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let name = format!("{}-{started}-{}.{SIGN}", std::process::id(), boot.trim());
    Some(path.with_file_name(name))
}

/// Removes the signs of processes that are gone: whoever calls this has the lock.
fn remove_signs(path: &Path) {
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten();
    let own = sign(path);
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|end| end == SIGN) && Some(&path) != own.as_ref() {
            // The next owner tries again.
            let _ = fs::remove_file(path);
        }
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

    /// A list of its own is what a second copy of this code in the process has.
    #[test]
    fn two_copies_in_one_process_do_not_both_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let copy = || -> &'static Held { Box::leak(Held::new(std::process::id())) };
        let (one, other) = (copy(), copy());
        let lock = Lock::take_for(one, &path).unwrap().unwrap();
        assert!(Lock::take_for(other, &path).unwrap().is_none());
        // The attempt has not unlocked it: this is another process.
        assert!(!is_free_for_others(&path));
        drop(lock);
        assert!(is_free_for_others(&path));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the lock");
        assert!(Lock::take_for(other, &path).unwrap().is_some());
    }

    #[test]
    fn two_copies_at_the_same_moment_do_not_both_get_it() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = folder.path().join(round.to_string()).join("lock");
            fs::create_dir(path.parent().unwrap()).unwrap();
            let start = std::sync::Barrier::new(4);
            let taken: Vec<_> = std::thread::scope(|scope| {
                let attempt = || {
                    let held: &'static Held = Box::leak(Held::new(std::process::id()));
                    start.wait();
                    Lock::take_for(held, &path).unwrap()
                };
                let attempts: Vec<_> = (0..4).map(|_| scope.spawn(attempt)).collect();
                attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
            });
            assert_eq!(taken.iter().flatten().count(), 1, "round {round}");
            assert!(!is_free_for_others(&path), "round {round}");
        }
    }

    #[test]
    fn the_sign_of_a_process_that_is_gone_means_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // The same number, another start.
        let old = folder.path().join(format!("{}-1-x.{SIGN}", std::process::id()));
        fs::write(&old, "").unwrap();
        let _lock = Lock::take(&path).unwrap().unwrap();
        assert!(!old.exists());
        assert!(sign(&path).unwrap().exists());
    }

    /// As the kernel sees it.
    fn is_free_for_others(path: &Path) -> bool {
        let inode = fs::metadata(path).unwrap().ino();
        let locks = fs::read_to_string("/proc/locks").unwrap();
        !locks.lines().any(|line| line.contains("POSIX") && line.contains(&format!(":{inode} ")))
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
