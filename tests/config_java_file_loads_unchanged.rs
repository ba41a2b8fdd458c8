//! An `agent.config` made for the Java agent loads as it is, without error and without warning.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skytls::config::{Backend, Loaded, Loader, Mode, Origin, PlaintextReason};

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/java-agent.config")
}

fn load(variables: &[(&str, &str)]) -> Loaded {
    let variables = variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
    Loader::new().file(file()).environment(variables).load().unwrap()
}

#[test]
fn without_variables_it_means_what_it_says() {
    let loaded = load(&[]);
    assert_eq!(loaded.warnings, []);
    let settings = loaded.settings;
    assert!(settings.enabled);
    assert_eq!(settings.agent.service_name, None);
    assert_eq!(settings.agent.instance_name, None);
    assert_eq!(settings.link.backends, [Backend::Tcp { host: "127.0.0.1".into(), port: 11800 }]);
    assert_eq!(settings.link.upstream_timeout, Duration::from_secs(30));
    assert_eq!(settings.tls.mode, Mode::Plaintext(PlaintextReason::NothingAsksForTls));
    assert_eq!(settings.buffer.max_records, 1500);
    let log = settings.logging.file.unwrap();
    assert_eq!(log, file().parent().unwrap().join("logs/skywalking-api.log"));
}

#[test]
fn the_environment_acts_through_its_placeholders() {
    let loaded = load(&[
        ("SW_AGENT_NAME", "shop::cart"),
        ("SW_AGENT_COLLECTOR_BACKEND_SERVICES", "oap-1:11800,oap-2:11800"),
        ("SW_AGENT_FORCE_TLS", "True"),
        ("SW_INSTANCE_PROPERTIES_JSON", r#"{"org":"apache-skywalking"}"#),
    ]);
    assert_eq!(loaded.warnings, []);
    let settings = loaded.settings;
    assert_eq!(settings.agent.service_name.as_deref(), Some("shop::cart"));
    assert_eq!(settings.link.backends.len(), 2);
    assert_eq!(settings.tls.mode.name(), "tls");
    assert_eq!(settings.agent.instance_properties, [("org".into(), "apache-skywalking".into())]);
    let entry = loaded.effective.entries.iter().find(|e| e.key.name() == "agent.service_name");
    match &entry.unwrap().origin {
        Origin::File { line, environment, .. } => {
            assert!(*line > 1);
            assert_eq!(environment, &["SW_AGENT_NAME"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_without_meaning_here_are_listed_and_nothing_else() {
    let unused: Vec<String> =
        load(&[]).effective.unused.into_iter().map(|unused| unused.key).collect();
    for key in ["plugin.mount", "jvm.buffer_size", "agent.keep_tracing", "logging.pattern"] {
        assert!(unused.iter().any(|unused| unused == key), "{key}");
    }
    for key in ["agent.service_name#length", "agent.force_tls", "collector.heartbeat_period"] {
        assert!(!unused.iter().any(|unused| unused == key), "{key}");
    }
}
