//! One backend, in the order of the wire: name, TCP, proxy, TLS, certificate, ALPN; then the call.
//!
//! Each step is a dialling layer of the transport; the first that fails ends the way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::SslRef;
use openssl::x509::X509;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::ServiceExt;

use super::{
    BackendReport, Check, Depth, Level, Ours, TlsReport, certificates, explain, probe, session,
};
use crate::config::Backend;
use crate::error::Error;
use crate::tls::name::one_line;
use crate::tls::{CertificateInfo, later_failure};
use crate::transport::resolve::Resolve;
use crate::transport::tls::{Attempt, Secured, attempt};
use crate::transport::{Direct, Io, Protection, Target, alpn, proxy, unix};

/// With TLS 1.3 a server refuses a client's certificate, or the lack of one, after the handshake.
/// So long its first word is waited for: longer when a certificate is at stake. Whoever writes before
/// may have the alert swept away by a reset. A server of HTTP/2 speaks at once.
const ALERT: Duration = Duration::from_millis(300);
const ALERT_ON_IDENTITY: Duration = Duration::from_secs(1);

/// Checks one backend.
pub(super) async fn check(target: &Arc<Target>, ours: Ours<'_>, depth: Depth) -> BackendReport {
    let mut report = BackendReport { address: target.to_string(), checks: Vec::new(), tls: None };
    let io = match &target.backend {
        Backend::Unix(path) => socket(target, path, &mut report.checks).await,
        _ => {
            let Some(stream) = reach(target, &mut report.checks).await else { return report };
            match &target.protection {
                None => Some(Io::plain(stream)),
                Some(by) => secure(target, by, ours, depth, stream, &mut report).await,
            }
        }
    };
    if let (Some(io), Depth::Full) = (io, depth) {
        let checks = probe::checks(target, ours, report.tls.as_ref(), io).await;
        report.checks.extend(checks);
    }
    let well = report.checks.iter().all(|check| check.level != Level::Error);
    if let (Some(by), Some(seen), true) = (&target.protection, &mut report.tls, well) {
        let (check, resumed) = session::check(target, by).await;
        seen.resumed = resumed;
        report.checks.push(check);
    }
    report
}

/// A socket of this machine: neither name, TCP nor TLS.
async fn socket(target: &Arc<Target>, path: &Path, checks: &mut Vec<Check>) -> Option<Io> {
    let (id, fact) = ("unix.connect", "the socket accepts connections");
    match unix::connect(target, path).await {
        Ok(io) => {
            checks.push(Check::ok(id, fact, path.display().to_string()));
            Some(io)
        }
        Err(error) => {
            checks.push(Check::error(id, fact, &error));
            None
        }
    }
}

/// Name and TCP: the backend's, or those of the proxy, which then is asked for a way to the backend.
async fn reach(target: &Arc<Target>, checks: &mut Vec<Check>) -> Option<TcpStream> {
    let Some(hop) = &target.proxy else {
        let facts = ["the backend's name has an address", "the backend accepts connections"];
        return connect(target, facts, checks, |error| error).await;
    };
    let facts = ["the proxy's name has an address", "the proxy accepts connections"];
    let stream = connect(&hop.target, facts, checks, proxy::unreachable).await?;
    let (id, fact) = ("proxy.connect", "the proxy opens a way to the backend");
    match proxy::tunnel(target, hop, stream).await {
        Ok(stream) => {
            let how = if hop.has_credentials() { "with" } else { "without" };
            let value = format!("{target} through {}, {how} credentials", hop.target);
            checks.push(Check::ok(id, fact, value));
            Some(stream)
        }
        Err(error) => {
            checks.push(Check::error(id, fact, &error));
            None
        }
    }
}

/// The name and TCP.
async fn connect(
    target: &Arc<Target>,
    [named, accepting]: [&str; 2],
    checks: &mut Vec<Check>,
    told: fn(Error) -> Error,
) -> Option<TcpStream> {
    let (id, fact) = ("dns.resolve", named);
    match Resolve.oneshot(target.clone()).await {
        Ok(addresses) => checks.push(Check::ok(id, fact, found(target, addresses))),
        Err(error) => {
            checks.push(Check::error(id, fact, &told(error)));
            return None;
        }
    }
    let (id, fact) = ("tcp.connect", accepting);
    match Direct::default().oneshot(target.clone()).await {
        Ok(stream) => {
            let peer = stream.peer_addr().map_or_else(|_| target.to_string(), |a| a.to_string());
            checks.push(Check::ok(id, fact, peer));
            Some(stream)
        }
        Err(error) => {
            checks.push(Check::error(id, fact, &told(error)));
            None
        }
    }
}

