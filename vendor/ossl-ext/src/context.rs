//! Library contexts of one's own (`OSSL_LIB_CTX(3)`): their providers, and the objects made in them.
//!
//! Which providers belong there, and what their answers prove, is the caller's affair. Objects made
//! in a context point into it for as long as they live; so a context that may make any lives for
//! ever. A [`Draft`] makes none, and can be thrown away.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_long, c_uint, c_void};
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::ssl::{SslContextBuilder, SslMethod};
use openssl::x509::{X509, X509Crl, X509CrlRef, X509Ref};
use openssl_sys as ffi;

/// A library context that is shown, or that lives for ever.
pub struct Context(NonNull<ffi::OSSL_LIB_CTX>);

/// A library context that is being set up; freed with everything in it unless it is kept.
pub struct Draft {
    context: Context,
    /// What was loaded by name; what a configuration activates belongs to the context.
    loaded: Vec<NonNull<ffi::OSSL_PROVIDER>>,
}

/// An active provider as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderInfo {
    /// The name it was loaded by.
    pub id: String,
    /// Such as `OpenSSL FIPS Provider`.
    pub name: String,
    /// Such as `3.1.2`.
    pub version: String,
    /// What it was built from.
    pub build: String,
    /// Whether it says that it works: the FIPS provider in its error state says no.
    pub running: bool,
}

/// Which side a context is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A client's.
    Client,
    /// A server's.
    Server,
}

mod raw {
    //! Declarations that openssl-sys does not have, as OpenSSL 3.0's headers give them.
    use super::{c_char, c_int, c_long, c_uint, c_void, ffi};

    pub(super) enum EvpKeymgmt {}
    pub(super) enum EvpRandCtx {}
    pub(super) enum EvpRand {}

    /// `OSSL_DISPATCH`; a list of them ends with the number 0.
    #[repr(C)]
    pub(super) struct Dispatch {
        pub(super) number: c_int,
        pub(super) function: Option<unsafe extern "C" fn()>,
    }

    pub(super) type EachProvider =
        unsafe extern "C" fn(provider: *mut ffi::OSSL_PROVIDER, data: *mut c_void) -> c_int;

    unsafe extern "C" {
        pub(super) fn OSSL_PROVIDER_available(
            ctx: *mut ffi::OSSL_LIB_CTX,
            name: *const c_char,
        ) -> c_int;
        pub(super) fn OSSL_PROVIDER_self_test(prov: *const ffi::OSSL_PROVIDER) -> c_int;
        pub(super) fn OSSL_PROVIDER_get_params(
            prov: *const ffi::OSSL_PROVIDER,
            params: *mut ffi::OSSL_PARAM,
        ) -> c_int;
        pub(super) fn OSSL_PROVIDER_get0_name(prov: *const ffi::OSSL_PROVIDER) -> *const c_char;
        pub(super) fn OSSL_PROVIDER_get0_dispatch(
            prov: *const ffi::OSSL_PROVIDER,
        ) -> *const Dispatch;
        pub(super) fn OSSL_PROVIDER_do_all(
            ctx: *mut ffi::OSSL_LIB_CTX,
            each: Option<EachProvider>,
            data: *mut c_void,
        ) -> c_int;
        pub(super) fn OSSL_PARAM_construct_utf8_ptr(
            key: *const c_char,
            buf: *mut *mut c_char,
            bsize: usize,
        ) -> ffi::OSSL_PARAM;
        pub(super) fn EVP_MD_get0_provider(md: *const ffi::EVP_MD) -> *const ffi::OSSL_PROVIDER;
        pub(super) fn EVP_PKEY_get0_provider(
            key: *const ffi::EVP_PKEY,
        ) -> *const ffi::OSSL_PROVIDER;
        pub(super) fn EVP_KEYMGMT_fetch(
            ctx: *mut ffi::OSSL_LIB_CTX,
            algorithm: *const c_char,
            properties: *const c_char,
        ) -> *mut EvpKeymgmt;
        pub(super) fn EVP_KEYMGMT_free(keymgmt: *mut EvpKeymgmt);
        pub(super) fn RAND_get0_public(ctx: *mut ffi::OSSL_LIB_CTX) -> *mut EvpRandCtx;
        pub(super) fn RAND_get0_private(ctx: *mut ffi::OSSL_LIB_CTX) -> *mut EvpRandCtx;
        pub(super) fn EVP_RAND_CTX_get0_rand(ctx: *mut EvpRandCtx) -> *mut EvpRand;
        pub(super) fn EVP_RAND_get0_provider(rand: *const EvpRand) -> *const ffi::OSSL_PROVIDER;
        pub(super) fn SSL_CTX_new_ex(
            ctx: *mut ffi::OSSL_LIB_CTX,
            propq: *const c_char,
            method: *const ffi::SSL_METHOD,
        ) -> *mut ffi::SSL_CTX;
        pub(super) fn X509_new_ex(
            ctx: *mut ffi::OSSL_LIB_CTX,
            propq: *const c_char,
        ) -> *mut ffi::X509;
        pub(super) fn i2d_X509_AUX(x: *const ffi::X509, out: *mut *mut u8) -> c_int;
        pub(super) fn d2i_X509_AUX(
            x: *mut *mut ffi::X509,
            from: *mut *const u8,
            length: c_long,
        ) -> *mut ffi::X509;
        pub(super) fn X509_CRL_new_ex(
            ctx: *mut ffi::OSSL_LIB_CTX,
            propq: *const c_char,
        ) -> *mut ffi::X509_CRL;
        pub(super) fn CRYPTO_free(what: *mut c_void, file: *const c_char, line: c_int);
    }

