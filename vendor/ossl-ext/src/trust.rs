//! Stores of trust: certificates with trust settings, CRLs, and a second store beside a context's own.
//!
//! Which certificates and lists belong there, and what a callback forgives, is the caller's affair.

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::OnceLock;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{SslContext, SslContextBuilder, SslRef};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder, X509StoreBuilderRef};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509CrlRef, X509Ref, X509StoreContext, X509StoreContextRef};
use openssl_sys as ffi;

use crate::context::Context;

/// The verdict of a verify callback, as in `SSL_set_verify(3)`.
pub type Judge = Box<dyn Fn(bool, &mut X509StoreContextRef) -> bool + Send + Sync>;

/// Anchors that a chain may lead to in place of those of a context's own store.
struct Second {
    store: X509Store,
    anchors: Stack<X509>,
    flags: X509VerifyFlags,
    judge: Judge,
    /// Where trials are held, as the verification in earnest is; the default one if absent.
    library: Option<&'static Context>,
}

mod raw {
    //! Declarations that openssl-sys does not have, as OpenSSL 3.0's headers give them.
    use super::{c_char, c_int, c_ulong, c_void, ffi};

    pub(super) type VerifyCallback =
        unsafe extern "C" fn(ok: c_int, ctx: *mut ffi::X509_STORE_CTX) -> c_int;

    unsafe extern "C" {
        pub(super) fn PEM_read_bio_X509_AUX(
            bio: *mut ffi::BIO,
            out: *mut *mut ffi::X509,
            callback: ffi::pem_password_cb,
            user: *mut c_void,
        ) -> *mut ffi::X509;
        pub(super) fn TLS_FEATURE_free(features: *mut c_void);
        pub(super) fn X509_check_trust(x: *mut ffi::X509, id: c_int, flags: c_int) -> c_int;
        pub(super) fn X509_STORE_CTX_new_ex(
            ctx: *mut ffi::OSSL_LIB_CTX,
            propq: *const c_char,
        ) -> *mut ffi::X509_STORE_CTX;
        pub(super) fn X509_STORE_add_crl(
            store: *mut ffi::X509_STORE,
            crl: *mut ffi::X509_CRL,
        ) -> c_int;
        pub(super) fn SSL_CTX_set_cert_verify_callback(
            ctx: *mut ffi::SSL_CTX,
            callback: Option<unsafe extern "C" fn(*mut ffi::X509_STORE_CTX, *mut c_void) -> c_int>,
            argument: *mut c_void,
        );
        pub(super) fn X509_STORE_CTX_get0_param(
            ctx: *const ffi::X509_STORE_CTX,
        ) -> *mut ffi::X509_VERIFY_PARAM;
        pub(super) fn X509_STORE_CTX_get0_cert(ctx: *const ffi::X509_STORE_CTX) -> *mut ffi::X509;
        pub(super) fn X509_STORE_CTX_get0_untrusted(
            ctx: *const ffi::X509_STORE_CTX,
        ) -> *mut ffi::stack_st_X509;
        pub(super) fn X509_STORE_CTX_get0_store(
            ctx: *const ffi::X509_STORE_CTX,
        ) -> *mut ffi::X509_STORE;
        pub(super) fn X509_VERIFY_PARAM_set1(
            to: *mut ffi::X509_VERIFY_PARAM,
            from: *const ffi::X509_VERIFY_PARAM,
        ) -> c_int;
        pub(super) fn X509_STORE_CTX_set_ex_data(
            ctx: *mut ffi::X509_STORE_CTX,
            index: c_int,
            data: *mut c_void,
        ) -> c_int;
        pub(super) fn X509_STORE_CTX_set_verify_cb(
            ctx: *mut ffi::X509_STORE_CTX,
            callback: Option<VerifyCallback>,
        );
        pub(super) fn X509_STORE_CTX_set_flags(ctx: *mut ffi::X509_STORE_CTX, flags: c_ulong);
        pub(super) fn X509_STORE_CTX_set0_trusted_stack(
            ctx: *mut ffi::X509_STORE_CTX,
            stack: *mut ffi::stack_st_X509,
        );
    }
}

