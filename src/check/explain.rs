//! From a handshake that failed to the line that explains it: what is true of both ends, and what to do.
//!
//! Certificates are explained in `trust`; which error it is was decided by `tls::diagnose` already.

use openssl::x509::X509;

use super::{Check, Ours, TlsReport, reason, trust};
use crate::error::{Code, Error, Fact};
use crate::transport::Target;

/// All that is known about one handshake.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) target: &'a Target,
    pub(super) ours: Ours<'a>,
    pub(super) seen: &'a TlsReport,
    /// As presented.
    pub(super) chain: &'a [X509],
    /// The name to verify.
    pub(super) name: &'a str,
}

pub(super) const ALPN_FACT: &str = "the backend agrees to HTTP/2";
const CLIENT_FACT: &str = "the backend takes the client certificate";

/// Explains a handshake that failed, or an alert right behind it.
pub(super) fn failure(evidence: &Evidence<'_>, error: &Error) -> Vec<Check> {
    let address = evidence.target.to_string();
    let see = format!("openssl s_client -connect {address} -alpn h2");
    let check = match error.code() {
        Code::PeerNotTls => {
            Check::error("tls.spoken", "the backend speaks TLS on this port", error).remedy(
                format!(
                    "name the backend's TLS port, or turn TLS on there; {see} shows what answers"
                ),
            )
        }
        Code::NoCommonProtocol => {
            Check::error("tls.version", "both ends allow one TLS version", error).remedy(format!(
                "let the backend offer TLS 1.2 or newer; {see} -tls1_2 shows whether it does"
            ))
        }
        Code::NoCommonCipher => cipher(evidence, error),
        Code::ClientCertificateRefused | Code::ClientCertificateMissing => {
            return vec![client_certificate(evidence.ours, evidence.seen, error)];
        }
        Code::AlpnMissing => alpn(evidence, error),
        // A server says no more than "handshake failure", alert 40, when nothing fits, and also,
        // with TLS 1.2, when it misses a certificate: then it has shown its own before.
        Code::HandshakeRefused if failure_alert(error) && evidence.chain.is_empty() => {
            cipher(evidence, error)
        }
        Code::HandshakeRefused if failure_alert(error) && asked(evidence) => {
            let error = Error::new(Code::ClientCertificateMissing)
                .peer(evidence.target)
                .found("alert 40 (handshake_failure) after it asked for a certificate");
            return vec![client_certificate(evidence.ours, evidence.seen, &error)];
        }
        Code::CertificateUntrusted
        | Code::CertificateExpired
        | Code::CertificateNotYetValid
        | Code::NameMismatch
        | Code::SelfSigned
        | Code::CertificateWeak
        | Code::CertificateRevoked
        | Code::RevocationUnknown
        | Code::OcspRefused
        | Code::CertificateRefused => return trust::refused(evidence, error),
        Code::HandshakeFailed if reason(error).contains("legacy renegotiation") => {
            Check::error("tls.renegotiation", "the backend renegotiates safely (RFC 5746)", error)
                .remedy(
                    "update the backend's TLS: it is open to an attack of 2009; until then, and at \
                     that risk, Options = UnsafeLegacyServerConnect in openssl.cnf lets it pass",
                )
        }
        _ => Check::error("tls.handshake", "the TLS handshake succeeds", error)
            .remedy(format!("{}; {see} shows the handshake", error.remedy())),
    };
    vec![check]
}

fn cipher(evidence: &Evidence<'_>, error: &Error) -> Check {
    let fact = "both ends allow one cipher suite, group and signature algorithm";
    Check::error("tls.cipher", fact, error).remedy(format!(
        "compare CipherString, Ciphersuites, Groups and SignatureAlgorithms of the openssl.cnf in \
         force with what the backend offers; openssl ciphers -v -s lists ours, and openssl s_client \
         -connect {} shows whether any fits",
        evidence.target
    ))
}

fn failure_alert(error: &Error) -> bool {
    error.get(Fact::Found).is_some_and(|found| found.starts_with("alert 40 "))
}

/// The server asked for a certificate, and there was none to show.
fn asked(evidence: &Evidence<'_>) -> bool {
    !evidence.seen.client_ca_names.is_empty() && evidence.ours.description.chain.is_empty()
}

