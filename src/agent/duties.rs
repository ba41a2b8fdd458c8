//! What a live agent does by itself: it says that it lives and who it is, announces its start and its
//! end, and asks what it is to do.
//!
//! Each duty is a task of its own with its own rhythm. While the link is down all of them wait for it;
//! a call that fails is repeated soon, where the Java agent waits a whole period.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::call::Caller;
use super::commands::{Handlers, Orders};
use super::configuration::Watchers;
use super::host::Host;
use super::rhythm::Rhythm;
use super::voice::{Milestone, Voice};
use super::{deliver, method};
use crate::config::{DutySettings, Settings};
use crate::error::{Code, Result};
use crate::protocol::v3;
use crate::transport::{State, Transport};
use crate::uplink::Uplink;

/// The duties of one instance, under way. Dropping it ends them without a word.
#[derive(Debug)]
pub struct Duties {
    voice: Arc<Voice>,
    caller: Caller,
    uplink: Uplink,
    tasks: JoinSet<()>,
    /// Ends of profiling tasks that are being reported.
    reports: JoinSet<()>,
}

/// Who takes the backend's orders.
pub(super) struct Receivers {
    pub(super) handlers: Handlers,
    pub(super) watchers: Arc<Watchers>,
}

const KEEP_ALIVE: &str = "/skywalking.v3.ManagementService/keepAlive";
const PROPERTIES: &str = "/skywalking.v3.ManagementService/reportInstanceProperties";
const CONFIGURATION: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";
const PROFILE_TASKS: &str = "/skywalking.v3.ProfileTask/getProfileTaskCommands";
const PROFILE_FINISH: &str = "/skywalking.v3.ProfileTask/reportTaskFinish";
const EVENTS: &str = "/skywalking.v3.EventService/collect";

/// How often the end of a profiling task is reported in vain, and how many may wait for the link.
const ATTEMPTS: u32 = 5;
const MOST_TASKS: usize = 64;

/// The part of the time for a shutdown that records may take, so that the event gets the rest.
const FOR_RECORDS: f64 = 0.75;

// === impl Duties ===

impl Duties {
    /// Takes the duties up, for a process that only has duties if it has a name: `None` without
    /// `agent.service_name`, or with `agent.enable=false`.
    ///
    /// # Errors
    ///
    /// [`Code::BadAgentVersion`].
    pub fn start(
        settings: &Settings,
        host: Host,
        uplink: &Uplink,
        transport: &Transport,
        handle: &Handle,
    ) -> Result<Option<Self>> {
        if !settings.enabled || settings.agent.service_name.is_none() {
            return Ok(None);
        }
        let voice = Arc::new(Voice::new(settings, &host)?);
        let orders = Receivers { handlers: host.handlers, watchers: Watchers::new(host.watched) };
        Ok(Some(Self::take_up(settings, voice, orders, uplink, transport, handle)))
    }

    pub(super) fn take_up(
        settings: &Settings,
        voice: Arc<Voice>,
        receivers: Receivers,
        uplink: &Uplink,
        transport: &Transport,
        handle: &Handle,
    ) -> Self {
        let limit = settings.link.upstream_timeout;
        let caller = Caller::new(transport.clone(), &voice.metadata, limit);
        let (orders, pending) = Orders::new();
        let Receivers { handlers, watchers } = receivers;
        let periods = &settings.duties;
        let mut tasks = JoinSet::new();
        if voice.events {
            announce(&voice, uplink, Milestone::Start);
        }
        tasks.spawn_on(
            heartbeat(caller.clone(), voice.clone(), orders.clone(), periods.clone()),
            handle,
        );
        let interval = periods.configuration_interval;
        tasks.spawn_on(
            discover(caller.clone(), voice.clone(), orders.clone(), watchers.clone(), interval),
            handle,
        );
        if handlers.profile.is_some() {
            let interval = periods.profile_interval;
            let poll = profile(caller.clone(), voice.clone(), orders.clone(), interval);
            tasks.spawn_on(poll, handle);
        }
        tasks.spawn_on(orders.carry_out(pending, handlers, watchers), handle);
        Self { voice, caller, uplink: uplink.clone(), tasks, reports: JoinSet::new() }
    }

    /// Ends the duties: what is queued is delivered, as are reports on profiling tasks, and the shutdown event
    /// comes last, all within `limit`. Without a link there is no event.
    pub async fn stop(mut self, limit: Duration) {
        let begun = Instant::now();
        self.tasks.abort_all();
        let first = limit.mul_f64(FOR_RECORDS);
        let mut reports = std::mem::take(&mut self.reports);
        let reported = async {
            // They would wait for a link for as long as there is none.
            while self.is_connected() && reports.join_next().await.is_some() {}
        };
        let _ = tokio::join!(self.uplink.flush(first), timeout(first, reported));
        if !self.voice.events || !self.is_connected() {
            return;
        }
        announce(&self.voice, &self.uplink, Milestone::Shutdown);
        self.uplink.flush(limit.saturating_sub(begun.elapsed())).await;
    }

