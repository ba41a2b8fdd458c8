//! What files that were read without an error must still prove before they replace others.
//!
//! At the start a certificate that is over is better than none, and only a warning. Later there is
//! something better: what is in force. So new material must not have a fault that this has not.

use crate::error::{Code, Error, Result};
use crate::tls::{CertificateInfo, Description};

/// A fault that is tolerated at the start.
struct Fault {
    code: Code,
    /// What has it; the same thing with the same fault is no news.
    of: String,
    error: Error,
}

/// Refuses what is worse than what is in force. `now` is in seconds since 1970.
pub(super) fn judge(new: &Description, old: &Description, now: i64) -> Result<()> {
    let tolerated = faults(old, now);
    let is_new =
        |fault: &Fault| !tolerated.iter().any(|old| (old.code, &old.of) == (fault.code, &fault.of));
    match faults(new, now).into_iter().find(is_new) {
        Some(fault) => Err(fault.error),
        None => Ok(()),
    }
}

fn faults(material: &Description, now: i64) -> Vec<Fault> {
    let mut faults = Vec::new();
    let fault = |code, of: String, source: &Option<String>, found: String, expected: &str| Fault {
        error: Error::new(code)
            .file(source.as_deref().unwrap_or_default())
            .found(found)
            .expected(expected),
        code,
        of,
    };
    for certificate in &material.chain {
        let code = match certificate {
            over if over.until <= now => Code::OwnExpired,
            early if early.from > now => Code::OwnNotYetValid,
            _ => continue,
        };
        let source = &material.identity_source;
        faults.push(fault(code, id(certificate), source, dates(certificate), "valid dates"));
    }
    if material.loose > 0 {
        let found = format!("{} that issued none of the others", material.loose);
        let expected = "each certificate followed by its issuer's";
        let source = &material.identity_source;
        faults.push(fault(Code::ChainBroken, String::new(), source, found, expected));
    }
    let holds = |one: &CertificateInfo| one.from <= now && now < one.until;
    if let Some(first) = material.ca.first()
        && !material.ca.iter().any(holds)
    {
        let of = material.ca.iter().map(id).collect();
        let expected = "a CA certificate within its dates";
        faults.push(fault(Code::CaExpired, of, &material.ca_source, dates(first), expected));
    }
    faults
}

fn id(certificate: &CertificateInfo) -> String {
    format!("{} of {}", certificate.serial, certificate.issuer)
}

fn dates(certificate: &CertificateInfo) -> String {
    let CertificateInfo { subject, not_before, not_after, .. } = certificate;
    format!("{subject}, valid from {not_before} to {not_after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, Leaf, Profile, Validity};

    const DAY: i64 = 86_400;

    fn info(name: &str, from: i64, until: i64) -> CertificateInfo {
        let ca = Authority::new(&Profile::new("ca").unwrap()).unwrap();
        let leaf = Leaf::client(name).unwrap().valid(Validity::relative(from, until));
        CertificateInfo::of(ca.issue(&leaf).unwrap().certificate())
    }

    fn own(certificate: &CertificateInfo, loose: usize) -> Description {
        Description { chain: vec![certificate.clone()], loose, ..Description::default() }
    }

    fn now() -> i64 {
        Validity::relative(0, 0).not_before()
    }

    fn code(new: &Description, old: &Description) -> Option<Code> {
        judge(new, old, now()).err().map(|error| error.code())
    }

    #[test]
    fn new_faults_are_refused_and_old_ones_are_not() {
        let (good, over, early) =
            (info("a", -DAY, DAY), info("b", -DAY, -1), info("c", DAY, 2 * DAY));
        assert_eq!(code(&own(&good, 0), &own(&over, 0)), None);
        assert_eq!(code(&own(&over, 0), &own(&good, 0)), Some(Code::OwnExpired));
        assert_eq!(code(&own(&early, 0), &own(&good, 0)), Some(Code::OwnNotYetValid));
        assert_eq!(code(&own(&over, 0), &own(&over, 0)), None);
        // Another one that is over is no better.
        assert_eq!(code(&own(&info("d", -DAY, -1), 0), &own(&over, 0)), Some(Code::OwnExpired));
        assert_eq!(code(&own(&good, 1), &own(&good, 0)), Some(Code::ChainBroken));
        assert_eq!(code(&own(&good, 1), &own(&good, 1)), None);
    }

    #[test]
    fn one_ca_that_holds_is_enough() {
        let (good, over) = (info("a", -DAY, DAY), info("b", -DAY, -1));
        let of = |ca: &[&CertificateInfo]| Description {
            ca: ca.iter().map(|&one| one.clone()).collect(),
            ..Description::default()
        };
        assert_eq!(code(&of(&[&over]), &of(&[&good])), Some(Code::CaExpired));
        assert_eq!(code(&of(&[&over, &good]), &of(&[&good])), None);
        assert_eq!(code(&of(&[&over]), &of(&[&over])), None);
    }
}
