//! From settings to an `SslContext`: one *generation* of material and what it consists of.
//!
//! A [`Generation`] is loaded as a whole, checked as a whole and never changed: rotation means a
//! new one. Policy is the system's own: the context is made by OpenSSL from its `openssl.cnf`, and
//! only what the settings ask for is put on top. Knows nothing of gRPC, HTTP or sockets.
//!
//! Not by the openssl crate's `SslConnector::builder`: it overwrites the system's `CipherString` and reads all
//! of the system's CA certificates. Only for other clients a context is put into an [`SslConnector`].

mod acceptor;
mod archive;
mod certificates;
mod contents;
mod context;
mod diagnose;
mod fips;
mod fips_policy;
mod fips_staple;
mod folder;
mod identity;
mod key;
mod library;
pub(crate) mod name;
mod openssl_cnf;
mod order;
mod policy;
mod preflight;
mod provider;
mod read;
mod realm;
mod revocation;
pub(crate) mod session;
mod staple;
mod verify;
mod witness;

use std::cmp::Ordering;
use std::fmt;
use std::path::Path;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::ssl::{SslConnector, SslContext};
use openssl::x509::{X509, X509Ref};

use crate::config::{Secret, Source, TlsSettings};
use crate::error::{Code, Error, Result};

use certificates::Purpose;

pub(crate) use diagnose::of_large_hello;
pub use diagnose::{Role, handshake_failure, later_failure, was_cut};
pub use fips::FipsInfo;
pub use identity::Identity;
pub use library::Library;
pub use name::PeerName;
pub use revocation::CrlInfo;
pub use verify::Verifier;
pub use witness::Witness;

pub(crate) use acceptor::{Acceptor, ListenerNames, agreed_to_h2, client_failure, client_subject};
pub(crate) use context::ALPN_H2;
pub(crate) use identity::Names;
pub(crate) use openssl_cnf::establish;
pub(crate) use realm::Realm;

use openssl_cnf::OpensslCnf;
use session::Sessions;

/// One generation of TLS material, ready to make connections with.
#[derive(Clone)]
pub struct Generation {
    context: SslContext,
    verifier: Verifier,
    sessions: Sessions,
    realm: Realm,
    description: Description,
}

/// What a generation was made of, for logs and status.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Description {
    /// Where the CA certificates came from; empty when the system's store is used.
    pub ca_source: Option<String>,
    /// The CA certificates of the file.
    pub ca: Vec<CertificateInfo>,
    /// Where the client's chain came from.
    pub identity_source: Option<String>,
    /// The client's chain, leaf first.
    pub chain: Vec<CertificateInfo>,
    /// Where the revocation lists came from; empty when revocation is not checked.
    pub crl_source: Option<String>,
    /// The revocation lists.
    pub crls: Vec<CrlInfo>,
    /// The FIPS provider that does the work, and the proof, if FIPS is required.
    pub fips: Option<FipsInfo>,
    /// What is worth a warning: expired certificates, a repaired order.
    pub warnings: Vec<String>,
    /// How many certificates of the chain stand above none of the others.
    pub loose: usize,
}

/// What is shown of a certificate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CertificateInfo {
    /// The subject, as one line.
    pub subject: String,
    /// The issuer, as one line.
    pub issuer: String,
    /// Start of the validity, as OpenSSL prints it.
    pub not_before: String,
    /// End of the validity, as OpenSSL prints it.
    pub not_after: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Days until `not_after`, negative when it has passed, at the time of loading.
    pub days_left: i64,
    /// Start of the validity in seconds since 1970.
    pub from: i64,
    /// End of the validity in seconds since 1970.
    pub until: i64,
}

// === impl Generation ===

