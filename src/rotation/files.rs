//! A set of files as it is at one moment: where each lies, and what it holds.
//!
//! Two looks that are equal in everything mean that nothing was written in between. No security rests
//! on the digest: it only tells whether something has changed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use openssl::sha::sha256;

use crate::config::Source;

/// The set; files that are not there are part of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files(BTreeMap<PathBuf, Option<Look>>);

/// One file.
#[derive(Clone, PartialEq, Eq)]
struct Look {
    /// Device, inode, size.
    place: [u64; 3],
    /// Modification and change of the inode, seconds and nanoseconds.
    times: [i64; 4],
    content: [u8; 32],
}

/// What the TLS room reads at most.
const LARGEST: u64 = 8 * 1024 * 1024;
/// The system's own folder of CAs has about 300.
const MOST_ENTRIES: usize = 10_000;

// === impl Files ===

impl Files {
    /// Looks at the files that these sources name; for a folder, at all files in it.
    pub(crate) fn look<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Self {
        Self::look_at(sources.into_iter().filter_map(Source::path))
    }

    pub(crate) fn look_at<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut files = BTreeMap::new();
        for path in paths {
            let metadata = fs::metadata(path).ok();
            if metadata.as_ref().is_some_and(Metadata::is_dir) {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                for entry in entries.take(MOST_ENTRIES) {
                    let path = entry.path();
                    let metadata = fs::metadata(&path).ok().filter(|entry| !entry.is_dir());
                    files.insert(path.clone(), metadata.map(|entry| Look::of(&path, &entry)));
                }
            }
            files.insert(path.to_owned(), metadata.map(|metadata| Look::of(path, &metadata)));
        }
        Self(files)
    }

    /// Both in one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether the same files hold the same, wherever they lie by now.
    pub(super) fn holds_the_same(&self, other: &Self) -> bool {
        let content = |files: &Self| -> Vec<_> {
            let content = |look: &Option<Look>| look.as_ref().map(|look| look.content);
            files.0.iter().map(|(path, look)| (path.clone(), content(look))).collect()
        };
        content(self) == content(other)
    }
}

// === impl Look ===

impl Look {
    fn of(path: &Path, metadata: &Metadata) -> Self {
        let mut bytes = Vec::new();
        // Opening a pipe would hang. What cannot be read is the loader's to complain about.
        if metadata.is_file() {
            let _ =
                File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
        }
        let place = [metadata.dev(), metadata.ino(), metadata.size()];
        let times =
            [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        // Often the first use of OpenSSL in a process, and this call does not prepare it as all others of
        // the crate do: OpenSSL would have its clean-up run by `exit`, under threads that still use it.
        openssl::init();
        let content = sha256(&bytes);
        Self { place, times, content }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn look(path: &Path) -> Files {
        Files::look_at([path])
    }

    #[test]
    fn every_change_is_seen_and_only_content_counts_as_another_set() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        let absent = look(&path);
        fs::write(&path, "one").unwrap();
        let one = look(&path);
        assert!(!one.holds_the_same(&absent));
        assert!(one == look(&path));
        // The same size, and as quickly as can be.
        fs::write(&path, "two").unwrap();
        assert!(!look(&path).holds_the_same(&one));
        // The same content in another file.
        let draft = folder.path().join("draft");
        fs::write(&draft, "one").unwrap();
        fs::rename(&draft, &path).unwrap();
        assert!(look(&path).holds_the_same(&one) && look(&path) != one);
    }

    #[test]
    fn a_swapped_link_above_and_an_entry_of_a_folder_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, content) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), content).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let (file, whole) = (look(&at("tls.crt")), look(folder.path()));
        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert!(!look(&at("tls.crt")).holds_the_same(&file));
        assert!(!look(folder.path()).holds_the_same(&whole));
    }
}
