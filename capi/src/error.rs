//! The error object: what a failure was, for programs and for people.

use std::error::Error as StdError;
use std::ffi::{CString, c_char, c_int};
use std::ptr;

use skytls::error::{Chain, Code, Error, Fact, Kind};

use crate::ffi::{c_string, guard_value, guard_void, text};

/// No error.
pub const SKYTLS_OK: c_int = 0;
/// SKT-801: there was no room for the record; try again later, or count it as lost.
pub const SKYTLS_QUEUE_FULL: c_int = 801;
/// SKT-802: the agent has been stopped.
pub const SKYTLS_STOPPED: c_int = 802;
/// SKT-830: the agent has not been started.
pub const SKYTLS_NOT_STARTED: c_int = 830;
/// SKT-831: a pointer that must not be NULL is.
pub const SKYTLS_NULL_ARGUMENT: c_int = 831;
/// SKT-832: an argument has a value that it cannot have.
pub const SKYTLS_BAD_ARGUMENT: c_int = 832;
/// SKT-833: the function must not be called from a callback.
pub const SKYTLS_IN_CALLBACK: c_int = 833;
/// SKT-834: the agent runs already, and the call only makes sense before.
pub const SKYTLS_ALREADY_STARTED: c_int = 834;
/// SKT-835: the deadline is over and records are still pending.
pub const SKYTLS_STILL_PENDING: c_int = 835;
/// SKT-970: a bug of skytls.
pub const SKYTLS_BUG: c_int = 970;

/// An error. Made by a function that fails and was given a place for it; freed by skytls_error_free().
/// It never changes, so any number of threads may read it. Strings belong to it.
pub struct skytls_error {
    code: Code,
    name: CString,
    kind: CString,
    stage: CString,
    text: CString,
    message: CString,
    hint: CString,
    reason: Option<CString>,
    facts: Vec<(Fact, CString)>,
}

const FACTS: [(&str, Fact); 6] = [
    ("key", Fact::Key),
    ("file", Fact::File),
    ("line", Fact::Line),
    ("peer", Fact::Peer),
    ("found", Fact::Found),
    ("expected", Fact::Expected),
];

// === impl skytls_error ===

impl skytls_error {
    pub(crate) fn new(error: &Error) -> Self {
        let word = |debug: String| c_string(&debug.to_lowercase());
        let fact = |fact| error.get(fact).map(|value| (fact, c_string(value)));
        Self {
            code: error.code(),
            name: c_string(&error.id()),
            kind: word(format!("{:?}", error.kind())),
            stage: word(format!("{:?}", error.stage())),
            text: c_string(&error.to_string()),
            message: c_string(&Chain(error).to_string()),
            hint: c_string(error.remedy()),
            reason: openssl_reason(error).map(|reason| c_string(&reason)),
            facts: FACTS.iter().filter_map(|&(_, name)| fact(name)).collect(),
        }
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> String {
        self.message.to_string_lossy().into_owned()
    }

    fn fact(&self, name: &str) -> Option<&CString> {
        let &(_, wanted) = FACTS.iter().find(|(word, _)| *word == name)?;
        self.facts.iter().find(|(fact, _)| *fact == wanted).map(|(_, value)| value)
    }
}

/// Whether the same call may succeed later without anybody changing anything.
fn is_retriable(code: Code) -> bool {
    match code {
        Code::Stopped | Code::NotStarted => false,
        Code::HandshakeTimedOut | Code::HandshakeClosed | Code::StillPending => true,
        _ => matches!(code.kind(), Kind::Network | Kind::Backend),
    }
}

/// OpenSSL's own words for what went wrong, if it was OpenSSL that found it.
fn openssl_reason(error: &Error) -> Option<String> {
    let mut next = error.source();
    while let Some(source) = next {
        let stack = source.downcast_ref::<openssl::error::ErrorStack>().or_else(|| {
            source.downcast_ref::<openssl::ssl::Error>().and_then(openssl::ssl::Error::ssl_error)
        });
        if let Some(reason) = stack.and_then(|stack| stack.errors().first()?.reason()) {
            return Some(reason.to_owned());
        }
        next = source.source();
    }
    None
}

/// The number of an error, such as 801; SKYTLS_OK for NULL. Numbers are frozen: docs/errors.md lists
/// them, and one that is retired is never used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_code(error: *const skytls_error) -> c_int {
    // SAFETY: NULL, or an error of ours that is still there.
    guard_value(SKYTLS_BUG, || match unsafe { error.as_ref() } {
        Some(error) => c_int::from(error.code.number()),
        None => SKYTLS_OK,
    })
}

/// The id of an error, such as "SKT-801"; empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_name(error: *const skytls_error) -> *const c_char {
    // SAFETY: as the caller's contract says.
    unsafe { string(error, |error| Some(&error.name)) }
}

