//! The backend's certificates when they were accepted: trust, name, dates.

use super::explain::Evidence;
use super::{Check, SOON, days};

/// One line for each thing that the handshake has proven.
pub(super) fn accepted(evidence: &Evidence<'_>) -> Vec<Check> {
    let seen = evidence.seen;
    let value = format!("verify code {} ({})", seen.verify_code, seen.verify_text);
    let mut checks = vec![Check::ok("certificate.trust", "the chain leads to a trusted CA", value)];
    let matched = seen.matched_name.as_deref().unwrap_or_default();
    let value = match matched == evidence.name {
        true => evidence.name.to_owned(),
        false => format!("{} by {matched}", evidence.name),
    };
    checks.push(Check::ok("certificate.name", "the certificate is for the name verified", value));
    for certificate in &seen.chain {
        let (id, fact) = ("certificate.dates", "the certificate is within its dates");
        let value = format!(
            "{}, issued by {}, serial {}, until {}, {}",
            certificate.subject,
            certificate.issuer,
            certificate.serial,
            certificate.not_after,
            days(certificate.days_left)
        );
        checks.push(if certificate.days_left >= SOON {
            Check::ok(id, fact, value)
        } else {
            Check::warning(id, fact, value)
                .why("it ends soon")
                .remedy("renew it at the backend in time")
        });
    }
    checks
}
