//! FIPS: whether it is proven to be in force, and what of the files it cannot take.

use super::Check;
use crate::config::TlsSettings;
use crate::tls::{fips_objections, prove_fips};

/// Nothing when FIPS is not required.
pub(super) fn checks(tls: &TlsSettings) -> Vec<Check> {
    let (id, fact) = ("openssl.fips", "a FIPS provider is proven to do the work");
    let info = match prove_fips(tls) {
        None => return Vec::new(),
        Some(Ok(info)) => info,
        Some(Err(error)) => return vec![Check::error(id, fact, &error)],
    };
    let from = match (&info.module, &info.configuration) {
        (Some(module), _) => format!(", {}", module.display()),
        (None, Some(file)) => format!(", configured by {}", file.display()),
        (None, None) => String::new(),
    };
    let mut checks = vec![Check::ok(id, fact, format!("{info}{from}"))];
    let (id, fact) = ("files.fips", "the files hold what FIPS can take");
    let objections = fips_objections(tls);
    if objections.is_empty() {
        checks.push(Check::ok(id, fact, "forms, keys and signatures"));
    }
    checks.extend(objections.iter().map(|error| Check::error(id, fact, error)));
    checks
}
