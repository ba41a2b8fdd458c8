//! The collector's side of TLS: a context from certificate, key and client CA.
//!
//! It sets no ciphers, groups or security level: those are the system's, from openssl.cnf.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef,
    SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Name};

use super::CollectorTls;
use crate::config::{Secret, Source};
use crate::error::{Code, Error, Result};

/// The only protocol spoken here, as ALPN wants it: with its length in front.
const H2: &[u8] = b"\x02h2";

/// No certificate file is larger; whoever names a disk image gets an error instead of a full memory.
const LARGEST: u64 = 4 << 20;

/// A context that accepts TLS connections for HTTP/2.
pub(super) fn context(tls: &CollectorTls) -> Result<SslContext> {
    let chain = certificates(&tls.identity.chain)?;
    let key = private_key(&tls.identity.key, tls.identity.passphrase.as_ref())?;
    let mut builder = new_builder()?;

    let Some((leaf, above)) = chain.split_first() else {
        return Err(Error::new(Code::NotRecognised).file(name(&tls.identity.chain)));
    };
    let refused = |source: &Source| {
        let name = name(source);
        move |error: ErrorStack| Error::new(Code::MaterialRefused).file(name).because(error)
    };
    builder.set_certificate(leaf).map_err(refused(&tls.identity.chain))?;
    for certificate in above {
        builder.add_extra_chain_cert(certificate.clone()).map_err(refused(&tls.identity.chain))?;
    }
    let public = leaf.public_key().map_err(refused(&tls.identity.chain))?;
    if !public.public_eq(&key) {
        return Err(Error::new(Code::KeyMismatch)
            .file(name(&tls.identity.key))
            .found(format_args!("the certificate in {}", tls.identity.chain)));
    }
    builder.set_private_key(&key).map_err(refused(&tls.identity.key))?;

    if let Some(ca) = &tls.client_ca {
        demand_client_certificates(&mut builder, &certificates(ca)?).map_err(refused(ca))?;
    }
    Ok(builder.build())
}

/// Whether the handshake agreed to HTTP/2: a client without ALPN at all gets past the callback.
pub(super) fn agreed_to_h2(ssl: &SslRef) -> bool {
    ssl.selected_alpn_protocol() == Some(&H2[1..])
}

/// The subject of the client's certificate, such as `O=acme, CN=agent`.
pub(super) fn client_subject(ssl: &SslRef) -> Option<String> {
    let certificate = ssl.peer_certificate()?;
    let mut out = String::new();
    for entry in certificate.subject_name().entries() {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(entry.object().nid().short_name().unwrap_or("?"));
        out.push('=');
        let value = entry.data().to_string().unwrap_or_default();
        // Whoever requested the certificate chose the text; a terminal must survive it.
        out.extend(value.chars().map(|c| if c.is_control() { '?' } else { c }));
    }
    Some(out)
}

fn new_builder() -> Result<SslContextBuilder> {
    let failed = |error: ErrorStack| Error::new(Code::OpenSslFailed).because(error);
    crate::tls::establish();
    let mut builder = SslContextBuilder::new(SslMethod::tls_server()).map_err(failed)?;
    // openssl.cnf may demand more than TLS 1.2; it does not get less.
    if !builder.min_proto_version().is_some_and(at_least_tls_1_2) {
        builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(failed)?;
    }
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
    // What asynchronous writing needs: a write may take less, and be repeated from another buffer.
    builder.set_mode(
        SslMode::AUTO_RETRY | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE,
    );
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(H2, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    Ok(builder)
}

fn at_least_tls_1_2(version: SslVersion) -> bool {
    version == SslVersion::TLS1_2 || version == SslVersion::TLS1_3
}

fn demand_client_certificates(
    builder: &mut SslContextBuilder,
    ca: &[X509],
) -> Result<(), ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    let mut names = Stack::<X509Name>::new()?;
    for certificate in ca {
        store.add_cert(certificate.clone())?;
        names.push(X509Name::from_der(&certificate.subject_name().to_der()?)?)?;
    }
    builder.set_verify_cert_store(store.build())?;
    builder.set_client_ca_list(names);
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    // Without it OpenSSL refuses to resume sessions of clients that showed a certificate.
    builder.set_session_id_context(b"skytls collector")
}

// === files ===

fn certificates(source: &Source) -> Result<Vec<X509>> {
    let bytes = read(source)?;
    let parsed = if is_pem(&bytes) {
        X509::stack_from_pem(&bytes)
    } else {
        X509::from_der(&bytes).map(|certificate| vec![certificate])
    };
    match parsed {
        Ok(certificates) if certificates.is_empty() => {
            Err(Error::new(Code::WrongType).file(name(source)).expected("a certificate"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(source, &bytes, error)),
    }
}

fn private_key(source: &Source, passphrase: Option<&Secret>) -> Result<PKey<Private>> {
    let bytes = Secret::new(read(source)?);
    if !is_pem(bytes.expose()) {
        return PKey::private_key_from_der(bytes.expose())
            .map_err(|error| unreadable(source, bytes.expose(), error));
    }
    let mut asked = false;
    // The callback keeps OpenSSL from asking on the terminal.
    let parsed = PKey::private_key_from_pem_callback(bytes.expose(), |buffer| {
        asked = true;
        let secret = passphrase.map_or(&b""[..], |secret| secret.expose().as_bytes());
        match buffer.get_mut(..secret.len()) {
            Some(place) if !secret.is_empty() => {
                place.copy_from_slice(secret);
                Ok(secret.len())
            }
            _ => Err(ErrorStack::get()),
        }
    });
    parsed.map_err(|error| match (asked, passphrase) {
        (true, None) => Error::new(Code::PassphraseNeeded)
            .file(name(source))
            .hint("decrypt it: openssl pkey -in FILE -out FILE.plain"),
        (true, Some(_)) => Error::new(Code::PassphraseWrong).file(name(source)).because(error),
        (false, _) if !contains(bytes.expose(), b"PRIVATE KEY-----") => {
            Error::new(Code::WrongType).file(name(source)).expected("a private key")
        }
        (false, _) => unreadable(source, bytes.expose(), error),
    })
}

fn unreadable(source: &Source, bytes: &[u8], error: ErrorStack) -> Error {
    let code = if is_pem(bytes) { Code::Damaged } else { Code::NotRecognised };
    Error::new(code).file(name(source)).because(error)
}

fn is_pem(bytes: &[u8]) -> bool {
    contains(bytes, b"-----BEGIN ")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn name(source: &Source) -> String {
    source.to_string()
}

fn read(source: &Source) -> Result<Vec<u8>> {
    let bytes = match source {
        Source::File(path) => read_file(path)?,
        Source::Bytes(bytes) => bytes.expose().clone(),
        Source::Uri(_) => {
            return Err(Error::new(Code::NotBuiltYet)
                .found(source)
                .expected("a file")
                .hint("give the collector a file: it does not open OpenSSL stores"));
        }
    };
    if bytes.is_empty() {
        return Err(Error::new(Code::FileEmpty).file(name(source)));
    }
    Ok(bytes)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::FileMissing,
            _ => Code::FileUnreadable,
        };
        Error::new(code).file(path).because(error)
    };
    // Asked before opening: opening a named pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::new(Code::FileNotRegular).file(path));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::new(Code::FileTooLarge).file(path));
    }
    Ok(bytes)
}
