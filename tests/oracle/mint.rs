//! Certificates to order, each of its fields right unless said otherwise.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::base64;

use super::der::{
    Der, GENERALIZED_TIME, UTC_TIME, bits, common_name, explicit, integer, sequence, tlv,
};
use super::extension::{
    self, AUTHORITY_KEY_ID, CRL_SIGN, DIGITAL_SIGNATURE, Extension, KEY_CERT_SIGN, SERVER_AUTH,
};
use super::keys::MADE;
pub(crate) use super::keys::{Hash, Key};

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A point in time as it is written.
#[derive(Clone)]
pub(crate) enum Time {
    /// Seconds from now, UTCTime before 2050 as it must be.
    At(i64),
    Raw(u8, &'static str),
}

/// A certificate to be minted.
#[derive(Clone)]
pub(crate) struct Recipe {
    subject: Der,
    /// `None`: the subject of whoever signs it.
    issuer: Option<Der>,
    key: Key,
    /// `None`: the field is left out, which means 1. Otherwise what is written: 2 means 3.
    version: Option<u8>,
    /// `None`: one that no other certificate has.
    serial: Option<Der>,
    from: Time,
    until: Time,
    hash: Hash,
    /// The algorithm that is signed, when another one is written outside.
    inside: Option<Hash>,
    /// By position; the authority's key identifier is added when it is known.
    extensions: Vec<Extension>,
    names_authority: bool,
    spoilt: bool,
    wrapped: Option<fn(u8, &[u8]) -> Der>,
}

/// A certificate, its key, and what those below it need of it.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) der: Der,
    pub(crate) key: Key,
    pub(crate) subject: Der,
    pub(crate) key_id: [u8; 20],
}

// === recipes ===

/// A root: critical basicConstraints and keyUsage.
pub(crate) fn root() -> Recipe {
    authority("oracle root", Key::Ec(0))
}

/// A CA below it.
pub(crate) fn middle() -> Recipe {
    authority("oracle intermediate", Key::Ec(1))
}

/// One of many.
pub(crate) fn authority(name: &str, key: Key) -> Recipe {
    Recipe::new(name, key)
        .with(extension::authority(None))
        .with(extension::usage(&[KEY_CERT_SIGN, CRL_SIGN]))
}

/// The server's, for `localhost`.
pub(crate) fn leaf() -> Recipe {
    bare_leaf("a server")
        .with(extension::basic(false, None))
        .with(extension::usage(&[DIGITAL_SIGNATURE]))
        .with(extension::extended(&[SERVER_AUTH]))
        .with(extension::dns(&["localhost"]))
}

/// With a common name and key identifiers, and no extension besides.
pub(crate) fn bare_leaf(common_name: &str) -> Recipe {
    Recipe::new(common_name, Key::Ec(2))
}

/// As a CA numbers what it issues (RFC 5280 section 4.1.2.2).
fn next_serial() -> Der {
    static NEXT: AtomicU32 = AtomicU32::new(0x5eed_0000);
    NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec()
}

// === impl Recipe ===

impl Recipe {
    fn new(name: &str, key: Key) -> Self {
        Self {
            subject: common_name(name),
            issuer: None,
            key,
            version: Some(2),
            serial: None,
            from: Time::At(-HOUR),
            until: Time::At(30 * DAY),
            hash: Hash::Sha256,
            inside: None,
            extensions: Vec::new(),
            names_authority: true,
            spoilt: false,
            wrapped: None,
        }
        .with(extension::subject_key_id(&key.id()))
    }

    pub(crate) fn called(self, common: &str) -> Self {
        self.subject(common_name(common))
    }

    pub(crate) fn subject(self, subject: Der) -> Self {
        Self { subject, ..self }
    }

    /// Names this issuer, whoever signs.
    pub(crate) fn issuer(self, issuer: &str) -> Self {
        Self { issuer: Some(common_name(issuer)), ..self }
    }

    pub(crate) fn key(self, key: Key) -> Self {
        Self { key, ..self }.with(extension::subject_key_id(&key.id()))
    }

    pub(crate) fn serial(self, content: &[u8]) -> Self {
        Self { serial: Some(content.to_vec()), ..self }
    }

    pub(crate) fn hash(self, hash: Hash) -> Self {
        Self { hash, ..self }
    }

    /// What is signed says another algorithm than what is written beside the signature.
    pub(crate) fn claiming(self, hash: Hash) -> Self {
        Self { inside: Some(hash), ..self }
    }

    /// Seconds from now.
    pub(crate) fn valid(self, from: i64, until: i64) -> Self {
        Self { from: Time::At(from), until: Time::At(until), ..self }
    }

    pub(crate) fn from(self, from: Time) -> Self {
        Self { from, ..self }
    }

    pub(crate) fn until(self, until: Time) -> Self {
        Self { until, ..self }
    }