/// Whose fault it is: "settings", "material", "machine", "network", "tls", "backend", "loss", "usage" or
/// "bug"; empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_kind(error: *const skytls_error) -> *const c_char {
    // SAFETY: as the caller's contract says.
    unsafe { string(error, |error| Some(&error.kind)) }
}

/// Where on the way it happened: "settings", "files", "openssl", "dns", "tcp", "tls", "certificate",
/// "alpn", "http2", "grpc", "uplink", …; empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_stage(error: *const skytls_error) -> *const c_char {
    // SAFETY: as the caller's contract says.
    unsafe { string(error, |error| Some(&error.stage)) }
}

/// What went wrong, as one clause with its facts; empty for NULL. The wording may change.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_text(error: *const skytls_error) -> *const c_char {
    // SAFETY: as the caller's contract says.
    unsafe { string(error, |error| Some(&error.text)) }
}

/// Everything on one line, as the logs have it: id, text, the causes underneath, and what to do.
/// Empty for NULL. Never holds a key, a token or a passphrase.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_message(error: *const skytls_error) -> *const c_char {
    // SAFETY: as the caller's contract says.
    unsafe { string(error, |error| Some(&error.message)) }
}

/// What to do about it; empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_hint(error: *const skytls_error) -> *const c_char {
    // SAFETY: as the caller's contract says.
    unsafe { string(error, |error| Some(&error.hint)) }
}

/// Whether the same call may succeed later without anybody changing anything: 1 or 0; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_retriable(error: *const skytls_error) -> c_int {
    // SAFETY: NULL, or an error of ours that is still there.
    guard_value(0, || unsafe { error.as_ref() }.map_or(0, |error| is_retriable(error.code).into()))
}

/// The reason that OpenSSL gave, such as "certificate verify failed"; NULL if it gave none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_openssl_reason(error: *const skytls_error) -> *const c_char {
    guard_value(ptr::null(), || {
        // SAFETY: NULL, or an error of ours that is still there.
        unsafe { error.as_ref() }
            .and_then(|error| error.reason.as_ref())
            .map_or(ptr::null(), |reason| reason.as_ptr())
    })
}

/// A fact that the error carries: "key", "file", "line", "peer", "found" or "expected"; NULL if it
/// carries no such fact.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_fact(
    error: *const skytls_error,
    name: *const c_char,
) -> *const c_char {
    guard_value(ptr::null(), || {
        // SAFETY: NULL, or an error of ours that is still there.
        let Some(error) = (unsafe { error.as_ref() }) else { return ptr::null() };
        // SAFETY: NULL or a C string, by the caller's contract.
        let Ok(name) = (unsafe { text(name, "name") }) else { return ptr::null() };
        error.fact(name).map_or(ptr::null(), |value| value.as_ptr())
    })
}

/// Frees an error; NULL is nothing to free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_error_free(error: *mut skytls_error) {
    guard_void(|| {
        if !error.is_null() {
            // SAFETY: errors are handed out as boxes, and each may be freed once.
            drop(unsafe { Box::from_raw(error) });
        }
    });
}

/// A string of an error, or the empty one.
///
/// # Safety
///
/// `error` is NULL or an error of ours that is still there.
unsafe fn string<'a>(
    error: *const skytls_error,
    choose: impl FnOnce(&'a skytls_error) -> Option<&'a CString>,
) -> *const c_char {
    guard_value(c"".as_ptr(), || {
        // SAFETY: by this function's own contract.
        unsafe { error.as_ref() }.and_then(choose).map_or(c"".as_ptr(), |text| text.as_ptr())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_header_are_the_catalogues() {
        for (number, code) in [
            (SKYTLS_QUEUE_FULL, Code::QueueFull),
            (SKYTLS_STOPPED, Code::Stopped),
            (SKYTLS_NOT_STARTED, Code::NotStarted),
            (SKYTLS_NULL_ARGUMENT, Code::NullArgument),
            (SKYTLS_BAD_ARGUMENT, Code::BadArgument),
            (SKYTLS_IN_CALLBACK, Code::InCallback),
            (SKYTLS_ALREADY_STARTED, Code::AlreadyStarted),
            (SKYTLS_STILL_PENDING, Code::StillPending),
            (SKYTLS_BUG, Code::Bug),
        ] {
            assert_eq!(number, c_int::from(code.number()));
        }
    }

    #[test]
    fn what_may_pass_by_itself_is_retriable() {
        for code in [Code::QueueFull, Code::ConnectRefused, Code::CallFailed, Code::StillPending] {
            assert!(is_retriable(code), "{code}");
        }
        for code in [Code::Stopped, Code::BadValue, Code::CertificateUntrusted, Code::Bug] {
            assert!(!is_retriable(code), "{code}");
        }
    }
}
