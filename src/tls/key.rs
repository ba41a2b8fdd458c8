//! The private key of a file: PKCS#1, PKCS#8, SEC1, PKCS#12; PEM or DER; never asks on a terminal.

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};

use super::contents::{Contents, Shape};
use super::identity::Names;
use super::realm::Realm;
use super::{archive, fips, preflight, read};
use crate::config::{Secret, Source};
use crate::error::{Code, Error, Result};

/// Reads every private key of a source, at least one: a file may hold several, and which of them
/// is meant shows only beside the certificate.
pub(super) fn load(
    source: &Source,
    passphrase: Option<&Secret>,
    names: &Names,
    realm: &Realm,
) -> Result<Vec<PKey<Private>>> {
    if let Source::Uri(uri) = source {
        let keys = realm.load(source, uri, passphrase, names.key, "private")?.keys;
        return if keys.is_empty() {
            let error = Error::new(Code::UriFailed).key(names.key).file(source.to_string());
            Err(error.found("no private key").expected("a URI of a private key"))
        } else {
            Ok(keys)
        };
    }
    let bytes = read::bytes(source, names.key)?;
    let secret = super::passphrase_bytes(passphrase, names.passphrase.unwrap_or(names.key))?;
    let contents = Contents::of(&bytes);
    let fault = |code| {
        let error = Error::new(code)
            .key(names.key)
            .file(source.to_string())
            .found(contents.describe())
            .expected("a private key in PEM or DER (PKCS#8, PKCS#1 or SEC1)");
        match (code, names.passphrase) {
            // The catalogue speaks of a setting that is not this key's.
            (Code::PassphraseNeeded | Code::PassphraseWrong, None) => {
                error.hint("decrypt it: openssl pkey -in FILE -out FILE.plain")
            }
            _ => error,
        }
    };
    let decrypted = |result: Result<PKey<Private>, ErrorStack>, encrypted: bool| {
        result.map_err(|error| match (encrypted, passphrase) {
            (true, Some(_)) if archive::needs_legacy(&error) => {
                fault(Code::LegacyEncryption).because(error)
            }
            (true, None) => fault(Code::PassphraseNeeded),
            (true, Some(_)) => fault(Code::PassphraseWrong).because(error),
            (false, _) if realm.fips().is_some() => {
                preflight::unknown_key("of the file").error(names.key, &source.to_string())
            }
            (false, _) => fault(Code::Damaged).because(error),
        })
    };
    if realm.fips().is_some()
        && let Some(objection) = preflight::form(&contents, &bytes)
    {
        return Err(objection.error(names.key, &source.to_string()));
    }
    let read = |bytes: &[u8], encrypted| {
        // The passphrase is always given, if only an empty one: without it OpenSSL prompts.
        let key = decrypted(realm.private_key(bytes, &secret), encrypted)?;
        if realm.fips().is_none() {
            return Ok(key);
        }
        match preflight::key(&key, "of the file") {
            Some(objection) => Err(objection.error(names.key, &source.to_string())),
            None if !fips::serves(&key) => Err(fips::not_served("the private key")),
            None => Ok(key),
        }
    };
    match &contents {
        Contents::Pem(blocks) => {
            let mut keys = Vec::new();
            for block in blocks.iter().filter(|block| block.is_private_key()) {
                if block.encrypted && passphrase.is_none() {
                    return Err(fault(Code::PassphraseNeeded));
                }
                keys.push(read(&block.pem, block.encrypted)?);
            }
            if keys.is_empty() {
                Err(wrong_type(fault(Code::WrongType), &contents))
            } else {
                Ok(keys)
            }
        }
        Contents::Der(Shape::PrivateKey) => Ok(vec![read(&bytes, false)?]),
        Contents::Der(Shape::EncryptedPrivateKey) => {
            if passphrase.is_none() {
                return Err(fault(Code::PassphraseNeeded));
            }
            Ok(vec![read(&bytes, true)?])
        }
        Contents::Der(Shape::Pkcs12) => {
            let key = archive::open(&bytes, passphrase, fault)?.key;
            let key = key.ok_or_else(|| {
                fault(Code::WrongType)
                    .hint("the file holds no private key: export it again with its key")
            })?;
            // Into the realm, if it is not the default one.
            let der = key.private_key_to_pkcs8().map_err(|e| fault(Code::Damaged).because(e))?;
            Ok(vec![read(&der, false)?])
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
