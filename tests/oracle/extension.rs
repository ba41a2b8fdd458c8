//! Extensions of certificates, sound and odd.

use super::der::{
    Der, boolean, explicit, implicit, integer, name, named_bits, octets, oid, sequence,
};

pub(crate) const SUBJECT_KEY_ID: &str = "2.5.29.14";
pub(crate) const KEY_USAGE: &str = "2.5.29.15";
pub(crate) const ALTERNATIVE_NAME: &str = "2.5.29.17";
pub(crate) const BASIC_CONSTRAINTS: &str = "2.5.29.19";
pub(crate) const NAME_CONSTRAINTS: &str = "2.5.29.30";
pub(crate) const POLICIES: &str = "2.5.29.32";
pub(crate) const AUTHORITY_KEY_ID: &str = "2.5.29.35";
pub(crate) const EXTENDED_USAGE: &str = "2.5.29.37";

pub(crate) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
pub(crate) const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
pub(crate) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(crate) const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";
pub(crate) const ANY_USAGE: &str = "2.5.29.37.0";
pub(crate) const NETSCAPE_STEP_UP: &str = "2.16.840.1.113730.4.1";
pub(crate) const MICROSOFT_STEP_UP: &str = "1.3.6.1.4.1.311.10.3.3";

pub(crate) const DIGITAL_SIGNATURE: u8 = 0;
pub(crate) const NON_REPUDIATION: u8 = 1;
pub(crate) const KEY_ENCIPHERMENT: u8 = 2;
pub(crate) const KEY_AGREEMENT: u8 = 4;
pub(crate) const KEY_CERT_SIGN: u8 = 5;
pub(crate) const CRL_SIGN: u8 = 6;

#[derive(Clone)]
pub(crate) struct Extension {
    pub(crate) kind: &'static str,
    pub(crate) critical: bool,
    /// What is inside the OCTET STRING.
    pub(crate) value: Der,
}

/// One of the names of an extension.
pub(crate) enum General<'a> {
    Dns(&'a [u8]),
    /// An address, or in constraints an address and its mask.
    Ip(&'a [u8]),
    Email(&'a str),
    Uri(&'a str),
    Directory(Der),
    /// Neither of them: an otherName.
    Other,
}

// === impl Extension ===

impl Extension {
    pub(crate) fn new(kind: &'static str, critical: bool, value: Der) -> Self {
        Self { kind, critical, value }
    }

    /// The same, critical or not.
    pub(crate) fn critical(self, critical: bool) -> Self {
        Self { critical, ..self }
    }

    pub(crate) fn encode(&self) -> Der {
        let critical = if self.critical { boolean(true) } else { Vec::new() };
        sequence(&[&oid(self.kind), &critical, &octets(&self.value)])
    }
}

// === impl General ===

impl General<'_> {
    fn encode(&self) -> Der {
        match self {
            Self::Dns(text) => implicit(2, text),
            Self::Ip(bytes) => implicit(7, bytes),
            Self::Email(text) => implicit(1, text.as_bytes()),
            Self::Uri(text) => implicit(6, text.as_bytes()),
            Self::Directory(name) => explicit(4, name),
            Self::Other => {
                let value = explicit(0, &super::der::tlv(super::der::UTF8, b"somebody"));
                explicit(0, &[oid("1.3.6.1.4.1.311.20.2.3"), value].concat())
            }
        }
    }
}

// === the usual ones ===

/// basicConstraints of a CA, with a path length.
pub(crate) fn authority(length: Option<u8>) -> Extension {
    basic(true, length.map(|length| vec![length]))
}

pub(crate) fn basic(ca: bool, length: Option<Vec<u8>>) -> Extension {
    let ca = if ca { boolean(true) } else { Vec::new() };
    let length = length.map(|length| integer(&length)).unwrap_or_default();
    Extension::new(BASIC_CONSTRAINTS, true, sequence(&[&ca, &length]))
}

pub(crate) fn usage(bits: &[u8]) -> Extension {
    Extension::new(KEY_USAGE, true, named_bits(bits))
}

pub(crate) fn extended(kinds: &[&str]) -> Extension {
    let kinds: Vec<Der> = kinds.iter().map(|kind| oid(kind)).collect();
    Extension::new(EXTENDED_USAGE, false, sequence(&[&kinds.concat()]))
}

pub(crate) fn alternative(names: &[General<'_>]) -> Extension {
    let names: Vec<Der> = names.iter().map(General::encode).collect();
    Extension::new(ALTERNATIVE_NAME, false, sequence(&[&names.concat()]))
}

/// DNS names.
pub(crate) fn dns(names: &[&str]) -> Extension {
    let names: Vec<General<'_>> = names.iter().map(|name| General::Dns(name.as_bytes())).collect();
    alternative(&names)
}

pub(crate) fn constraints(permitted: &[General<'_>], excluded: &[General<'_>]) -> Extension {
    let trees = |number, names: &[General<'_>]| {
        let trees: Vec<Der> = names.iter().map(|name| sequence(&[&name.encode()])).collect();
        if trees.is_empty() { Vec::new() } else { explicit(number, &trees.concat()) }
    };
    let value = sequence(&[&trees(0, permitted), &trees(1, excluded)]);
    Extension::new(NAME_CONSTRAINTS, true, value)
}

pub(crate) fn policies(kinds: &[&str]) -> Extension {
    let kinds: Vec<Der> = kinds.iter().map(|kind| sequence(&[&oid(kind)])).collect();
    Extension::new(POLICIES, false, sequence(&[&kinds.concat()]))
}

pub(crate) fn policy_constraints(require: Option<u8>, inhibit: Option<u8>) -> Extension {
    let field = |number, value: Option<u8>| {
        value.map(|value| implicit(number, &[value])).unwrap_or_default()
    };
    let value = sequence(&[&field(0, require), &field(1, inhibit)]);
    Extension::new("2.5.29.36", true, value)
}

pub(crate) fn inhibit_any_policy(skip: u8) -> Extension {
    Extension::new("2.5.29.54", true, integer(&[skip]))
}

/// Netscape's certificate type: 0 client, 1 server, 5 CA of TLS.
pub(crate) fn netscape_type(bits: &[u8]) -> Extension {
    Extension::new("2.16.840.1.113730.1.1", false, named_bits(bits))
}

/// proxyCertInfo (RFC 3820), with the policy "inherit all".
pub(crate) fn proxy() -> Extension {
    let policy = sequence(&[&oid("1.3.6.1.5.5.7.21.1")]);
    Extension::new("1.3.6.1.5.5.7.1.14", true, sequence(&[&policy]))
}

/// One that nobody knows.
pub(crate) fn unknown(critical: bool) -> Extension {
    Extension::new("1.3.6.1.4.1.55555.1", critical, octets(b"?"))
}

pub(crate) fn subject_key_id(id: &[u8]) -> Extension {
    Extension::new(SUBJECT_KEY_ID, false, octets(id))
}

/// The issuer named by key, by name and serial number, or by both.
pub(crate) fn authority_key_id(id: Option<&[u8]>, issuer: Option<(&str, u8)>) -> Extension {
    let id = id.map(|id| implicit(0, id)).unwrap_or_default();
    let issuer = issuer.map(|(common_name, serial)| {
        let name = name(&[("2.5.4.3", super::der::UTF8, common_name.as_bytes())]);
        [explicit(1, &explicit(4, &name)), implicit(2, &[serial])].concat()
    });
    let value = sequence(&[&id, &issuer.unwrap_or_default()]);
    Extension::new(AUTHORITY_KEY_ID, false, value)
}
