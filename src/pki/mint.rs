//! Puts certificates together as RFC 5280 wants them, and signs them.
//!
//! Every decision about names, keys and dates was made before; nothing is checked again here.

use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef, X509Ref};

use super::algorithm::digest_of;
use super::{Authority, Host, Leaf, Profile, Usage, Validity};

/// X.509 v3, as it is written in a certificate.
const V3: i32 = 2;

/// A CA's certificate: signed by `issuer`, or by its own key.
pub(super) fn authority(
    profile: &Profile,
    key: &PKeyRef<Private>,
    issuer: Option<&Authority>,
) -> Result<X509, ErrorStack> {
    let subject = name(&profile.common_name)?;
    let above = issuer.map(|issuer| &*issuer.certificate);
    let issuer_name = above.map_or(&*subject, X509Ref::subject_name);
    let mut builder = begin(&subject, issuer_name, profile.validity, key)?;

    let mut constraints = BasicConstraints::new();
    constraints.critical().ca();
    if let Some(length) = profile.path_length {
        constraints.pathlen(length);
    }
    builder.append_extension(constraints.build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    identify(&mut builder, above)?;

    builder.sign(issuer.map_or(key, Authority::key), digest(issuer, key))?;
    Ok(builder.build())
}

/// A server's or client's certificate.
pub(super) fn leaf(
    leaf: &Leaf,
    key: &PKeyRef<Private>,
    issuer: &Authority,
) -> Result<X509, ErrorStack> {
    let subject = name(&leaf.common_name)?;
    let issuer_name = issuer.certificate.subject_name();
    let mut builder = begin(&subject, issuer_name, leaf.validity, key)?;

    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    let mut usage = KeyUsage::new();
    usage.critical().digital_signature();
    if leaf.algorithm.enciphers_keys() {
        usage.key_encipherment();
    }
    builder.append_extension(usage.build()?)?;
    let mut purpose = ExtendedKeyUsage::new();
    match leaf.usage {
        Usage::Server => purpose.server_auth(),
        Usage::Client => purpose.client_auth(),
    };
    builder.append_extension(purpose.build()?)?;
    identify(&mut builder, Some(&issuer.certificate))?;
    if !leaf.hosts.is_empty() {
        let names = alternative_names(&leaf.hosts);
        let extension = names.build(&builder.x509v3_context(None, None))?;
        builder.append_extension(extension)?;
    }

    builder.sign(&issuer.key, digest(Some(issuer), key))?;
    Ok(builder.build())
}

fn begin(
    subject: &X509NameRef,
    issuer: &X509NameRef,
    validity: Validity,
    key: &PKeyRef<Private>,
) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    builder.set_version(V3)?;
    // Unique without a register of what was issued: 128 random bits, the first of them set so that
    // the number is never zero and always of the same length.
    let mut serial = BigNum::new()?;
    serial.rand(128, MsbOption::ONE, false)?;
    let serial = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    let (not_before, not_after) = validity.to_asn1()?;
    builder.set_not_before(&not_before)?;
    builder.set_not_after(&not_after)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

/// The key identifiers by which verifiers find the issuer, even among CAs of the same name. A root
/// goes without the second one: it would repeat the first.
fn identify(builder: &mut X509Builder, issuer: Option<&X509Ref>) -> Result<(), ErrorStack> {
    let own = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer, None))?;
    builder.append_extension(own)?;
    if issuer.is_some() {
        let context = builder.x509v3_context(issuer, None);
        let above = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
        builder.append_extension(above)?;
    }
    Ok(())
}

fn alternative_names(hosts: &[Host]) -> SubjectAlternativeName {
    let mut names = SubjectAlternativeName::new();
    for host in hosts {
        match host {
            Host::Dns(name) => names.dns(name.as_str()),
            Host::Ip(address) => names.ip(&address.to_string()),
        };
    }
    names
}

fn digest(issuer: Option<&Authority>, own: &PKeyRef<Private>) -> MessageDigest {
    digest_of(issuer.map_or(own, Authority::key))
}

fn name(common_name: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", common_name)?;
    Ok(name.build())
}
