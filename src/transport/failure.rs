//! What a failure of HTTP/2 means: which error of ours it is, and whether the call may have arrived.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use super::Target;
use super::connection::Reach;
use super::stream::Autopsy;
use crate::error::{Code, Error};

/// How far HTTP/2 had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Nothing has come from the server yet: it may be something else than a gRPC server.
    Awaited,
    /// The server has spoken HTTP/2.
    Heard,
}

/// TLS knows more than HTTP/2 about why a connection broke.
pub(super) fn explain(
    target: &Target,
    autopsy: &Autopsy,
    greeting: Greeting,
    error: hyper::Error,
) -> Error {
    if let Some(finding) = autopsy.finding() {
        return finding;
    }
    let reason = h2_error(&error).and_then(h2::Error::reason);
    let closed = error.is_closed() || error.is_canceled() || error.is_incomplete_message();
    let code = if reason == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        Code::PingsRefused
    } else if closed || (greeting == Greeting::Heard && is_broken(&error)) {
        Code::ConnectionLost
    } else {
        Code::Http2Failed
    };
    Error::new(code).peer(target).because(error)
}

/// A stream that the server refuses, or that began after the last one its GOAWAY takes, has not been
/// processed (RFC 9113 sections 6.8 and 8.7).
pub(super) fn reach(error: &hyper::Error) -> Reach {
    match h2_error(error) {
        Some(h2) if h2.is_remote() => {
            // h2 gives a stream the GOAWAY as its error only if the stream is beyond the last one.
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            if refused || h2.is_go_away() { Reach::None } else { Reach::Unknown }
        }
        _ => Reach::Unknown,
    }
}

/// Whether only a human can end this failure: credentials, TLS that does
/// not fit, or a certificate.
pub(super) fn needs_a_human(error: &Error) -> bool {
    use Code::*;
    matches!(
        error.code(),
        ProxyDenied
            | PeerNotTls
            | NoCommonProtocol
            | NoCommonCipher
            | ClientCertificateRefused
            | ClientCertificateMissing
            | CertificateUntrusted
            | CertificateExpired
            | CertificateNotYetValid
            | NameMismatch
            | SelfSigned
            | CertificateWeak
            | CertificateRefused
            | CertificateRevoked
            | RevocationUnknown
            | OcspRefused
            | AlpnMissing
            | SocketBackendWithTls
            | BackendDenies
    )
}

/// The socket ended, whatever HTTP/2 was about to do.
fn is_broken(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            ErrorKind::BrokenPipe
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::UnexpectedEof
                | ErrorKind::TimedOut
        )
    })
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref() {
            return Some(h2);
        }
        source = error.source();
    }
    None
}