impl Generation {
    /// Reads, checks and assembles the material that the settings name.
    ///
    /// # Errors
    ///
    /// Every fault of a file names the file, what was found, what was expected and what to do. An
    /// own certificate that has expired is not an error, it is a warning of the description: a
    /// process must be able to wait for the renewed one.
    pub fn load(settings: &TlsSettings) -> Result<Self> {
        // First of all: an OpenSSL without the policy it should have must not be used.
        let warnings = OpensslCnf::in_force().judge()?;
        let realm = Realm::of(settings)?;
        let fips = realm.fips().cloned();
        let mut description = Description { warnings, fips, ..Description::default() };
        let anchors = match settings.ca.as_ref().filter(|_| settings.trust.has_ca()) {
            Some(source) => {
                let key = "agent.ssl_trusted_ca_path";
                let anchors = certificates::load(source, key, Purpose::Anchors, &realm)?;
                description.ca_source = Some(source.to_string());
                description.note_anchors(&anchors);
                anchors
            }
            None => Vec::new(),
        };
        let lists = match &settings.crl {
            Some(source) => {
                let revocation::Lists { lists, warnings } = revocation::load(source, &realm)?;
                description.crl_source = Some(source.to_string());
                description.crls = lists.iter().map(|list| CrlInfo::of(list)).collect();
                description.warnings.extend(warnings);
                lists
            }
            None => Vec::new(),
        };
        let identity = match &settings.identity {
            Some(source) => {
                let identity = identity::load(source, &identity::AGENT, &realm)?;
                description.identity_source = Some(source.chain.to_string());
                description.note_identity(&identity);
                Some(identity)
            }
            None => None,
        };
        // In a folder, an anchor is found by its name anyway: the rule is for the documented file.
        let is_file = !settings.ca.as_ref().and_then(Source::path).is_some_and(Path::is_dir);
        let verifier = Verifier::new(&anchors, settings.same_name_rule() && is_file, lists);
        let context = context::client(&context::Parts {
            settings,
            anchors: &anchors,
            identity: identity.as_ref(),
            verifier: &verifier,
            realm: &realm,
        })?;
        Ok(Self { context, verifier, sessions: Sessions::default(), realm, description })
    }

    /// A connector of this material for other clients; it keeps the system's policy in force. To make one, the
    /// openssl crate reads all CA certificates of the system: that takes a while.
    ///
    /// # Errors
    ///
    /// OpenSSL's, when it has no room.
    pub fn connector(&self) -> Result<SslConnector> {
        ossl_ext::connector(&self.context)
            .map_err(|error| Error::new(Code::OpenSslFailed).because(error))
    }

    /// What connections are made of.
    pub(crate) fn context(&self) -> &SslContext {
        &self.context
    }

    /// The rule for certificates, to be put on single connections with a witness.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// What peers have given to resume; it ends with this generation.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Where OpenSSL works for it.
    pub(crate) fn realm(&self) -> &Realm {
        &self.realm
    }

    /// What this generation was made of.
    pub fn description(&self) -> &Description {
        &self.description
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("description", &self.description).finish_non_exhaustive()
    }
}

// === impl Description ===

impl Description {
    fn note_anchors(&mut self, anchors: &[X509]) {
        self.ca = anchors.iter().map(|certificate| CertificateInfo::of(certificate)).collect();
        for info in
            anchors.iter().filter(|x| ossl_ext::rejects_servers(x)).map(|x| CertificateInfo::of(x))
        {
            self.warnings.push(format!(
                "{} holds {}, whose own trust settings exclude servers: it is not an anchor; do: \
                 openssl x509 -in FILE -addtrust serverAuth -trustout, if it should be one",
                self.ca_source.as_deref().unwrap_or_default(),
                info.subject
            ));
        }
        for info in &self.ca {
            if info.days_left < 0 {
                let error = Error::new(Code::CaExpired).found(info.validity());
                self.warnings.push(warning(error, self.ca_source.as_deref(), &info.subject));
            }
        }
    }

    fn note_identity(&mut self, identity: &Identity) {
        self.chain = identity.certificates().map(CertificateInfo::of).collect();
        self.warnings.extend_from_slice(identity.notes());
        self.loose = identity.loose();
        let Some(leaf) = self.chain.first() else { return };
        let code = if is_over(identity.leaf().not_after()) {
            Code::OwnExpired
        } else if is_early(identity.leaf().not_before()) {
            Code::OwnNotYetValid
        } else {
            return;
        };
        let error = Error::new(code).found(leaf.validity());
        let text = warning(error, self.identity_source.as_deref(), &leaf.subject);
        self.warnings.push(text);
    }
}

