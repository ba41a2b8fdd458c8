//! Addresses to connect to and to listen on, as texts.
//!
//! Nothing is resolved and nothing opened; whether an address may be used is decided elsewhere.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::settings::{Backend, ListenAddress};
use super::value::{Fault, is_dns_name};
use crate::error::Code;

/// A list without repetitions, and what was repeated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses<T> {
    pub(super) list: Vec<T>,
    pub(super) repeated: Vec<T>,
}

const UNIX: &str = "unix:";

/// Parses `collector.backend_service`. Blanks around entries are tolerated, empty entries are not:
/// they are what is left of a variable that was not set.
pub(super) fn backends(text: &str) -> Result<Addresses<Backend>, Fault> {
    let backends = text.split(',').map(|entry| backend(entry.trim()));
    // Names differ in case only: the same backend.
    unique(backends, |backend| {
        Some(match backend {
            Backend::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => format!("{ip} {port}"),
                Err(_) => format!("{} {port}", host.to_ascii_lowercase()),
            },
            Backend::Unix(path) => format!("unix {}", path.display()),
        })
    })
}

/// Parses `relay.listen`.
pub(super) fn listen(text: &str) -> Result<Addresses<ListenAddress>, Fault> {
    let addresses = text.split(',').map(|entry| listen_address(entry.trim()));
    unique(addresses, |address| match address {
        // Port 0 twice is two listeners.
        ListenAddress::Ip(address) => (address.port() != 0).then(|| address.to_string()),
        ListenAddress::Localhost(port) => (*port != 0).then(|| format!("localhost:{port}")),
    })
}

/// Splits `host:port` or `[v6]:port` and checks both.
pub(super) fn host_and_port(entry: &str) -> Result<(&str, u16), Fault> {
    let fault = |expected: &str| Fault::new(Code::BadBackend, entry).expected(expected);
    if entry.is_empty() {
        return Err(fault("an address between the commas"));
    }
    if entry.contains("://") {
        return Err(fault("host:port without a scheme").hint(
            "write host:port; whether TLS is used depends on agent.ssl_trusted_ca_path and agent.force_tls",
        ));
    }
    if let Some(rest) = entry.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return Err(fault("a closing bracket"));
        };
        if host.contains('%') {
            return Err(fault("an IPv6 address without a zone"));
        }
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(fault("an IPv6 address in the brackets"));
        }
        let port = rest.strip_prefix(':').ok_or_else(|| fault("a port"))?;
        return Ok((host, self::port(port).ok_or_else(|| fault("a port up to 65535"))?));
    }
    let Some((host, port)) = entry.rsplit_once(':') else {
        return Err(fault("a port"));
    };
    let like_v6 = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '%');
    if host.contains(':') && host.chars().all(like_v6) {
        let fault = fault("an IPv6 address in brackets");
        return Err(fault.hint("write an IPv6 address in brackets, for example [::1]:11800"));
    }
    let port = self::port(port).ok_or_else(|| fault("a port up to 65535"))?;
    if host.parse::<Ipv4Addr>().is_err() && !is_dns_name(host) {
        let fault = fault("a DNS name or an IP address");
        return Err(if host.is_ascii() {
            fault
        } else {
            fault.hint("write an internationalised name in its ASCII form, xn--…")
        });
    }
    Ok((host, port))
}

fn backend(entry: &str) -> Result<Backend, Fault> {
    if let Some(path) = entry.strip_prefix(UNIX) {
        if path.starts_with("//") || !path.starts_with('/') {
            return Err(Fault::new(Code::BadBackend, entry).expected("unix:/path"));
        }
        return Ok(Backend::Unix(PathBuf::from(path)));
    }
    let (host, port) = host_and_port(entry)?;
    if port == 0 {
        return Err(Fault::new(Code::BadBackend, entry).expected("a port from 1 to 65535"));
    }
    Ok(Backend::Tcp { host: host.to_owned(), port })
}

fn listen_address(entry: &str) -> Result<ListenAddress, Fault> {
    if entry.starts_with(UNIX) {
        return Err(Fault::new(Code::NotBuiltYet, entry)
            .expected("host:port")
            .hint("listen on a loopback address: this version does not listen on Unix sockets"));
    }
    let (host, port) = host_and_port(entry).map_err(|fault| Fault {
        code: Code::BadListen,
        hint: None,
        ..fault
    })?;
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ListenAddress::Ip(SocketAddr::new(ip, port)));
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(ListenAddress::Localhost(port));
    }
    Err(Fault::new(Code::BadListen, entry).expected("an IP address or localhost"))
}

/// Ports are digits: `+80` parses as a number, but is none.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn unique<T>(
    items: impl Iterator<Item = Result<T, Fault>>,
    identity: impl Fn(&T) -> Option<String>,
) -> Result<Addresses<T>, Fault> {
    let mut seen = HashSet::new();
    let mut addresses = Addresses { list: Vec::new(), repeated: Vec::new() };
    for item in items {
        let item = item?;
        if identity(&item).is_none_or(|identity| seen.insert(identity)) {
            addresses.list.push(item);
        } else {
            addresses.repeated.push(item);
        }
    }
    Ok(addresses)
}

