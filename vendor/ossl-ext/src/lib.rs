//! The OpenSSL calls that skytls needs and the `openssl` crate lacks, safe on the outside.
//!
//! Nothing here decides anything: each function is one OpenSSL call (its man page is named) with
//! its result made safe to use. Works with OpenSSL 3.0 and newer.

pub mod conf;
pub mod context;
pub mod ocsp;
mod session;
pub mod store;
mod trust;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::asn1::{Asn1GeneralizedTimeRef, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::{SslCipher, SslConnector, SslContextBuilder, SslContextRef, SslMethod, SslRef};
use openssl::stack::StackRef;
use openssl::x509::{X509Name, X509Ref};
use openssl_sys as ffi;

pub use session::Session;
pub use trust::{
    Judge, add_crl, certificate_with_trust, must_staple, rejects_servers, request_status,
    trust_besides,
};

mod raw {
    //! Declarations that openssl-sys does not have, as OpenSSL 3.0's headers give them.
    use super::{c_char, c_int, c_void, ffi};

    unsafe extern "C" {
        pub(crate) fn X509_check_ca(x: *mut ffi::X509) -> c_int;
        pub(crate) fn X509_check_purpose(x: *mut ffi::X509, id: c_int, ca: c_int) -> c_int;
        pub(crate) fn X509_get_ext_by_NID(x: *const ffi::X509, nid: c_int, after: c_int) -> c_int;
        pub(crate) fn X509_get_signature_info(
            x: *mut ffi::X509,
            mdnid: *mut c_int,
            pknid: *mut c_int,
            secbits: *mut c_int,
            flags: *mut u32,
        ) -> c_int;
        pub(crate) fn SSL_group_to_name(s: *mut ffi::SSL, id: c_int) -> *const c_char;
        pub(crate) fn OSSL_PROVIDER_do_all(
            ctx: *mut ffi::OSSL_LIB_CTX,
            cb: Option<unsafe extern "C" fn(*mut ffi::OSSL_PROVIDER, *mut c_void) -> c_int>,
            cbdata: *mut c_void,
        ) -> c_int;
        pub(crate) fn OSSL_PROVIDER_get0_name(prov: *const ffi::OSSL_PROVIDER) -> *const c_char;
        pub(crate) fn EVP_default_properties_is_fips_enabled(ctx: *mut ffi::OSSL_LIB_CTX) -> c_int;
        pub(crate) fn SSL_get0_peer_CA_list(s: *const ffi::SSL) -> *const ffi::stack_st_X509_NAME;
        pub(crate) fn SSL_get0_peername(s: *mut ffi::SSL) -> *const c_char;
        pub(crate) fn BIO_number_read(bio: *mut ffi::BIO) -> u64;
        pub(crate) fn BIO_number_written(bio: *mut ffi::BIO) -> u64;
        pub(crate) fn SSL_CTX_get_security_level(ctx: *const ffi::SSL_CTX) -> c_int;
        pub(crate) fn SSL_CTX_get_ciphers(
            ctx: *const ffi::SSL_CTX,
        ) -> *mut ffi::stack_st_SSL_CIPHER;
        pub(crate) fn SSL_get_signature_type_nid(s: *const ffi::SSL, pnid: *mut c_int) -> c_int;
    }
}

/// Whether a certificate is a CA by its own basicConstraints and, if present, keyUsage:
/// `X509_check_ca(3)` = 1. The weaker answers (version 1 and 3, keyUsage alone, Netscape type) are
/// not enough here.
pub fn is_ca(certificate: &X509Ref) -> bool {
    // SAFETY: the pointer comes from a live reference. X509_check_ca only fills the extension
    // cache inside, under OpenSSL's own lock, which is why its argument is not const.
    unsafe { raw::X509_check_ca(certificate.as_ptr()) == 1 }
}

/// Whether a CA may stand above a TLS server's certificate by its extended key usage, if it has one
/// (`X509_check_purpose(3)` = 1).
pub fn may_issue_for_servers(certificate: &X509Ref) -> bool {
    const X509_PURPOSE_SSL_SERVER: c_int = 2;
    const AS_CA: c_int = 1;
    // SAFETY: as in `is_ca`.
    unsafe { raw::X509_check_purpose(certificate.as_ptr(), X509_PURPOSE_SSL_SERVER, AS_CA) == 1 }
}

/// Whether a certificate limits what lies below it in a way that only walking the chain can judge:
/// by name constraints, or by a critical extension that OpenSSL does not know
/// (`X509_get_extension_flags(3)`, EXFLAG_CRITICAL).
pub fn is_constrained(certificate: &X509Ref) -> bool {
    const EXFLAG_CRITICAL: u32 = 0x200;
    let nid = Nid::NAME_CONSTRAINTS.as_raw();
    // SAFETY: as in `is_ca`; -1 starts the search at the first extension.
    unsafe {
        ffi::X509_get_extension_flags(certificate.as_ptr()) & EXFLAG_CRITICAL != 0
            || raw::X509_get_ext_by_NID(certificate.as_ptr(), nid, -1) >= 0
    }
}

/// The strength of a certificate's signature in bits, as OpenSSL's security level counts it
/// (`X509_get_signature_info(3)`); `None` if OpenSSL does not know the algorithm.
pub fn signature_security_bits(certificate: &X509Ref) -> Option<u32> {
    let mut bits: c_int = -1;
    // SAFETY: the pointer comes from a live reference; out-pointers may be NULL except the one
    // wanted, which points at a local that outlives the call.
    let known = unsafe {
        raw::X509_get_signature_info(
            certificate.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut bits,
            ptr::null_mut(),
        )
    };
    if known == 1 { u32::try_from(bits).ok() } else { None }
}

/// The names of the CAs whose certificates the peer says it accepts (`SSL_get0_peer_CA_list(3)`);
/// `None` if it has sent no list, which it does only when it asks for a certificate.
pub fn peer_ca_list(ssl: &SslRef) -> Option<&StackRef<X509Name>> {
    // SAFETY: the pointer comes from a live reference, and the call only reads.
    let list = unsafe { raw::SSL_get0_peer_CA_list(ssl.as_ptr()) };
    // SAFETY: not NULL. The list belongs to the connection and is replaced only by a further
    // handshake, which needs it exclusively; the result borrows it for as long, and a shared
    // reference changes nothing.
    (!list.is_null()).then(|| unsafe { StackRef::from_ptr(list.cast_mut()) })
}

/// The name in the peer's certificate that matched the one verified (`SSL_get0_peername(3)`);
/// `None` before that, and for addresses.
pub fn matched_name(ssl: &SslRef) -> Option<String> {
    // SAFETY: the pointer comes from a live reference; the call only reads, though its argument
    // is not const. The string is NULL or NUL-terminated, belongs to the connection, and is copied
    // before anybody can change that.
    unsafe {
        let name = raw::SSL_get0_peername(ssl.as_ptr());
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// Whether this end has signed in the handshake (`SSL_get_signature_type_nid(3)`): a client does so
/// exactly when it has shown a certificate of its own.
pub fn has_signed(ssl: &SslRef) -> bool {
    let mut nid: c_int = 0;
    // SAFETY: the pointer comes from a live reference, the call only reads, and the out-pointer
    // points at a local that outlives it.
    unsafe { raw::SSL_get_signature_type_nid(ssl.as_ptr(), &raw mut nid) == 1 }
}

/// Whether TLS 1.2 has bound the connection's secret to its handshake (RFC 7627;
/// `SSL_get_extms_support(3)`, a macro). TLS 1.3 always does, and says no here.
pub fn has_extended_master_secret(ssl: &SslRef) -> bool {
    const SSL_CTRL_GET_EXTMS_SUPPORT: c_int = 122;
    // SAFETY: the pointer comes from a live reference; this command takes no arguments and reads.
    unsafe { ffi::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_GET_EXTMS_SUPPORT, 0, ptr::null_mut()) == 1 }
}

/// A connector of a context that is ready (`SSL_CTX_up_ref(3)`). The openssl crate first makes a context of its
/// own, which takes a while: all CA certificates of the system are read.
pub fn connector(context: &SslContextRef) -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    // SAFETY: the pointer comes from a live reference, and the builder gets a reference of its own to give up.
    // Others may be using the context: it is not changed here, and the builder does not leave this function.
    unsafe {
        ffi::SSL_CTX_up_ref(context.as_ptr());
        *builder = SslContextBuilder::from_ptr(context.as_ptr());
    }
    Ok(builder.build())
}

/// The security level of a context that is being made (`SSL_CTX_get_security_level(3)`).
pub fn security_level(context: &SslContextBuilder) -> u32 {
    // SAFETY: the context is live, and the call only reads.
    let level = unsafe { raw::SSL_CTX_get_security_level(context.as_ptr()) };
    u32::try_from(level).unwrap_or_default()
}

/// How many bytes a connection has taken from its transport and given to it (`BIO_number_read(3)`,
/// `BIO_number_written(3)`).
pub fn bytes_moved(ssl: &SslRef) -> (u64, u64) {
    // SAFETY: the pointers come from a live reference; NULL is answered by 0, and the calls only read.
    unsafe {
        let (from, to) = (ffi::SSL_get_rbio(ssl.as_ptr()), ffi::SSL_get_wbio(ssl.as_ptr()));
        (raw::BIO_number_read(from), raw::BIO_number_written(to))
    }
}

/// The cipher suites that a context would use, TLS 1.3's first, by OpenSSL's names
/// (`SSL_CTX_get_ciphers(3)`).
pub fn cipher_suites(context: &SslContextBuilder) -> Vec<String> {
    // SAFETY: the context is live; the list is its own, not changed while it is borrowed here.
    let list = unsafe { raw::SSL_CTX_get_ciphers(context.as_ptr()) };
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a live list of the context's, see above.
    let list = unsafe { StackRef::<SslCipher>::from_ptr(list) };
    list.iter().map(|cipher| cipher.name().to_owned()).collect()
}

/// The group that the keys of a connection were exchanged in, as TLS names it, such as `x25519`;
/// `None` if there was none (`SSL_get_negotiated_group(3)`, a macro, and `SSL_group_to_name(3)`).
pub fn negotiated_group(ssl: &SslRef) -> Option<String> {
    const SSL_CTRL_GET_NEGOTIATED_GROUP: c_int = 134;
    // Before the first message there is no session, and OpenSSL looks into it all the same.
    ssl.session()?;
    // SAFETY: the pointer comes from a live reference; this command takes no arguments and reads.
    let id =
        unsafe { ffi::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_GET_NEGOTIATED_GROUP, 0, ptr::null_mut()) };
    let id = c_int::try_from(id).ok().filter(|&id| id != 0)?;
    // SAFETY: as above; the call only looks the number up.
    let name = unsafe { raw::SSL_group_to_name(ssl.as_ptr(), id) };
    if name.is_null() {
        return None;
    }
    // SAFETY: a NUL-terminated string that lives as long as the connection's context.
    let name = unsafe { CStr::from_ptr(name) };
    Some(name.to_string_lossy().into_owned())
}