/// Reads a certificate with its trust settings, `TRUSTED CERTIFICATE`, or without
/// (`PEM_read_bio_X509_AUX(3)`). Never asks for a passphrase.
pub fn certificate_with_trust(pem: &[u8]) -> Result<X509, ErrorStack> {
    /// An encrypted block would make OpenSSL prompt; this callback has no passphrase to give.
    unsafe extern "C" fn none(_: *mut c_char, _: c_int, _: c_int, _: *mut c_void) -> c_int {
        -1
    }
    let length = c_int::try_from(pem.len()).map_err(|_| ErrorStack::get())?;
    // SAFETY: the BIO only reads `pem`, which outlives it: it is freed before this function ends.
    // A non-NULL result is a certificate of our own, which the X509 takes over.
    unsafe {
        let bio = ffi::BIO_new_mem_buf(pem.as_ptr().cast(), length);
        if bio.is_null() {
            return Err(ErrorStack::get());
        }
        let certificate =
            raw::PEM_read_bio_X509_AUX(bio, ptr::null_mut(), Some(none), ptr::null_mut());
        // The error queue has to be read before anything else may change it.
        let error = certificate.is_null().then(ErrorStack::get);
        ffi::BIO_free_all(bio);
        error.map_or_else(|| Ok(X509::from_ptr(certificate)), Err)
    }
}

/// Whether a certificate's own trust settings reject it as an anchor for servers
/// (`X509_check_trust`, `X509_TRUST_SSL_SERVER`); without settings it is not rejected.
pub fn rejects_servers(certificate: &X509Ref) -> bool {
    const SSL_SERVER: c_int = 3;
    const REJECTED: c_int = 2;
    // SAFETY: the pointer comes from a live reference; the call only fills the extension cache
    // inside, under OpenSSL's own lock.
    unsafe { raw::X509_check_trust(certificate.as_ptr(), SSL_SERVER, 0) == REJECTED }
}

/// Puts a CRL into a store (`X509_STORE_add_crl(3)`). Looking at it is a matter of flags.
pub fn add_crl(store: &mut X509StoreBuilderRef, crl: &X509CrlRef) -> Result<(), ErrorStack> {
    // SAFETY: both pointers come from live references; the store takes a reference of its own.
    let added = unsafe { raw::X509_STORE_add_crl(store.as_ptr(), crl.as_ptr()) };
    if added == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Lets chains lead to these anchors besides those of the context's own store, under flags of
/// their own (`SSL_CTX_set_cert_verify_callback(3)`).
///
/// A chain is accepted when it is accepted under one of the two alone: anchors of both never work
/// together, so that flags such as `PARTIAL_CHAIN` cannot spill over. `judge` takes the place of
/// the connection's verify callback in trials; the final verification calls the connection's own.
/// CRLs are looked for in the stores, so both need them.
pub fn trust_besides(
    context: &mut SslContextBuilder,
    anchors: &[X509],
    flags: X509VerifyFlags,
    crls: &[&X509CrlRef],
    judge: Judge,
    library: Option<&'static Context>,
) -> Result<(), ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    let mut stack = Stack::new()?;
    for anchor in anchors {
        store.add_cert(anchor.clone())?;
        stack.push(anchor.clone())?;
    }
    for crl in crls {
        add_crl(&mut store, crl)?;
    }
    store.set_flags(flags)?;
    let second = Second { store: store.build(), anchors: stack, flags, judge, library };
    context.set_ex_data(index()?, second);
    // SAFETY: the context is live; `verify` finds its data in the context itself and needs no
    // argument.
    unsafe {
        raw::SSL_CTX_set_cert_verify_callback(context.as_ptr(), Some(verify), ptr::null_mut());
    }
    Ok(())
}

/// Where a context keeps its [`Second`].
fn index() -> Result<Index<SslContext, Second>, ErrorStack> {
    static INDEX: OnceLock<Index<SslContext, Second>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let new = SslContext::new_ex_index()?;
    // Two at once: one of the numbers stays unused.
    Ok(*INDEX.get_or_init(|| new))
}

