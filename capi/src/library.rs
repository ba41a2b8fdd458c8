//! Which libskytls this is, and on which OpenSSL it runs.

use std::ffi::{c_char, c_int};
use std::mem;

use skytls::error::{Code, Error};
use skytls::tls::Library;

use crate::error::skytls_error;
use crate::ffi::{copy_text, guard};
use crate::twins;

/// The first number of the version of this header.
pub const SKYTLS_VERSION_MAJOR: u32 = 0;
/// The second one.
pub const SKYTLS_VERSION_MINOR: u32 = 1;
/// The third one.
pub const SKYTLS_VERSION_PATCH: u32 = 0;

/// What is known about the library that was loaded; skytls_library() fills it.
#[repr(C)]
pub struct skytls_library_info {
    /// In: sizeof(struct skytls_library_info). Out: how much of it was filled.
    pub size: usize,
    /// As skytls_version_number().
    pub version: u32,
    /// How many libcryptos the process holds.
    pub openssl_copies: u32,
    /// OpenSSL's own words, such as "OpenSSL 3.0.19 27 Jan 2026".
    pub openssl_version: [c_char; 128],
    /// "linked" for the system's, "vendored" for one built in.
    pub openssl_origin: [c_char; 16],
    /// The openssl.cnf in force.
    pub openssl_configuration: [c_char; 256],
    /// The libcryptos of the process, one a line.
    pub openssl_paths: [c_char; 1024],
}

/// The version of the library: major × 1000000 + minor × 1000 + patch. Compare with
/// SKYTLS_VERSION_NUMBER, which is that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn skytls_version_number() -> u32 {
    SKYTLS_VERSION_MAJOR * 1_000_000 + SKYTLS_VERSION_MINOR * 1000 + SKYTLS_VERSION_PATCH
}

/// The version of the library as text, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn skytls_version() -> *const c_char {
    const TEXT: &[u8] = concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes();
    TEXT.as_ptr().cast()
}

/// Says which OpenSSL is in use, and whether the process holds another one. Initialises OpenSSL if nobody
/// has. Set `info->size` first; a structure of an older header is filled as far as it goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_library(
    info: *mut skytls_library_info,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = || {
        // SAFETY: by the caller's contract.
        let room =
            unsafe { room(info.cast(), mem::offset_of!(skytls_library_info, openssl_version)) }?;
        let library = Library::inspect();
        let copies = twins::copies();
        let mut filled = skytls_library_info {
            size: room.min(size_of::<skytls_library_info>()),
            version: skytls_version_number(),
            openssl_copies: u32::try_from(copies.len()).unwrap_or(u32::MAX),
            openssl_version: [0; 128],
            openssl_origin: [0; 16],
            openssl_configuration: [0; 256],
            openssl_paths: [0; 1024],
        };
        copy_text(&mut filled.openssl_version, &library.version);
        copy_text(&mut filled.openssl_origin, library.origin);
        copy_text(&mut filled.openssl_configuration, &library.configuration.to_string_lossy());
        copy_text(&mut filled.openssl_paths, &copies.join("\n"));
        // SAFETY: `info` has room for `size` bytes, as its caller says there.
        unsafe { fill(info, &filled, filled.size) };
        Ok(())
    };
    // SAFETY: `err` is NULL or writable by the caller's contract.
    unsafe { guard(err, body) }
}

/// The size that a caller has given in the first field of an aged structure.
///
/// # Safety
///
/// `structure` is NULL or points at a structure that starts with its size.
pub(crate) unsafe fn room(structure: *const usize, least: usize) -> Result<usize, Error> {
    // SAFETY: by this function's own contract.
    let room = *unsafe { structure.as_ref() }.ok_or_else(|| crate::ffi::null("structure"))?;
    if room < least {
        return Err(Error::new(Code::BadArgument)
            .key("size")
            .found(room)
            .expected(format_args!("the size of the structure, at least {least}")));
    }
    Ok(room)
}

/// Copies the first `size` bytes of a structure.
///
/// # Safety
///
/// `size` bytes can be written to `to`.
pub(crate) unsafe fn fill<T>(to: *mut T, from: &T, size: usize) {
    let size = size.min(size_of::<T>());
    // SAFETY: the source is a whole T, the target has `size` bytes by this function's own contract, and
    // they do not overlap: the source is a local of the caller.
    unsafe {
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(from).cast::<u8>(), to.cast(), size)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_version_of_the_package() {
        let numbers = [SKYTLS_VERSION_MAJOR, SKYTLS_VERSION_MINOR, SKYTLS_VERSION_PATCH];
        let text = numbers.map(|number| number.to_string()).join(".");
        assert_eq!(text, env!("CARGO_PKG_VERSION"));
        assert_eq!(skytls_version_number(), 1000);
    }
}