/// A time of the one format as what may be of either (`ASN1_TIME_check(3)`): OpenSSL's functions for
/// times take both.
pub fn as_time(time: &Asn1GeneralizedTimeRef) -> &Asn1TimeRef {
    // SAFETY: the pointer comes from a live reference, which the result borrows. ASN1_TIME and
    // ASN1_GENERALIZEDTIME are one structure in C, and a value of the latter is one of the former.
    unsafe { Asn1TimeRef::from_ptr(time.as_ptr().cast()) }
}

/// The names of the providers that are active in the default library context
/// (`OSSL_PROVIDER_do_all(3)`).
pub fn active_providers() -> Vec<String> {
    unsafe extern "C" fn collect(provider: *mut ffi::OSSL_PROVIDER, names: *mut c_void) -> c_int {
        // SAFETY: `names` is the pointer given to OSSL_PROVIDER_do_all below, to a Vec that
        // outlives that call and that nobody else uses meanwhile.
        let names = unsafe { &mut *names.cast::<Vec<String>>() };
        // SAFETY: OpenSSL passes a live provider, whose name is a NUL-terminated string that
        // lives as long as the provider.
        let name = unsafe { CStr::from_ptr(raw::OSSL_PROVIDER_get0_name(provider)) };
        // A panic (of an allocation) must not unwind into OpenSSL.
        let pushed =
            catch_unwind(AssertUnwindSafe(|| names.push(name.to_string_lossy().into_owned())));
        c_int::from(pushed.is_ok())
    }
    let mut names: Vec<String> = Vec::new();
    // SAFETY: NULL is the default library context; the callback matches its data.
    unsafe {
        raw::OSSL_PROVIDER_do_all(ptr::null_mut(), Some(collect), (&raw mut names).cast());
    }
    names
}

