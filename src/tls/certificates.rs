//! The certificates of a file: CA bundles and client chains, PEM or DER.

use openssl::x509::X509;

use super::contents::{Contents, Shape};
use super::read;
use crate::config::Source;
use crate::error::{Code, Error, Result};

/// Reads every certificate of a source, in the order of the file; at least one.
pub(super) fn load(source: &Source, key: &str) -> Result<Vec<X509>> {
    let bytes = read::bytes(source, key)?;
    let contents = Contents::of(&bytes);
    let fault = |code| {
        Error::new(code)
            .key(key)
            .file(source.to_string())
            .found(contents.describe())
            .expected("certificates in PEM or DER")
    };
    match &contents {
        Contents::Pem(blocks) => {
            let mut certificates = Vec::new();
            for block in blocks.iter().filter(|block| block.is_certificate()) {
                let number = certificates.len() + 1;
                let certificate = X509::from_pem(&block.pem).map_err(|error| {
                    Error::new(Code::Damaged)
                        .key(key)
                        .file(source.to_string())
                        .found(format!("certificate {number} cannot be decoded"))
                        .expected("certificates in PEM or DER")
                        .because(error)
                })?;
                certificates.push(certificate);
            }
            if certificates.is_empty() {
                Err(wrong_type(fault(Code::WrongType), &contents))
            } else {
                Ok(certificates)
            }
        }
        Contents::Der(Shape::Certificate) => X509::from_der(&bytes)
            .map(|certificate| vec![certificate])
            .map_err(|error| fault(Code::Damaged).because(error)),
        Contents::Der(Shape::Other) => Err(fault(Code::NotRecognised)),
        Contents::Der(_) => Err(wrong_type(fault(Code::WrongType), &contents)),
        Contents::CutOff(_) => Err(fault(Code::Damaged)),
        Contents::Unknown => Err(fault(Code::NotRecognised)),
    }
}

/// Some wrong types have a one-line remedy.
fn wrong_type(error: Error, contents: &Contents) -> Error {
    let holds = |label: &str| matches!(contents, Contents::Pem(blocks) if blocks.iter().any(|block| block.label.ends_with(label)));
    if holds("CERTIFICATE REQUEST") || matches!(contents, Contents::Der(Shape::CertificateRequest))
    {
        error.hint("this is a request: use the certificate that the CA made from it")
    } else if holds("TRUSTED CERTIFICATE") {
        error.hint("convert it: openssl x509 -in FILE -out FILE.crt")
    } else if holds("PKCS7") || matches!(contents, Contents::Der(Shape::Pkcs7)) {
        error.hint("convert it: openssl pkcs7 -print_certs -in FILE -out FILE.crt (add -inform DER for DER)")
    } else if matches!(contents, Contents::Der(Shape::Pkcs12)) {
        error.hint("convert it: openssl pkcs12 -in FILE -nokeys -out FILE.crt")
    } else {
        error
    }
}
