//! The bytes of a source, read once and with bounds.
//!
//! Looks at what the path is before opening it: opening a FIFO would hang, reading a device would
//! not end.

use std::fs;
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
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(Error::new(Code::FileNotRegular)
            .key(key)
            .file(path)
            .found(found)
            .expected("a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::new(Code::FileTooLarge)
            .key(key)
            .file(path)
            .found(format!("{} bytes", metadata.len()))
            .expected(format!("at most {LARGEST} bytes")));
    }
    Ok(bytes)
}
