//! `collector.proxy`: from a URL to a host, a port and credentials.
//!
//! Nothing of the text gets into a fault: in a malformed one nobody can say where the password begins.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::settings::{Backend, Secret};
use super::value::Fault;
use super::{backend, idn};
use crate::error::Code;

/// An HTTP proxy that is asked for a way to each backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// `user:password`, decoded; the user has no colon.
    pub credentials: Option<Secret>,
}

// === impl Proxy ===

impl Proxy {
    /// The address to connect to.
    pub(crate) fn address(&self) -> Backend {
        Backend::Tcp { host: self.host.clone(), port: self.port }
    }

    /// Whether a backend is reached from another machine, so that a loopback address is not ours.
    pub(super) fn leads_away(proxy: Option<&Self>, backend: &Backend) -> bool {
        let away = proxy.is_some_and(|proxy| !proxy.address().is_local());
        away && matches!(backend, Backend::Tcp { .. })
    }
}

/// `host:port`, without the credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

/// Parses the URL. There is no default port: 80, 1080, 3128 and 8080 are all somebody's.
pub(super) fn proxy(text: &str) -> Result<Proxy, Fault> {
    if text.contains(char::is_whitespace) {
        return Err(fault("no blanks"));
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| fault("http:// in front"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => {
            return Err(fault(
                "http, not https: a proxy is spoken to in plaintext, TLS goes through it",
            ));
        }
        scheme if scheme.starts_with("socks") => {
            return Err(fault("http, not socks: only HTTP proxies are known"));
        }
        _ => return Err(fault("the scheme http")),
    }
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !matches!(behind, "" | "/") {
        return Err(fault("nothing behind the port"));
    }
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, authority),
    };
    let address = idn::address_to_ascii(address);
    let (host, port) = match backend::host_and_port(&address) {
        Ok((_, 0)) => return Err(fault("a port from 1 to 65535")),
        Ok((host, port)) => (host.to_owned(), port),
        Err(other) => return Err(fault(other.expected.as_deref().unwrap_or("host:port"))),
    };
    Ok(Proxy { host, port, credentials: user.map(credentials).transpose()? })
}

fn credentials(text: &str) -> Result<Secret, Fault> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (user, password) = (decoded(user)?, decoded(password)?);
    // What is left of variables that are not set.
    if user.is_empty() {
        return Err(fault("a user before the @"));
    }
    // RFC 7617 cannot carry these.
    if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
        return Err(fault("no colon in the user, and no control characters"));
    }
    Ok(Secret::new(format!("{user}:{password}")))
}

/// Decodes `%40` and the like. A percent sign that begins none of them is somebody's password as it is.
fn decoded(text: &str) -> Result<String, Fault> {
    let broken = text.split('%').skip(1).any(|rest| {
        let digits = rest.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if broken {
        return Err(fault("two hexadecimal digits behind each percent sign"));
    }
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| fault("UTF-8 in user and password"))
}

fn fault(expected: &str) -> Fault {
    Fault::new(Code::BadProxy, "something else").expected(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_proxies() {
        for (text, shown, credentials) in [
            ("http://proxy:3128", "proxy:3128", None),
            ("HTTP://proxy:3128/", "proxy:3128", None),
            ("http://[::1]:80", "[::1]:80", None),
            ("http://bücher.example:1", "xn--bcher-kva.example:1", None),
            ("http://u:p@10.0.0.1:8080", "10.0.0.1:8080", Some("u:p")),
            ("http://u@proxy:1", "proxy:1", Some("u:")),
            ("http://u:@proxy:1", "proxy:1", Some("u:")),
            ("http://u:a:b@proxy:1", "proxy:1", Some("u:a:b")),
            ("http://u:p@ss@proxy:1", "proxy:1", Some("u:p@ss")),
            ("http://d%5Cu:%40%2f%25%3a+@proxy:1", "proxy:1", Some("d\\u:@/%:+")),
            ("http://u:%C3%A9é@proxy:1", "proxy:1", Some("u:éé")),
        ] {
            let proxy = proxy(text).unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            let found = proxy.credentials.as_ref().map(|secret| secret.expose().as_str());
            assert_eq!(found, credentials, "{text}");
            assert!(!format!("{proxy:?}").contains("p@"), "{proxy:?}");
        }
    }

    #[test]
    fn everything_else_is_refused_and_stays_unsaid() {
        for text in [
            "proxy:3128",
            "u:s3cret@proxy:3128",
            "https://u:s3cret@proxy:3128",
            "socks5://u:s3cret@proxy:1080",
            "SOCKS5h://proxy:1080",
            "ftp://proxy:21",
            "://proxy:1",
            "http://proxy",
            "http://u:s3cret@proxy",
            "http://proxy:0",
            "http://proxy:65536",
            "http://u:s3cret@",
            "http://",
            "http://::1:3128",
            "http://proxy:1/path",
            "http://proxy:1?s3cret",
            "http://u:s3cret/x@proxy:1",
            "http://u:s3cret#x@proxy:1",
            "http://u:s3 cret@proxy:1",
            "http://pro xy:1",
            "http://u:100%s3cret@proxy:1",
            "http://u:s3cret%@proxy:1",
            "http://u:s3cret%4@proxy:1",
            "http://u:s3cret%00@proxy:1",
            "http://u%3Ax:s3cret@proxy:1",
            "http://u:s3cret%ff@proxy:1",
            "http://@proxy:1",
            "http://:s3cret@proxy:1",
            "http://:@proxy:1",
        ] {
            let fault = proxy(text).unwrap_err();
            assert_eq!(fault.code, Code::BadProxy, "{text}");
            assert!(!format!("{fault:?}").contains("s3"), "{fault:?}");
        }
        assert!(proxy("https://p:1").unwrap_err().expected.unwrap().contains("not https"));
        assert!(proxy("socks5://p:1").unwrap_err().expected.unwrap().contains("not socks"));
        assert!(proxy("http://p").unwrap_err().expected.unwrap().contains("a port"));
    }
}
