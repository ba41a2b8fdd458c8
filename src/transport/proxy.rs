//! The layer between TCP and TLS: where a proxy is set, it is asked for a way to the backend (CONNECT).
//!
//! The proxy resolves the backend's name; TLS then goes through it from end to end, with the names that
//! it has without one. The request itself is hyper-util's `Tunnel`; here is what its errors do not tell.

use std::error::Error as StdError;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::{ServiceExt, service_fn};

use super::Target;
use super::layer::{Dials, Layer};
use super::resolve::Names;
use crate::config::Proxy;
use crate::error::{Code, Error, Result};

/// The proxy on the way to a target.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    /// The proxy as a target of its own, for name and TCP.
    pub(crate) target: Arc<Target>,
    /// Marked as sensitive, so that `Debug` does not show it.
    authorization: Option<HeaderValue>,
}

/// Connects to the proxy of a target in place of the target, and asks it to go on; a target without one
/// is left to the layer underneath.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proxied;

/// A connection to a proxy, and all that has come over it.
///
/// It is read byte by byte: the tunnel throws away whatever it has read beyond the proxy's answer, and
/// there may stand the greeting of a plaintext backend.
struct Overheard {
    stream: TcpStream,
    heard: Heard,
    taken: usize,
}

type Heard = Arc<Mutex<Vec<u8>>>;

/// What can be told of an answer that did not open the way.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Nothing,
    Tls,
    Status {
        code: u16,
        reason: String,
        demands: Option<String>,
    },
    /// A success whose head never ended.
    Unfinished,
    /// Its first line.
    Other(String),
}

/// How much of a line is worth showing.
const LINE: usize = 80;

// === impl Hop ===

impl Hop {
    pub(super) fn new(proxy: &Proxy, target: Target) -> Result<Self> {
        let basic = |secret: &crate::config::Secret| {
            let encoded = openssl::base64::encode_block(secret.expose().as_bytes());
            let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))
                .map_err(|_| Error::new(Code::Bug).key("collector.proxy"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let authorization = proxy.credentials.as_ref().map(basic).transpose()?;
        Ok(Self { target: Arc::new(target), authorization })
    }

    pub(super) fn with_names(&self, names: Names) -> Self {
        Self { target: Arc::new(self.target.with_names(names)), ..self.clone() }
    }

    /// Whether it is told who asks.
    pub(crate) fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }
}

// === impl Proxied ===

impl<B: Dials<TcpStream>> Layer<B> for Proxied {
    type Made = TcpStream;

    async fn dial(self, below: B, target: Arc<Target>) -> Result<TcpStream> {
        let Some(hop) = &target.proxy else { return below.oneshot(target).await };
        let stream = below.oneshot(hop.target.clone()).await.map_err(unreachable)?;
        tunnel(&target, hop, stream).await
    }
}

/// A proxy that is not even reached: the setting to look at is another than the backend's.
pub(crate) fn unreachable(error: Error) -> Error {
    let hint = match error.code() {
        Code::NameNotFound => "check the proxy's name in collector.proxy and this machine's DNS",
        Code::ConnectRefused => {
            "check that the proxy of collector.proxy runs and listens on this port"
        }
        Code::ConnectTimedOut => {
            "check firewalls between this machine and the proxy of collector.proxy"
        }
        _ => return error.key("collector.proxy"),
    };
    error.key("collector.proxy").hint(hint)
}

