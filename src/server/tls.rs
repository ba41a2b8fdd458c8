//! The collector's side of TLS: which files its acceptor is made of.

use super::CollectorTls;
use crate::error::Result;
use crate::tls::{Acceptor, ListenerNames, Names, Realm};

/// As the command line calls them.
const NAMES: ListenerNames = ListenerNames {
    identity: Names { chain: "--cert", key: "--key", passphrase: None },
    client_ca: "--client-ca",
};

/// Accepts TLS connections for HTTP/2.
pub(super) fn acceptor(tls: &CollectorTls) -> Result<Acceptor> {
    let acceptor =
        Acceptor::load(&tls.identity, tls.client_ca.as_ref(), &NAMES, &Realm::default())?;
    for warning in &acceptor.description().warnings {
        log::warn!("{warning}");
    }
    Ok(acceptor)
}
