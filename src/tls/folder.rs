//! Folders as `openssl rehash` makes them: links named by the hash of a name, `9d66eef0.0`.
//!
//! Everything is read at once, so that a generation stays what it was: OpenSSL itself would look
//! into the folder at every handshake.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `HASH.N`.
    Certificates,
    /// `HASH.rN`.
    RevocationLists,
}

/// One link.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) hash: u32,
    number: u32,
}

/// The entries that OpenSSL would find, at least one: numbers count from 0 without a gap.
pub(super) fn entries(path: &Path, key: &str, kind: Kind) -> Result<Vec<Entry>> {
    let failed = |error: std::io::Error| {
        Error::new(Code::FileUnreadable)
            .key(key)
            .file(path)
            .expected("a folder that can be read")
            .because(error)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if let Some((hash, number)) = name.to_str().and_then(|name| parse(name, kind)) {
            found.push(Entry { path: entry.path(), hash, number });
        }
    }
    found.sort_by_key(|entry| (entry.hash, entry.number));
    let mut next = (None, 0);
    found.retain(|entry| {
        let expected = if next.0 == Some(entry.hash) { next.1 } else { 0 };
        let fits = entry.number == expected;
        if fits {
            next = (Some(entry.hash), expected + 1);
        }
        fits
    });
    if found.is_empty() { Err(not_hashed(path, key)) } else { Ok(found) }
}

/// The folder has no links that OpenSSL would find.
pub(super) fn not_hashed(path: &Path, key: &str) -> Error {
    let count = fs::read_dir(path).map(Iterator::count).unwrap_or_default();
    Error::new(Code::FolderNotHashed)
        .key(key)
        .file(path)
        .found(format_args!("{count} files, none of them named by a hash"))
        .expected("a file, or a folder with links such as 9d66eef0.0")
        .hint(format!("name a file, or make the links: openssl rehash {}", path.display()))
}

fn parse(name: &str, kind: Kind) -> Option<(u32, u32)> {
    let (hash, number) = name.split_once('.')?;
    let number = match kind {
        Kind::Certificates => number,
        Kind::RevocationLists => number.strip_prefix('r')?,
    };
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    if hash.len() != 8 || !hash.chars().all(hex) || !plain {
        return None;
    }
    Some((u32::from_str_radix(hash, 16).ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_by_their_names() {
        assert_eq!(parse("9d66eef0.0", Kind::Certificates), Some((0x9d66_eef0, 0)));
        assert_eq!(parse("9d66eef0.r12", Kind::RevocationLists), Some((0x9d66_eef0, 12)));
        for name in ["9d66eef0.r0", "9d66eef.0", "9D66EEF0.0", "9d66eef0.", "ca.crt", "9d66eef0.0x"]
        {
            assert_eq!(parse(name, Kind::Certificates), None, "{name}");
        }
    }

    #[test]
    fn numbers_count_from_zero_without_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["00000001.0", "00000001.1", "00000001.3", "00000002.1", "ca.pem"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = entries(folder.path(), "key", Kind::Certificates).unwrap();
        let found: Vec<_> = found.iter().map(|entry| (entry.hash, entry.number)).collect();
        assert_eq!(found, [(1, 0), (1, 1)]);
        let error = entries(folder.path(), "key", Kind::RevocationLists).unwrap_err();
        assert!(error.remedy().contains("openssl rehash"), "{error}");
    }
}