/// No `h2`: whoever answers is not, or does not let through, a gRPC server.
pub(super) fn alpn(evidence: &Evidence<'_>, error: &Error) -> Check {
    let issuer = evidence.seen.chain.first().map(|leaf| leaf.issuer.as_str());
    let check = Check::error("alpn.h2", ALPN_FACT, error);
    let check = match issuer {
        Some(issuer) => check.also(&format!(
            "its certificate is issued by {issuer}: if that is not the backend's CA, a \
             TLS-inspecting proxy without HTTP/2 answers"
        )),
        None => check,
    };
    check.remedy(format!(
        "name a gRPC port, or exempt {} from TLS inspection; openssl s_client -connect {} -alpn h2 \
         shows who answers and what is chosen",
        evidence.target, evidence.target
    ))
}

/// The server refuses our certificate, or wants one.
pub(super) fn client_certificate(ours: Ours<'_>, seen: &TlsReport, error: &Error) -> Check {
    let check = Check::error("tls.client_certificate", CLIENT_FACT, error);
    let names = &seen.client_ca_names;
    let accepted = match names.as_slice() {
        [] => "it does not say which CAs it accepts".to_owned(),
        names => format!("it accepts certificates issued by {}", names.join(" or ")),
    };
    let check = check.also(&accepted);
    let chain = &ours.description.chain;
    let Some(leaf) = chain.first() else {
        return check.remedy(
            "get a client certificate from a CA that the backend accepts, and set \
             agent.ssl_cert_chain_path and agent.ssl_key_path",
        );
    };
    let check = check.also(&format!("ours is {}, issued by {}", leaf.subject, leaf.issuer));
    if leaf.days_left < 0 {
        return check
            .also("it has ended")
            .remedy("renew the client certificate and restart the agent");
    }
    let source = ours.description.identity_source.as_deref().unwrap_or("CERT");
    if names.is_empty() || leads_to(ours, names) {
        check.remedy(format!(
            "check that the backend's CA file holds the very certificate of {}, that the client \
             certificate is for clients and that both clocks are right; openssl x509 -in {source} \
             -noout -issuer -dates -purpose shows what it sees",
            leaf.issuer
        ))
    } else {
        check.remedy(format!(
            "use a client certificate of a CA that the backend accepts, or add the certificate of \
             {} to the backend's CA file; openssl x509 -in {source} -noout -issuer shows ours",
            leaf.issuer
        ))
    }
}

/// What the list of acceptable CAs means for our chain, where the backend has sent one.
pub(super) fn accepted_issuers(ours: Ours<'_>, seen: &TlsReport) -> Option<Check> {
    let names = &seen.client_ca_names;
    if names.is_empty() {
        return None;
    }
    let (id, value) = ("tls.client_ca_list", names.join(" or "));
    let fact = "the backend accepts client certificates of our CA";
    if ours.description.chain.is_empty() {
        return Some(Check::ok(
            id,
            "the backend asks for a client certificate, if there is one",
            value,
        ));
    }
    if leads_to(ours, names) {
        return Some(Check::ok(id, fact, value));
    }
    let issuers: Vec<&str> = ours.description.chain.iter().map(|own| own.issuer.as_str()).collect();
    Some(
        Check::warning(id, fact, value)
            .why(format!("our chain is issued by {}", issuers.join(", ")))
            .remedy("use a client certificate of one of these CAs"),
    )
}

/// What became of our certificate, if there is one.
pub(super) fn identity(ours: Ours<'_>, seen: &TlsReport) -> Option<Check> {
    let leaf = ours.description.chain.first()?;
    if seen.identity_shown {
        return Some(Check::ok("tls.client_certificate", CLIENT_FACT, leaf.subject.as_str()));
    }
    let check = Check::warning("tls.client_certificate", CLIENT_FACT, "it was not asked for");
    Some(
        check
            .why("mutual TLS is set up at this end, but this port does not ask for a certificate")
            .remedy(
                "name the port of OAP's sharing server (SW_RECEIVER_GRPC_PORT), which alone can \
                 demand client certificates, and set SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH there; or \
                 do without agent.ssl_cert_chain_path and agent.ssl_key_path",
            ),
    )
}

fn leads_to(ours: Ours<'_>, names: &[String]) -> bool {
    ours.description.chain.iter().any(|own| names.contains(&own.issuer))
}
