//! The bytes of a source, read once and with bounds.
//!
//! Looks at what the path is before opening it: opening a FIFO would hang, reading a device would
//! not end.

use std::fmt::Display;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::config::Source;
use crate::error::{Code, Error, Result};

/// A bundle of all public CAs is about 220 KiB.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Reads a source; `key` is the setting that named it.
pub(super) fn bytes(source: &Source, key: &str) -> Result<Vec<u8>> {
    let bytes = match source {
        Source::File(path) => file(path, key)?,
        Source::Bytes(bytes) => bytes.expose().clone(),
        // URIs are loaded by OpenSSL's store; whoever reads bytes has no use for them.
        Source::Uri(_) => {
            return Err(Error::new(Code::BadValue)
                .key(key)
                .found(source)
                .expected("the path of a file"));
        }
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::new(Code::FileEmpty)
            .key(key)
            .file(source.to_string())
            .found("no content")
            .expected("PEM or DER"));
    }
    Ok(bytes)
}

fn file(path: &Path, key: &str) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| {
        let code = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Code::FileMissing,
            _ => Code::FileUnreadable,
        };
        Error::new(code).key(key).file(path).expected("a file that can be read").because(error)
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    bounded(&metadata, key, path.display())?;
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        // It has grown meanwhile.
        return Err(too_large(bytes.len() as u64, key, path.display()));
    }
    Ok(bytes)
}

/// For a file that OpenSSL opens by itself, and how it is shown: whether reading it has an end. One
/// that is not there is OpenSSL's to tell.
pub(super) fn has_end(path: &Path, key: &str, shown: impl Display) -> Result<()> {
    fs::metadata(path).map_or(Ok(()), |metadata| bounded(&metadata, key, shown))
}

fn bounded(metadata: &Metadata, key: &str, shown: impl Display) -> Result<()> {
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(Error::new(Code::FileNotRegular)
            .key(key)
            .file(shown.to_string())
            .found(found)
            .expected("a regular file"));
    }
    if metadata.len() > LARGEST { Err(too_large(metadata.len(), key, shown)) } else { Ok(()) }
}

fn too_large(bytes: u64, key: &str, shown: impl Display) -> Error {
    Error::new(Code::FileTooLarge)
        .key(key)
        .file(shown.to_string())
        .found(format!("{bytes} bytes"))
        .expected(format!("at most {LARGEST} bytes"))
}
