//! From what OpenSSL reports to whose fault it is: one error of the catalogue.
//!
//! Numbers are those of `openssl/sslerr.h`, `openssl/x509_vfy.h` and the TLS alert registry.

use std::error::Error as StdError;
use std::io;
use std::ops::RangeInclusive;

use openssl::error as openssl_error;
use openssl::ssl::{self, ErrorCode, SslRef};

use super::verify::{REVOKED, Refusal, SELF_SIGNED_LEAF};
use super::witness::{Testimony, Witness};
use crate::error::{Code, Error};

/// What this end brought to the handshake; decides how a refusal is read.
#[derive(Debug, Clone)]
pub struct Role {
    /// The peer as it was dialled.
    pub peer: String,
    /// The name that was verified.
    pub name: String,
    /// Whether a client certificate was at hand.
    pub identity: bool,
}

/// Alerts arrive as reason codes of 1000 plus the alert's number, which is a byte.
const ALERTS: RangeInclusive<i32> = 1000..=1255;
/// The library that alerts and the other reasons belong to, as `openssl/err.h` numbers it.
const ERR_LIB_SSL: i32 = 20;

/// Explains a handshake that failed.
pub fn handshake_failure(error: ssl::Error, ssl: &SslRef, witness: &Witness, role: &Role) -> Error {
    let reason = reason(&error);
    let testimony = witness.testimony().or_else(|| match reason {
        // A connector that was made elsewhere has no witness; OpenSSL remembers the number at least.
        Some(CERTIFICATE_VERIFY_FAILED) => Testimony::of(ssl.verify_result()),
        _ => None,
    });
    if let Some(testimony) = testimony {
        return certificate_failure(&testimony, role);
    }
    let at = |code| Error::new(code).peer(&role.peer);
    match (error.code(), reason) {
        (_, Some(BAD_EXTENSION)) if is_about_alpn(&error) => at(Code::AlpnMissing)
            .found("the choice of a protocol that was not offered")
            .expected("h2")
            .because(error),
        // What the token's provider says comes first, and may be nothing.
        _ if signing_failed(&error) => at(Code::OwnKeyFailed).because(error),
        // A FIPS provider refuses to derive keys without it.
        _ if failed_in(&error, "tls1_prf") => at(Code::FipsConnection)
            .found("TLS 1.2 without the extended master secret")
            .because(error),
        (_, Some(reason)) => explain(reason, role, false).because(error),
        (ErrorCode::ZERO_RETURN, None) => at(Code::HandshakeClosed),
        (ErrorCode::SYSCALL, None) => match error.io_error().map(io::Error::kind) {
            None
            | Some(
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe,
            ) => at(Code::HandshakeClosed).because(error),
            Some(_) => at(Code::HandshakeFailed).because(error),
        },
        _ => at(Code::HandshakeFailed).because(error),
    }
}

/// Adds what may be behind it when nothing at all came back to a first message that does not fit into
/// one packet, as with a post-quantum key share: some devices drop what they cannot put together.
pub(crate) fn of_large_hello(error: Error, ssl: &SslRef) -> Error {
    /// What an Ethernet packet has room for after the heads of IPv6 and TCP with options.
    const ONE_PACKET: u64 = 1428;
    let (read, written) = ossl_ext::bytes_moved(ssl);
    let silent = [Code::HandshakeTimedOut, Code::HandshakeClosed].contains(&error.code());
    if !silent || read > 0 || written <= ONE_PACKET {
        return error;
    }
    error.found(format!("no answer to a first message of {written} bytes, more than one packet")).hint(
        "check that the port speaks TLS; if it does, a firewall or load balancer on the way may drop a \
         ClientHello with a post-quantum key share: when agent.ssl_groups=P-256:P-384 helps, one does, and \
         needs an update",
    )
}

/// Explains a TLS failure after the handshake: with TLS 1.3 the server judges the client's
/// certificate only then. `None` when the failure is not TLS's.
pub fn later_failure(error: &io::Error, role: &Role) -> Option<Error> {
    let inner = error.get_ref()?;
    let reason = reason(inner)?;
    // That is not TLS's fault.
    if reason == UNEXPECTED_EOF {
        return None;
    }
    Some(explain(reason, role, true).because(inner.to_string()))
}

/// Whether the connection ended without the alert that says so (close_notify).
pub fn was_cut(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| reason(inner)) == Some(UNEXPECTED_EOF)
}

