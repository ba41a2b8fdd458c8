//! Revocation lists of a file or folder: read, dated, and put into a store.
//!
//! Whether a certificate is on one is found out by OpenSSL, in the handshake.

use std::path::Path;

use openssl::asn1::Asn1TimeRef;
use openssl::error::ErrorStack;
use openssl::x509::{X509Crl, X509CrlRef};

use super::contents::{Contents, Shape};
use super::realm::Realm;
use super::{days_until, folder, is_early, is_over, name, read, unix_seconds};
use crate::config::Source;
use crate::error::{Chain, Code, Error, Result};

const KEY: &str = "agent.ssl_crl_path";

/// What is shown of a revocation list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrlInfo {
    /// The CA that keeps it, as one line.
    pub issuer: String,
    /// When it was issued, as OpenSSL prints it.
    pub last_update: String,
    /// When the next one is due, as OpenSSL prints it; absent in lists that never end.
    pub next_update: Option<String>,
    /// Days until `next_update`.
    pub days_left: Option<i64>,
    /// How many certificates it holds.
    pub revoked: usize,
    /// When it was issued, in seconds since 1970.
    pub from: i64,
    /// When the next one is due, in seconds since 1970.
    pub until: Option<i64>,
}

/// Revocation lists, none of them outside its dates.
pub(super) struct Lists {
    pub(super) lists: Vec<X509Crl>,
    pub(super) warnings: Vec<String>,
}

/// Reads the lists of a file or of a hashed folder into a realm, at least one.
pub(super) fn load(source: &Source, realm: &Realm) -> Result<Lists> {
    let mut found = Lists { lists: Vec::new(), warnings: Vec::new() };
    match source.path().filter(|path| path.is_dir()) {
        Some(path) => {
            for entry in folder::entries(path, KEY, folder::Kind::RevocationLists)? {
                found.add(&Source::File(entry.path))?;
            }
        }
        None => found.add(source)?,
    }
    let adopted = std::mem::take(&mut found.lists).into_iter().map(|list| realm.adopt_crl(list));
    found.lists = adopted
        .collect::<Result<_, _>>()
        .map_err(|error| Error::new(Code::OpenSslFailed).because(error))?;
    Ok(found)
}

// === impl Lists ===

impl Lists {
    fn add(&mut self, source: &Source) -> Result<()> {
        let file = source.to_string();
        for list in decode(&read::bytes(source, KEY)?, &file)? {
            self.warnings.extend(judge_dates(&list, Path::new(&file))?);
            self.lists.push(list);
        }
        Ok(())
    }
}

// === impl CrlInfo ===

impl CrlInfo {
    pub(super) fn of(list: &X509CrlRef) -> Self {
        Self {
            issuer: name::one_line(list.issuer_name()),
            last_update: list.last_update().to_string(),
            next_update: list.next_update().map(ToString::to_string),
            days_left: list.next_update().map(days_until),
            revoked: list.get_revoked().map_or(0, |revoked| revoked.len()),
            from: unix_seconds(list.last_update()).unwrap_or(i64::MAX),
            until: list.next_update().and_then(unix_seconds),
        }
    }
}

fn decode(bytes: &[u8], file: &str) -> Result<Vec<X509Crl>> {
    let contents = Contents::of(bytes);
    let fault = |code| {
        Error::new(code)
            .key(KEY)
            .file(file)
            .found(contents.describe())
            .expected("revocation lists (X509 CRL) in PEM or DER")
    };
    let damaged = |error: ErrorStack| fault(Code::Damaged).because(error);
    match &contents {
        Contents::Pem(blocks) => {
            let mut lists = Vec::new();
            for block in blocks.iter().filter(|block| block.is_revocation_list()) {
                // OpenSSL would prompt for an encrypted one.
                if block.encrypted {
                    return Err(fault(Code::Damaged));
                }
                lists.push(X509Crl::from_pem(&block.pem).map_err(damaged)?);
            }
            if lists.is_empty() { Err(fault(Code::WrongType)) } else { Ok(lists) }
        }
        Contents::Der(Shape::RevocationList) => {
            X509Crl::from_der(bytes).map(|list| vec![list]).map_err(damaged)
        }
        Contents::Der(Shape::Other) | Contents::Unknown => Err(fault(Code::NotRecognised)),
        Contents::Der(_) => Err(fault(Code::WrongType)),
        Contents::CutOff(_) => Err(fault(Code::Damaged)),
    }
}

/// A list outside its dates would refuse every chain: better to say so at the start. One that ends
/// soon is a warning.
fn judge_dates(list: &X509CrlRef, file: &Path) -> Result<Option<String>> {
    let (from, until) = (list.last_update(), list.next_update());
    let fault = || {
        let until = until.map_or_else(|| "no end".to_owned(), ToString::to_string);
        let issuer = name::one_line(list.issuer_name());
        Error::new(Code::CrlOutdated)
            .key(KEY)
            .file(file)
            .found(format_args!("list of {issuer}, from {from} to {until}"))
            .expected("a list whose dates include today")
    };
    let over = until.is_some_and(is_over);
    if is_early(from) || over {
        return Err(fault());
    }
    let soon = until.is_some_and(|until| ends_soon(from, until));
    Ok(soon
        .then(|| Chain(&fault().hint("see to it that the next list is there in time")).to_string()))
}

/// Less than a day, or than a quarter of its time, is left, whichever is shorter.
fn ends_soon(from: &Asn1TimeRef, until: &Asn1TimeRef) -> bool {
    const DAY: i64 = 86_400;
    let seconds = |from: &Asn1TimeRef, until: &Asn1TimeRef| {
        from.diff(until).map(|diff| i64::from(diff.days) * DAY + i64::from(diff.secs))
    };
    let Ok(now) = openssl::asn1::Asn1Time::days_from_now(0) else { return false };
    match (seconds(&now, until), seconds(from, until)) {
        (Ok(left), Ok(whole)) => left < DAY.min(whole / 4),
        _ => false,
    }
}
