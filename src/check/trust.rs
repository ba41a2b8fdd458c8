//! Why the backend's certificate was refused: by what it says, by what is trusted here, and what fixes it.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::pkey::Id;
use openssl::x509::{X509, X509Ref};

use super::explain::Evidence;
use super::{Check, days};
use crate::error::{Code, Error};
use crate::tls::CertificateInfo;
use crate::tls::name::{one_line, presented};

/// OpenSSL's `X509_V_ERR_INVALID_PURPOSE`.
const INVALID_PURPOSE: i32 = 26;

/// The line for a refused certificate.
pub(super) fn refused(evidence: &Evidence<'_>, error: &Error) -> Vec<Check> {
    let code = evidence.seen.verify_code;
    let check = match error.code() {
        Code::NameMismatch => name(evidence, error),
        Code::CertificateExpired => expired(evidence, error),
        Code::CertificateNotYetValid => early(evidence, error),
        Code::CertificateWeak => weak(evidence, error),
        Code::CertificateRefused if code == INVALID_PURPOSE => purpose(evidence, error),
        Code::CertificateUntrusted | Code::SelfSigned => untrusted(evidence, error),
        Code::CertificateRevoked | Code::RevocationUnknown => {
            let fact = "no certificate of the chain has been revoked";
            Check::error("certificate.revocation", fact, error)
        }
        Code::OcspRefused => {
            Check::error("certificate.ocsp", "the backend's OCSP answer holds", error)
        }
        _ => Check::error("certificate.accepted", "OpenSSL accepts the certificate", error)
            .remedy(format!("see OpenSSL's reason; {}", show(evidence))),
    };
    vec![check]
}

/// The command that shows what the backend presents.
fn show(evidence: &Evidence<'_>) -> String {
    format!("openssl s_client -connect {} -showcerts shows what it presents", evidence.target)
}

fn name(evidence: &Evidence<'_>, error: &Error) -> Check {
    let check = Check::error("certificate.name", "the certificate is for the name verified", error);
    let Some(leaf) = evidence.chain.first() else { return check };
    let names = presented(leaf);
    let nearest = names.split(", ").filter(|name| !name.contains('=')).max_by(|a, b| {
        let near = |name: &str| strsim::jaro_winkler(name, evidence.name);
        near(a).total_cmp(&near(b))
    });
    let mut check = check.why(format!("{} is asked for, and it is for {names}", evidence.name));
    let reissue = format!(
        "issue the backend a certificate with subjectAltName={}:{}",
        if evidence.name.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" },
        evidence.name
    );
    check = match nearest {
        Some(nearest) => {
            let settable = nearest.strip_prefix("*.").map(|rest| format!("some-host.{rest}"));
            let settable = settable.as_deref().unwrap_or(nearest);
            check.also(&format!("the nearest is {nearest}")).remedy(format!(
                "set agent.ssl_server_name={settable} if that is the backend, or {reissue}"
            ))
        }
        None => check.also("it has no subjectAltName with a name or an address").remedy(reissue),
    };
    check
}

fn expired(evidence: &Evidence<'_>, error: &Error) -> Check {
    let check = Check::error("certificate.dates", "the certificates are within their dates", error);
    let over = evidence.seen.chain.iter().find(|certificate| certificate.days_left < 0);
    // One that is trusted here ends the chain, and may be over as well.
    let over = over.or_else(|| evidence.ours.description.ca.iter().find(|ca| ca.days_left < 0));
    let Some(over) = over else { return check };
    let ours = evidence.ours.description.ca.iter().any(|ca| ca.serial == over.serial);
    let remedy = match (&evidence.ours.description.ca_source, ours) {
        (Some(source), true) => format!("put the renewed CA certificate into {source}"),
        _ => "renew it at the backend".to_owned(),
    };
    check
        .why(format!("{} {}, at {}", over.subject, days(over.days_left), over.not_after))
        .remedy(format!("{remedy}, unless this machine's clock is wrong; {}", show(evidence)))
}

fn early(evidence: &Evidence<'_>, error: &Error) -> Check {
    let check = Check::error("certificate.dates", "the certificates are within their dates", error);
    let early = evidence.chain.iter().find(|one| seconds_until(one.not_before()) > 0);
    let Some(early) = early else { return check };
    let subject = one_line(early.subject_name());
    let wait = seconds_until(early.not_before());
    let check = check.why(format!("{subject} is valid from {} on", early.not_before()));
    if wait > 24 * 3600 {
        return check.also(&format!("in {} days", wait / (24 * 3600))).remedy(
            "check the clock of this machine (date -u), or wait: the certificate was issued for later",
        );
    }
    let wait = if wait <= 3600 { "less than an hour" } else { "less than a day" };
    check
        .also(&format!("that is in {wait}: the clock of this machine may be slow, or the issuer's fast"))
        .remedy("compare the clocks of this machine and of the one that issued it: date -u, timedatectl")
}

