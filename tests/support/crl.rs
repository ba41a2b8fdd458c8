//! Revocation lists, minted relative to now, by whoever shall have signed them.
//!
//! Which of them hold is said in the tests.

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Private};
use openssl::x509::extension::AuthorityKeyIdentifier;
use openssl::x509::{
    X509, X509Builder, X509Crl, X509CrlBuilder, X509Extension, X509Ref, X509RevokedBuilder,
};
use skytls::pki::{Authority, Validity};

use super::pki::{DAY, HOUR, MINTED, text};

/// A list to be made: nobody is on it, and it holds from an hour ago for a week.
pub(crate) struct List<'a> {
    key: &'a PKeyRef<Private>,
    issuer: &'a X509Ref,
    revoked: Vec<X509>,
    from: i64,
    until: i64,
}

// === impl List ===

impl<'a> List<'a> {
    /// Of a CA, signed by it.
    pub(crate) fn of(authority: &'a Authority) -> Self {
        Self::signed_by(authority.certificate(), authority.key())
    }

    /// In the name of a certificate, signed with any key.
    pub(crate) fn signed_by(issuer: &'a X509Ref, key: &'a PKeyRef<Private>) -> Self {
        Self { key, issuer, revoked: Vec::new(), from: -HOUR, until: 7 * DAY }
    }

    /// Puts a certificate on it.
    pub(crate) fn revoke(mut self, certificate: &X509Ref) -> Self {
        self.revoked.push(certificate.to_owned());
        self
    }

    /// Changes the dates, in seconds from now.
    pub(crate) fn between(self, from: i64, until: i64) -> Self {
        Self { from, until, ..self }
    }

    pub(crate) fn pem(&self) -> String {
        text(self.build().expect(MINTED).to_pem())
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.build().and_then(|list| list.to_der()).expect(MINTED)
    }

    fn build(&self) -> Result<X509Crl, ErrorStack> {
        let now = Validity::relative(0, 0).not_before();
        let from = Asn1Time::from_unix(now + self.from)?;
        let mut builder = X509CrlBuilder::new()?;
        builder.set_issuer_name(self.issuer.subject_name())?;
        builder.set_last_update(&from)?;
        builder.set_next_update(&*Asn1Time::from_unix(now + self.until)?)?;
        let certificate = X509Builder::new()?;
        let context = certificate.x509v3_context(Some(self.issuer), None);
        builder.append_extension(AuthorityKeyIdentifier::new().keyid(true).build(&context)?)?;
        let number = Asn1OctetString::new_from_bytes(&[2, 1, 1])?;
        let crl_number = Asn1Object::from_str("2.5.29.20")?;
        builder.append_extension(X509Extension::new_from_der(&crl_number, false, &number)?)?;
        for certificate in &self.revoked {
            let mut revoked = X509RevokedBuilder::new()?;
            revoked.set_serial_number(certificate.serial_number())?;
            revoked.set_revocation_date(&from)?;
            builder.add_revoked(revoked.build())?;
        }
        builder.sign(self.key, MessageDigest::sha256())?;
        builder.build()
    }
}
