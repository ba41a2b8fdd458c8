//! Internationalised names: from how they are written to how DNS, TLS and HTTP/2 carry them.
//!
//! Whether the outcome is a good name is for the caller to check.

use std::borrow::Cow;

/// A name in its ASCII form, by the rules of UTS 46 that browsers follow; ASCII stays as it is.
/// `None` if it has none.
pub(crate) fn to_ascii(name: &str) -> Option<Cow<'_, str>> {
    if name.is_ascii() {
        return Some(Cow::Borrowed(name));
    }
    let name = idna::domain_to_ascii(name).ok()?;
    // Full-width digits become digits: what was written as a name must not turn into an address.
    let is_name = super::value::is_dns_name(&name);
    is_name.then_some(Cow::Owned(name))
}

/// The same for `host:port`, or a host alone.
pub(super) fn address_to_ascii(address: &str) -> Cow<'_, str> {
    if address.is_ascii() {
        return Cow::Borrowed(address);
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (address, None),
    };
    match (to_ascii(host), port) {
        (Some(host), Some(port)) => Cow::Owned(format!("{host}:{port}")),
        (Some(host), None) => host,
        // Left to be refused as it is.
        (None, _) => Cow::Borrowed(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_the_form_that_dns_has() {
        for (written, carried) in [
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("BÜCHER.example", Some("xn--bcher-kva.example")),
            ("bu\u{308}cher.example", Some("xn--bcher-kva.example")),
            ("例え。テスト", Some("xn--r8jz45g.xn--zckzah")),
            ("straße.example", Some("xn--strae-oqa.example")),
            ("OAP.example.", Some("OAP.example.")),
            ("oap_1", Some("oap_1")),
            ("１２７.0.0.1", None),
            ("bücher..example", None),
            ("bü cher", None),
            ("\u{202e}bücher", None),
        ] {
            assert_eq!(to_ascii(written).as_deref(), carried, "{written}");
        }
    }

    #[test]
    fn ports_and_paths_are_left_alone() {
        assert_eq!(address_to_ascii("bücher.example:11800"), "xn--bcher-kva.example:11800");
        assert_eq!(address_to_ascii("bücher.example"), "xn--bcher-kva.example");
        assert_eq!(address_to_ascii("[::1]:1"), "[::1]:1");
        assert_eq!(address_to_ascii("bü cher:1"), "bü cher:1");
    }
}
