//! What goes with everything the agent says: its names and its headers.

use http::{HeaderName, HeaderValue};

use super::host::Host;
use super::{identity, machine};
use crate::config::Settings;
use crate::error::{Code, Error, Result};
use crate::protocol::v3;
use crate::trace;
use crate::uplink::Metadata;

/// The names and headers of one agent.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) layer: String,
    /// Whether start and end are announced.
    pub(super) events: bool,
    pub(super) metadata: Metadata,
    language: String,
    properties: Vec<(String, String)>,
    started: i64,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Milestone {
    Start,
    Shutdown,
}

const AUTHENTICATION: HeaderName = HeaderName::from_static("authentication");
const AGENT_VERSION: HeaderName = HeaderName::from_static("agent-version");
/// Events need a layer; elsewhere none means the same.
const GENERAL: &str = "GENERAL";

// === impl Voice ===

impl Voice {
    /// The voice of a host by its settings.
    pub(super) fn new(settings: &Settings, host: &Host) -> Result<Self> {
        let addresses = machine::addresses();
        let Some(service) = identity::service(&settings.agent) else {
            return Err(Error::new(Code::ServiceNameMissing)
                .key("agent.service_name")
                .found("no value")
                .expected("a name"));
        };
        Ok(Self {
            service,
            instance: identity::instance(&settings.agent, &addresses),
            layer: host.layer.clone(),
            events: host.events,
            metadata: metadata(settings, &host.version)?,
            language: host.language.clone(),
            properties: properties(settings, host, &addresses),
            started: trace::now(),
        })
    }

    pub(super) fn properties(&self) -> v3::InstanceProperties {
        let pair = |(key, value): &(String, String)| v3::KeyStringValuePair {
            key: key.clone(),
            value: value.clone(),
        };
        v3::InstanceProperties {
            service: self.service.clone(),
            service_instance: self.instance.clone(),
            properties: self.properties.iter().map(pair).collect(),
            layer: self.layer.clone(),
        }
    }

    pub(super) fn ping(&self) -> v3::InstancePingPkg {
        v3::InstancePingPkg {
            service: self.service.clone(),
            service_instance: self.instance.clone(),
            layer: self.layer.clone(),
        }
    }

    pub(super) fn event(&self, milestone: Milestone) -> v3::Event {
        let language = title(&self.language);
        let now = trace::now();
        let (name, message, start) = match milestone {
            Milestone::Start => ("Start", format!("Start {language} Application"), self.started),
            Milestone::Shutdown => {
                ("Shutdown", format!("Shutting down {language} Application"), now)
            }
        };
        v3::Event {
            uuid: trace::random_uuid(),
            source: Some(self.source()),
            name: name.to_owned(),
            message,
            start_time: start,
            end_time: now,
            layer: self.layer_of_events(),
            ..v3::Event::default()
        }
    }

    pub(super) fn source(&self) -> v3::Source {
        v3::Source {
            service: self.service.clone(),
            service_instance: self.instance.clone(),
            endpoint: String::new(),
        }
    }

    pub(super) fn layer_of_events(&self) -> String {
        let layer = if self.layer.is_empty() { GENERAL } else { &self.layer };
        layer.to_owned()
    }
}

fn metadata(settings: &Settings, version: &str) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    let version = HeaderValue::from_str(version).map_err(|error| {
        Error::new(Code::BadAgentVersion).found(version).expected("visible ASCII").because(error)
    })?;
    metadata.push(AGENT_VERSION, version);
    if let Some(token) = settings.own_token() {
        if settings.tokens_may_travel() {
            metadata.push(AUTHENTICATION, token);
        } else {
            // The loader refuses such settings; these were changed since.
            log::warn!(
                "agent.authentication is withheld: the link is plaintext and leaves this machine"
            );
        }
    }
    Ok(metadata)
}

/// The instance properties, in the order of the Java agent.
fn properties(
    settings: &Settings,
    host: &Host,
    addresses: &[std::net::Ipv4Addr],
) -> Vec<(String, String)> {
    let agent = &settings.agent;
    let pair = |key: &str, value: String| (key.to_owned(), value);
    let mut all = vec![pair("OS Name", machine::system()), pair("hostname", machine::host())];
    let listed = addresses.iter().take(agent.ipv4_list_size);
    all.extend(listed.map(|address| pair("ipv4", address.to_string())));
    all.push(pair("Process No.", std::process::id().to_string()));
    all.push(pair("language", host.language.clone()));
    all.extend(agent.instance_properties.iter().cloned());
    all.push(pair("namespace", agent.namespace.clone().unwrap_or_default()));
    all.push(pair("cluster", agent.cluster.clone().unwrap_or_default()));
    all.push(pair("version", host.version.clone()));
    all.push(pair("Start Time", machine::local_time()));
    all.extend(host.properties.iter().cloned());
    all
}

/// `rust` as a word in a sentence: `Rust`.
fn title(word: &str) -> String {
    let mut rest = word.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
