//! Private keys in every form a file may hold one, and files that hold none.
//!
//! Which of them skytls reads is said in the tests; here they are only made.

use openssl::pkey::{PKeyRef, Private};
use openssl::symm::Cipher;
use openssl::x509::{X509Name, X509Req};

use openssl::hash::MessageDigest;

/// What the encrypted ones are encrypted with.
pub(crate) const PASSPHRASE: &str = "correct horse";

const MADE: &str = "the key can be written in this form";

/// PKCS#8, `BEGIN PRIVATE KEY`.
pub(crate) fn pkcs8_pem(key: &PKeyRef<Private>) -> Vec<u8> {
    key.private_key_to_pem_pkcs8().expect(MADE)
}

/// PKCS#8 without PEM.
pub(crate) fn pkcs8_der(key: &PKeyRef<Private>) -> Vec<u8> {
    key.private_key_to_pkcs8().expect(MADE)
}

/// PKCS#1, `BEGIN RSA PRIVATE KEY`. RSA only.
pub(crate) fn pkcs1_pem(key: &PKeyRef<Private>) -> Vec<u8> {
    key.rsa().and_then(|rsa| rsa.private_key_to_pem()).expect(MADE)
}

/// PKCS#1 without PEM. RSA only.
pub(crate) fn pkcs1_der(key: &PKeyRef<Private>) -> Vec<u8> {
    key.rsa().and_then(|rsa| rsa.private_key_to_der()).expect(MADE)
}

/// SEC1, `BEGIN EC PRIVATE KEY`. EC only.
pub(crate) fn sec1_pem(key: &PKeyRef<Private>) -> Vec<u8> {
    key.ec_key().and_then(|ec| ec.private_key_to_pem()).expect(MADE)
}

/// SEC1 without PEM. EC only.
pub(crate) fn sec1_der(key: &PKeyRef<Private>) -> Vec<u8> {
    key.ec_key().and_then(|ec| ec.private_key_to_der()).expect(MADE)
}

/// PKCS#8 encrypted with [`PASSPHRASE`], `BEGIN ENCRYPTED PRIVATE KEY`.
pub(crate) fn encrypted_pkcs8_pem(key: &PKeyRef<Private>) -> Vec<u8> {
    key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), PASSPHRASE.as_bytes())
        .expect(MADE)
}

/// PKCS#8 encrypted with [`PASSPHRASE`], without PEM.
pub(crate) fn encrypted_pkcs8_der(key: &PKeyRef<Private>) -> Vec<u8> {
    key.private_key_to_pkcs8_passphrase(Cipher::aes_256_cbc(), PASSPHRASE.as_bytes()).expect(MADE)
}

/// PKCS#1 encrypted with [`PASSPHRASE`] the traditional way, `Proc-Type` and `DEK-Info`. RSA only.
pub(crate) fn encrypted_pkcs1_pem(key: &PKeyRef<Private>) -> Vec<u8> {
    key.rsa()
        .and_then(|rsa| {
            rsa.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), PASSPHRASE.as_bytes())
        })
        .expect(MADE)
}

/// The public half, `BEGIN PUBLIC KEY`: not a private key.
pub(crate) fn public_pem(key: &PKeyRef<Private>) -> Vec<u8> {
    key.public_key_to_pem().expect(MADE)
}

/// A request for a certificate, `BEGIN CERTIFICATE REQUEST`: neither key nor certificate.
pub(crate) fn request_pem(key: &PKeyRef<Private>) -> Vec<u8> {
    let request = || {
        let mut name = X509Name::builder()?;
        name.append_entry_by_text("CN", "localhost")?;
        let mut request = X509Req::builder()?;
        request.set_subject_name(&name.build())?;
        request.set_pubkey(key)?;
        request.sign(key, MessageDigest::sha256())?;
        request.build().to_pem()
    };
    request().expect(MADE)
}

/// The same PEM with CR LF at its line ends.
pub(crate) fn crlf(pem: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(pem).replace('\n', "\r\n").into_bytes()
}

/// The same PEM between lines of text, as `openssl pkcs12` and people write them.
pub(crate) fn with_text_around(pem: &[u8]) -> Vec<u8> {
    [b"Bag Attributes\n    friendlyName: agent\nKey Attributes: <No Attributes>\n", pem, b"\nend\n"]
        .concat()
}

/// The same PEM after a byte order mark, as some editors save it.
pub(crate) fn with_byte_order_mark(pem: &[u8]) -> Vec<u8> {
    [b"\xef\xbb\xbf", pem].concat()
}

/// The first half only: a copy that was interrupted.
pub(crate) fn truncated(file: &[u8]) -> Vec<u8> {
    file[..file.len() / 2].to_vec()
}

/// A kilobyte of neither text nor ASN.1, the same every time.
pub(crate) fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..1024)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}