/// Asks the proxy at the other end of a connection for a way to the target.
pub(crate) async fn tunnel(target: &Target, hop: &Hop, stream: TcpStream) -> Result<TcpStream> {
    let heard = Heard::default();
    let mut connection = Some(Overheard { stream, heard: heard.clone(), taken: 0 });
    let connect = service_fn(move |_: Uri| {
        ready(connection.take().map(TokioIo::new).ok_or_else(|| io::Error::other("once only")))
    });
    let authority = |of: &Target| {
        let bad = |error: http::uri::InvalidUri| Error::new(Code::Bug).peer(of).because(error);
        of.to_string().parse::<Uri>().map_err(bad)
    };
    let mut tunnel = Tunnel::new(authority(&hop.target)?, connect);
    if let Some(authorization) = &hop.authorization {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    let limit = target.deadlines.proxy;
    match timeout(limit, tunnel.oneshot(authority(target)?)).await {
        Ok(Ok(opened)) => Ok(opened.into_inner().stream),
        Ok(Err(error)) => {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            Err(explain(target, hop, &heard, &error))
        }
        Err(_) => Err(Error::new(Code::ProxyTimedOut)
            .peer(&hop.target)
            .found(format!("no answer to CONNECT {target} within {limit:?}"))),
    }
}

fn explain(target: &Target, hop: &Hop, heard: &[u8], error: &dyn StdError) -> Error {
    let asked = format!("CONNECT {target}");
    let no_proxy = |found: &str| {
        Error::new(Code::NotAProxy)
            .peer(&hop.target)
            .found(format!("{found} after {asked}"))
            .expected("HTTP/1.1 200")
    };
    match Answer::of(heard) {
        // 401 is a web server's, but tinyproxy says so to wrong credentials.
        Answer::Status { code: code @ (401 | 407), reason, demands } => {
            denied(hop, &format!("status {code} {reason} after {asked}"), demands)
        }
        Answer::Status { code, reason, .. } => {
            let hint = match code {
                403 => "let the proxy's rules allow CONNECT to the backend's host and port; many allow port 443 only",
                // 500 is tinyproxy's word for it.
                500 | 502..=504 => "the proxy does not reach the backend: check collector.backend_service, and name service and firewalls as the proxy sees them",
                _ => "check that this port is an HTTP proxy's and that it allows CONNECT to the backend's port",
            };
            Error::new(Code::ProxyRefused)
                .peer(&hop.target)
                .found(format!("status {code} {reason} after {asked}"))
                .expected("status 200")
                .hint(hint)
        }
        Answer::Tls => no_proxy("TLS").hint(
            "name a port where the proxy speaks plaintext HTTP: TLS to the proxy itself is not supported",
        ),
        Answer::Nothing => {
            let end = no_proxy("the end of the connection without an answer").hint(
                "check host and port in collector.proxy; a port that speaks TLS ends like this too",
            );
            match error.source() {
                Some(cause) => end.because(cause.to_string()),
                None => end,
            }
        }
        Answer::Unfinished => no_proxy("an answer that is too long, broken or cut off"),
        Answer::Other(line) => no_proxy(&format!("{line:?}")),
    }
}

fn denied(hop: &Hop, found: &str, demands: Option<String>) -> Error {
    let error = Error::new(Code::ProxyDenied).key("collector.proxy").peer(&hop.target).found(found);
    let basic = |scheme: &String| scheme.eq_ignore_ascii_case("basic");
    match demands {
        Some(scheme) if !basic(&scheme) => error
            .expected(format!("the scheme Basic, not {scheme}"))
            .hint("let the proxy accept Basic credentials, or a CONNECT to the backend without any"),
        _ if hop.has_credentials() => error
            .expected("other credentials")
            .hint("check user and password in collector.proxy; special characters are percent-encoded there"),
        _ => error.expected("credentials"),
    }
}

// === impl Answer ===

impl Answer {
    fn of(heard: &[u8]) -> Self {
        match heard {
            [] => return Self::Nothing,
            // A record: an alert, or a handshake message.
            [0x15 | 0x16, 3, ..] => return Self::Tls,
            _ => {}
        }
        let text = String::from_utf8_lossy(heard);
        let mut lines = text.trim_start().lines();
        let first = lines.next().unwrap_or_default();
        let Some((code, reason)) = status(first) else { return Self::Other(short(first)) };
        if code == 200 {
            return Self::Unfinished;
        }
        // Of several schemes the one that can be had, else the first.
        let schemes: Vec<String> = lines.filter_map(scheme).collect();
        let basic = schemes.iter().find(|scheme| scheme.eq_ignore_ascii_case("basic"));
        let demands = basic.or(schemes.first()).cloned();
        Self::Status { code, reason: short(reason), demands }
    }
}

/// Splits `HTTP/1.1 503 Service Unavailable`.
fn status(line: &str) -> Option<(u16, &str)> {
    let (_, rest) = line.strip_prefix("HTTP/1.")?.split_once(' ')?;
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let three = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    Some((code.parse().ok().filter(|_| three)?, reason))
}

/// The scheme of a `Proxy-Authenticate` line.
fn scheme(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    let named = name.eq_ignore_ascii_case("proxy-authenticate");
    value.split_whitespace().next().filter(|_| named).map(short)
}

fn short(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

// === impl Overheard ===

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut heard = this.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if this.taken == heard.len() {
            let mut room = [0; 1024];
            let mut room = ReadBuf::new(&mut room);
            ready!(this.stream.poll_peek(cx, &mut room))?;
            heard.extend_from_slice(room.filled());
        }
        drop(heard);
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut one))?;
        this.taken += one.filled().len();
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let of = |text: &str| Answer::of(text.as_bytes());
        let status = |code, reason: &str, demands: Option<&str>| Answer::Status {
            code,
            reason: reason.to_owned(),
            demands: demands.map(str::to_owned),
        };
        assert_eq!(of("HTTP/1.1 403 Forbidden\r\n\r\n"), status(403, "Forbidden", None));
        assert_eq!(of("HTTP/1.0 503\r\n"), status(503, "", None));
        let head = "HTTP/1.1 407 No\r\nPROXY-authenticate: NTLM\r\nProxy-Authenticate: basic realm=x\r\n\r\n";
        assert_eq!(of(head), status(407, "No", Some("basic")));
        let head = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n";
        assert_eq!(of(head), status(407, "No", Some("Negotiate")));
        assert_eq!(of("HTTP/1.1 200 OK\r\nX: y"), Answer::Unfinished);
        assert_eq!(of(""), Answer::Nothing);
        assert_eq!(of("\u{15}\u{3}\u{3}"), Answer::Tls);
        for text in ["220 mail", "HTTP/1.1 2000 OK", "HTTP/2 200", "HTTP/1.1  200", "ICY 200 OK"] {
            assert_eq!(of(text), Answer::Other(text.to_owned()), "{text}");
        }
        let Answer::Other(line) = of(&"é".repeat(500)) else { panic!("it is no status") };
        assert_eq!(line.chars().count(), LINE + 1);
    }
}
