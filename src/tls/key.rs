//! The private key of a file: PKCS#1, PKCS#8, SEC1, PKCS#12; PEM or DER; never asks on a terminal.

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};

use super::contents::{Contents, Shape};
use super::{archive, read};
use crate::config::{Secret, Source};
use crate::error::{Code, Error, Result};

const KEY: &str = "agent.ssl_key_path";
const PASSPHRASE: &str = "agent.ssl_key_passphrase";

/// Reads every private key of a source, at least one: a file may hold several, and which of them
/// is meant shows only beside the certificate.
pub(super) fn load(source: &Source, passphrase: Option<&Secret>) -> Result<Vec<PKey<Private>>> {
    let bytes = read::bytes(source, KEY)?;
    let secret = super::passphrase_bytes(passphrase, PASSPHRASE)?;
    let contents = Contents::of(&bytes);
    let fault = |code| {
        Error::new(code)
            .key(KEY)
            .file(source.to_string())
            .found(contents.describe())
            .expected("a private key in PEM or DER (PKCS#8, PKCS#1 or SEC1)")
    };
    let decrypted = |result: Result<PKey<Private>, ErrorStack>, encrypted: bool| {
        result.map_err(|error| match (encrypted, passphrase) {
            (true, Some(_)) if archive::needs_legacy(&error) => {
                fault(Code::LegacyEncryption).because(error)
            }
            (true, None) => fault(Code::PassphraseNeeded),
            (true, Some(_)) => fault(Code::PassphraseWrong).because(error),
            (false, _) => fault(Code::Damaged).because(error),
        })
    };
    match &contents {
        Contents::Pem(blocks) => {
            let mut keys = Vec::new();
            for block in blocks.iter().filter(|block| block.is_private_key()) {
                if block.encrypted && passphrase.is_none() {
                    return Err(fault(Code::PassphraseNeeded));
                }
                // The passphrase is always given, if only an empty one: without it OpenSSL prompts.
                let key = PKey::private_key_from_pem_passphrase(&block.pem, &secret);
                keys.push(decrypted(key, block.encrypted)?);
            }
            if keys.is_empty() {
                Err(wrong_type(fault(Code::WrongType), &contents))
            } else {
                Ok(keys)
            }
        }
        Contents::Der(Shape::PrivateKey) => {
            Ok(vec![decrypted(PKey::private_key_from_der(&bytes), false)?])
        }
        Contents::Der(Shape::EncryptedPrivateKey) => {
            if passphrase.is_none() {
                return Err(fault(Code::PassphraseNeeded));
            }
            Ok(vec![decrypted(PKey::private_key_from_pkcs8_passphrase(&bytes, &secret), true)?])
        }
        Contents::Der(Shape::Pkcs12) => {
            let key = archive::open(&bytes, passphrase, fault)?.key;
            key.map(|key| vec![key]).ok_or_else(|| {
                fault(Code::WrongType)
                    .hint("the file holds no private key: export it again with its key")
            })
        }
        Contents::Der(Shape::Other) | Contents::Unknown => Err(fault(Code::NotRecognised)),
        Contents::Der(_) => Err(wrong_type(fault(Code::WrongType), &contents)),
        Contents::CutOff(_) => Err(fault(Code::Damaged)),
    }
}

/// Some wrong types have a one-line remedy.
fn wrong_type(error: Error, contents: &Contents) -> Error {
    let holds = |label: &str| matches!(contents, Contents::Pem(blocks) if blocks.iter().any(|block| block.label == label));
    if holds("OPENSSH PRIVATE KEY") {
        error.hint("convert it: ssh-keygen -p -m PKCS8 -f FILE")
    } else {
        error
    }
}
