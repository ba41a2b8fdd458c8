//! The certificates of a file: CA bundles and client chains; PEM, DER, PKCS#7 and PKCS#12.
//!
//! Tells what a file holds by its content. Which certificate is whose, and the order, is decided by
//! the caller.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkcs7::Pkcs7;
use openssl::x509::X509;

use super::contents::{Block, Contents, Shape};
use super::realm::Realm;
use super::{archive, folder, preflight, read};
use crate::config::{Secret, Source};
use crate::error::{Code, Error, Result};

/// What the certificates are for; decides which containers are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// CA certificates: a file, or a folder as `openssl rehash` makes it.
    Anchors,
    /// The client's own, with the passphrase of a PKCS#12.
    Chain(Option<&'a Secret>),
}

/// Reads every certificate of a source into a realm, in the order of the file; at least one.
pub(super) fn load(
    source: &Source,
    key: &str,
    purpose: Purpose<'_>,
    realm: &Realm,
) -> Result<Vec<X509>> {
    let found = found(source, key, purpose, realm)?;
    if realm.fips().is_some() {
        let role = match purpose {
            Purpose::Anchors => preflight::Role::Anchor,
            Purpose::Chain(_) => preflight::Role::Own,
        };
        if let Some(objection) = preflight::certificates(&found, role).into_iter().next() {
            return Err(objection.error(key, &source.to_string()));
        }
    }
    realm.adopt(found)
}

/// The certificates of a source as the default context reads them: no key is used there.
pub(super) fn found(
    source: &Source,
    key: &str,
    purpose: Purpose<'_>,
    realm: &Realm,
) -> Result<Vec<X509>> {
    if let Source::Uri(uri) = source {
        let secret = match purpose {
            Purpose::Anchors => None,
            Purpose::Chain(passphrase) => passphrase,
        };
        let objects = realm.load(source, uri, secret, key, "cert")?;
        return some(objects.certificates).ok_or_else(|| {
            Error::new(Code::UriFailed)
                .key(key)
                .file(source.to_string())
                .found("no certificate")
                .expected("a URI of certificates")
        });
    }
    if let (Purpose::Anchors, Some(path)) = (purpose, source.path().filter(|path| path.is_dir())) {
        return hashed_folder(path, key);
    }
    let bytes = read::bytes(source, key)?;
    if realm.fips().is_some()
        && let Purpose::Chain(_) = purpose
        && let contents @ Contents::Der(Shape::Pkcs12) = Contents::of(&bytes)
        && let Some(objection) = preflight::form(&contents, &bytes)
    {
        return Err(objection.error(key, &source.to_string()));
    }
    decode(&bytes, &source.to_string(), key, purpose)
}

/// The certificates that OpenSSL would find in a folder by the hash of their subject.
fn hashed_folder(path: &Path, key: &str) -> Result<Vec<X509>> {
    let mut found = Vec::new();
    for entry in folder::entries(path, key, folder::Kind::Certificates)? {
        let file = Source::File(entry.path);
        let bytes = read::bytes(&file, key)?;
        let all = decode(&bytes, &file.to_string(), key, Purpose::Anchors)?;
        // Links by the hash of old versions may stand beside those of today's.
        found.extend(all.into_iter().filter(|x| x.subject_name_hash() == entry.hash));
    }
    if found.is_empty() { Err(folder::not_hashed(path, key)) } else { Ok(found) }
}

fn decode(bytes: &[u8], file: &str, key: &str, purpose: Purpose<'_>) -> Result<Vec<X509>> {
    let contents = Contents::of(bytes);
    let fault = |code| {
        Error::new(code)
            .key(key)
            .file(file)
            .found(contents.describe())
            .expected("certificates in PEM or DER")
    };
    let damaged = |error: ErrorStack| fault(Code::Damaged).because(error);
    match &contents {
        Contents::Pem(blocks) => {
            let mut certificates = Vec::new();
            for block in blocks {
                let number = certificates.len() + 1;
                certificates.extend(from_block(block).map_err(|error| {
                    let error = error.map_or_else(|| "it is encrypted".into(), |e| e.to_string());
                    Error::new(Code::Damaged)
                        .key(key)
                        .file(file)
                        .found(format!("certificate {number} cannot be decoded"))
                        .expected("certificates in PEM or DER")
                        .because(error)
                })?);
            }
            some(certificates).ok_or_else(|| wrong_type(fault(Code::WrongType), &contents))
        }
        Contents::Der(Shape::Certificate) => {
            X509::from_der(bytes).map(|certificate| vec![certificate]).map_err(damaged)
        }
        Contents::Der(Shape::Pkcs7) => {
            let all = Pkcs7::from_der(bytes).map(|pkcs7| signed(&pkcs7)).map_err(damaged)?;
            some(all).ok_or_else(|| fault(Code::WrongType).hint(NO_CERTIFICATES))
        }
        Contents::Der(Shape::Pkcs12) => match purpose {
            Purpose::Anchors => Err(wrong_type(fault(Code::WrongType), &contents)),
            Purpose::Chain(passphrase) => {
                let archive = archive::open(bytes, passphrase, fault)?;
                some(archive.certificates)
                    .ok_or_else(|| fault(Code::WrongType).hint(NO_CERTIFICATES))
            }
        },
        Contents::Der(Shape::Other) => Err(fault(Code::NotRecognised)),
        Contents::Der(_) => Err(wrong_type(fault(Code::WrongType), &contents)),
        Contents::CutOff(_) => Err(fault(Code::Damaged)),
        Contents::Unknown => Err(fault(Code::NotRecognised)),
    }
}

const NO_CERTIFICATES: &str =
    "the file holds no certificate: export it again with its certificates";

/// The certificates of one block; none of another kind of block. `None` as the error: the block is
/// encrypted, which OpenSSL would prompt for.
fn from_block(block: &Block) -> Result<Vec<X509>, Option<ErrorStack>> {
    if !block.is_certificate() && !block.is_pkcs7() {
        return Ok(Vec::new());
    }
    if block.encrypted {
        return Err(None);
    }
    if block.is_pkcs7() {
        return Pkcs7::from_pem(&block.pem).map(|pkcs7| signed(&pkcs7)).map_err(Some);
    }
    // The trust settings stay with the certificate, and OpenSSL respects them.
    ossl_ext::certificate_with_trust(&block.pem).map(|one| vec![one]).map_err(Some)
}

fn signed(pkcs7: &Pkcs7) -> Vec<X509> {
    let certificates = pkcs7.signed().and_then(|signed| signed.certificates());
    certificates.into_iter().flatten().map(ToOwned::to_owned).collect()
}

fn some(certificates: Vec<X509>) -> Option<Vec<X509>> {
    Some(certificates).filter(|certificates| !certificates.is_empty())
}

/// Some wrong types have a one-line remedy.
fn wrong_type(error: Error, contents: &Contents) -> Error {
    let holds = |label: &str| matches!(contents, Contents::Pem(blocks) if blocks.iter().any(|block| block.label.ends_with(label)));
    if holds("CERTIFICATE REQUEST") || matches!(contents, Contents::Der(Shape::CertificateRequest))
    {
        error.hint("this is a request: use the certificate that the CA made from it")
    } else if holds("X509 CRL") || matches!(contents, Contents::Der(Shape::RevocationList)) {
        error.hint("this is a revocation list: name it in agent.ssl_crl_path")
    } else if matches!(contents, Contents::Der(Shape::Pkcs12)) {
        error.hint("take its certificates out: openssl pkcs12 -in FILE -nokeys -out FILE.crt")
    } else {
        error
    }
}
