//! Agents in this process and a collector that remembers every message, and answers as it is told.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use skytls::Agent;
use skytls::agent::Host;
use skytls::config::{Loader, Settings};
use skytls::protocol::frame::Message;
use skytls::protocol::v3::{Command, Commands, Event, KeyStringValuePair};
use skytls::server::{CallInfo, Collector, CollectorSettings, Counts, Fault};
use tokio::runtime::Runtime;

/// Far longer than anything takes: it only keeps a broken test from hanging.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub const KEEP_ALIVE: &str = "/skywalking.v3.ManagementService/keepAlive";
pub const PROPERTIES: &str = "/skywalking.v3.ManagementService/reportInstanceProperties";
pub const EVENTS: &str = "/skywalking.v3.EventService/collect";
pub const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";
pub const CONFIGURATION: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";
pub const PROFILE_TASKS: &str = "/skywalking.v3.ProfileTask/getProfileTaskCommands";

/// A message as the collector saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: &'static str,
    pub call: u64,
    pub metadata: HeaderMap,
    pub data: Bytes,
    pub at: Instant,
}

pub struct Fixture {
    pub runtime: Runtime,
    pub collector: Collector,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What the next calls of a method are answered with.
    replies: Arc<Mutex<HashMap<&'static str, VecDeque<Commands>>>>,
}

impl Fixture {
    pub fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(HashMap::<_, VecDeque<Commands>>::new()));
        let (observed, answers) = (seen.clone(), replies.clone());
        let settings = CollectorSettings {
            observer: Some(Arc::new(move |call: &CallInfo, message: &Message| {
                observed.lock().unwrap().push(Seen {
                    path: call.path,
                    call: call.call,
                    metadata: call.metadata.clone(),
                    data: message.data.clone(),
                    at: Instant::now(),
                });
            })),
            responder: Some(Arc::new(move |call: &CallInfo, _: &Message| {
                let reply = answers.lock().unwrap().get_mut(call.path)?.pop_front()?;
                Some(reply.encode_to_vec().into())
            })),
            ..CollectorSettings::default()
        };
        let collector = runtime.block_on(Collector::start(settings)).unwrap();
        Self { runtime, collector, seen, replies }
    }

    /// The settings of an agent called `shop` that reports to the collector.
    pub fn settings(&self, more: &[(&str, &str)]) -> Settings {
        settings(&self.collector.address().to_string(), more)
    }

    pub fn agent(&self, more: &[(&str, &str)], host: Host) -> Agent {
        Agent::start_for(&self.settings(more), host).unwrap()
    }

    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.collector.set_faults(faults);
    }

    /// Answers the next call of a method with commands.
    pub fn reply(&self, path: &'static str, commands: impl IntoIterator<Item = Command>) {
        let commands = Commands { commands: commands.into_iter().collect() };
        self.replies.lock().unwrap().entry(path).or_default().push_back(commands);
    }

    /// Waits until the collector's counts are as wanted.
    pub fn until(&self, wanted: impl Fn(&Counts) -> bool + Send) {
        let met = self.runtime.block_on(self.collector.wait_for(wanted, DEADLINE));
        assert!(met, "still waiting: {:?}", self.collector.counts());
        // The collector counts a message before it shows it.
        let received = self.collector.counts().received;
        while (self.seen.lock().unwrap().len() as u64) < received {
            std::thread::yield_now();
        }
    }

    /// Waits until so many messages of a method have come; gives all there are.
    pub fn await_seen(&self, path: &'static str, count: u64) -> Vec<Seen> {
        self.until(move |counts| counts.by_method.get(path).is_some_and(|n| *n >= count));
        self.seen(path)
    }

    pub fn all_seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The messages of a method, in the order of arrival.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.all_seen().into_iter().filter(|seen| seen.path == path).collect()
    }

    /// The events of this name.
    pub fn events(&self, name: &str) -> Vec<Event> {
        let events = self.seen(EVENTS).into_iter().map(|seen| seen.decode::<Event>());
        events.filter(|event| event.name == name).collect()
    }
}

impl Seen {
    pub fn decode<M: prost::Message + Default>(&self) -> M {
        M::decode(self.data.clone()).unwrap()
    }
}

pub fn settings(backend: &str, more: &[(&str, &str)]) -> Settings {
    let mut loader = Loader::new()
        .environment([])
        .directory("/nonexistent")
        .set("agent.service_name", "shop")
        .set("collector.backend_service", backend);
    for (key, value) in more {
        loader = loader.set(*key, *value);
    }
    loader.load().unwrap().settings
}

pub fn command(name: &str, args: &[(&str, &str)]) -> Command {
    let pair = |(key, value): &(&str, &str)| KeyStringValuePair {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    Command { command: name.to_owned(), args: args.iter().map(pair).collect() }
}

/// A backend's address where nobody listens.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
