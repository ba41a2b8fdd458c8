//! The dialling layers as a tower service of `Uri`, for any tonic or hyper client.
//!
//! It only dials: keeping a connection alive and replacing it is the caller's pool's or tonic
//! channel's affair. For records use [`Transport`](super::Transport).

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use openssl::ssl::SslConnector;
use tonic::transport::Endpoint;
use tower::{Service, ServiceExt};

use super::alpn::AlpnGuard;
use super::layer::On;
use super::proxy::Proxied;
use super::resolve::{Names, Resolve};
use super::stream::Io;
use super::tcp::Tcp;
use super::tls::{Material, Tls};
use super::unix::Local;
use super::{Deadlines, Dialling, Protection, Target};
use crate::config::Backend;
use crate::error::{Code, Error, Result};
use crate::tls::{Generation, PeerName};

/// The layers that connect to a target's own address.
pub(crate) type Direct = On<Tcp, Resolve>;

/// The layers below TLS: directly, or by way of the target's proxy.
pub(crate) type Routed = On<Proxied, Direct>;

/// All layers.
pub(crate) type Dial = On<Local, On<AlpnGuard, On<Tls, Routed>>>;

/// Connects to the host and port of a `Uri` by TLS, whatever the scheme says, and insists on HTTP/2.
///
/// ```no_run
/// # async fn run(connector: openssl::ssl::SslConnector) -> Result<(), Box<dyn std::error::Error>> {
/// let connector = skytls::Connector::new(connector);
/// let channel = connector.endpoint("oap.example.com:11800")?.connect_with_connector(connector).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Connector {
    material: Material,
    server_name: Option<PeerName>,
    deadlines: Deadlines,
    dial: Dial,
}

// === impl Connector ===

impl Connector {
    /// Takes any `SslConnector`; its trust, identity and policy stay as they are. The name of each
    /// `Uri` is verified and `h2` is offered by ALPN.
    pub fn new(connector: SslConnector) -> Self {
        Self::with(Material::foreign(connector))
    }

    /// Takes a generation of material that skytls has loaded: failures are explained better, since
    /// the reason why a chain was refused is kept.
    pub fn from_generation(generation: &Generation) -> Self {
        Self::with(Material::from(generation))
    }

    /// Verifies this DNS name or IP address in place of the one in the `Uri`.
    ///
    /// # Errors
    ///
    /// [`Code::BadServerName`] when it is neither.
    pub fn server_name(mut self, name: &str) -> Result<Self> {
        self.server_name = Some(PeerName::new(name)?);
        Ok(self)
    }

    /// Replaces the deadlines of dialling.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// A tonic endpoint for `host:port` whose requests say `https`, while the endpoint itself says
    /// `http`: tonic refuses `https` with a connector of somebody else's as soon as any crate in
    /// the build switches its own TLS features on.
    ///
    /// # Errors
    ///
    /// [`Code::BadBackend`] when `authority` is no `host:port`.
    pub fn endpoint(&self, authority: &str) -> Result<Endpoint> {
        let bad = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(Code::BadBackend).found(authority).expected("host:port").because(error)
        };
        let origin =
            format!("https://{authority}").parse().map_err(|error| bad(Box::new(error)))?;
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| bad(Box::new(error)))?;
        Ok(endpoint.origin(origin))
    }

    fn with(material: Material) -> Self {
        Self { material, server_name: None, deadlines: Deadlines::default(), dial: Dial::default() }
    }

    fn target(&self, uri: &Uri) -> Result<Target> {
        let bad = || Error::new(Code::BadBackend).found(uri).expected("a URI with a host");
        let authority = uri.authority().cloned().ok_or_else(bad)?;
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => PeerName::new(bare)?,
        };
        Ok(Target {
            backend: Backend::Tcp {
                host: bare.to_owned(),
                port: authority.port_u16().unwrap_or(443),
            },
            proxy: None,
            protection: Some(Protection { material: self.material.clone(), name }),
            scheme: Scheme::HTTPS,
            authority,
            deadlines: self.deadlines,
            names: Names::default(),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = Error;
    type Future = Dialling<Io>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self.target(&uri) {
            Ok(target) => Box::pin(self.dial.oneshot(Arc::new(target))),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
