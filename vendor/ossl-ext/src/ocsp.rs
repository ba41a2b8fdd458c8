//! OCSP answers within a library context: `OCSP_basic_verify(3)` works in the default one only.
//!
//! Verifies one signature, and makes one identifier. Who may sign is the caller's affair.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ocsp::{OcspBasicResponseRef, OcspCertId};
use openssl::pkey::{HasPublic, PKeyRef};
use openssl::stack::StackRef;
use openssl::x509::{X509, X509Ref, X509StoreContext};
use openssl_sys as ffi;

use crate::context::{Context, name_of};

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// How long the digest is that was signed, in bytes; `None` if the algorithm has none of its own
    /// (EdDSA).
    pub digest: Option<usize>,
    /// The name of the provider that made the digest and verified it.
    pub provider: Option<String>,
}

mod raw {
    //! Declarations that openssl-sys does not have, as OpenSSL 3.0's headers give them.
    use super::{c_char, c_int, c_void, ffi};

    pub(super) enum Asn1Item {}
    pub(super) enum RespData {}

    unsafe extern "C" {
        pub(super) fn OCSP_RESPDATA_it() -> *const Asn1Item;
        pub(super) fn OCSP_resp_get0_tbs_sigalg(
            answer: *const ffi::OCSP_BASICRESP,
        ) -> *const ffi::X509_ALGOR;
        pub(super) fn OCSP_resp_get0_signature(
            answer: *const ffi::OCSP_BASICRESP,
        ) -> *const ffi::ASN1_BIT_STRING;
        pub(super) fn OCSP_resp_get0_respdata(
            answer: *const ffi::OCSP_BASICRESP,
        ) -> *const RespData;
        pub(super) fn OCSP_resp_get0_certs(
            answer: *const ffi::OCSP_BASICRESP,
        ) -> *const ffi::stack_st_X509;
        pub(super) fn ASN1_item_verify_ctx(
            item: *const Asn1Item,
            algorithm: *const ffi::X509_ALGOR,
            signature: *const ffi::ASN1_BIT_STRING,
            data: *const c_void,
            ctx: *mut ffi::EVP_MD_CTX,
        ) -> c_int;
        pub(super) fn EVP_PKEY_CTX_new_from_pkey(
            ctx: *mut ffi::OSSL_LIB_CTX,
            key: *mut ffi::EVP_PKEY,
            properties: *const c_char,
        ) -> *mut ffi::EVP_PKEY_CTX;
        pub(super) fn EVP_MD_CTX_set_pkey_ctx(
            ctx: *mut ffi::EVP_MD_CTX,
            key: *mut ffi::EVP_PKEY_CTX,
        );
        pub(super) fn EVP_MD_CTX_get0_md(ctx: *const ffi::EVP_MD_CTX) -> *const ffi::EVP_MD;
        pub(super) fn EVP_PKEY_CTX_get0_provider(
            ctx: *const ffi::EVP_PKEY_CTX,
        ) -> *const ffi::OSSL_PROVIDER;
        pub(super) fn X509_STORE_CTX_new_ex(
            ctx: *mut ffi::OSSL_LIB_CTX,
            properties: *const c_char,
        ) -> *mut ffi::X509_STORE_CTX;
    }
}

/// The certificates that came with an answer (`OCSP_resp_get0_certs(3)`).
pub fn certificates(answer: &OcspBasicResponseRef) -> Option<&StackRef<X509>> {
    // SAFETY: the answer is live, and the call only reads.
    let list = unsafe { raw::OCSP_resp_get0_certs(answer.as_ptr()) };
    // SAFETY: not NULL; the list belongs to the answer, which the result borrows, and a shared
    // reference changes nothing.
    (!list.is_null()).then(|| unsafe { StackRef::from_ptr(list.cast_mut()) })
}

