//! The way to the backend: connections that are owned, replaced and retired here, behind one
//! cloneable tower service.
//!
//! Dialling is a pile of small layers, one file each: resolve the name, connect by
//! TCP, ask a proxy for a way if there is one, protect by TLS, insist on HTTP/2 by the ALPN guard; a Unix
//! socket of this machine needs none of them. [`Connector`]
//! offers that pile as a tower service of `Uri` to any tonic or hyper client; [`Transport`] puts a
//! keeper on top that holds one HTTP/2 connection, notices its end and makes the next one, and replaces
//! it while it works when new material, its age or its address asks for it. Nothing here knows what
//! the calls are about.
//!
//! The keeper is the only thing that heals the link: tonic's own reconnecting channel has no
//! back-off and cannot retire a connection, so it is not used for records.

pub(crate) mod alpn;
mod attempts;
mod backends;
pub(crate) mod backoff;
mod bundle;
mod census;
pub(crate) mod connection;
mod connector;
mod eyeballs;
mod failure;
mod keeper;
pub(crate) mod layer;
mod leash;
pub mod lookups;
pub(crate) mod proxy;
mod pulse;
pub(crate) mod resolve;
mod service;
mod state;
mod stream;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod trailers;
pub(crate) mod unix;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};

use crate::config::{Backend, LinkSettings, Proxy, TlsSettings};
use crate::error::{Code, Error, Result};
use crate::tls::{Generation, PeerName};
use resolve::Names;

pub use connection::Reach;
pub use connector::Connector;
pub(crate) use connector::{Direct, Routed};
pub use service::Transport;
pub(crate) use state::EVER;
pub use state::{BackendState, BackendStatus, Ready, State, Upkeep};
pub use stream::{Io, Negotiated};

/// How long each step of dialling may take.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Deadlines {
    /// Looking the name up.
    pub resolve: Duration,
    /// Connecting to one address.
    pub connect: Duration,
    /// A proxy's answer, which has to connect to the backend first.
    pub proxy: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
}

/// One backend, with all that is needed to dial it. The four names are kept apart: where to
/// connect, what to verify, what to send as SNI, what to call the origin.
#[derive(Debug, Clone)]
pub struct Target {
    /// The host and port to connect to.
    pub(crate) backend: Backend,
    /// Who is asked for a way there; never set for a Unix socket.
    pub(crate) proxy: Option<Arc<proxy::Hop>>,
    /// What protects the connection; `None` is plaintext.
    pub(crate) protection: Option<Protection>,
    /// `:scheme` and `:authority` of the requests.
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    pub(crate) deadlines: Deadlines,
    /// Who looks the host up.
    pub(crate) names: Names,
}

/// TLS for one target: material and the name to verify.
#[derive(Debug, Clone)]
pub(crate) struct Protection {
    pub(crate) material: tls::Material,
    pub(crate) name: PeerName,
}

/// The future of a dialling layer.
pub(crate) type Dialling<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// The targets that settings name, in their order.
///
/// # Errors
///
/// When no backend is set, or a name cannot be verified.
pub fn targets(
    link: &LinkSettings,
    tls: &TlsSettings,
    generation: Option<&Generation>,
) -> Result<Vec<Arc<Target>>> {
    if link.backends.is_empty() {
        return Err(Error::new(Code::BackendMissing)
            .key("collector.backend_service")
            .found("no value")
            .expected("host:port"));
    }
    if tls.mode.is_tls() != generation.is_some() {
        // A guard for callers, so that no mistake of theirs ends in plaintext.
        return Err(Error::new(Code::Bug).found("TLS settings and material disagree"));
    }
    link.backends
        .iter()
        .map(|backend| Target::new(backend, link, tls, generation).map(Arc::new))
        .collect()
}

// === impl Deadlines ===

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            proxy: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
        }
    }
}

// === impl Target ===

impl Target {
    fn new(
        backend: &Backend,
        link: &LinkSettings,
        tls: &TlsSettings,
        generation: Option<&Generation>,
    ) -> Result<Self> {
        let host = match backend {
            Backend::Tcp { host, .. } => host.as_str(),
            Backend::Unix(_) => "localhost",
        };
        let protection = match generation {
            Some(generation) => {
                let mut name = PeerName::new(tls.server_name.as_deref().unwrap_or(host))?;
                if let Some(sni) = &tls.sni {
                    name = name.with_sni(sni)?;
                }
                Some(Protection { material: tls::Material::from(generation), name })
            }
            None => None,
        };
        let authority = link.authority.clone().unwrap_or_else(|| match backend {
            Backend::Tcp { .. } => backend.to_string(),
            // A path is no authority; gRPC's own clients say the same for a socket.
            Backend::Unix(_) => host.to_owned(),
        });
        let authority = authority.parse().map_err(|error: http::uri::InvalidUri| {
            Error::new(Code::BadValue)
                .key("collector.authority")
                .found(&authority)
                .expected("host or host:port")
                .because(error)
        })?;
        let proxy = match (&link.proxy, backend) {
            (Some(proxy), Backend::Tcp { .. }) => Some(Self::proxy(proxy)?),
            _ => None,
        };
        Ok(Self {
            backend: backend.clone(),
            proxy,
            scheme: if protection.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            protection,
            authority,
            deadlines: Deadlines::default(),
            names: Names::default(),
        })
    }

    /// The proxy as a target, of which no more than name and TCP are used.
    fn proxy(proxy: &Proxy) -> Result<Arc<proxy::Hop>> {
        let target = Self {
            backend: proxy.address(),
            proxy: None,
            protection: None,
            scheme: Scheme::HTTP,
            authority: Authority::from_static("proxy.invalid"),
            deadlines: Deadlines::default(),
            names: Names::default(),
        };
        proxy::Hop::new(proxy, target).map(Arc::new)
    }

    /// The same target, whose host, or whose proxy's, is looked up by `lookup` in place of the system's resolver. It is
    /// asked on a thread that may block, and not for hosts that are addresses already. What is
    /// verified stays the name.
    #[must_use]
    pub fn looked_up_by(
        &self,
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.with_names(Names::Other(Arc::new(lookup)))
    }

    fn with_names(&self, names: Names) -> Self {
        let proxy = self.proxy.as_ref().map(|hop| Arc::new(hop.with_names(names.clone())));
        Self { proxy, names, ..self.clone() }
    }

    /// Whom the connection leads to, and so whose name is looked up: the proxy, if there is one.
    pub(crate) fn peer(self: &Arc<Self>) -> Arc<Self> {
        self.proxy.as_ref().map_or(self, |hop| &hop.target).clone()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}
