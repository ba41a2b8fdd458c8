//! `admin.listen`: how a relay is, for people, probes and Prometheus, by HTTP/1.1 on this machine.
//!
//! Everything is read, nothing can be changed here, and nothing is kept: each answer is made when it is
//! asked for, from the state and the books of that moment.

mod metrics;
mod status;

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{Mode, Settings};
use crate::engine::Engine;
use crate::error::Result;
use crate::relay::{OpenListener, Relay, StandIn, open_listeners};
use crate::rotation::Rotator;
use crate::transport::Transport;
use crate::uplink::Uplink;

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    view: Arc<View>,
    places: Vec<String>,
    _listeners: JoinSet<()>,
}

/// What is looked at.
struct View {
    mode: Mode,
    uplink: Uplink,
    transport: Transport,
    /// With what their material is for.
    rotators: Vec<(&'static str, Rotator)>,
    stand_in: Box<dyn Fn() -> Option<StandIn> + Send + Sync>,
    stopping: AtomicBool,
}

/// Far more than a few people and probes need.
const CONNECTIONS: usize = 32;
/// For one request and its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests are a line and a few headers.
const REQUEST: usize = 16 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

// === impl Admin ===

impl Admin {
    /// Opens what `admin.listen` names; `None` if it names nothing.
    ///
    /// # Errors
    ///
    /// When an address cannot be opened.
    pub(crate) fn start(
        settings: &Settings,
        engine: &Engine,
        relay: &Relay,
        handle: &Handle,
    ) -> Result<Option<Self>> {
        if settings.admin.is_empty() {
            return Ok(None);
        }
        let _entered = handle.enter();
        let mode = settings.relay.unix_mode;
        let listeners = open_listeners(&settings.admin, mode, "admin.listen")?;
        let rotators = [("link", engine.rotator()), ("listener", relay.rotator())];
        let view = Arc::new(View {
            mode: settings.tls.mode,
            uplink: engine.uplink().clone(),
            transport: engine.transport().clone(),
            rotators: rotators
                .into_iter()
                .filter_map(|(name, rotator)| Some((name, rotator?.clone())))
                .collect(),
            stand_in: Box::new(relay.watcher()),
            stopping: AtomicBool::new(false),
        });
        let places = listeners.iter().map(place).collect();
        let doors = Arc::new(Semaphore::new(CONNECTIONS));
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn_on(accept(listener, view.clone(), doors.clone()), handle);
        }
        Ok(Some(Self { view, places, _listeners: tasks }))
    }

    /// Where it listens: `http://address:port`, `unix:/path`.
    pub(crate) fn places(&self) -> &[String] {
        &self.places
    }

    /// From now on the answer to a probe is that the relay comes to its end.
    pub(crate) fn stopping(&self) {
        self.view.stopping.store(true, Ordering::Relaxed);
    }
}

fn place(listener: &OpenListener) -> String {
    match (listener.address(), listener.path().map(PathBuf::from)) {
        (Some(address), _) => format!("http://{address}"),
        (None, path) => format!("unix:{}", path.unwrap_or_default().display()),
    }
}

/// Serves one address until its task is ended.
async fn accept(listener: OpenListener, view: Arc<View>, doors: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        // A pause after an error: too many open files, mostly.
        let accepted = match &listener {
            OpenListener::Tcp { listener, .. } => (listener.accept().await)
                .map(|(stream, _)| admit(stream, &view, &doors, &mut connections)),
            OpenListener::Unix { listener, .. } => (listener.accept().await)
                .map(|(stream, _)| admit(stream, &view, &doors, &mut connections)),
        };
        if let Err(error) = accepted {
            log::debug!("admin: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves a connection, unless there are too many.
fn admit(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    view: &Arc<View>,
    doors: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
) {
    if let Ok(door) = doors.clone().try_acquire_owned() {
        connections.spawn(serve(stream, view.clone(), door));
    }
}

/// One request on each connection: who holds one open keeps out nobody for long.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    view: Arc<View>,
    door: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let answer = view.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever went wrong, nobody is left to tell.
    let _ = timeout(PATIENCE, connection).await;
    drop(door);
}

// === impl View ===

impl View {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !request.headers().get(HOST).is_none_or(is_of_this_machine) {
            // A page of another site, whose name leads here for the moment.
            return respond(StatusCode::MISDIRECTED_REQUEST, TEXT, "ask by an address\n");
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/healthz" if self.stopping.load(Ordering::Relaxed) => {
                respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n")
            }
            // An outage of the backend is no reason to restart what bridges it.
            "/healthz" => respond(StatusCode::OK, TEXT, "ok\n"),
            "/metrics" => respond(StatusCode::OK, EXPOSITION, metrics::render(self)),
            "/status" => respond(StatusCode::OK, JSON, format!("{:#}\n", status::document(self))),
            "/" => respond(StatusCode::OK, HTML, status::page(self)),
            _ => respond(StatusCode::NOT_FOUND, TEXT, "/healthz, /metrics, /status\n"),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An address, or `localhost`: no other name is known to lead here.
fn is_of_this_machine(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let is_address = host.parse::<SocketAddr>().is_ok()
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    is_address || name.is_empty() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_of_this_machine_is_not_answered() {
        for (host, of_this_machine) in [
            ("localhost", true),
            ("LOCALHOST:9000", true),
            ("127.0.0.1:9000", true),
            ("127.0.0.1", true),
            ("[::1]:9000", true),
            ("[::1]", true),
            ("", true),
            ("attacker.example", false),
            ("attacker.example:9000", false),
            ("127.0.0.1.attacker.example", false),
        ] {
            let value = HeaderValue::from_static(host);
            assert_eq!(is_of_this_machine(&value), of_this_machine, "{host:?}");
        }
    }
}
