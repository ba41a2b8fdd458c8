//! Contexts without a FIPS provider, which every machine can make; those with one are tested by
//! `ci/fips`, through skytls.

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::Id;
use openssl::symm::Cipher;
use openssl::x509::X509Builder;

use super::*;

fn plain() -> &'static Context {
    let mut draft = Draft::new().unwrap();
    draft.load("default").unwrap();
    draft.keep()
}

fn certificate(key: &PKeyRef<Private>) -> X509 {
    let mut builder: X509Builder = X509::builder().unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build()
}

#[test]
fn providers_are_those_of_the_context_and_of_no_other() {
    let before = crate::active_providers();
    let mut draft = Draft::new().unwrap();
    draft.load("base").unwrap();
    let [base] = &draft.providers()[..] else { panic!("{:?}", draft.providers()) };
    assert_eq!(base.id, "base");
    assert!(base.running && base.name.contains("Base") && !base.version.is_empty(), "{base:?}");
    assert!(draft.is_available("base") && draft.self_test("base"));
    assert!(!draft.is_available("default") && !draft.self_test("default"));
    assert_eq!(draft.digest_provider("SHA256"), None);
    draft.unload();
    assert!(!draft.is_available("base"));
    assert_eq!(crate::active_providers(), before);
}

#[test]
fn a_configuration_reaches_its_own_context_only() {
    let mut draft = Draft::new().unwrap();
    let text = "openssl_conf = a\n[a]\nproviders = p\nalg_section = g\n[p]\nbase = b\n[b]\nactivate = 1\n\
                [g]\ndefault_properties = fips=yes\n";
    draft.configure(text).unwrap();
    assert!(draft.is_available("base") && draft.asks_for_fips());
    assert!(!crate::default_properties_ask_for_fips());
    let mut draft = Draft::new().unwrap();
    assert!(!draft.asks_for_fips());
    draft.ask_for_fips().unwrap();
    assert!(draft.asks_for_fips() && !crate::default_properties_ask_for_fips());
    assert!(draft.configure("openssl_conf = a\n[a]\nno_such_module = x\n").is_err());
}

#[test]
fn a_provider_that_is_not_there_is_an_error() {
    let mut draft = Draft::new().unwrap();
    draft.search(Path::new("/nonexistent")).unwrap();
    let error = draft.load("no-such-provider").unwrap_err();
    assert!(error.to_string().contains("no-such-provider"), "{error}");
    assert!(draft.providers().is_empty());
}

#[test]
fn what_is_made_in_a_context_is_served_there() {
    let key = PKey::ec_gen("prime256v1").unwrap();
    let context = plain();
    assert_eq!(context.digest_provider("MD5").as_deref(), Some("default"));
    assert_eq!(context.digest_provider("no-such-digest"), None);
    assert!(context.has_key_type("EC") && !context.has_key_type("no-such-type"));
    assert_eq!(context.random_provider().as_deref(), Some("default"));
    let read = context.private_key(&key.private_key_to_der().unwrap(), b"").unwrap();
    assert_eq!(key_provider(&read).as_deref(), Some("default"));
    let original = certificate(&key);
    let adopted = context.adopt(&original).unwrap();
    assert_eq!(adopted.to_der().unwrap(), original.to_der().unwrap());
    assert!(adopted.verify(&read).unwrap());
    let mut ssl = context.ssl_context(Method::Client).unwrap();
    ssl.set_certificate(&adopted).unwrap();
    ssl.set_private_key(&read).unwrap();
    ssl.check_private_key().unwrap();
    assert!(context.ssl_context(Method::Server).is_ok());
}

/// What the default context can decrypt, and one without algorithms cannot: the work is done where
/// it should be.
#[test]
fn keys_are_decrypted_in_the_context() {
    let key = PKey::ec_gen("prime256v1").unwrap();
    let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    let read = plain().private_key(&pem, b"secret").unwrap();
    assert_eq!(read.id(), Id::EC);
    assert!(read.public_eq(&key));
    assert!(plain().private_key(&pem, b"wrong").is_err());
    assert!(plain().private_key(&pem, b"").is_err());
    let der = key.private_key_to_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    assert!(plain().private_key(&der, b"secret").unwrap().public_eq(&key));
    let mut draft = Draft::new().unwrap();
    draft.load("base").unwrap();
    assert!(draft.keep().private_key(&pem, b"secret").is_err());
    assert!(plain().private_key(b"\x30\x03\x02\x01\x00", b"").is_err());
}

#[test]
fn trust_settings_move_along() {
    let key = PKey::ec_gen("prime256v1").unwrap();
    let original = certificate(&key);
    let mut aliased = original.clone();
    openssl_alias(&mut aliased);
    let adopted = plain().adopt(&aliased).unwrap();
    assert_eq!(adopted.alias(), Some(&b"here"[..]));
}

/// The openssl crate reads the alias, one of the trust settings, and sets it nowhere.
fn openssl_alias(certificate: &mut X509) {
    unsafe extern "C" {
        fn X509_alias_set1(x: *mut ffi::X509, name: *const u8, len: c_int) -> c_int;
    }
    // SAFETY: the certificate is live and ours; the name is copied.
    assert_eq!(unsafe { X509_alias_set1(certificate.as_ptr(), c"here".as_ptr().cast(), 4) }, 1);
}

#[test]
fn every_thread_may_use_a_context() {
    let context = plain();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let key = PKey::ec_gen("prime256v1").unwrap();
                let adopted = plain().adopt(&certificate(&key)).unwrap();
                (context.random_provider(), adopted.verify(&key).unwrap())
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), (Some("default".to_owned()), true));
    }
}
