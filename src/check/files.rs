//! The files: what was loaded from where, who else may read the key, how long certificates last.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Check, SOON, days};
use crate::config::{Key, Loaded, TlsSettings};
use crate::error::{Code, Error, Stage};
use crate::tls::{CertificateInfo, Description};

/// Everybody may, or the group may write. Reading by the group is how Kubernetes hands keys over.
const TOO_WIDE: u32 = 0o027;

/// Which place each path was taken for.
pub(super) fn paths(loaded: &Loaded) -> Vec<Check> {
    let folder = &loaded.settings.agent.folder;
    let mut checks = Vec::new();
    for (key, id) in [
        (Key::TrustedCaPath, "files.ca_path"),
        (Key::CertChainPath, "files.chain_path"),
        (Key::KeyPath, "files.key_path"),
    ] {
        let Some(entry) = loaded.effective.get(key) else { continue };
        let Some(path) = &entry.resolved else { continue };
        let fact = format!("{} means one file", key.name());
        let written = Path::new(&entry.value);
        if written == path {
            let value = format!("{}, as an absolute path", path.display());
            checks.push(Check::ok(id, &fact, value));
            continue;
        }
        let value = format!("{}, in the agent folder {}", path.display(), folder.display());
        // Only what stands for itself on the system too can have been meant otherwise.
        checks.push(if written.is_absolute() && fs::symlink_metadata(written).is_ok() {
            Check::warning(id, &fact, value)
                .why(format!(
                    "{} exists too, but the agent folder goes first, as in the Java agent",
                    written.display()
                ))
                .remedy(format!("remove {} if {} is meant", path.display(), written.display()))
        } else {
            Check::ok(id, &fact, value)
        });
    }
    if let Some(identity) = &loaded.settings.tls.identity
        && let Some(path) = identity.key.path()
        && let Ok(metadata) = fs::metadata(path)
    {
        checks.push(permissions(path, metadata.permissions().mode() & 0o777));
    }
    checks
}

fn permissions(path: &Path, mode: u32) -> Check {
    let (id, fact) = ("files.key_permissions", "only its owner can use the private key");
    let value = format!("{} has mode {mode:04o}", path.display());
    if mode & TOO_WIDE == 0 {
        return Check::ok(id, fact, value);
    }
    let who = if mode & 0o007 != 0 { "every user of this machine" } else { "its group" };
    let what = if mode & 0o004 != 0 { "read" } else { "change" };
    Check::warning(id, fact, value)
        .why(format!("{who} can {what} it"))
        .remedy(format!("chmod 600 {}", path.display()))
}

/// The material could not be loaded.
pub(super) fn refused(error: &Error) -> Check {
    match error.stage() {
        Stage::OpenSsl => Check::error("openssl.context", "OpenSSL can be set up", error),
        _ => Check::error("files.material", "certificates and keys can be loaded", error),
    }
}

/// What was loaded.
pub(super) fn material(tls: &TlsSettings, description: &Description) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut trusted: Vec<String> = Vec::new();
    if let Some(source) = &description.ca_source {
        trusted.push(format!("{} of {source}", count(description.ca.len())));
    }
    if tls.trust.has_system() {
        trusted.push("the system's trust store".to_owned());
    }
    checks.push(Check::ok("files.ca", "there is a CA to trust", trusted.join(" or ")));
    for ca in &description.ca {
        let source = description.ca_source.as_deref().unwrap_or_default();
        checks.push(dates("files.ca_dates", "the CA certificate is within its dates", ca, source));
    }
    if let (Some(identity), Some(leaf)) = (&tls.identity, description.chain.first()) {
        let value = format!(
            "{} with {}, {} of {}",
            leaf.subject,
            identity.key,
            count(description.chain.len()),
            identity.chain
        );
        checks.push(Check::ok(
            "files.identity",
            "key and client certificate belong together",
            value,
        ));
        let source = identity.chain.to_string();
        for (place, certificate) in description.chain.iter().enumerate() {
            let fact = "the own certificate is within its dates";
            let check = dates("files.own_dates", fact, certificate, &source);
            checks.push(match place {
                0 => own(check, certificate, &source),
                _ => check,
            });
        }
    }
    for list in &description.crls {
        let left = list.days_left.map_or_else(|| "without end".to_owned(), days);
        let value = format!("{}, {} revoked, {left}", list.issuer, list.revoked);
        checks.push(Check::ok("files.crl", "the revocation list is within its dates", value));
    }
    // Dates have lines of their own.
    let dated = [Code::CaExpired, Code::OwnExpired, Code::OwnNotYetValid].map(Code::id);
    for warning in &description.warnings {
        if !dated.iter().any(|id| warning.starts_with(id)) {
            let (why, remedy) = match warning.rsplit_once("; do: ") {
                Some((why, remedy)) => (why, remedy),
                None => (warning.as_str(), "nothing needs to be done: it works as it is"),
            };
            let (id, fact) = match warning.starts_with(&Code::CrlOutdated.id()) {
                true => ("files.crl_dates", "the next revocation list is there in time"),
                false => ("files.notice", "the files need no repair"),
            };
            checks.push(Check::warning(id, fact, "not quite").why(why).remedy(remedy));
        }
    }
    checks
}

/// The server refuses a client certificate that has ended; no warning is enough.
fn own(check: Check, leaf: &CertificateInfo, source: &str) -> Check {
    if leaf.days_left >= 0 {
        return check;
    }
    let error = Error::new(Code::OwnExpired).file(source).found(days(leaf.days_left));
    Check { remedy: check.remedy.clone(), ..Check::error(&check.id, &check.fact, &error) }
}

fn dates(id: &str, fact: &str, certificate: &CertificateInfo, source: &str) -> Check {
    let value = format!("{}, {}", certificate.subject, days(certificate.days_left));
    if certificate.days_left >= SOON {
        return Check::ok(id, fact, value);
    }
    Check::warning(id, fact, value)
        .why(format!("it is valid until {}", certificate.not_after))
        .remedy(format!(
            "renew it; openssl x509 -in {source} -noout -subject -enddate shows the dates"
        ))
}

fn count(certificates: usize) -> String {
    match certificates {
        1 => "1 certificate".to_owned(),
        n => format!("{n} certificates"),
    }
}