fn found(target: &Target, addresses: Vec<SocketAddr>) -> String {
    if matches!(&target.backend, Backend::Tcp { host, .. } if host.parse::<IpAddr>().is_ok()) {
        return "it is an address".to_owned();
    }
    // Resolvers shuffle.
    let mut addresses: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
    addresses.sort();
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// TLS, the certificate, ALPN.
async fn secure(
    target: &Arc<Target>,
    protection: &Protection,
    ours: Ours<'_>,
    depth: Depth,
    stream: TcpStream,
    report: &mut BackendReport,
) -> Option<Io> {
    let Attempt { mut stream, role, mut outcome, .. } = match attempt(target, protection, stream)
        .await
    {
        Ok(attempt) => attempt,
        Err(error) => {
            report.checks.push(Check::error("openssl.context", "OpenSSL can be set up", &error));
            return None;
        }
    };
    let finished = outcome.is_ok();
    if finished && stream.ssl().version_str() == "TLSv1.3" {
        let at_stake = role.identity || ossl_ext::peer_ca_list(stream.ssl()).is_some();
        let limit = if at_stake { ALERT_ON_IDENTITY } else { ALERT };
        if let Ok(Some(error)) = timeout(limit, alert(&mut stream, &role)).await {
            outcome = Err(error);
        }
    }
    let chain = presented(stream.ssl());
    let seen = observe(stream.ssl(), &chain, &role.name, finished);
    let evidence = explain::Evidence { target, ours, seen: &seen, chain: &chain, name: &role.name };
    let checks = &mut report.checks;
    if finished {
        checks.push(names(target, protection));
        checks.push(handshake(&seen));
        checks.extend(post_quantum(&seen));
        checks.extend(certificates::accepted(&evidence));
    }
    if let Err(error) = &outcome {
        checks.extend(explain::failure(&evidence, error));
        report.tls = Some(seen);
        return None;
    }
    checks.extend(explain::accepted_issuers(ours, &seen));
    checks.extend(explain::identity(ours, &seen));
    let chosen = stream.ssl().selected_alpn_protocol().unwrap_or_default();
    let agreed = match alpn::agreed(target, chosen) {
        Ok(()) => {
            checks.push(Check::ok("alpn.h2", explain::ALPN_FACT, "h2"));
            true
        }
        Err(error) => {
            let check = explain::alpn(&evidence, &error);
            checks.push(if depth == Depth::Tls { check.mild() } else { check });
            false
        }
    };
    report.tls = Some(seen);
    if depth == Depth::Tls {
        // An orderly end, since some servers keep no session of any other. It need not succeed.
        let _ = stream.shutdown().await;
        return None;
    }
    agreed.then(|| Io::tls(stream, role))
}

/// The names that are easily mixed up.
fn names(target: &Target, protection: &Protection) -> Check {
    let value = format!(
        "verified {}, SNI {}, authority {}",
        protection.name.verified(),
        protection.name.sni().unwrap_or("none"),
        target.authority
    );
    Check::ok("tls.names", "the names are those meant", value)
}

fn handshake(seen: &TlsReport) -> Check {
    let parts = [&seen.protocol, &seen.cipher, &seen.group];
    let value: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    Check::ok("tls.handshake", "the TLS handshake succeeds", value.join(", "))
}

/// Said when it is so; that a backend does not know such groups yet is no fault.
fn post_quantum(seen: &TlsReport) -> Option<Check> {
    let group = seen.group.as_deref().filter(|group| group.contains("MLKEM"))?;
    let fact = "what is recorded today stays secret from quantum computers";
    Some(Check::ok("tls.post_quantum", fact, group))
}

/// Waits for what the peer has to say, and leaves it unread; an end or data is no refusal.
async fn alert(stream: &mut Secured, role: &crate::tls::Role) -> Option<Error> {
    let mut room = [0; 1];
    let heard = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_peek(cx, &mut room)).await;
    later_failure(&heard.err()?.into_io_error().unwrap_or_else(io::Error::other), role)
}

fn presented(ssl: &SslRef) -> Vec<X509> {
    ssl.peer_cert_chain().into_iter().flatten().map(ToOwned::to_owned).collect()
}

fn observe(ssl: &SslRef, chain: &[X509], name: &str, finished: bool) -> TlsReport {
    let verified = ssl.verify_result();
    let some = |text: &str| finished.then(|| text.to_owned()).filter(|text| !text.is_empty());
    let names = ossl_ext::peer_ca_list(ssl);
    TlsReport {
        protocol: some(ssl.version_str()),
        cipher: some(ssl.current_cipher().map_or("", |cipher| cipher.name())),
        group: ossl_ext::negotiated_group(ssl).filter(|_| finished),
        alpn: ssl
            .selected_alpn_protocol()
            .map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        verify_code: verified.as_raw(),
        verify_text: verified.error_string().to_owned(),
        // OpenSSL tells no match for addresses: there is only the address itself to match.
        matched_name: finished
            .then(|| ossl_ext::matched_name(ssl).unwrap_or_else(|| name.to_owned())),
        chain: chain.iter().map(|certificate| CertificateInfo::of(certificate)).collect(),
        client_ca_names: names.into_iter().flatten().map(one_line).collect(),
        identity_shown: ossl_ext::has_signed(ssl),
        resumed: None,
    }
}
