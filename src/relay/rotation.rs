//! The listener's own certificate, key and client CA, as they are now.
//!
//! New clients meet the new ones; who came before is asked to come again, within the drain bound.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::{ListenerTls, Settings, TlsSettings};
use crate::error::Result;
use crate::rotation::{Files, Material, Rotor};
use crate::tls::{Acceptor, Description, ListenerNames, Names, Realm, judge_policy};

/// What new connections are accepted with. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Acceptors(watch::Receiver<Acceptor>, Duration);

/// What tells a connection that it was made with something that is no longer in force.
pub(super) struct Retirement(Option<Acceptors>);

struct ListenerMaterial {
    listener: ListenerTls,
    /// Says where OpenSSL works.
    link: TlsSettings,
    publish: watch::Sender<Acceptor>,
}

/// As errors call the listener's files.
const NAMES: ListenerNames = ListenerNames {
    identity: Names {
        chain: "relay.ssl_cert_chain_path",
        key: "relay.ssl_key_path",
        passphrase: None,
    },
    client_ca: "relay.ssl_trusted_ca_path",
};

/// Loads the files and rotates them from now on.
pub(super) fn start(settings: &Settings, tls: &ListenerTls) -> Result<(Acceptors, Rotor)> {
    let files = files(tls);
    let acceptor = first(settings, tls)?;
    let description = acceptor.description().clone();
    let (publish, acceptors) = watch::channel(acceptor);
    let material = ListenerMaterial { listener: tls.clone(), link: settings.tls.clone(), publish };
    let rotor = Rotor::start(material, files, &description, settings.tls.reload_interval)?;
    Ok((Acceptors(acceptors, settings.tls.drain_timeout), rotor))
}

fn first(settings: &Settings, tls: &ListenerTls) -> Result<Acceptor> {
    if !settings.tls.mode.is_tls() {
        for warning in judge_policy()? {
            log::warn!("{warning}");
        }
    }
    let acceptor = load(tls, &settings.tls)?;
    let description = acceptor.description();
    for warning in &description.warnings {
        log::warn!("{warning}");
    }
    for (what, certificates) in [("client CA", &description.ca), ("own", &description.chain)] {
        for certificate in certificates {
            let (subject, days) = (&certificate.subject, certificate.days_left);
            log::info!("listener: {what} certificate {subject}, {days} days left");
        }
    }
    Ok(acceptor)
}

fn load(tls: &ListenerTls, link: &TlsSettings) -> Result<Acceptor> {
    Acceptor::load(&tls.identity, tls.client_ca.as_ref(), &NAMES, &Realm::of(link)?)
}

fn files(tls: &ListenerTls) -> Files {
    let identity = [&tls.identity.chain, &tls.identity.key];
    Files::look(identity.into_iter().chain(&tls.client_ca))
}

// === impl Acceptors ===

impl Acceptors {
    /// What is in force, for one connection, and what tells that connection when it no longer is.
    pub(super) fn current(&self) -> (Acceptor, Retirement) {
        let mut own = self.clone();
        let acceptor = own.0.borrow_and_update().clone();
        (acceptor, Retirement(Some(own)))
    }
}

// === impl Retirement ===

impl Retirement {
    /// For connections without TLS.
    pub(super) fn never() -> Self {
        Self(None)
    }

    /// Waits until the connection is out of date; then it may live on for so long.
    pub(super) async fn due(&mut self) -> Duration {
        if let Some(Acceptors(changes, drain)) = &mut self.0
            && changes.changed().await.is_ok()
        {
            return *drain;
        }
        std::future::pending().await
    }
}

// === impl ListenerMaterial ===

impl Material for ListenerMaterial {
    type Loaded = Acceptor;

    const NAME: &'static str = "listener";

    fn files(&self) -> Files {
        files(&self.listener)
    }

    fn load(&self) -> Result<Acceptor> {
        load(&self.listener, &self.link)
    }

    fn description(acceptor: &Acceptor) -> &Description {
        acceptor.description()
    }

    fn put_in_force(&mut self, acceptor: Acceptor) -> Result<()> {
        self.publish.send_replace(acceptor);
        Ok(())
    }
}
