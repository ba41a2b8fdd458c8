//! PKCS#12: a key and its certificates in one encrypted file.
//!
//! Also tells what OpenSSL cannot decrypt without its legacy provider from what is merely wrong.

use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::config::Secret;
use crate::error::{Code, Error, Result};

/// What an archive holds.
pub(super) struct Archive {
    pub(super) key: Option<PKey<Private>>,
    /// In no particular order.
    pub(super) certificates: Vec<X509>,
}

/// Opens an archive; `fault` makes an error that names the file. Never prompts.
pub(super) fn open(
    bytes: &[u8],
    passphrase: Option<&Secret>,
    fault: impl Fn(Code) -> Error,
) -> Result<Archive> {
    let archive = Pkcs12::from_der(bytes).map_err(|error| fault(Code::Damaged).because(error))?;
    // Many archives have an empty passphrase: it is tried when none is set.
    let text = passphrase.map(|secret| secret.expose().as_str()).unwrap_or_default();
    if text.contains('\0') {
        return Err(Error::new(Code::BadValue)
            .key("agent.ssl_key_passphrase")
            .expected("a passphrase without NUL bytes"));
    }
    let parsed = archive.parse2(text).map_err(|error| {
        if needs_legacy(&error) {
            fault(Code::LegacyEncryption).hint(CONVERT).because(error)
        } else if passphrase.is_none() {
            fault(Code::PassphraseNeeded).because(error)
        } else {
            fault(Code::PassphraseWrong).because(error)
        }
    })?;
    let others = parsed.ca.into_iter().flatten();
    Ok(Archive { key: parsed.pkey, certificates: parsed.cert.into_iter().chain(others).collect() })
}

const CONVERT: &str = "convert it: openssl pkcs12 -legacy -in FILE -nodes -out FILE.pem, and, to keep it encrypted, \
     openssl pkcs12 -export -in FILE.pem -out FILE.new";

/// Whether OpenSSL knows the algorithm and has it in a provider that is not loaded: RC2, single
/// DES, RC4, MD5-based encryption.
pub(super) fn needs_legacy(error: &ErrorStack) -> bool {
    /// ERR_LIB_EVP: what fetches algorithms. Decoders say "unsupported" too, of the garbage that a
    /// wrong passphrase leaves.
    const EVP: i32 = 6;
    /// ERR_R_UNSUPPORTED.
    const UNSUPPORTED: i32 = 0x8_010c;
    error
        .errors()
        .iter()
        .any(|error| error.library_code() == EVP && error.reason_code() == UNSUPPORTED)
}