    // evp.h: both parts of a key and its parameters.
    pub(super) const EVP_PKEY_KEYPAIR: c_int = 0x87;
    // core_names.h
    pub(super) const NAME: &std::ffi::CStr = c"name";
    pub(super) const VERSION: &std::ffi::CStr = c"version";
    pub(super) const BUILDINFO: &std::ffi::CStr = c"buildinfo";
    pub(super) const STATUS: &std::ffi::CStr = c"status";

    pub(super) type Number = c_uint;
}

/// Every context that was kept.
static KEPT: Mutex<Vec<&'static Context>> = Mutex::new(Vec::new());

/// Text as a C string; an error with a NUL inside, which no name or path of OpenSSL's has.
fn c_string(text: impl Into<Vec<u8>>) -> Result<CString, ErrorStack> {
    CString::new(text).map_err(|_| ErrorStack::get())
}

// === impl Draft ===

impl Draft {
    /// A context without providers (`OSSL_LIB_CTX_new(3)`): the first use of an algorithm would
    /// load OpenSSL's default one, unless a provider has been loaded before.
    pub fn new() -> Result<Self, ErrorStack> {
        openssl::init();
        // SAFETY: the call takes nothing; the result is owned by the Draft from here on.
        let context = unsafe { ffi::OSSL_LIB_CTX_new() };
        let context = Context(NonNull::new(context).ok_or_else(ErrorStack::get)?);
        Ok(Self { context, loaded: Vec::new() })
    }

    /// Where modules are looked for (`OSSL_PROVIDER_set_default_search_path(3)`).
    pub fn search(&mut self, folder: &Path) -> Result<(), ErrorStack> {
        use std::os::unix::ffi::OsStrExt;
        let folder = c_string(folder.as_os_str().as_bytes())?;
        // SAFETY: the context is live; the path is NUL-terminated and copied by the call.
        let set = unsafe {
            ffi::OSSL_PROVIDER_set_default_search_path(self.context.as_ptr(), folder.as_ptr())
        };
        if set == 1 { Ok(()) } else { Err(ErrorStack::get()) }
    }

    /// Applies the text of a configuration to this context alone (`CONF_modules_load(3)`). Its
    /// `ssl_conf` would reach every context: leave it out.
    pub fn configure(&mut self, text: &str) -> Result<(), ErrorStack> {
        drop(ErrorStack::get());
        // SAFETY: the context is live, and stays so during the call.
        unsafe { crate::conf::load_text(self.context.as_ptr(), text) }
    }