// === impl CertificateInfo ===

impl CertificateInfo {
    /// Reads what is shown of a certificate.
    pub fn of(certificate: &X509Ref) -> Self {
        let serial = certificate.serial_number().to_bn().and_then(|bn| bn.to_hex_str());
        Self {
            subject: name::one_line(certificate.subject_name()),
            issuer: name::one_line(certificate.issuer_name()),
            not_before: certificate.not_before().to_string(),
            not_after: certificate.not_after().to_string(),
            serial: serial.map(|hex| hex.to_string()).unwrap_or_default(),
            days_left: days_until(certificate.not_after()),
            // What cannot be read is never valid.
            from: unix_seconds(certificate.not_before()).unwrap_or(i64::MAX),
            until: unix_seconds(certificate.not_after()).unwrap_or(i64::MIN),
        }
    }

    fn validity(&self) -> String {
        format!("valid from {} to {}", self.not_before, self.not_after)
    }
}

fn warning(error: Error, source: Option<&str>, subject: &str) -> String {
    let error =
        error.file(source.unwrap_or_default()).expected(format!("valid dates of {subject}"));
    crate::error::Chain(&error).to_string()
}

/// How a point in time lies to now; `None` for one that cannot be read.
fn to_now(time: &Asn1TimeRef) -> Option<Ordering> {
    let now = Asn1Time::days_from_now(0).ok()?;
    time.compare(&now).ok()
}

/// Whether a notAfter has passed; its own second has, as OpenSSL counts (`X509_cmp_time(3)`). One that
/// cannot be read counts as passed.
fn is_over(not_after: &Asn1TimeRef) -> bool {
    to_now(not_after).is_none_or(Ordering::is_le)
}

/// Whether a notBefore is still to come. One that cannot be read counts as to come.
fn is_early(not_before: &Asn1TimeRef) -> bool {
    to_now(not_before).is_none_or(Ordering::is_gt)
}

/// Whole days until a point in time, negative once it has passed.
fn days_until(time: &Asn1TimeRef) -> i64 {
    let Ok(now) = Asn1Time::days_from_now(0) else { return 0 };
    match now.diff(time) {
        Ok(diff) if diff.days < 0 || diff.secs < 0 => i64::from(diff.days) - 1,
        Ok(diff) => i64::from(diff.days),
        Err(_) => 0,
    }
}

/// Seconds since 1970; `None` for a time that cannot be read.
fn unix_seconds(time: &Asn1TimeRef) -> Option<i64> {
    const DAY: i64 = 86_400;
    let diff = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(diff.days) * DAY + i64::from(diff.secs))
}

/// Refuses an OpenSSL without the policy it should have, and says what else is odd about its
/// openssl.cnf. For whoever makes no [`Generation`], which does the same.
pub(crate) fn judge_policy() -> Result<Vec<String>> {
    OpensslCnf::in_force().judge()
}

/// Proves that FIPS is in force, without loading any material; `None` if it is not required.
pub(crate) fn prove_fips(settings: &TlsSettings) -> Option<Result<FipsInfo>> {
    if !settings.fips.is_required() {
        return None;
    }
    let proven = Realm::of(settings).map(|realm| realm.fips().cloned());
    proven.transpose()
}

/// What of the files FIPS cannot take, each with what converts it.
pub(crate) fn fips_objections(settings: &TlsSettings) -> Vec<Error> {
    match Realm::of(settings) {
        Ok(realm) if realm.fips().is_some() => preflight::inspect(settings, &realm),
        _ => Vec::new(),
    }
}

/// Passphrases reach OpenSSL's C strings: a NUL inside would cut them short there.
fn passphrase_bytes(passphrase: Option<&Secret>, key: &str) -> Result<Vec<u8>> {
    let bytes = passphrase.map(|secret| secret.expose().clone().into_bytes()).unwrap_or_default();
    if bytes.contains(&0) {
        return Err(Error::new(Code::BadValue).key(key).expected("a passphrase without NUL bytes"));
    }
    Ok(bytes)
}
