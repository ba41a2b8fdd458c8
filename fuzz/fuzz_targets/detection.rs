//! One file by anybody, as each thing that it might be: CA, revocation list, chain and key; PEM, DER, PKCS#7
//! and PKCS#12 are told apart by their content.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use skytls::config::TlsSettings;
use skytls_fuzz::{bytes, identity, load, tls};

/// A sound CA, so that the others are looked at too.
static CA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let profile = skytls::pki::Profile::new("fuzz").expect("it is a name");
    let ca = skytls::pki::Authority::new(&profile).expect("it can be minted");
    ca.certificate_pem().as_bytes().to_vec()
});

static TLS: LazyLock<TlsSettings> = LazyLock::new(|| {
    let mut tls = tls();
    tls.ca = Some(bytes(&CA));
    tls
});

fuzz_target!(|data: &[u8]| {
    let ca = TlsSettings { ca: Some(bytes(data)), ..TLS.clone() };
    let _ = load(&ca);
    let lists = TlsSettings { crl: Some(bytes(data)), ..TLS.clone() };
    let _ = load(&lists);
    for passphrase in [None, Some("test")] {
        let own = TlsSettings { identity: Some(identity(data, data, passphrase)), ..TLS.clone() };
        let _ = load(&own);
    }
});