    /// As it is written: 2 for version 3; nothing for version 1.
    pub(crate) fn version(self, version: Option<u8>) -> Self {
        Self { version, ..self }
    }

    /// X.509 version 1, which has no extensions.
    pub(crate) fn version_1(self) -> Self {
        Self { extensions: Vec::new(), names_authority: false, ..self.version(None) }
    }

    /// In place of the extension of that kind, or as one more.
    pub(crate) fn with(mut self, extension: Extension) -> Self {
        match self.extensions.iter_mut().find(|other| other.kind == extension.kind) {
            Some(other) => *other = extension,
            None => self.extensions.push(extension),
        }
        self
    }

    /// As one more, though there may be one of that kind.
    pub(crate) fn twice(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    pub(crate) fn without(mut self, kind: &str) -> Self {
        self.names_authority &= kind != AUTHORITY_KEY_ID;
        self.extensions.retain(|extension| extension.kind != kind);
        self
    }

    /// Without any key identifier.
    pub(crate) fn anonymous(self) -> Self {
        self.without(AUTHORITY_KEY_ID).without(extension::SUBJECT_KEY_ID)
    }

    /// One bit of the signature is turned over.
    pub(crate) fn spoilt(self) -> Self {
        Self { spoilt: true, ..self }
    }

    /// The outermost SEQUENCE, or the signed one inside, is encoded in another way.
    pub(crate) fn wrapped(self, wrap: fn(u8, &[u8]) -> Der) -> Self {
        Self { wrapped: Some(wrap), ..self }
    }

    /// Signed by its own key.
    pub(crate) fn own(self) -> Made {
        let signer = Made {
            der: Vec::new(),
            key: self.key,
            subject: self.subject.clone(),
            key_id: self.key.id(),
        };
        self.by(&signer)
    }

    /// Signed by this one's key.
    pub(crate) fn by(mut self, signer: &Made) -> Made {
        if self.names_authority && !self.extensions.iter().any(|e| e.kind == AUTHORITY_KEY_ID) {
            let id = extension::authority_key_id(Some(&signer.key_id), None);
            self.extensions.push(id);
        }
        let outside = self.hash.algorithm(signer.key);
        let inside = self.inside.unwrap_or(self.hash).algorithm(signer.key);
        let extensions: Vec<Der> = self.extensions.iter().map(Extension::encode).collect();
        let extensions = match extensions.is_empty() {
            true => Vec::new(),
            false => explicit(3, &sequence(&[&extensions.concat()])),
        };
        let content = [
            self.version.map(|version| explicit(0, &integer(&[version]))).unwrap_or_default(),
            integer(&self.serial.unwrap_or_else(next_serial)),
            inside,
            self.issuer.unwrap_or_else(|| signer.subject.clone()),
            sequence(&[&self.from.encode(), &self.until.encode()]),
            self.subject.clone(),
            self.key.pair().public_key_to_der().expect(MADE),
            extensions,
        ]
        .concat();
        let wrap = self.wrapped.unwrap_or(tlv);
        let signed = wrap(super::der::SEQUENCE, &content);
        let mut signature = self.hash.sign(signer.key, &signed);
        if self.spoilt {
            // Not the last byte: the value has to stay a number of the curve.
            let at = signature.len() / 2;
            signature[at] ^= 1;
        }
        let der = sequence(&[&signed, &outside, &bits(&signature)]);
        Made { der, key: self.key, subject: self.subject, key_id: self.key.id() }
    }
}

// === impl Made ===

impl Made {
    pub(crate) fn pem(&self) -> String {
        self.labelled("CERTIFICATE")
    }

    pub(crate) fn labelled(&self, label: &str) -> String {
        let text = base64::encode_block(&self.der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
            .collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    /// The same with a bit of the key identifier turned over, to be named by those below.
    pub(crate) fn misnamed(&self) -> Self {
        let mut other = self.clone();
        other.key_id[0] ^= 1;
        other
    }
}

// === impl Time ===

impl Time {
    fn encode(&self) -> Der {
        match self {
            Self::Raw(tag, text) => tlv(*tag, text.as_bytes()),
            Self::At(seconds) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                let at = i64::try_from(now.as_secs()).expect("before the sun goes out") + seconds;
                let (year, month, day) = date(at.div_euclid(DAY));
                let second = at.rem_euclid(DAY);
                let rest = format!(
                    "{month:02}{day:02}{:02}{:02}{:02}Z",
                    second / HOUR,
                    second / 60 % 60,
                    second % 60
                );
                match year {
                    1950..2050 => tlv(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes()),
                    _ => tlv(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes()),
                }
            }
        }
    }
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Counted in eras of 400 years that begin in March, so that the leap day comes last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year, if month < 10 { month + 3 } else { month - 9 });
    (if month <= 2 { year + 1 } else { year }, month, day)
}