/// The connection that a verification belongs to, and its second store.
fn second(ctx: &X509StoreContextRef) -> Option<(&SslRef, &Second)> {
    let ssl = ctx.ex_data(X509StoreContext::ssl_idx().ok()?)?;
    Some((ssl, ssl.ssl_context().ex_data(index().ok()?)?))
}

/// Chooses the anchors by trial, then verifies in earnest.
unsafe extern "C" fn verify(ctx: *mut ffi::X509_STORE_CTX, _: *mut c_void) -> c_int {
    let chosen = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: OpenSSL passes the live context of a verification that has not begun.
        let store = unsafe { X509StoreContextRef::from_ptr(ctx) };
        let Some((ssl, second)) = second(store) else { return false };
        // SAFETY: the store of the context lives as long as the context.
        let own = unsafe { raw::X509_STORE_CTX_get0_store(ctx) };
        // SAFETY: both stores are live, and `ssl` is the connection of `ctx`.
        let (by_second, by_own) = unsafe {
            let trial = |store| trial(store, ctx, ssl, second.library);
            let by_second = trial(second.store.as_ptr());
            // Only a chain that led to one of the second's anchors, and then had another fault,
            // leaves open which of the two explains the refusal better.
            let open = by_second != OK && !UNTRUSTED.contains(&by_second);
            (by_second, if open { trial(own) } else { by_second })
        };
        if by_second == OK || (!UNTRUSTED.contains(&by_second) && by_own != OK) {
            // SAFETY: the stack lives in the SSL_CTX, which the connection keeps alive; OpenSSL
            // takes no ownership ("set0" of a borrowed stack, see the man page).
            unsafe {
                raw::X509_STORE_CTX_set0_trusted_stack(ctx, second.anchors.as_ptr());
                raw::X509_STORE_CTX_set_flags(ctx, second.flags.bits());
            }
        }
        true
    }));
    match chosen {
        // SAFETY: `ctx` is live and has not been used for a verification yet.
        Ok(true) => unsafe { ffi::X509_verify_cert(ctx) },
        // A panic or a context without its data: refuse.
        _ => 0,
    }
}

/// X509_V_OK.
const OK: c_int = 0;
/// The faults of a chain that leads to no anchor: unable to get issuer, self-signed, the same in a
/// chain, unable to get issuer locally, unable to verify leaf signature.
const UNTRUSTED: [c_int; 5] = [2, 18, 19, 20, 21];
/// X509_V_ERR_UNSPECIFIED.
const UNSPECIFIED: c_int = 1;

/// Verifies under one store, with names, purpose, time and level of the connection; the error.
///
/// # Safety
///
/// All pointers are live; `ssl` is the connection of `original`, and made in `library`.
unsafe fn trial(
    store: *mut ffi::X509_STORE,
    original: *mut ffi::X509_STORE_CTX,
    ssl: &SslRef,
    library: Option<&'static Context>,
) -> c_int {
    unsafe extern "C" fn judge(ok: c_int, ctx: *mut ffi::X509_STORE_CTX) -> c_int {
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: OpenSSL passes the live context of the trial, nobody else uses it meanwhile.
            let store = unsafe { X509StoreContextRef::from_ptr_mut(ctx) };
            // SAFETY: the same context; what is found through it lives in the SSL_CTX and not in
            // the context that the judge may change.
            let found = second(unsafe { X509StoreContextRef::from_ptr(ctx) });
            found.is_some_and(|(_, second)| (second.judge)(ok == 1, store))
        }));
        c_int::from(verdict.unwrap_or(false))
    }
    // SAFETY: as promised by the caller; the trial's context is freed on every way out, and holds
    // only borrowed pointers besides.
    unsafe {
        let library = library.map_or(ptr::null_mut(), Context::as_ptr);
        let trial = raw::X509_STORE_CTX_new_ex(library, ptr::null());
        if trial.is_null() {
            return UNSPECIFIED;
        }
        let ready = ffi::X509_STORE_CTX_init(
            trial,
            store,
            raw::X509_STORE_CTX_get0_cert(original),
            raw::X509_STORE_CTX_get0_untrusted(original),
        ) == 1
            && raw::X509_VERIFY_PARAM_set1(
                raw::X509_STORE_CTX_get0_param(trial),
                raw::X509_STORE_CTX_get0_param(original),
            ) == 1
            && raw::X509_STORE_CTX_set_ex_data(
                trial,
                ffi::SSL_get_ex_data_X509_STORE_CTX_idx(),
                ssl.as_ptr().cast(),
            ) == 1;
        let mut error = UNSPECIFIED;
        if ready {
            raw::X509_STORE_CTX_set_verify_cb(trial, Some(judge));
            let verified = ffi::X509_verify_cert(trial);
            error = match ffi::X509_STORE_CTX_get_error(trial) {
                OK if verified != 1 => UNSPECIFIED,
                _ if verified == 1 => OK,
                error => error,
            };
        }
        ffi::X509_STORE_CTX_free(trial);
        // What the trial left in the queue would be taken for the handshake's own.
        drop(ErrorStack::get());
        error
    }
}

