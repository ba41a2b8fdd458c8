//! A small disk of its own for the spool, which can be filled up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `ci/chaos` has mounted for this; nobody else sees it.
pub struct Disk(PathBuf);

impl Disk {
    /// `None` where there is none: only who may mount a file system can have one.
    pub fn find() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("SKYTLS_CHAOS_DISK")?);
        assert!(folder.is_dir(), "{}", folder.display());
        Some(Self(folder))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        let zeros = vec![0; 64 * 1024];
        // Whole pieces first, then what is left of the last one.
        for piece in [&zeros[..], &zeros[..512], &zeros[..1]] {
            while file.write_all(piece).is_ok() {}
        }
    }

    pub fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}