/// Whether a certificate is for signing OCSP answers by its extended key usage
/// (`X509_get_extended_key_usage(3)`); one without that extension is not.
pub fn is_for_answers(certificate: &X509Ref) -> bool {
    const EXFLAG_XKUSAGE: u32 = 0x4;
    const XKU_OCSP_SIGN: u32 = 0x20;
    // SAFETY: the pointer comes from a live reference; the calls only fill the extension cache inside,
    // under OpenSSL's own lock.
    unsafe {
        ffi::X509_get_extension_flags(certificate.as_ptr()) & EXFLAG_XKUSAGE != 0
            && ffi::X509_get_extended_key_usage(certificate.as_ptr()) & XKU_OCSP_SIGN != 0
    }
}

impl Context {
    /// Verifies the signature of an answer by a key, here (`ASN1_item_verify_ctx(3)`). What this
    /// context lacks, the key's own provider does: the result says which one it was.
    ///
    /// # Errors
    ///
    /// When the signature is not this key's, or cannot be verified here.
    pub fn verify_answer<T: HasPublic>(
        &'static self,
        answer: &OcspBasicResponseRef,
        key: &PKeyRef<T>,
    ) -> Result<Signature, ErrorStack> {
        drop(ErrorStack::get());
        // SAFETY: the context lives for ever; answer and key are live, and are only read. The two
        // contexts of the calculation are made and freed here, the key's after the digest's, which
        // points at it; the digest is looked at before.
        unsafe {
            let of_key = raw::EVP_PKEY_CTX_new_from_pkey(self.as_ptr(), key.as_ptr(), ptr::null());
            let of_digest = ffi::EVP_MD_CTX_new();
            let mut verified = 0;
            let (mut digest, mut provider) = (None, None);
            if !of_key.is_null() && !of_digest.is_null() {
                raw::EVP_MD_CTX_set_pkey_ctx(of_digest, of_key);
                verified = raw::ASN1_item_verify_ctx(
                    raw::OCSP_RESPDATA_it(),
                    raw::OCSP_resp_get0_tbs_sigalg(answer.as_ptr()),
                    raw::OCSP_resp_get0_signature(answer.as_ptr()),
                    raw::OCSP_resp_get0_respdata(answer.as_ptr()).cast(),
                    of_digest,
                );
                let md = raw::EVP_MD_CTX_get0_md(of_digest);
                digest = (!md.is_null())
                    .then(|| usize::try_from(ffi::EVP_MD_get_size(md)).unwrap_or_default());
                provider = name_of(raw::EVP_PKEY_CTX_get0_provider(of_key));
            }
            let errors = ErrorStack::get();
            ffi::EVP_MD_CTX_free(of_digest);
            ffi::EVP_PKEY_CTX_free(of_key);
            if verified == 1 { Ok(Signature { digest, provider }) } else { Err(errors) }
        }
    }

    /// What a certificate is called in an answer, with a digest of this context
    /// (`OCSP_cert_to_id(3)`).
    pub fn certificate_id(
        &'static self,
        digest: &str,
        certificate: &X509Ref,
        issuer: &X509Ref,
    ) -> Result<OcspCertId, ErrorStack> {
        let digest = CString::new(digest).map_err(|_| ErrorStack::get())?;
        // SAFETY: the context lives for ever, the name is NUL-terminated, the certificates are live;
        // the digest is freed after its use, and NULL may be.
        unsafe {
            let md = ffi::EVP_MD_fetch(self.as_ptr(), digest.as_ptr(), ptr::null());
            let id = if md.is_null() {
                ptr::null_mut()
            } else {
                ffi::OCSP_cert_to_id(md, certificate.as_ptr(), issuer.as_ptr())
            };
            ffi::EVP_MD_free(md);
            if id.is_null() { Err(ErrorStack::get()) } else { Ok(OcspCertId::from_ptr(id)) }
        }
    }

