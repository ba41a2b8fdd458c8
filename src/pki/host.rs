//! The names a server may answer to, checked before they are put into a certificate.
//!
//! It is as strict as RFC 5280, since some verifier always is: names in preferred syntax, no
//! underscores, no trailing dot. Nothing is resolved.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::{Code, Error, Result};

/// A DNS name, in lower case, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name; its leftmost label may be `*`.
    Dns(DnsName),
    /// An IP address.
    Ip(IpAddr),
}

/// A DNS name that was checked; made by [`Host::from_str`] only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(String);

// === impl Host ===

impl Host {
    /// Reads the names in order and leaves repetitions out; none at all is an error.
    pub fn list<H: AsRef<str>>(names: impl IntoIterator<Item = H>) -> Result<Vec<Self>> {
        let mut hosts = Vec::new();
        for name in names {
            let host = name.as_ref().parse()?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        if hosts.is_empty() {
            return Err(Error::new(Code::BadHostName)
                .found("no name")
                .hint("give at least one DNS name or IP address"));
        }
        Ok(hosts)
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        match fault(text) {
            None => Ok(Self::Dns(DnsName(text.to_ascii_lowercase()))),
            Some(hint) => Err(Error::new(Code::BadHostName).found(format!("{text:?}")).hint(hint)),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name.as_str()),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

// === impl DnsName ===

impl DnsName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What to do about a text that is not a DNS name. The commonest mistakes come first.
fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("give a DNS name or an IP address");
    }
    if text.contains("://") || text.contains('/') {
        return Some("leave the scheme and the path out: the name alone stands in a certificate");
    }
    if text.starts_with('[') {
        return Some("write an IPv6 address without brackets and port");
    }
    if text.contains('%') {
        return Some("leave the zone out: it means something on one machine only");
    }
    if text.contains(':') {
        return Some("leave the port out: a certificate holds for every port");
    }
    if !text.is_ascii() {
        return Some("write an international name in its ASCII form, xn--…");
    }
    if text.contains('_') {
        return Some("choose a name without underscores: RFC 5280 allows none in a certificate");
    }
    if text.ends_with('.') {
        return Some("leave the dot at the end out");
    }
    if text.len() > 253 {
        return Some("choose a shorter name: DNS ends at 253 characters");
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if name.contains('*') {
        return Some("write a wildcard as the whole leftmost label: *.example.com");
    }
    let labels: Vec<&str> = name.split('.').collect();
    if wildcard && labels.len() < 2 {
        return Some("put two labels after the wildcard: verifiers accept it for no fewer");
    }
    if !labels.iter().all(|label| is_label(label)) {
        return Some(
            "write labels of 1 to 63 letters, digits and inner hyphens, separated by single dots",
        );
    }
    // `10.0.0` or `300.1.1.1`: no top-level domain is a number, so this was meant as an address.
    if labels.last().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
        return Some("complete the IP address: a DNS name does not end in a number");
    }
    None
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