const CERTIFICATE_VERIFY_FAILED: i32 = 134;
/// "unexpected eof while reading".
const UNEXPECTED_EOF: i32 = 294;
const BAD_EXTENSION: i32 = 110;

/// Newer OpenSSL refuses by itself a server that chooses what was not offered.
fn is_about_alpn(error: &ssl::Error) -> bool {
    failed_in(error, "alpn")
}

/// Whether the first error is of a function with this in its name.
fn failed_in(error: &ssl::Error, what: &str) -> bool {
    let first = error.ssl_error().and_then(|stack| stack.errors().first());
    first.and_then(|first| first.function()).is_some_and(|function| function.contains(what))
}

/// Whether this end could not sign the handshake.
fn signing_failed(error: &ssl::Error) -> bool {
    let errors = error.ssl_error().into_iter().flat_map(|stack| stack.errors());
    errors.filter_map(|error| error.function()).any(|of| of == "tls_construct_cert_verify")
}

/// The reason code of the first TLS error in OpenSSL's queue.
fn reason(error: &(dyn StdError + 'static)) -> Option<i32> {
    reason_in(error.downcast_ref::<ssl::Error>()?.ssl_error()?.errors())
}

/// Each library numbers its reasons by itself: those of a provider, for instance, say nothing here, and
/// may stand first.
fn reason_in(errors: &[openssl_error::Error]) -> Option<i32> {
    let first = errors.iter().find(|error| error.library_code() == ERR_LIB_SSL)?;
    Some(first.reason_code())
}

fn explain(reason: i32, role: &Role, later: bool) -> Error {
    let at = |code| Error::new(code).peer(&role.peer);
    match reason {
        // http request / https proxy request, packet length too long, record layer: plaintext.
        155 | 156 | 198 | 199 | 244 | 245 => {
            at(Code::PeerNotTls).found("an answer that is not TLS")
        }
        // wrong version number: plaintext bytes where a record header was expected.
        267 => at(Code::PeerNotTls).found("an answer that is not TLS"),
        // no protocols available: openssl.cnf ends below TLS 1.2.
        191 => at(Code::NoCommonProtocol)
            .found("an openssl.cnf that allows no TLS version from 1.2 on")
            .hint("raise MaxProtocol in openssl.cnf: skytls never goes below TLS 1.2"),
        // unknown protocol, unsupported protocol, version too low / wrong ssl version.
        252 | 258 | 266 | 396 => at(Code::NoCommonProtocol)
            .found("a TLS version that is switched off here")
            .expected("TLS 1.2 or newer, as openssl.cnf allows"),
        // no ciphers available, no shared cipher, unknown cipher, wrong cipher, no suitable groups,
        // bad or unsupported signature, dh key too small.
        181 | 193 | 248 | 261 | 297 | 101 | 118 | 370 | 394 => at(Code::NoCommonCipher),
        UNEXPECTED_EOF => at(Code::HandshakeClosed).found("end of the connection"),
        // invalid status response: our own judgement, without a witness.
        328 => at(Code::OcspRefused),
        // Without a witness, and forgotten by OpenSSL.
        CERTIFICATE_VERIFY_FAILED => at(Code::CertificateUntrusted),
        reason if ALERTS.contains(&reason) => alert(reason - ALERTS.start(), role, later),
        _ => at(Code::HandshakeFailed),
    }
}

/// RFC 8446 section 6.2.
fn alert(number: i32, role: &Role, later: bool) -> Error {
    let name = alert_name(number);
    let at = |code| Error::new(code).peer(&role.peer).found(format!("alert {number} ({name})"));
    match number {
        116 => at(Code::ClientCertificateMissing),
        // handshake_failure is also how a TLS 1.2 server asks for a missing client certificate.
        40 if !role.identity => at(Code::HandshakeRefused).hint(
            "no common cipher suite or group, or the backend demands a client certificate: \
             set agent.ssl_cert_chain_path and agent.ssl_key_path if it does",
        ),
        40 | 71 => at(Code::NoCommonCipher),
        42 | 43 | 44 | 45 | 46 | 48 | 49 | 51 if role.identity => {
            at(Code::ClientCertificateRefused)
        }
        42 | 46 | 48 if later => at(Code::ClientCertificateMissing),
        70 => at(Code::NoCommonProtocol).expected("TLS 1.2 or newer at the backend"),
        112 => at(Code::HandshakeRefused).hint(
            "the backend knows no such server name: set agent.ssl_sni or agent.ssl_server_name",
        ),
        120 => at(Code::AlpnMissing).expected("h2"),
        _ => at(Code::HandshakeRefused),
    }
}

fn alert_name(number: i32) -> &'static str {
    match number {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        90 => "user_canceled",
        109 => "missing_extension",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "unknown",
    }
}