    /// Reports that a profiling task is over, in the background.
    pub(super) fn finish_profile_task(&mut self, task_id: &str, handle: &Handle) {
        // Those that are over make room.
        while self.reports.try_join_next().is_some() {}
        if self.reports.len() >= MOST_TASKS {
            log::warn!("the end of a profiling task is not reported: too many others wait");
            return;
        }
        let report = v3::ProfileTaskFinishReport {
            service: self.voice.service.clone(),
            service_instance: self.voice.instance.clone(),
            task_id: task_id.to_owned(),
        };
        let caller = self.caller.clone();
        let insist = async move { caller.insist(PROFILE_FINISH, report, ATTEMPTS).await };
        self.reports.spawn_on(insist, handle);
    }

    fn is_connected(&self) -> bool {
        matches!(self.caller.transport().state(), State::Ready(_))
    }
}

fn announce(voice: &Voice, uplink: &Uplink, milestone: Milestone) {
    let event = prost::Message::encode_to_vec(&voice.event(milestone));
    let sent = method(EVENTS).and_then(|method| deliver(uplink, voice, method, event.into()));
    if let Err(error) = sent {
        log::warn!("the {milestone:?} event is left out: {error}");
    }
}

/// The first beat, and each that is a multiple of the factor, is the instance properties instead. A
/// backend that refuses them, or is slow to take them, gets the other beats all the same.
async fn heartbeat(caller: Caller, voice: Arc<Voice>, orders: Arc<Orders>, periods: DutySettings) {
    let owed = Owed::default();
    let period = periods.heartbeat_period;
    tokio::select! {
        () = beat(&caller, &voice, &orders, &periods, &owed) => {}
        () = introduce(&caller, &voice, &orders, period, &owed) => {}
    }
}

/// Until the end of the transport.
async fn beat(
    caller: &Caller,
    voice: &Voice,
    orders: &Orders,
    periods: &DutySettings,
    owed: &Owed,
) {
    let mut rhythm = Rhythm::new("heartbeat", Duration::ZERO, periods.heartbeat_period);
    let mut beat = 0_u64;
    while rhythm.due(caller.transport()).await {
        if beat.is_multiple_of(periods.properties_factor.max(1)) && owed.ask() {
            rhythm.pass();
            beat += 1;
            continue;
        }
        match caller.call(KEEP_ALIVE, voice.ping()).await {
            Ok(commands) => {
                orders.receive(commands);
                rhythm.succeeded();
                beat += 1;
            }
            // The same one again: it counts when it has arrived.
            Err(error) => rhythm.failed(&error),
        }
    }
}

/// Says who we are whenever it is asked for, again and again until that has arrived.
async fn introduce(caller: &Caller, voice: &Voice, orders: &Orders, period: Duration, owed: &Owed) {
    let mut rhythm = Rhythm::new("instance properties", Duration::ZERO, period);
    loop {
        owed.asked.notified().await;
        loop {
            match caller.call(PROPERTIES, voice.properties()).await {
                Ok(commands) => {
                    orders.receive(commands);
                    break;
                }
                Err(error) => rhythm.failed(&error),
            }
            if !rhythm.due(caller.transport()).await {
                return;
            }
        }
        rhythm.succeeded();
        owed.is.store(false, Relaxed);
    }
}

/// Whether instance properties have been asked for and have not arrived.
#[derive(Debug, Default)]
struct Owed {
    is: AtomicBool,
    asked: Notify,
}

impl Owed {
    /// Asks for them; `false` if that was done before.
    fn ask(&self) -> bool {
        let news = !self.is.swap(true, Relaxed);
        if news {
            self.asked.notify_one();
        }
        news
    }
}

async fn discover(
    caller: Caller,
    voice: Arc<Voice>,
    orders: Arc<Orders>,
    watchers: Arc<Watchers>,
    interval: Duration,
) {
    let mut rhythm = Rhythm::new("dynamic configuration", interval, interval);
    while rhythm.due(caller.transport()).await {
        if watchers.is_empty() {
            rhythm.pass();
            continue;
        }
        let request =
            v3::ConfigurationSyncRequest { service: voice.service.clone(), uuid: watchers.uuid() };
        match caller.call(CONFIGURATION, request).await {
            Ok(commands) => {
                orders.receive(commands);
                rhythm.succeeded();
            }
            Err(error) => rhythm.failed(&error),
        }
    }
}

/// A backend that does not know profiling is asked no more.
async fn profile(caller: Caller, voice: Arc<Voice>, orders: Arc<Orders>, interval: Duration) {
    let mut rhythm = Rhythm::new("profiling tasks", Duration::ZERO, interval);
    while rhythm.due(caller.transport()).await {
        let query = v3::ProfileTaskCommandQuery {
            service: voice.service.clone(),
            service_instance: voice.instance.clone(),
            last_command_time: orders.newest_task(),
        };
        match caller.call(PROFILE_TASKS, query).await {
            Ok(commands) => {
                orders.receive(commands);
                rhythm.succeeded();
            }
            Err(error) => {
                rhythm.failed(&error);
                if error.code() == Code::DutyUnknown {
                    return;
                }
            }
        }
    }
}
