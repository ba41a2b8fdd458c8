//! The boundary: pointers become references or errors, panics become errors, strings become C's.
//!
//! Every exported function has its body in [`guard`], [`guard_void`] or [`guard_value`].

use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use skytls::error::{Code, Error, Result};

use crate::error::skytls_error;

/// Runs a body; gives 0, or the number of the error, which is also written to `err` unless that is NULL.
///
/// # Safety
///
/// `err` is NULL or points at a pointer that may be overwritten.
pub(crate) unsafe fn guard(
    err: *mut *mut skytls_error,
    body: impl FnOnce() -> Result<()>,
) -> c_int {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(panic) => Error::new(Code::Bug).found(words(&*panic)),
    };
    let number = c_int::from(error.code().number());
    if !err.is_null() {
        let error = Box::new(skytls_error::new(&error));
        // SAFETY: not NULL, and the caller may not hand in anything but a writable pointer.
        unsafe { err.write(Box::into_raw(error)) };
    }
    number
}

/// As [`guard`], for a body that works on an object of this library.
///
/// # Safety
///
/// As of [`guard`] and [`object`].
pub(crate) unsafe fn guard_on<T>(
    pointer: *const T,
    name: &str,
    err: *mut *mut skytls_error,
    body: impl FnOnce(&T) -> Result<()>,
) -> c_int {
    // SAFETY: by this function's own contract.
    unsafe { guard(err, || body(object(pointer, name)?)) }
}

/// Runs a body whose failure nobody can be told.
pub(crate) fn guard_void(body: impl FnOnce()) {
    // A panic here has been a bug of ours, and the host goes on.
    let _ = catch_unwind(AssertUnwindSafe(body));
}

/// Runs a body that gives a value, and gives `otherwise` in its place after a panic.
pub(crate) fn guard_value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// The object behind a pointer.
///
/// # Safety
///
/// `pointer` is NULL, or comes from this library and has not been freed.
pub(crate) unsafe fn object<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: by this function's own contract. Objects that are changed from several threads do so
    // behind locks, so a shared reference is enough.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// The text behind a pointer.
///
/// # Safety
///
/// `pointer` is NULL or a string that ends in NUL and does not change for `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: by this function's own contract.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| {
        Error::new(Code::BadArgument).key(name).found("other bytes").expected("UTF-8 text")
    })
}

/// The bytes behind a pointer; NULL with length 0 is no bytes.
///
/// # Safety
///
/// `pointer` is NULL, or `len` bytes can be read there that do not change for `'a`.
pub(crate) unsafe fn bytes<'a>(pointer: *const u8, len: usize, name: &str) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(name));
    }
    if len > isize::MAX as usize {
        return Err(Error::new(Code::BadArgument).key(name).found("a length that nothing has"));
    }
    // SAFETY: not NULL, of a possible length, readable by this function's own contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Writes a result to where the caller wants it.
///
/// # Safety
///
/// `out` is NULL or may be written.
pub(crate) unsafe fn give<T>(out: *mut T, name: &str, value: T) -> Result<()> {
    if out.is_null() {
        return Err(null(name));
    }
    // SAFETY: not NULL; writable by this function's own contract. What was there is not dropped: it is
    // C's, and may be anything.
    unsafe { out.write(value) };
    Ok(())
}

/// The error of a pointer that must not be NULL.
pub(crate) fn null(name: &str) -> Error {
    Error::new(Code::NullArgument).key(name)
}

/// A text for C: a NUL inside it ends it.
pub(crate) fn c_string(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}

/// Copies as much of a text as fits, whole characters only, and ends it.
pub(crate) fn copy_text(field: &mut [c_char], text: &str) {
    let Some(room) = field.len().checked_sub(1) else { return };
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    field.fill(0);
    for (to, from) in field.iter_mut().zip(text[..end].bytes()) {
        // The bytes as they are, whether C's char has a sign or not.
        *to = c_char::from_ne_bytes([from]);
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn a_panic_becomes_an_error() {
        let mut err = ptr::null_mut();
        // SAFETY: `err` is a local that outlives the call.
        let number = unsafe { guard(&raw mut err, || panic!("this test wants it so")) };
        assert_eq!(number, 970);
        // SAFETY: `guard` has put a box there, and nobody else has it.
        let error = unsafe { Box::from_raw(err) };
        assert!(error.message().contains("this test wants it so"), "{}", error.message());
        assert_eq!(guard_value(7, || panic!("and this one")), 7);
        guard_void(|| panic!("and the third"));
    }

    #[test]
    fn success_leaves_the_error_alone() {
        let mut err = ptr::dangling_mut();
        // SAFETY: as above.
        assert_eq!(unsafe { guard(&raw mut err, || Ok(())) }, 0);
        assert_eq!(err, ptr::dangling_mut());
    }

    #[test]
    fn text_is_cut_between_characters() {
        let mut field = [1; 4];
        copy_text(&mut field, "aaé");
        assert_eq!(field, [97, 97, 0, 0]);
        copy_text(&mut field, "");
        assert_eq!(field, [0; 4]);
        copy_text(&mut [], "x");
    }
}
