//! CA file, chain, key and passphrase of an agent, by anybody: loaded together as one generation.
//!
//! The parts of an input are separated by lines of `=====`; whatever is left out is the part before it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use skytls::config::TlsSettings;
use skytls_fuzz::{bytes, identity, load, tls};

const SEPARATOR: &[u8] = b"\n=====\n";

static TLS: LazyLock<TlsSettings> = LazyLock::new(tls);

fuzz_target!(|data: &[u8]| {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|part| part == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    let part = |number: usize| parts[number.min(parts.len() - 1)];
    let passphrase = parts.get(3).map(|text| String::from_utf8_lossy(text).trim().to_owned());

    let mut tls = TLS.clone();
    tls.ca = Some(bytes(part(0)));
    tls.identity = Some(identity(part(1), part(2), passphrase.as_deref()));
    if let (Err(text), Some(secret)) = (load(&tls), passphrase.filter(|text| text.len() > 16)) {
        assert!(!text.contains(&secret), "{text}");
    }
});