/// Asks servers to staple an OCSP answer (`SSL_CTX_set_tlsext_status_type(3)`), on every connection
/// of the context. What becomes of the answer is decided by the context's status callback.
pub fn request_status(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    const SET_TLSEXT_STATUS_REQ_TYPE: c_int = 65;
    const STATUSTYPE_OCSP: std::ffi::c_long = 1;
    // SAFETY: the context is live; this command takes a number and no pointer.
    let set = unsafe {
        ffi::SSL_CTX_ctrl(
            context.as_ptr(),
            SET_TLSEXT_STATUS_REQ_TYPE,
            STATUSTYPE_OCSP,
            ptr::null_mut(),
        )
    };
    if set == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Whether a certificate says that its server always staples an OCSP answer (RFC 7633, "must-staple":
/// `status_request` in its TLS feature extension). One that cannot be read counts as saying so.
pub fn must_staple(certificate: &X509Ref) -> bool {
    const TLS_FEATURE: c_int = 1020;
    const STATUS_REQUEST: std::ffi::c_long = 5;
    const ABSENT: c_int = -1;
    let mut critical: c_int = ABSENT;
    // SAFETY: the pointer comes from a live reference and is only read; `critical` outlives the call.
    // The result is NULL or a TLS_FEATURE, a stack of ASN1_INTEGER, that belongs to us and is freed
    // once, after the numbers have been read out of it.
    unsafe {
        let out = &raw mut critical;
        let features =
            ffi::X509_get_ext_d2i(certificate.as_ptr(), TLS_FEATURE, out, ptr::null_mut());
        if features.is_null() {
            // What could not be decoded is in the error queue, where the handshake would find it.
            drop(ErrorStack::get());
            return critical != ABSENT;
        }
        let stack = features.cast::<ffi::OPENSSL_STACK>();
        let found = (0..ffi::OPENSSL_sk_num(stack)).any(|at| {
            ffi::ASN1_INTEGER_get(ffi::OPENSSL_sk_value(stack, at).cast()) == STATUS_REQUEST
        });
        raw::TLS_FEATURE_free(features);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;

    fn pem() -> String {
        let key = PKey::ec_gen("prime256v1").unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_without_trust_settings_excludes_nobody() {
        let certificate = certificate_with_trust(pem().as_bytes()).unwrap();
        assert!(!rejects_servers(&certificate));
    }

    #[test]
    fn an_encrypted_certificate_fails_without_a_prompt() {
        let header = "-----BEGIN CERTIFICATE-----\n";
        let encrypted = format!(
            "{header}Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{}\n\n",
            "00".repeat(16)
        );
        assert!(certificate_with_trust(pem().replace(header, &encrypted).as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        for noise in [
            "",
            "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(certificate_with_trust(noise.as_bytes()).is_err(), "{noise:?}");
        }
    }
}
