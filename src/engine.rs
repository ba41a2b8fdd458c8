//! The engine: one runtime with its own threads, one transport, one uplink.
//!
//! An engine is an object. It keeps nothing in statics, so that a process may hold several, and a
//! forked child can start its own; its threads end with it.

mod material;

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::{OnFull, Settings};
use crate::error::{Code, Error, Result};
use crate::rotation::{Rotation, Rotator, Rotor};
use crate::tls::Generation;
use crate::transport::{Transport, Upkeep, targets};
use crate::uplink::{Uplink, UplinkSettings};

use material::LinkMaterial;

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    threads: Threads,
    transport: Transport,
    uplink: Uplink,
    rotor: Option<Rotor>,
}

/// The runtime. To let go of it, at the end or since a start has failed, never waits for its threads: the
/// host may be a task of another runtime, where waiting is a panic, and a name that is being looked up
/// takes its time.
#[derive(Debug)]
struct Threads(Option<Runtime>);

/// What an engine works for; decides its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Inside an application: one thread, a full queue refuses, records are counted too.
    Library,
    /// A relay: as many threads as there are processors, a full queue slows the agents down.
    Relay,
}

/// How long a stop waits for the threads to end.
const FAREWELL: Duration = Duration::from_millis(250);

// === impl Engine ===

impl Engine {
    /// Loads the material, starts the threads and begins to connect.
    ///
    /// # Errors
    ///
    /// Every fault of settings and files; a backend that cannot be reached is none.
    pub fn start(settings: &Settings, purpose: Purpose) -> Result<Self> {
        let files = LinkMaterial::files_of(&settings.tls);
        let generation = match settings.tls.mode.is_tls() {
            true => Some(Generation::load(&settings.tls)?),
            false => None,
        };
        if let Some(fips) = generation.as_ref().and_then(|one| one.description().fips.as_ref()) {
            log::info!("FIPS is required, and proven to be in force: {fips}");
        }
        for warning in generation.iter().flat_map(|generation| &generation.description().warnings) {
            log::warn!("{warning}");
        }
        let targets = targets(&settings.link, &settings.tls, generation.as_ref())?;
        let threads = Threads(Some(runtime(purpose)?));
        let entered = threads.handle().map(Handle::enter);
        let transport = Transport::with(targets, Upkeep::from(&settings.link));
        let limits = uplink_settings(settings, purpose);
        let uplink = match &settings.spool {
            Some(spool) => Uplink::with_spool(limits, spool, transport.clone())?,
            None => Uplink::new(limits, transport.clone()),
        };
        drop(entered);
        let rotor = match &generation {
            Some(generation) => Some(Rotor::start(
                LinkMaterial::new(settings, transport.clone()),
                files,
                generation.description(),
                settings.tls.reload_interval,
            )?),
            None => None,
        };
        Ok(Self { threads, transport, uplink, rotor })
    }

    /// Where records are handed in.
    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// Where other calls are made.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The TLS material in force, and its rotation; `None` for plaintext.
    pub fn rotator(&self) -> Option<&Rotator> {
        self.rotor.as_ref().map(Rotor::handle)
    }

    /// Reads certificates and keys anew and puts them in force; blocks until that is done. `None` for
    /// plaintext, which stays so.
    ///
    /// # Errors
    ///
    /// [`Code::RotationRefused`] with the cause: what was in force stays so.
    pub fn reload(&self) -> Result<Option<Rotation>> {
        self.rotator().map(Rotator::reload_blocking).transpose()
    }

    /// The runtime, to run more tasks on.
    pub fn handle(&self) -> Option<&Handle> {
        self.threads.handle()
    }

    /// Delivers what is pending, at most for `limit`, then stops; says how many records were left
    /// and so lost: what is in the spool is not. Blocks, by up to half a second more if the spool's disk, and then
    /// a thread of the engine does not answer; must not be called from a task of this engine.
    pub fn stop(mut self, limit: Duration) -> u64 {
        let begun = Instant::now();
        // Entering a runtime needs thread-local data, which is gone in handlers of `atexit`.
        if let Some(runtime) = self.threads.0.as_ref().filter(|_| !limit.is_zero()) {
            runtime.block_on(self.uplink.flush(limit));
        }
        self.transport.stop();
        let left = self.uplink.abandon(limit.saturating_sub(begun.elapsed()));
        if let Some(runtime) = self.threads.0.take() {
            // A thread that is still at work when the process exits would use an OpenSSL that is being
            // taken down. Only a name that is being looked up, or a callback of the host, makes this last.
            runtime.shutdown_timeout(FAREWELL);
        }
        left
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.transport.stop();
    }
}

// === impl Threads ===

impl Threads {
    fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime(purpose: Purpose) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if purpose == Purpose::Library {
        builder.worker_threads(1);
    }
    builder
        .thread_name("skytls")
        // Only name resolution and callbacks for the backend's orders block, and of those there is one at
        // a time: a host that blocks leaves names the other threads.
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Bug).found("no threads to be had").because(error))
}

fn uplink_settings(settings: &Settings, purpose: Purpose) -> UplinkSettings {
    let timeout = settings.link.upstream_timeout;
    match purpose {
        Purpose::Library => UplinkSettings::new(&settings.buffer, timeout, OnFull::DropNewest),
        Purpose::Relay => {
            UplinkSettings::new(&settings.buffer, timeout, OnFull::Block).bounded_by_bytes()
        }
    }
}