    /// Loads a provider by name (`OSSL_PROVIDER_load(3)`), with the parameters that a configuration
    /// has given it.
    pub fn load(&mut self, provider: &str) -> Result<(), ErrorStack> {
        drop(ErrorStack::get());
        let name = c_string(provider)?;
        // SAFETY: the context is live and the name NUL-terminated; the result is unloaded once.
        let provider = unsafe { ffi::OSSL_PROVIDER_load(self.context.as_ptr(), name.as_ptr()) };
        self.loaded.push(NonNull::new(provider).ok_or_else(ErrorStack::get)?);
        Ok(())
    }

    /// Takes back every [`load`](Self::load) (`OSSL_PROVIDER_unload(3)`).
    pub fn unload(&mut self) {
        for provider in self.loaded.drain(..) {
            // SAFETY: it came from OSSL_PROVIDER_load, and is taken out of the list, so unloaded once.
            unsafe { ffi::OSSL_PROVIDER_unload(provider.as_ptr()) };
        }
    }

    /// Makes `fips=yes` the default of everything that is fetched
    /// (`EVP_default_properties_enable_fips(3)`).
    pub fn ask_for_fips(&mut self) -> Result<(), ErrorStack> {
        // SAFETY: the context is live.
        let set = unsafe { ffi::EVP_default_properties_enable_fips(self.context.as_ptr(), 1) };
        if set == 1 { Ok(()) } else { Err(ErrorStack::get()) }
    }

    /// Keeps the context for ever, so that objects can be made in it. It is never freed: keep few.
    pub fn keep(mut self) -> &'static Context {
        // The context holds on to its providers by itself; the handles are given up.
        drop(std::mem::take(&mut self.loaded));
        let context = Context(self.context.0);
        std::mem::forget(self);
        let context: &'static Context = Box::leak(Box::new(context));
        // So that it can be told from a leak.
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(context);
        context
    }
}

impl Deref for Draft {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.unload();
        // SAFETY: it came from OSSL_LIB_CTX_new and is freed once. No object can point into it: the
        // calls that make any need a context that lives for ever.
        unsafe { ffi::OSSL_LIB_CTX_free(self.context.as_ptr()) }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").finish_non_exhaustive()
    }
}

// === impl Context: questions ===

