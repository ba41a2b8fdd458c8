//! The name that is verified in the server's certificate and the name sent as SNI.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{X509NameRef, X509Ref};

use crate::config::to_ascii;
use crate::error::{Code, Error, Result};

/// What a connection expects of its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName {
    verified: Verified,
    sni: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verified {
    Dns(String),
    Ip(IpAddr),
}

impl PeerName {
    /// Verifies `host`, a DNS name or an IP address (with or without brackets), and sends it as
    /// SNI unless it is an address (RFC 6066 section 3).
    ///
    /// # Errors
    ///
    /// [`Code::BadServerName`] when `host` is neither, or a name that this OpenSSL verifies nobody by.
    pub fn new(host: &str) -> Result<Self> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self { verified: Verified::Ip(ip), sni: None });
        }
        let name = dns_name(host)?;
        // Here, and not at the first connection, where OpenSSL gives no reason.
        if X509VerifyParam::new().and_then(|mut demands| demands.set_host(&name)).is_err() {
            return Err(Error::new(Code::BadServerName)
                .found(host)
                .expected(format!("a name that {} verifies", openssl::version::version()))
                .hint(
                    "OpenSSL 4 takes no name of a single character, and no label that starts or ends with a \
                     hyphen: set agent.ssl_server_name to another name in the backend's certificate",
                ));
        }
        Ok(Self { sni: Some(name.clone()), verified: Verified::Dns(name) })
    }

    /// Sends another name as SNI than the one verified.
    ///
    /// # Errors
    ///
    /// [`Code::BadServerName`] when `sni` is not a DNS name.
    pub fn with_sni(mut self, sni: &str) -> Result<Self> {
        self.sni = Some(dns_name(sni)?);
        Ok(self)
    }

    /// The name sent as SNI.
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// The name verified, as text.
    pub fn verified(&self) -> String {
        match &self.verified {
            Verified::Dns(name) => name.clone(),
            Verified::Ip(ip) => ip.to_string(),
        }
    }
}

/// A DNS name in the form that goes on the wire: no trailing dot, LDH labels (and underscores,
/// which container networks use), at most 253 bytes.
fn dns_name(text: &str) -> Result<String> {
    let ascii = to_ascii(text).unwrap_or(Cow::Borrowed(text));
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name.to_owned());
    }
    let error = Error::new(Code::BadServerName).found(text).expected("a DNS name or an IP address");
    Err(if text.is_ascii() {
        error
    } else {
        error.hint("this is no internationalised name either; if it is meant as one, write its ASCII form, xn--…")
    })
}

/// A distinguished name on one line, in the order of the certificate: `CN=localhost`.
pub(crate) fn one_line(name: &X509NameRef) -> String {
    let entries: Vec<String> = name
        .entries()
        .map(|entry| {
            let kind = entry.object().nid().short_name().unwrap_or("?");
            let value = entry.data().to_string().unwrap_or_default();
            format!("{kind}={value}")
        })
        .collect();
    entries.join(", ")
}

/// The names a certificate was issued for: DNS names and addresses, or the subject.
pub(crate) fn presented(certificate: &X509Ref) -> String {
    let mut names: Vec<String> = Vec::new();
    for name in certificate.subject_alt_names().iter().flatten() {
        match (name.dnsname(), name.ipaddress()) {
            (Some(dns), _) => names.push(dns.to_owned()),
            (_, Some(&[a, b, c, d])) => names.push(Ipv4Addr::new(a, b, c, d).to_string()),
            (_, Some(bytes)) => {
                if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
                    names.push(Ipv6Addr::from(octets).to_string());
                }
            }
            _ => {}
        }
    }
    if names.is_empty() { one_line(certificate.subject_name()) } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_verified_as_addresses_and_send_no_sni() {
        for host in ["127.0.0.1", "::1", "[::1]"] {
            let name = PeerName::new(host).unwrap();
            assert_eq!(name.sni(), None, "{host}");
            assert!(matches!(name.verified, Verified::Ip(_)));
        }
    }

    #[test]
    fn names_lose_their_trailing_dot() {
        let name = PeerName::new("oap.example.com.").unwrap();
        assert_eq!(
            (name.sni(), name.verified().as_str()),
            (Some("oap.example.com"), "oap.example.com")
        );
    }

    #[test]
    fn internationalised_names_go_on_the_wire_in_ascii() {
        let name = PeerName::new("bücher.example").unwrap().with_sni("straße.example.").unwrap();
        assert_eq!(name.verified(), "xn--bcher-kva.example");
        assert_eq!(name.sni(), Some("xn--strae-oqa.example"));
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for host in ["", "a..b", "a b", "a\0b", "http://x", "bü cher.example", &"a".repeat(64)] {
            assert_eq!(PeerName::new(host).unwrap_err().code(), Code::BadServerName, "{host:?}");
        }
    }

    #[test]
    fn a_name_that_openssl_does_not_take_is_refused_before_anything_is_dialled() {
        let four = openssl::version::number() >= 0x4000_0000;
        for host in ["x", "-a.example", "a-.example"] {
            let refused = PeerName::new(host).err();
            assert_eq!(refused.is_some(), four, "{host}: {refused:?}");
            if let Some(error) = refused {
                assert_eq!(error.code(), Code::BadServerName, "{host}");
                assert!(error.to_string().contains("OpenSSL 4"), "{error}");
            }
        }
        for host in ["x1", "a-b.example", "_a.example", &["a"; 100].join(".")] {
            assert_eq!(PeerName::new(host).unwrap().verified(), host);
        }
    }
}