// === impl Backend ===

impl Backend {
    /// Whether what is sent there stays on this machine, judged without resolving names.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                Err(_) => is_localhost(host),
            },
        }
    }

    /// Whether this is literally one of the loopback addresses listened on.
    pub(super) fn is_one_of(&self, listen: &[ListenAddress]) -> bool {
        let Self::Tcp { host, port } = self else { return false };
        let ip = host.parse::<IpAddr>().ok().map(reached);
        let [v4, v6] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        listen.iter().any(|address| {
            let (theirs, their_port) = match address {
                ListenAddress::Ip(address) => (Some(reached(address.ip())), address.port()),
                ListenAddress::Localhost(port) => (None, *port),
            };
            their_port == *port
                && match (ip, theirs) {
                    (Some(ours), Some(theirs)) => ours == theirs,
                    (Some(one), None) => one == v4 || one == v6,
                    (None, Some(one)) => is_localhost(host) && (one == v4 || one == v6),
                    (None, None) => is_localhost(host),
                }
        })
    }
}

/// Where a connection to an address ends up: one to `0.0.0.0` or `::` stays on this machine.
pub(crate) fn reached(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn is_localhost(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
}

// === impl ListenAddress ===

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Localhost(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Backend {
        Backend::Tcp { host: host.into(), port }
    }

    #[test]
    fn lists_tolerate_blanks_and_drop_repetitions() {
        let all = backends("oap-1:11800 , [::1]:1,\t10.0.0.1:65535,OAP-1:11800").unwrap();
        assert_eq!(all.list, [tcp("oap-1", 11800), tcp("::1", 1), tcp("10.0.0.1", 65535)]);
        assert_eq!(all.repeated, [tcp("OAP-1", 11800)]);
        assert_eq!(backends("[::1]:1,[0:0:0:0:0:0:0:1]:1").unwrap().list.len(), 1);
        assert_eq!(backends("unix:/run/x").unwrap().list, [Backend::Unix("/run/x".into())]);
    }

    #[test]
    fn malformed_backends() {
        for text in [
            "",
            ",",
            "a:1,",
            ",a:1",
            "a:1,,b:1",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:70000",
            "a:-1",
            "a:+1",
            "a:1x",
            "http://a:1",
            "https://a",
            "a:1/x",
            "u@a:1",
            "::1:11800",
            "fe80::1",
            "[::1]",
            "[::1]11800",
            "[::1",
            "[1.2.3.4]:1",
            "[fe80::1%eth0]:1",
            "1.2.3:1",
            "256.0.0.1:1",
            "a b:1",
            "bücher:1",
            "*:1",
            "unix:x",
            "unix://x",
            "unix:",
        ] {
            let fault = backends(text).unwrap_err();
            assert_eq!(fault.code, Code::BadBackend, "{text}");
        }
        assert!(backends("http://a:1").unwrap_err().hint.is_some());
        assert!(backends("::1:11800").unwrap_err().hint.unwrap().contains("[::1]:11800"));
    }

    #[test]
    fn listen_addresses() {
        let all = listen("127.0.0.1:11800, localhost:0,[::1]:11800").unwrap();
        assert_eq!(all.list.len(), 3);
        assert!(all.list.iter().all(ListenAddress::is_loopback));
        assert_eq!(listen("127.0.0.1:1,127.0.0.1:1").unwrap().list.len(), 1);
        assert_eq!(listen("127.0.0.1:0,127.0.0.1:0").unwrap().list.len(), 2);
        let remote = listen("0.0.0.0:11800,[::]:1,10.0.0.1:2").unwrap();
        assert!(!remote.list.iter().any(ListenAddress::is_loopback));
        for text in ["", "11800", ":11800", "oap:11800", "127.0.0.1", "127.0.0.1:70000", "*:1"] {
            assert_eq!(listen(text).unwrap_err().code, Code::BadListen, "{text}");
        }
        assert_eq!(listen("unix:/run/x").unwrap_err().code, Code::NotBuiltYet);
    }

    #[test]
    fn local_means_loopback() {
        for text in [
            "localhost:1",
            "LOCALHOST.:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "unix:/x",
        ] {
            assert!(backends(text).unwrap().list[0].is_local(), "{text}");
        }
        for text in ["oap:1", "10.0.0.1:1", "0.0.0.0:1", "[::]:1", "localhost.example.com:1"] {
            assert!(!backends(text).unwrap().list[0].is_local(), "{text}");
        }
    }

    #[test]
    fn a_backend_can_be_the_listener_itself() {
        let same = |backend: &str, listen_on: &str| {
            let listen = listen(listen_on).unwrap().list;
            backends(backend).unwrap().list[0].is_one_of(&listen)
        };
        for listener in ["127.0.0.1:7", "localhost:7", "[::1]:7"] {
            assert!(same("localhost:7", listener));
            assert!(!same("localhost:8", listener));
            assert!(!same("oap:7", listener));
        }
        assert!(same("127.0.0.1:7", "127.0.0.1:7") && same("[::1]:7", "localhost:7"));
        assert!(!same("[::1]:7", "127.0.0.1:7") && !same("127.0.0.1:7", "127.0.0.1:0"));
    }
}
