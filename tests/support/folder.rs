//! An agent's folder: `config/agent.config` and whatever else a test puts there.
//!
//! It writes what it is given, sound or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder in the system's temporary one; removed when dropped.
pub(crate) struct Folder(TempDir);

// === impl Folder ===

impl Folder {
    /// With this text in `config/agent.config`.
    pub(crate) fn new(config: &str) -> Self {
        Self::empty().file("config/agent.config", config, 0o644)
    }

    /// Without anything.
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().expect("there is room for a temporary folder"))
    }

    /// Puts a file there, folders included: `ca/ca.crt`.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        self.replace(name, content, mode);
        self
    }

    /// Writes a file, or writes it again, by a rename: no reader sees half of it.
    pub(crate) fn replace(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.join(name);
        let parent = path.parent().expect("it is in the folder");
        fs::create_dir_all(parent).expect("folders can be made");
        let file = tempfile::NamedTempFile::new_in(parent).expect("files can be made");
        fs::write(file.path(), content).expect("files can be written");
        // Last, since the mode may forbid writing.
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("it is ours");
        file.persist(path).expect("files can be renamed");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.join(name)).expect("the file is there");
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `config/agent.config`.
    pub(crate) fn config(&self) -> PathBuf {
        self.join("config/agent.config")
    }
}