fn certificate_failure(seen: &Testimony, role: &Role) -> Error {
    let code = match seen.code {
        SELF_SIGNED_LEAF => match seen.refusal {
            None | Some(Refusal::NoSuchName | Refusal::SelfSigned) => Code::SelfSigned,
            Some(Refusal::IssuerExpired | Refusal::LeafExpired) => Code::CertificateExpired,
            Some(Refusal::IssuerNotYetValid | Refusal::LeafNotYetValid) => {
                Code::CertificateNotYetValid
            }
            Some(Refusal::IssuerWeak | Refusal::LeafWeak) => Code::CertificateWeak,
            Some(Refusal::IssuerNotCa | Refusal::IssuerConstrained | Refusal::Signature) => {
                Code::CertificateUntrusted
            }
        },
        // unable to get issuer (locally), unable to verify leaf, self-signed in chain, untrusted,
        // rejected by the anchor's own trust settings.
        2 | 19 | 20 | 21 | 27 | 28 => Code::CertificateUntrusted,
        9 => Code::CertificateNotYetValid,
        10 => Code::CertificateExpired,
        62 | 64 => Code::NameMismatch,
        REVOKED => Code::CertificateRevoked,
        // CRL missing, not decipherable, not signed by its issuer, outside its dates, its issuer
        // unknown or not allowed to sign it, of another scope.
        3 | 5 | 8 | 11 | 12 | 15 | 16 | 33 | 35 | 36 | 44 | 54 => Code::RevocationUnknown,
        73..=75 => Code::OcspRefused,
        // EE key too small, CA key too small, CA digest too weak.
        66..=68 => Code::CertificateWeak,
        _ => Code::CertificateRefused,
    };
    let mut error = Error::new(code).peer(&role.peer);
    error = match (&seen.certificate, code) {
        (None, Code::NameMismatch) => error.expected(&role.name),
        (Some(_), Code::NameMismatch) => error.found(&seen.names).expected(&role.name),
        (Some(certificate), _) => error.found(format!(
            "{} issued by {}, valid from {} to {}, at depth {}",
            certificate.subject,
            certificate.issuer,
            certificate.not_before,
            certificate.not_after,
            seen.depth
        )),
        (None, _) => error,
    };
    let openssl = format!("OpenSSL's verify error {}: {}", seen.code, seen.text);
    match seen.refusal {
        // The leaf names itself as issuer; say why the CA file did not help.
        Some(refusal) => error.because(format!("{openssl}: {refusal}")),
        None => error.because(openssl),
    }
}

#[cfg(test)]
mod tests {
    use openssl::cipher::Cipher;
    use openssl::error::ErrorStack;
    use openssl::ssl::{SslContext, SslMethod};

    use super::*;

    fn role() -> Role {
        Role { peer: "oap:11800".into(), name: "oap".into(), identity: true }
    }

    /// What a FIPS provider that has failed, or does not have an algorithm, leaves in the queue.
    #[test]
    fn what_failed_here_is_not_told_as_an_alert_of_the_backend() {
        let local = Cipher::fetch(None, "no such cipher", None).err().unwrap();
        assert!(local.errors()[0].reason_code() > *ALERTS.end(), "{local:?}");
        assert_eq!(reason_in(local.errors()), None);
        // TLS's own reason comes behind it.
        let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
        let tls = context.set_cipher_list("no such cipher").unwrap_err();
        let expected = tls.errors()[0].reason_code();
        local.put();
        tls.put();
        assert_eq!(reason_in(ErrorStack::get().errors()), Some(expected));
    }

    #[test]
    fn an_alert_is_a_byte() {
        for (reason, code) in [
            (1000, Code::HandshakeRefused),
            (1048, Code::ClientCertificateRefused),
            (1255, Code::HandshakeRefused),
            (999, Code::HandshakeFailed),
            (1256, Code::HandshakeFailed),
            // ERR_R_UNSUPPORTED, which every library may give as its reason.
            (524_556, Code::HandshakeFailed),
        ] {
            assert_eq!(explain(reason, &role(), false).code(), code, "{reason}");
        }
    }
}