/// Whether the default library context asks for FIPS implementations by default
/// (`EVP_default_properties_is_fips_enabled(3)`). This is a property string, not a proof.
pub fn default_properties_ask_for_fips() -> bool {
    // SAFETY: NULL is the default library context; the call only reads.
    unsafe { raw::EVP_default_properties_is_fips_enabled(ptr::null_mut()) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
    use openssl::bn::BigNum;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage};
    use openssl::x509::{X509, X509Extension, X509Name};

    fn certificate(constraints: Option<bool>, digest: MessageDigest) -> X509 {
        certificate_with(constraints, digest, None)
    }

    fn certificate_with(
        constraints: Option<bool>,
        digest: MessageDigest,
        extra: Option<X509Extension>,
    ) -> X509 {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", "x").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder
            .set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap())
            .unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        if let Some(ca) = constraints {
            let mut extension = BasicConstraints::new();
            if ca {
                extension.ca();
            }
            builder.append_extension(extension.build().unwrap()).unwrap();
        }
        if let Some(extra) = extra {
            builder.append_extension(extra).unwrap();
        }
        builder.sign(&key, digest).unwrap();
        builder.build()
    }

    #[test]
    fn a_ca_is_one_by_its_basic_constraints() {
        assert!(is_ca(&certificate(Some(true), MessageDigest::sha256())));
        assert!(!is_ca(&certificate(Some(false), MessageDigest::sha256())));
        assert!(!is_ca(&certificate(None, MessageDigest::sha256())));
    }

    #[test]
    fn a_ca_may_be_limited_in_what_stands_below_it() {
        let ca = |extra| certificate_with(Some(true), MessageDigest::sha256(), extra);
        assert!(may_issue_for_servers(&ca(None)) && !is_constrained(&ca(None)));

        let clients = ExtendedKeyUsage::new().client_auth().build().unwrap();
        assert!(!may_issue_for_servers(&ca(Some(clients))));
        let servers = ExtendedKeyUsage::new().server_auth().build().unwrap();
        assert!(may_issue_for_servers(&ca(Some(servers))));

        // NameConstraints with one permitted DNS name, "x".
        let names = b"\x30\x07\xa0\x05\x30\x03\x82\x01\x78";
        for (id, critical, der) in [("2.5.29.30", true, &names[..]), ("1.2.3.4", true, b"\x05\x00")]
        {
            let id = Asn1Object::from_str(id).unwrap();
            let der = Asn1OctetString::new_from_bytes(der).unwrap();
            let extra = X509Extension::new_from_der(&id, critical, &der).unwrap();
            assert!(is_constrained(&ca(Some(extra))));
        }
    }

    #[test]
    fn signatures_have_the_strength_of_their_digest() {
        let bits = |digest| signature_security_bits(&certificate(None, digest)).unwrap();
        assert_eq!(bits(MessageDigest::sha256()), 128);
        assert!(bits(MessageDigest::sha1()) < 80);
    }

    #[test]
    fn a_connection_that_has_not_begun_has_nothing_to_tell() {
        let context = SslContextBuilder::new(SslMethod::tls_client()).unwrap();
        let ssl = openssl::ssl::Ssl::new(&context.build()).unwrap();
        assert_eq!(negotiated_group(&ssl), None);
        assert_eq!(matched_name(&ssl), None);
        assert!(!has_signed(&ssl) && !has_extended_master_secret(&ssl));
        assert!(peer_ca_list(&ssl).is_none());
        assert_eq!(bytes_moved(&ssl), (0, 0));
    }

    #[test]
    fn cipher_suites_are_those_of_the_context() {
        let mut context = SslContextBuilder::new(SslMethod::tls_client()).unwrap();
        context.set_ciphersuites("TLS_AES_256_GCM_SHA384").unwrap();
        context.set_cipher_list("ECDHE-RSA-AES128-GCM-SHA256").unwrap();
        let suites = ["TLS_AES_256_GCM_SHA384", "ECDHE-RSA-AES128-GCM-SHA256"];
        assert_eq!(cipher_suites(&context), suites);
        context.set_security_level(4);
        assert_eq!(security_level(&context), 4);
    }

    #[test]
    fn the_default_provider_is_active_after_first_use() {
        let _ = certificate(None, MessageDigest::sha256());
        assert!(active_providers().contains(&"default".to_owned()));
        assert!(!default_properties_ask_for_fips());
    }
}