fn weak(evidence: &Evidence<'_>, error: &Error) -> Check {
    let check = Check::error(
        "certificate.strength",
        "keys and signatures are strong enough for the security level",
        error,
    );
    let mut all: Vec<String> = evidence.chain.iter().map(|one| strength(one)).collect();
    // Some servers send their own certificate twice.
    all.dedup();
    check.why(format!("{}: {}", evidence.seen.verify_text, all.join("; "))).remedy(
        "re-issue it with a strong key and SHA-256: openssl req -new -newkey ec -pkeyopt \
             ec_paramgen_curve:P-256 -sha256; skytls does not lower SECLEVEL",
    )
}

/// `CN=x has RSA 1024 bits, signed by ecdsa-with-SHA256`.
fn strength(certificate: &X509Ref) -> String {
    let kind = certificate.public_key().map(|key| {
        let kind = match key.id() {
            Id::RSA => "RSA",
            Id::RSA_PSS => "RSA-PSS",
            Id::EC => "EC",
            Id::ED25519 | Id::ED448 => "EdDSA",
            Id::DSA => "DSA",
            _ => "another key of",
        };
        format!("{kind} {} bits", key.bits())
    });
    let algorithm = certificate.signature_algorithm().object().nid();
    format!(
        "{} has {}, signed by {}",
        one_line(certificate.subject_name()),
        kind.as_deref().unwrap_or("an unreadable key"),
        algorithm.long_name().unwrap_or("an unknown algorithm")
    )
}

fn purpose(evidence: &Evidence<'_>, error: &Error) -> Check {
    let subject = evidence.seen.chain.first().map_or("it", |leaf| leaf.subject.as_str());
    Check::error("certificate.purpose", "the certificate may be a server's", error)
        .why(format!(
            "{subject}, or one above it, is not for TLS servers by its keyUsage or \
             extendedKeyUsage: perhaps the backend presents a client's certificate"
        ))
        .remedy(format!(
            "issue the backend a certificate with extendedKeyUsage=serverAuth; {}, and openssl x509 \
             -noout -purpose what it is for",
            show(evidence)
        ))
}

/// No way from what is presented to what is trusted: says where it ends.
fn untrusted(evidence: &Evidence<'_>, error: &Error) -> Check {
    let check = Check::error("certificate.trust", "the chain leads to a trusted CA", error);
    let description = evidence.ours.description;
    let (holder, anchors): (&str, &[CertificateInfo]) = match &description.ca_source {
        Some(source) => (source, &description.ca),
        None => ("the system's trust store", &[]),
    };
    let Some(top) = top(evidence.chain) else { return check };
    let (subject, issuer) = (one_line(top.subject_name()), one_line(top.issuer_name()));
    let code = format!(
        "OpenSSL's verify error {}: {}",
        evidence.seen.verify_code, evidence.seen.verify_text
    );
    let holds = match anchors {
        [] => String::new(),
        anchors => {
            let names: Vec<&str> = anchors.iter().map(|anchor| anchor.subject.as_str()).collect();
            format!(", which holds {}", names.join(" and "))
        }
    };
    let named = anchors.iter().any(|anchor| anchor.subject == issuer);
    let add = match &description.ca_source {
        Some(source) => format!("openssl x509 -in CA.crt >> {source}"),
        None => "set agent.ssl_trusted_ca_path to a file that holds it".to_owned(),
    };
    if named {
        let check = check.why(format!(
            "{holder} holds a CA called {issuer}, but not the one that signed {subject}: another \
             key of the same name ({code})"
        ));
        return check.remedy(format!(
            "get the CA certificate that issued the backend's, and put it into {holder}: {add}"
        ));
    }
    if subject == issuer {
        let what = if evidence.chain.len() == 1 { "self-signed" } else { "the root presented" };
        return check
            .why(format!("{subject} is {what}, and it is not in {holder}{holds} ({code})"))
            .remedy(format!(
                "if it is to be trusted, put it into {holder}: {add}; {}",
                show(evidence)
            ));
    }
    check
        .why(format!(
            "{subject} is issued by {issuer}, which the backend does not send and which is not in \
             {holder}{holds} ({code})"
        ))
        .remedy(format!(
            "if {issuer} is an intermediate, let the backend send it behind its own certificate \
             (cat intermediate.crt >> server.crt); if it is a root, trust it: {add}; {}",
            show(evidence)
        ))
}

/// The last certificate of the way up from the leaf.
fn top(chain: &[X509]) -> Option<&X509> {
    let mut top = chain.first()?;
    // No chain is longer than what was presented.
    for _ in chain {
        if named(top.subject_name(), top.issuer_name()) {
            break;
        }
        match chain.iter().find(|above| named(above.subject_name(), top.issuer_name())) {
            Some(above) => top = above,
            None => break,
        }
    }
    Some(top)
}

fn named(a: &openssl::x509::X509NameRef, b: &openssl::x509::X509NameRef) -> bool {
    a.try_cmp(b).is_ok_and(|order| order.is_eq())
}

fn seconds_until(time: &Asn1TimeRef) -> i64 {
    let difference = Asn1Time::days_from_now(0).and_then(|now| now.diff(time));
    difference.map_or(0, |diff| i64::from(diff.days) * 24 * 3600 + i64::from(diff.secs))
}