// SAFETY: an OSSL_LIB_CTX guards all of its data by locks of its own, and may be used by every thread.
unsafe impl Send for Context {}
// SAFETY: see above.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn as_ptr(&self) -> *mut ffi::OSSL_LIB_CTX {
        self.0.as_ptr()
    }

    /// The active providers (`OSSL_PROVIDER_do_all(3)`).
    pub fn providers(&self) -> Vec<ProviderInfo> {
        let mut found = Vec::new();
        // SAFETY: the closure gets live providers.
        self.each(&mut |provider| found.push(unsafe { describe(provider) }));
        found
    }

    /// Whether a provider is active (`OSSL_PROVIDER_available(3)`).
    pub fn is_available(&self, provider: &str) -> bool {
        let Ok(name) = c_string(provider) else { return false };
        // SAFETY: the context is live and the name NUL-terminated.
        unsafe { raw::OSSL_PROVIDER_available(self.as_ptr(), name.as_ptr()) == 1 }
    }

    /// Has an active provider test itself anew (`OSSL_PROVIDER_self_test(3)`). A FIPS provider that
    /// fails works for nobody in this process any longer: that is what it is for.
    pub fn self_test(&self, provider: &str) -> bool {
        let mut passed = None;
        self.each(&mut |candidate| {
            // SAFETY: a live provider, whose name is NUL-terminated.
            unsafe {
                if CStr::from_ptr(raw::OSSL_PROVIDER_get0_name(candidate)).to_bytes()
                    == provider.as_bytes()
                {
                    passed = Some(raw::OSSL_PROVIDER_self_test(candidate) == 1);
                }
            }
        });
        passed.unwrap_or(false)
    }

    /// The file that the code of an active provider came from, by the name that it was opened by
    /// (`OSSL_PROVIDER_get0_dispatch(3)`, `dladdr(3)`): whatever a configuration says, this is what was
    /// loaded. `None` where that cannot be told.
    pub fn module(&self, provider: &str) -> Option<PathBuf> {
        let mut found = None;
        self.each(&mut |candidate| {
            // SAFETY: a live provider, whose name is NUL-terminated.
            let name = unsafe { CStr::from_ptr(raw::OSSL_PROVIDER_get0_name(candidate)) };
            if name.to_bytes() == provider.as_bytes() {
                // SAFETY: the provider is live.
                found = unsafe { file_of(candidate) };
            }
        });
        found
    }

    /// Whether the default properties ask for FIPS; a string, not a proof
    /// (`EVP_default_properties_is_fips_enabled(3)`).
    pub fn asks_for_fips(&self) -> bool {
        // SAFETY: the context is live.
        unsafe { ffi::EVP_default_properties_is_fips_enabled(self.as_ptr()) == 1 }
    }

    /// Which provider serves a digest by default; `None` if nobody does (`EVP_MD_fetch(3)`).
    pub fn digest_provider(&self, algorithm: &str) -> Option<String> {
        let algorithm = c_string(algorithm).ok()?;
        // SAFETY: the context is live and the name NUL-terminated; what is fetched is freed here,
        // after the name of its provider has been copied.
        unsafe {
            let digest = ffi::EVP_MD_fetch(self.as_ptr(), algorithm.as_ptr(), ptr::null());
            let name = (!digest.is_null()).then(|| name_of(raw::EVP_MD_get0_provider(digest)));
            ffi::EVP_MD_free(digest);
            drop(ErrorStack::get());
            name.flatten()
        }
    }

    /// Whether keys of a type can be used by default (`EVP_KEYMGMT_fetch(3)`).
    pub fn has_key_type(&self, algorithm: &str) -> bool {
        let Ok(algorithm) = c_string(algorithm) else { return false };
        // SAFETY: as above; NULL may be freed.
        unsafe {
            let keys = raw::EVP_KEYMGMT_fetch(self.as_ptr(), algorithm.as_ptr(), ptr::null());
            raw::EVP_KEYMGMT_free(keys);
            drop(ErrorStack::get());
            !keys.is_null()
        }
    }

    /// Which provider the random generators of this thread are of, the public one and the private
    /// one (`RAND_get0_public(3)`); `None` if they are not of the same, or cannot be set up.
    pub fn random_provider(&self) -> Option<String> {
        // SAFETY: the context is live; generators belong to it and to this thread, and are only
        // looked at.
        unsafe {
            let provider = |generator: *mut raw::EvpRandCtx| {
                if generator.is_null() {
                    return None;
                }
                name_of(raw::EVP_RAND_get0_provider(raw::EVP_RAND_CTX_get0_rand(generator)))
            };
            let public = provider(raw::RAND_get0_public(self.as_ptr()));
            let private = provider(raw::RAND_get0_private(self.as_ptr()));
            drop(ErrorStack::get());
            public.filter(|public| private.as_ref() == Some(public))
        }
    }

    fn each(&self, visit: &mut dyn FnMut(*mut ffi::OSSL_PROVIDER)) {
        unsafe extern "C" fn call(provider: *mut ffi::OSSL_PROVIDER, data: *mut c_void) -> c_int {
            // SAFETY: `data` points at the reference below, which outlives the call of do_all.
            let visit = unsafe { &mut *data.cast::<&mut dyn FnMut(*mut ffi::OSSL_PROVIDER)>() };
            // A panic must not unwind into OpenSSL.
            c_int::from(catch_unwind(AssertUnwindSafe(|| visit(provider))).is_ok())
        }
        let mut visit = visit;
        // SAFETY: the context is live; the callback matches its data.
        unsafe {
            raw::OSSL_PROVIDER_do_all(self.as_ptr(), Some(call), (&raw mut visit).cast());
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

// === impl Context: objects ===

impl Context {
    /// A TLS context whose every algorithm comes from here (`SSL_CTX_new_ex(3)`). The policy of
    /// `openssl.cnf`, which is process-wide, is applied to it as to any other.
    pub fn ssl_context(&'static self, method: Method) -> Result<SslContextBuilder, ErrorStack> {
        let method = match method {
            Method::Client => SslMethod::tls_client(),
            Method::Server => SslMethod::tls_server(),
        };
        // SAFETY: the library context lives for ever, the method is static; the builder takes the
        // result over.
        unsafe {
            let context = raw::SSL_CTX_new_ex(self.as_ptr(), ptr::null(), method.as_ptr());
            if context.is_null() {
                return Err(ErrorStack::get());
            }
            Ok(SslContextBuilder::from_ptr(context))
        }
    }

    /// The same certificate, trust settings included, as an object of this context: whatever its
    /// key and signature are used for happens here (`X509_new_ex(3)`).
    pub fn adopt(&'static self, certificate: &X509Ref) -> Result<X509, ErrorStack> {
        let mut der: *mut u8 = ptr::null_mut();
        // SAFETY: the certificate is live; OpenSSL allocates the output and says its length.
        let length = unsafe { raw::i2d_X509_AUX(certificate.as_ptr(), &raw mut der) };
        if length < 0 || der.is_null() {
            return Err(ErrorStack::get());
        }
        let mut from = der.cast_const();
        // SAFETY: the context lives for ever. d2i fills the object that `made` points at, and sets
        // `made` to NULL when it has freed it because of an error. `der` is freed once, at the end.
        unsafe {
            let mut made = raw::X509_new_ex(self.as_ptr(), ptr::null());
            let filled = if made.is_null() {
                ptr::null_mut()
            } else {
                raw::d2i_X509_AUX(&raw mut made, &raw mut from, c_long::from(length))
            };
            let result = if filled.is_null() {
                let error = ErrorStack::get();
                ffi::X509_free(made);
                Err(error)
            } else {
                Ok(X509::from_ptr(filled))
            };
            raw::CRYPTO_free(der.cast(), c"".as_ptr(), 0);
            result
        }
    }

    /// The same revocation list as an object of this context.
    pub fn adopt_crl(&'static self, list: &X509CrlRef) -> Result<X509Crl, ErrorStack> {
        let der = list.to_der()?;
        let length = c_long::try_from(der.len()).map_err(|_| ErrorStack::get())?;
        let mut from = der.as_ptr();
        // SAFETY: as in `adopt`; `der` outlives the call.
        unsafe {
            let mut made = raw::X509_CRL_new_ex(self.as_ptr(), ptr::null());
            if made.is_null() {
                return Err(ErrorStack::get());
            }
            let filled = ffi::d2i_X509_CRL(&raw mut made, &raw mut from, length);
            if filled.is_null() {
                let error = ErrorStack::get();
                ffi::X509_CRL_free(made);
                return Err(error);
            }
            Ok(X509Crl::from_ptr(filled))
        }
    }

    /// Reads a private key, one PEM block or DER, and decrypts PKCS#8 here (`OSSL_DECODER(3)`). Never
    /// prompts.
    ///
    /// `PEM_read_bio_PrivateKey_ex` would not do: what the context cannot decrypt, it decrypts in the
    /// default one. Traditional encryption (`DEK-Info`) is done there by every reader.
    pub fn private_key(
        &'static self,
        bytes: &[u8],
        passphrase: &[u8],
    ) -> Result<PKey<Private>, ErrorStack> {
        drop(ErrorStack::get());
        let mut key: *mut ffi::EVP_PKEY = ptr::null_mut();
        let (mut from, mut length) = (bytes.as_ptr(), bytes.len());
        // SAFETY: the context lives for ever, `key` outlives the decoder, which is freed here, and
        // `bytes` and `passphrase` outlive the calls (the passphrase is copied). A non-NULL key is
        // our own, which the PKey takes over.
        unsafe {
            let decoder = ffi::OSSL_DECODER_CTX_new_for_pkey(
                &raw mut key,
                ptr::null(),
                ptr::null(),
                ptr::null(),
                raw::EVP_PKEY_KEYPAIR,
                self.as_ptr(),
                ptr::null(),
            );
            if decoder.is_null() {
                return Err(ErrorStack::get());
            }
            let phrase = (passphrase.as_ptr(), passphrase.len());
            let read = ffi::OSSL_DECODER_CTX_set_passphrase(decoder, phrase.0, phrase.1) == 1
                && ffi::OSSL_DECODER_from_data(decoder, &raw mut from, &raw mut length) == 1;
            let errors = ErrorStack::get();
            ffi::OSSL_DECODER_CTX_free(decoder);
            match (read, NonNull::new(key)) {
                (true, Some(key)) => Ok(PKey::from_ptr(key.as_ptr())),
                (_, key) => {
                    ffi::EVP_PKEY_free(key.map_or(ptr::null_mut(), NonNull::as_ptr));
                    Err(errors)
                }
            }
        }
    }
}

/// Which provider a key is served by, as `EVP_PKEY_get0_provider(3)` says; `None` for one that
/// belongs to none.
pub fn key_provider<T: HasPublic>(key: &PKeyRef<T>) -> Option<String> {
    // SAFETY: the key is live, and keeps its provider alive; the name is copied.
    unsafe { name_of(raw::EVP_PKEY_get0_provider(key.as_ptr())) }
}

/// # Safety
///
/// The provider is live, or NULL.
pub(crate) unsafe fn name_of(provider: *const ffi::OSSL_PROVIDER) -> Option<String> {
    if provider.is_null() {
        return None;
    }
    // SAFETY: live, and its name is a NUL-terminated string that lives as long.
    let name = unsafe { CStr::from_ptr(raw::OSSL_PROVIDER_get0_name(provider)) };
    Some(name.to_string_lossy().into_owned())
}

/// # Safety
///
/// The provider is live.
unsafe fn file_of(provider: *const ffi::OSSL_PROVIDER) -> Option<PathBuf> {
    // SAFETY: the list belongs to the live provider and is static in its module. It has one entry at
    // least, if only its end, which has no function.
    let function = unsafe { raw::OSSL_PROVIDER_get0_dispatch(provider).as_ref()?.function? };
    // SAFETY: plain integers and pointers, for which zeros are valid.
    let mut about: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about; `about` outlives the call. The name is NUL-terminated and
    // lives as long as the module, which the provider holds, and is copied.
    unsafe {
        let address = function as *const c_void;
        if libc::dladdr(address, &raw mut about) == 0 || about.dli_fname.is_null() {
            return None;
        }
        Some(OsStr::from_bytes(CStr::from_ptr(about.dli_fname).to_bytes()).into())
    }
}

/// # Safety
///
/// The provider is live.
unsafe fn describe(provider: *mut ffi::OSSL_PROVIDER) -> ProviderInfo {
    let (mut name, mut version, mut build) =
        (ptr::null_mut::<c_char>(), ptr::null_mut::<c_char>(), ptr::null_mut::<c_char>());
    let mut status: raw::Number = 0;
    // SAFETY: keys are static; the provider writes pointers to strings of its own, or nothing, into
    // the locals, which outlive the call. The strings are copied at once.
    unsafe {
        let mut params = [
            raw::OSSL_PARAM_construct_utf8_ptr(raw::NAME.as_ptr(), &raw mut name, 0),
            raw::OSSL_PARAM_construct_utf8_ptr(raw::VERSION.as_ptr(), &raw mut version, 0),
            raw::OSSL_PARAM_construct_utf8_ptr(raw::BUILDINFO.as_ptr(), &raw mut build, 0),
            ffi::OSSL_PARAM_construct_uint(raw::STATUS.as_ptr(), &raw mut status),
            ffi::OSSL_PARAM_construct_end(),
        ];
        raw::OSSL_PROVIDER_get_params(provider, params.as_mut_ptr());
        let text = |text: *const c_char| {
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        };
        ProviderInfo {
            id: name_of(provider).unwrap_or_default(),
            name: text(name),
            version: text(version),
            build: text(build),
            running: status == 1,
        }
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
