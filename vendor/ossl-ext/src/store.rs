//! Keys, certificates and revocation lists by URI (`OSSL_STORE(3)`): `file:`, `pkcs11:`, `handle:`.
//!
//! Takes everything a URI stands for. Which of it is meant is the caller's affair.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509Crl};
use openssl_sys as ffi;

use crate::context::Context;

/// What a URI stands for.
#[derive(Default)]
pub struct Objects {
    /// Private keys; of a token, handles that sign there.
    pub keys: Vec<PKey<Private>>,
    /// Certificates.
    pub certificates: Vec<X509>,
    /// Revocation lists.
    pub lists: Vec<X509Crl>,
}

/// Why nothing could be taken.
#[derive(Debug)]
pub struct StoreError {
    /// Whether the passphrase or PIN was asked for.
    pub asked: bool,
    /// Whether something went wrong, as opposed to nothing being there.
    pub failed: bool,
    /// OpenSSL's reasons.
    pub errors: ErrorStack,
}

/// A passphrase or PIN for whoever asks, once: a second question means that it was wrong, and a
/// third wrong answer locks a token.
struct Answer<'a> {
    secret: Option<&'a [u8]>,
    asked: u32,
}

mod raw {
    //! Declarations that openssl-sys does not have, as OpenSSL 3.0's headers give them.
    use super::{c_char, c_int, c_void, ffi};

    pub(super) enum StoreCtx {}
    pub(super) enum StoreInfo {}
    pub(super) enum UiMethod {}

    unsafe extern "C" {
        pub(super) fn OSSL_STORE_open_ex(
            uri: *const c_char,
            ctx: *mut ffi::OSSL_LIB_CTX,
            propq: *const c_char,
            method: *const UiMethod,
            data: *mut c_void,
            params: *const ffi::OSSL_PARAM,
            post: *mut c_void,
            post_data: *mut c_void,
        ) -> *mut StoreCtx;
        pub(super) fn OSSL_STORE_load(store: *mut StoreCtx) -> *mut StoreInfo;
        pub(super) fn OSSL_STORE_eof(store: *mut StoreCtx) -> c_int;
        pub(super) fn OSSL_STORE_error(store: *mut StoreCtx) -> c_int;
        pub(super) fn OSSL_STORE_close(store: *mut StoreCtx) -> c_int;
        pub(super) fn OSSL_STORE_INFO_get_type(info: *const StoreInfo) -> c_int;
        pub(super) fn OSSL_STORE_INFO_get1_PKEY(info: *const StoreInfo) -> *mut ffi::EVP_PKEY;
        pub(super) fn OSSL_STORE_INFO_get1_CERT(info: *const StoreInfo) -> *mut ffi::X509;
        pub(super) fn OSSL_STORE_INFO_get1_CRL(info: *const StoreInfo) -> *mut ffi::X509_CRL;
        pub(super) fn OSSL_STORE_INFO_free(info: *mut StoreInfo);
        pub(super) fn UI_UTIL_wrap_read_pem_callback(
            callback: ffi::pem_password_cb,
            rwflag: c_int,
        ) -> *mut UiMethod;
        pub(super) fn UI_destroy_method(method: *mut UiMethod);
    }

    // store.h
    pub(super) const PKEY: c_int = 4;
    pub(super) const CERT: c_int = 5;
    pub(super) const CRL: c_int = 6;
}

