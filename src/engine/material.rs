//! What is rotated for the link: a generation, from which the transport's targets are made.

use crate::config::{LinkSettings, Settings, TlsSettings};
use crate::error::{Code, Result};
use crate::rotation::{Files, Material};
use crate::tls::{Description, Generation};
use crate::transport::{State, Transport, targets};

pub(super) struct LinkMaterial {
    link: LinkSettings,
    /// The mode and the places of the files were decided at the start, for good.
    tls: TlsSettings,
    transport: Transport,
}

// === impl LinkMaterial ===

impl LinkMaterial {
    pub(super) fn new(settings: &Settings, transport: Transport) -> Self {
        Self { link: settings.link.clone(), tls: settings.tls.clone(), transport }
    }

    /// The files that these settings name. `openssl.cnf` is read once per process, and is none of them;
    /// neither is the system's trust store, which each generation reads.
    pub(super) fn files_of(tls: &TlsSettings) -> Files {
        let ca = tls.ca.as_ref().filter(|_| tls.trust.has_ca());
        let identity = tls.identity.iter().flat_map(|identity| [&identity.chain, &identity.key]);
        Files::look(ca.into_iter().chain(&tls.crl).chain(identity))
            .and(Files::look_at(tls.passphrase_file.as_deref()))
    }
}

impl Material for LinkMaterial {
    type Loaded = Generation;

    const NAME: &'static str = "link";

    fn files(&self) -> Files {
        Self::files_of(&self.tls)
    }

    /// A token that was pulled out takes its sessions along: its key has to be looked up again.
    fn is_usable(&self) -> bool {
        match self.transport.state() {
            State::Resting { reason, .. } | State::Misconfigured { reason, .. } => {
                reason.code() != Code::OwnKeyFailed
            }
            _ => true,
        }
    }

    fn load(&self) -> Result<Generation> {
        Generation::load(&self.tls.with_fresh_passphrase()?)
    }

    fn description(generation: &Generation) -> &Description {
        generation.description()
    }

    fn put_in_force(&mut self, generation: Generation) -> Result<()> {
        let targets = targets(&self.link, &self.tls, Some(&generation))?;
        self.transport.replace(targets, self.tls.drain_timeout);
        Ok(())
    }
}
