//! `skytls run`: the relay, from its settings to the end of its drain.

use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{SettingsArgs, logging, out};
use crate::admin::Admin;
use crate::agent::{Duties, Host};
use crate::config::{Loaded, Settings};
use crate::engine::{Engine, Purpose};
use crate::error::{Code, Error, Result};
use crate::relay::Relay;
use crate::rotation::Rotator;
use crate::uplink::Snapshot;

/// Arguments of `skytls run`.
#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs until SIGTERM or SIGINT, then drains.
pub(super) fn run(args: &RunArgs, verbose: u8) -> Result<()> {
    let Loaded { settings, warnings, .. } = args.settings.load()?;
    logging::from_settings(verbose, &settings.logging)?;
    for warning in &warnings {
        log::warn!("{warning}");
    }
    if !settings.enabled {
        log::warn!("agent.enable is false: there is nothing to do");
        return Ok(());
    }
    allow_open_files(settings.relay.limits.connections);
    let engine = Engine::start(&settings, Purpose::Relay)?;
    let handle = engine.handle().cloned().ok_or_else(|| Error::new(Code::Bug))?;
    let relay =
        Relay::start(&settings, engine.uplink().clone(), engine.transport().clone(), &handle)?;
    let admin = Admin::start(&settings, &engine, &relay, &handle)?;
    announce(&settings, &engine);
    // Only a relay with a name of its own speaks for itself.
    let host = Host::new("rust");
    let duties = Duties::start(&settings, host, engine.uplink(), engine.transport(), &handle)?;
    // The handlers stand before anybody is told that the relay is ready.
    let mut signals = handle.block_on(async { Signals::new() })?;
    for address in relay.addresses() {
        out::listening(address);
    }
    for path in relay.sockets() {
        out::listening(format_args!("unix:{}", path.display()));
    }
    for place in admin.iter().flat_map(Admin::places) {
        log::info!("status and metrics at {place}");
    }
    let rotators: Vec<Rotator> =
        engine.rotator().into_iter().chain(relay.rotator()).cloned().collect();
    handle.block_on(signals.stop(&rotators));
    if handle.block_on(grace(settings.relay.shutdown_grace, &mut signals, &rotators)) {
        log::warn!("a second signal: stopping at once");
        return finish(engine, Duration::ZERO);
    }
    if let Some(admin) = &admin {
        admin.stopping();
    }
    let limit = settings.relay.drain_timeout;
    let deadline = Instant::now() + limit;
    log::info!("stopping: calls under way and records get {limit:?}");
    // An agent that never ends its stream must not take all the time from the delivery.
    let impatient = handle.block_on(async {
        let drain = async {
            relay.drain(limit / 2).await;
            let rest = || deadline.saturating_duration_since(Instant::now());
            if let Some(duties) = duties {
                duties.stop(rest()).await;
            }
            engine.uplink().flush(rest()).await;
        };
        tokio::select! {
            () = drain => false,
            () = signals.stop(&rotators) => true,
        }
    });
    if impatient {
        log::warn!("a second signal: stopping at once");
    }
    // What the drain has left of its time is the disk's, to write what is in memory.
    let rest =
        if impatient { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
    finish(engine, rest)
}

fn announce(settings: &Settings, engine: &Engine) {
    let mode = settings.tls.mode;
    let backends: Vec<String> = settings.link.backends.iter().map(ToString::to_string).collect();
    log::info!("sending to {} by {} ({})", backends.join(", "), mode.name(), mode.reason());
    if let Some(rotator) = engine.rotator() {
        let description = rotator.status().material;
        for (what, certificates) in [("CA", &description.ca), ("own", &description.chain)] {
            for certificate in certificates {
                log::info!(
                    "{what} certificate {}, {} days left",
                    certificate.subject,
                    certificate.days_left
                );
            }
        }
        for list in &description.crls {
            let next = list.next_update.as_deref().unwrap_or("never");
            log::info!("revocation list of {}, next update {next}", list.issuer);
        }
    }
}

/// Goes on for so long, for the agents that end later than their sidecar is told to; says whether a
/// second signal came.
async fn grace(limit: Duration, signals: &mut Signals, rotators: &[Rotator]) -> bool {
    if limit.is_zero() {
        return false;
    }
    log::info!("told to stop: agents are served for {limit:?} more");
    tokio::time::timeout(limit, signals.stop(rotators)).await.is_ok()
}

/// As many files as the system allows: each connection of an agent is one.
fn allow_open_files(connections: usize) {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard).or(Ok(soft))
    });
    match allowed {
        Ok(files) if files < connections as u64 => log::info!(
            "{files} open files are allowed, fewer than the {connections} of relay.max_connections"
        ),
        Ok(_) => {}
        Err(error) => log::debug!("how many files may be open is not known: {error}"),
    }
}

/// Stops within `limit` and says what became of everything.
fn finish(engine: Engine, limit: Duration) -> Result<()> {
    let uplink = engine.uplink().clone();
    let left = engine.stop(limit);
    let Snapshot { total, .. } = uplink.books();
    log::info!(
        "accepted {}, recovered {}, acknowledged {}, dropped {}, refused {}, possibly duplicated {}",
        total.accepted,
        total.recovered,
        total.acknowledged,
        total.dropped.total(),
        total.refused,
        total.possibly_duplicated
    );
    if total.pending > 0 {
        log::info!("{} records stay in the spool", total.pending);
    }
    if left == 0 {
        return Ok(());
    }
    Err(Error::new(Code::RecordsLost)
        .found(format!("{left} records left after the drain"))
        .hint("raise relay.drain_timeout, or find out why the backend did not take them"))
}

/// The signals that steer a relay.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Error::new(Code::Bug).found("no signal handler").because(error))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the end. SIGHUP reads certificates again meanwhile.
    async fn stop(&mut self, rotators: &[Rotator]) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    match rotators {
                        [] => log::info!("SIGHUP: there is nothing that could be read again"),
                        _ => log::info!("SIGHUP: certificates are read again"),
                    }
                    // The outcome is logged where it is known.
                    rotators.iter().for_each(Rotator::request);
                }
            }
        }
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn stop_signal() {
    match Signals::new() {
        Ok(mut signals) => signals.stop(&[]).await,
        // Without handlers the signals end the process by themselves.
        Err(_) => std::future::pending().await,
    }
}