/// Takes what a URI stands for, in a library context. The secret answers the first question for a
/// passphrase or PIN; nobody is ever prompted.
///
/// # Errors
///
/// When the URI cannot be opened, or holds nothing that can be read.
pub fn load(
    context: &'static Context,
    uri: &str,
    secret: Option<&[u8]>,
) -> Result<Objects, StoreError> {
    drop(ErrorStack::get());
    let mut answer = Answer { secret, asked: 0 };
    let Ok(uri) = CString::new(uri) else {
        return Err(StoreError { asked: false, failed: true, errors: ErrorStack::get() });
    };
    let mut objects = Objects::default();
    let mut failed = true;
    // SAFETY: the context lives for ever. The method and `answer` outlive the store, which is closed
    // before the method is destroyed; the callback matches its data. Each info is freed once, after
    // references of our own have been taken out of it.
    unsafe {
        let method = raw::UI_UTIL_wrap_read_pem_callback(Some(reply), 0);
        let store = if method.is_null() {
            ptr::null_mut()
        } else {
            raw::OSSL_STORE_open_ex(
                uri.as_ptr(),
                context.as_ptr(),
                ptr::null(),
                method,
                (&raw mut answer).cast(),
                ptr::null(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        let mut errors = ErrorStack::get();
        if !store.is_null() {
            while raw::OSSL_STORE_eof(store) == 0 {
                let info = raw::OSSL_STORE_load(store);
                if info.is_null() {
                    // Some loaders report an item they cannot read, and go on to the next one.
                    let more = ErrorStack::get();
                    if !more.errors().is_empty() {
                        errors = more;
                        continue;
                    }
                    break;
                }
                objects.take(info);
                raw::OSSL_STORE_INFO_free(info);
            }
            failed = raw::OSSL_STORE_error(store) == 1;
            raw::OSSL_STORE_close(store);
        }
        if !method.is_null() {
            raw::UI_destroy_method(method);
        }
        drop(ErrorStack::get());
        if objects.is_empty() {
            return Err(StoreError { asked: answer.asked > 0, failed, errors });
        }
    }
    Ok(objects)
}

/// A `pem_password_cb(3)` whose data is an [`Answer`].
unsafe extern "C" fn reply(buffer: *mut c_char, size: c_int, _: c_int, data: *mut c_void) -> c_int {
    // SAFETY: `data` is the Answer of `load`, which nobody else touches while the store is open.
    let answer = unsafe { &mut *data.cast::<Answer<'_>>() };
    answer.asked = answer.asked.saturating_add(1);
    let Some(secret) = answer.secret.filter(|_| answer.asked == 1) else { return -1 };
    let (Ok(room), Ok(length)) = (usize::try_from(size), c_int::try_from(secret.len())) else {
        return -1;
    };
    if secret.len() > room {
        return -1;
    }
    // SAFETY: OpenSSL's buffer has room for `size` bytes, and overlaps nothing of ours.
    unsafe { ptr::copy_nonoverlapping(secret.as_ptr(), buffer.cast(), secret.len()) };
    length
}

// === impl Objects ===

impl Objects {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.certificates.is_empty() && self.lists.is_empty()
    }

    /// # Safety
    ///
    /// The info is live.
    unsafe fn take(&mut self, info: *const raw::StoreInfo) {
        // SAFETY: "get1" gives references of our own, of the kind that the info is of.
        unsafe {
            match raw::OSSL_STORE_INFO_get_type(info) {
                raw::PKEY => {
                    let key = raw::OSSL_STORE_INFO_get1_PKEY(info);
                    if !key.is_null() {
                        self.keys.push(PKey::from_ptr(key));
                    }
                }
                raw::CERT => {
                    let certificate = raw::OSSL_STORE_INFO_get1_CERT(info);
                    if !certificate.is_null() {
                        self.certificates.push(X509::from_ptr(certificate));
                    }
                }
                raw::CRL => {
                    let list = raw::OSSL_STORE_INFO_get1_CRL(info);
                    if !list.is_null() {
                        self.lists.push(X509Crl::from_ptr(list));
                    }
                }
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("keys", &self.keys.len())
            .field("certificates", &self.certificates.len())
            .field("lists", &self.lists.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Draft;
    use openssl::symm::Cipher;
    use std::fs;
    use std::path::PathBuf;

    fn plain() -> &'static Context {
        let mut draft = Draft::new().unwrap();
        draft.load("default").unwrap();
        draft.keep()
    }

    fn file(name: &str, bytes: &[u8]) -> (PathBuf, String) {
        let path = std::env::temp_dir().join(format!("ossl-ext-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        let uri = format!("file:{}", path.display());
        (path, uri)
    }

    #[test]
    fn a_file_is_read_by_its_uri_and_decrypted_by_the_secret() {
        let key = PKey::ec_gen("prime256v1").unwrap();
        let pem =
            key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
        let (path, uri) = file("key.pem", &pem);
        let objects = load(plain(), &uri, Some(b"secret")).unwrap();
        assert_eq!(objects.keys.len(), 1);
        assert!(objects.keys[0].public_eq(&key));
        assert!(objects.certificates.is_empty() && objects.lists.is_empty());
        for wrong in [None, Some(&b"wrong"[..]), Some(&[b'x'; 5000][..])] {
            let error = load(plain(), &uri, wrong).unwrap_err();
            assert!(error.asked && error.failed, "{error:?}");
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_not_there_is_an_error_without_a_question() {
        for uri in ["file:/nonexistent/key.pem", "no-such-scheme:x", "a\0b"] {
            let error = load(plain(), uri, Some(b"secret")).unwrap_err();
            assert!(!error.asked, "{uri:?}: {error:?}");
        }
        let (path, uri) = file("noise", b"noise");
        assert!(load(plain(), &uri, None).is_err());
        fs::remove_file(path).unwrap();
    }
}
