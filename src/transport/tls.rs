//! The third layer: TLS over the TCP connection, verified before a byte of a call is sent.
//!
//! A connection to a peer that is known from before resumes that session, if the peer agrees. A resumed
//! handshake that fails is made once more in full, on a new connection: a session is no reason why a
//! backend cannot be reached.

use std::pin::Pin;
use std::sync::Arc;

use openssl::ssl::{Ssl, SslConnector, SslContext};
use openssl::x509::X509VerifyResult;
use openssl::x509::verify::X509CheckFlags;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use tower::ServiceExt;

use super::bundle::Bundle;
use super::layer::{Dials, Layer};
use super::stream::Io;
use super::{Protection, Target};
use crate::error::{Code, Error, Result};
use crate::tls::session::{self, Peer, Sessions};
use crate::tls::{
    ALPN_H2, Generation, Realm, Role, Verifier, Witness, handshake_failure, of_large_hello,
};

/// What handshakes are made with.
#[derive(Clone)]
pub(crate) struct Material {
    context: SslContext,
    /// Absent for a connector that was made elsewhere: its own callbacks stay in force.
    ours: Option<(Verifier, Sessions)>,
    /// What a connection has to hold besides; absent as above.
    realm: Realm,
    identity: bool,
}

/// Protects what the layer underneath connects; a target without protection passes as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tls;

// === impl Tls ===

impl<B: Dials<TcpStream>> Layer<B> for Tls {
    type Made = Io;

    async fn dial(self, below: B, target: Arc<Target>) -> Result<Io> {
        let stream = below.clone().oneshot(target.clone()).await?;
        let Some(protection) = &target.protection else { return Ok(Io::plain(stream)) };
        let mut attempt = attempt(&target, protection, stream).await?;
        if let Err(error) = &attempt.outcome
            && attempt.may_be_due_to_session(error)
        {
            log::debug!("{error}, when a session was to be resumed; once more without it");
            let stream = below.oneshot(target.clone()).await?;
            attempt = self::attempt(&target, protection, stream).await?;
        }
        let Attempt { stream, role, outcome, .. } = attempt;
        outcome.map(|()| Io::tls(stream, role))
    }
}

/// TLS over a TCP connection.
pub(crate) type Secured = SslStream<Bundle>;

/// A handshake with all that is to be seen of it, whether or not it came to a good end.
pub(crate) struct Attempt {
    pub(crate) stream: Secured,
    pub(crate) role: Role,
    /// Whether a session was there to be resumed.
    pub(crate) offered: bool,
    pub(crate) outcome: Result<()>,
}

impl Attempt {
    /// Whether the failure may not happen without the session: it was no refusal of ours.
    fn may_be_due_to_session(&self, error: &Error) -> bool {
        self.offered
            && self.stream.ssl().verify_result() == X509VerifyResult::OK
            && error.code() != Code::HandshakeTimedOut
    }
}

/// Shakes hands; an error means that there was nothing to shake hands with.
pub(crate) async fn attempt(
    target: &Target,
    protection: &Protection,
    stream: TcpStream,
) -> Result<Attempt> {
    let setup = |error: openssl::error::ErrorStack| {
        Error::new(Code::OpenSslFailed).peer(target).because(error)
    };
    let witness = Witness::new();
    let ssl = protection.ssl(target, &witness).map_err(setup)?;
    let offered = session::was_offered(&ssl);
    let mut stream = Secured::new(ssl, Bundle::new(stream)).map_err(setup)?;
    let role = Role {
        peer: target.to_string(),
        name: protection.name.verified(),
        identity: protection.material.identity,
    };
    let outcome = match timeout(target.deadlines.handshake, Pin::new(&mut stream).connect()).await {
        // An anonymous cipher suite, which a policy may allow, has no certificate to verify.
        Ok(Ok(())) if stream.ssl().peer_certificate().is_none() => {
            let cipher = stream.ssl().current_cipher().map_or("", |cipher| cipher.name());
            Err(Error::new(Code::CertificateUntrusted)
                .peer(target)
                .found(format!("no certificate, with the cipher suite {cipher}"))
                .expected("a certificate"))
        }
        Ok(Ok(())) => match protection.material.realm.objection(stream.ssl()) {
            None => Ok(()),
            Some(found) => Err(Error::new(Code::FipsConnection).peer(target).found(found)),
        },
        Ok(Err(error)) => Err(handshake_failure(error, stream.ssl(), &witness, &role)),
        Err(_) => Err(Error::new(Code::HandshakeTimedOut)
            .peer(target)
            .found(format!("no end within {:?}", target.deadlines.handshake))),
    };
    let outcome = outcome.map_err(|error| of_large_hello(error, stream.ssl()));
    match &outcome {
        Ok(()) => session::settle(stream.ssl()),
        Err(_) => session::forget(stream.ssl()),
    }
    Ok(Attempt { stream, role, offered, outcome })
}

// === impl Protection ===

impl Protection {
    /// Whether the next connection to this target has a session to resume.
    pub(crate) fn has_session(&self, target: &Target) -> bool {
        let sessions = self.material.ours.as_ref().map(|(_, sessions)| sessions);
        sessions.is_some_and(|sessions| sessions.has(&self.peer(target)))
    }

    fn peer(&self, target: &Target) -> Peer {
        Peer { address: target.to_string(), name: self.name.clone() }
    }

    /// One connection's `Ssl`: the context's policy, this target's names.
    fn ssl(&self, target: &Target, witness: &Witness) -> Result<Ssl, openssl::error::ErrorStack> {
        let mut ssl = Ssl::new(&self.material.context)?;
        if let Some(sni) = self.name.sni() {
            ssl.set_hostname(sni)?;
        }
        ssl.set_alpn_protos(ALPN_H2)?;
        if let Some((verifier, sessions)) = &self.material.ours {
            verifier.attach(&mut ssl, witness)?;
            sessions.attach(&mut ssl, self.peer(target), verifier)?;
        }
        let name = self.name.verified();
        let demands = ssl.param_mut();
        // As RFC 9525 wants it.
        demands.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        match name.parse() {
            Ok(address) => demands.set_ip(address)?,
            Err(_) => demands.set_host(&name)?,
        }
        Ok(ssl)
    }
}

// === impl Material ===

impl Material {
    /// Material from a connector that was made elsewhere.
    pub(crate) fn foreign(connector: SslConnector) -> Self {
        // Whether it has a client certificate only matters for the wording of a refusal.
        let context = connector.into_context();
        Self { context, ours: None, realm: Realm::default(), identity: true }
    }
}

impl From<&Generation> for Material {
    fn from(generation: &Generation) -> Self {
        Self {
            context: generation.context().clone(),
            ours: Some((generation.verifier().clone(), generation.sessions().clone())),
            realm: generation.realm().clone(),
            identity: !generation.description().chain.is_empty(),
        }
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("identity", &self.identity).finish_non_exhaustive()
    }
}
