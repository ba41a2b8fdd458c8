//! Who this process is to the backend: the names of its service and of its instance.

use std::net::Ipv4Addr;

use crate::config::AgentSettings;
use crate::trace;

/// The name of the service as it is reported: with a namespace or a cluster it has three parts, and
/// both bars. `None` while none is set.
pub(super) fn service(agent: &AgentSettings) -> Option<String> {
    let name = agent.service_name.as_deref()?;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    Some(match (&agent.namespace, &agent.cluster) {
        (None, None) => name.to_owned(),
        (namespace, cluster) => format!("{name}|{}|{}", part(namespace), part(cluster)),
    })
}

/// The name of the instance: the one that is set, else a new one for each start.
pub(super) fn instance(agent: &AgentSettings, addresses: &[Ipv4Addr]) -> String {
    agent.instance_name.clone().unwrap_or_else(|| {
        let id = trace::random_hex();
        match addresses.first() {
            Some(address) => format!("{id}@{address}"),
            None => format!("{id}@no-hostname"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(namespace: &str, cluster: &str) -> AgentSettings {
        let part = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        AgentSettings {
            service_name: part("svc"),
            namespace: part(namespace),
            cluster: part(cluster),
            ..AgentSettings::default()
        }
    }

    #[test]
    fn namespace_and_cluster_are_parts_of_the_services_name() {
        assert_eq!(service(&AgentSettings::default()), None);
        assert_eq!(service(&settings("", "")).unwrap(), "svc");
        assert_eq!(service(&settings("ns", "")).unwrap(), "svc|ns|");
        assert_eq!(service(&settings("", "cl")).unwrap(), "svc||cl");
        assert_eq!(service(&settings("ns", "cl")).unwrap(), "svc|ns|cl");
    }

    #[test]
    fn an_instance_without_a_name_gets_a_new_one_with_its_address() {
        let (none, addresses) = (AgentSettings::default(), [Ipv4Addr::new(10, 0, 0, 7)]);
        let name = instance(&none, &addresses);
        let (id, address) = name.split_once('@').unwrap();
        assert_eq!((id.len(), address), (32, "10.0.0.7"));
        assert_ne!(name, instance(&none, &addresses));
        assert!(instance(&none, &[]).ends_with("@no-hostname"));
        let named = AgentSettings { instance_name: Some("one".to_owned()), ..none };
        assert_eq!(instance(&named, &addresses), "one");
    }
}