    /// For the verification of chains here (`X509_STORE_CTX_new_ex(3)`).
    pub fn store_context(&'static self) -> Result<X509StoreContext, ErrorStack> {
        // SAFETY: the context lives for ever; the result is our own, and taken over.
        unsafe {
            let context = raw::X509_STORE_CTX_new_ex(self.as_ptr(), ptr::null());
            if context.is_null() {
                return Err(ErrorStack::get());
            }
            Ok(X509StoreContext::from_ptr(context))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Draft;
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::ocsp::{OcspBasicResponse, OcspResponse};
    use openssl::pkey::{PKey, Private};
    use openssl::sign::Signer;
    use openssl::x509::extension::ExtendedKeyUsage;

    fn plain() -> &'static Context {
        let mut draft = Draft::new().unwrap();
        draft.load("default").unwrap();
        draft.keep()
    }

    fn certificate(key: &PKey<Private>, usage: Option<&ExtendedKeyUsage>) -> X509 {
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        if let Some(usage) = usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        builder.sign(key, MessageDigest::sha256()).unwrap();
        builder.build()
    }

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = match u16::try_from(content.len()).unwrap().to_be_bytes() {
            [0, short @ 0..=127] => vec![short],
            [0, middle] => vec![0x81, middle],
            [high, low] => vec![0x82, high, low],
        };
        [&[tag], &*length, &*content].concat()
    }

    /// An answer about nothing, signed with SHA-256, with a certificate (RFC 6960 section 4.2.1).
    fn answer(key: &PKey<Private>, certificate: &X509) -> OcspBasicResponse {
        let id = der(0xa2, &[&der(4, &[&[7; 20]])]);
        let produced = der(0x18, &[b"20260101000000Z"]);
        let data = der(0x30, &[&id, &produced, &der(0x30, &[])]);
        let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
        let signature = der(3, &[&[0], &signer.sign_oneshot_to_vec(&data).unwrap()]);
        let algorithm = der(0x30, &[&der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
        let along = der(0xa0, &[&der(0x30, &[&certificate.to_der().unwrap()])]);
        let basic = der(0x30, &[&data, &algorithm, &signature, &along]);
        let kind = der(6, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]]);
        let bytes = der(0xa0, &[&der(0x30, &[&kind, &der(4, &[&basic])])]);
        let whole = der(0x30, &[&[10, 1, 0], &bytes]);
        OcspResponse::from_der(&whole).unwrap().basic().unwrap()
    }

    #[test]
    fn an_answer_is_verified_by_its_signers_key_and_no_other() {
        let (key, other) =
            (PKey::ec_gen("prime256v1").unwrap(), PKey::ec_gen("prime256v1").unwrap());
        let signer = certificate(&key, None);
        let answer = answer(&key, &signer);
        let library = plain();
        let found = certificates(&answer).unwrap();
        assert_eq!(found.len(), 1);
        let signer = library.adopt(&found[0]).unwrap();
        let verified = library.verify_answer(&answer, &signer.public_key().unwrap()).unwrap();
        let expected = Signature { digest: Some(32), provider: Some("default".to_owned()) };
        assert_eq!(verified, expected);
        assert!(library.verify_answer(&answer, &other).is_err());
        // Where the context has nothing, the key's own provider does it: that is why it is named.
        let mut draft = Draft::new().unwrap();
        draft.load("base").unwrap();
        assert_eq!(draft.keep().verify_answer(&answer, &key).unwrap(), expected);
    }

    #[test]
    fn who_may_sign_answers_says_so() {
        let key = PKey::ec_gen("prime256v1").unwrap();
        assert!(!is_for_answers(&certificate(&key, None)));
        let (mut servers, mut answers) = (ExtendedKeyUsage::new(), ExtendedKeyUsage::new());
        servers.server_auth();
        answers.other("OCSPSigning");
        assert!(!is_for_answers(&certificate(&key, Some(&servers))));
        assert!(is_for_answers(&certificate(&key, Some(&answers))));
    }

    #[test]
    fn identifiers_are_made_with_what_the_context_has() {
        let key = PKey::ec_gen("prime256v1").unwrap();
        let certificate = certificate(&key, None);
        let library = plain();
        for digest in ["SHA1", "SHA2-256"] {
            library.certificate_id(digest, &certificate, &certificate).unwrap();
        }
        assert!(library.certificate_id("no such digest", &certificate, &certificate).is_err());
        assert!(library.certificate_id("a\0b", &certificate, &certificate).is_err());
        library.store_context().unwrap();
    }
}
