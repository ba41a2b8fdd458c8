//! Override before file, file before environment, environment before default; what blank means.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use skytls::config::{Key, Loader, Origin, WarningKind};
use skytls::error::{Code, Error, Fact};
use tempfile::TempDir;

/// An agent folder with this `config/agent.config`.
fn agent(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    fs::write(folder.path().join("config/agent.config"), text).unwrap();
    folder
}

fn loader(folder: &Path, variables: &[(&str, &str)]) -> Loader {
    let variables = variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
    Loader::new().directory(folder).discover().environment(variables)
}

fn name(text: &str, variables: &[(&str, &str)]) -> Option<String> {
    let folder = agent(text);
    loader(folder.path(), variables).load().unwrap().settings.agent.service_name
}

fn fails(text: &str, variables: &[(&str, &str)]) -> Error {
    let folder = agent(text);
    loader(folder.path(), variables).load().unwrap_err()
}

const NAME: (&str, &str) = ("SW_AGENT_NAME", "from-environment");

#[test]
fn an_override_replaces_file_and_environment_and_is_not_expanded() {
    let folder = agent("agent.service_name=from-file");
    let loaded = loader(folder.path(), &[NAME])
        .set("agent.service_name", "first")
        .set("agent.service_name", " ${SW_AGENT_NAME} ")
        .load()
        .unwrap();
    assert_eq!(loaded.settings.agent.service_name.as_deref(), Some("${SW_AGENT_NAME}"));
    assert_eq!(loaded.effective.get(Key::ServiceName).unwrap().origin, Origin::Override);
}

#[test]
fn a_literal_in_the_file_wins_over_the_environment() {
    assert_eq!(name("agent.service_name=from-file", &[NAME]).as_deref(), Some("from-file"));
    assert_eq!(name("", &[NAME]).as_deref(), Some("from-environment"));
    assert_eq!(
        name("agent.service_name=${OTHER:${SW_AGENT_NAME}}", &[NAME]).as_deref(),
        Some(NAME.1)
    );
    assert_eq!(name("", &[]), None);
}

#[test]
fn our_keys_have_variables_too() {
    let folder = agent("");
    let variables = [("SW_AGENT_SSL_SERVER_NAME", "oap.example"), ("SW_AGENT_FORCE_TLS", "true")];
    let loaded = loader(folder.path(), &variables).load().unwrap();
    assert_eq!(loaded.settings.tls.server_name.as_deref(), Some("oap.example"));
    let origin = &loaded.effective.get(Key::ServerName).unwrap().origin;
    assert_eq!(origin, &Origin::Environment(vec!["SW_AGENT_SSL_SERVER_NAME".into()]));
}

#[test]
fn a_built_in_placeholder_finds_keys_of_the_file_as_well() {
    assert_eq!(name("SW_AGENT_NAME=odd", &[]).as_deref(), Some("odd"));
}

#[test]
fn blank_means_the_default_of_the_table() {
    let timeout = |text: &str, variables: &[(&str, &str)]| {
        let folder = agent(text);
        let loaded = loader(folder.path(), variables).load().unwrap();
        assert_eq!(loaded.warnings, []);
        loaded.settings.link.upstream_timeout.as_secs()
    };
    let variable = "SW_AGENT_COLLECTOR_GRPC_UPSTREAM_TIMEOUT";
    let line = format!("collector.grpc_upstream_timeout=${{{variable}:7}}");
    assert_eq!(timeout(&line, &[]), 7);
    // As in Java: an empty variable skips the default of the file as well.
    assert_eq!(timeout(&line, &[(variable, "")]), 30);
    assert_eq!(timeout("collector.grpc_upstream_timeout=", &[]), 30);
    assert_eq!(timeout("", &[(variable, " ")]), 30);
}

#[test]
fn a_blank_line_that_hides_a_variable_is_warned_about() {
    let folder = agent("agent.require_tls=\n");
    let loaded = loader(folder.path(), &[("SW_AGENT_REQUIRE_TLS", "true")]).load().unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].kind, WarningKind::BlankHidesEnvironment);
    assert!(loaded.warnings[0].to_string().contains("SW_AGENT_REQUIRE_TLS"));
}

#[test]
fn blanks_around_true_do_not_turn_tls_off() {
    for text in ["agent.force_tls=true ", "agent.force_tls = \tTRUE\t", "agent.force_tls:True"] {
        let folder = agent(text);
        assert!(loader(folder.path(), &[]).load().unwrap().settings.tls.mode.is_tls(), "{text:?}");
    }
    let error = fails("\nagent.force_tls=treu", &[]);
    assert_eq!(error.code(), Code::BadValue);
    assert_eq!(error.get(Fact::Key), Some("agent.force_tls"));
    assert_eq!(error.get(Fact::Line), Some("2"));
    let error = fails("", &[("SW_AGENT_FORCE_TLS", "yes")]);
    assert_eq!(error.get(Fact::Found), Some("yes from SW_AGENT_FORCE_TLS"));
}

#[test]
fn circles_and_bombs_are_errors_of_the_key() {
    let error = fails("agent.service_name=${a}\na=${b}\nb=${a}", &[]);
    assert_eq!(error.code(), Code::PlaceholderCycle);
    assert_eq!(error.get(Fact::Found), Some("a -> b -> a"));
    assert_eq!(error.get(Fact::Key), Some("agent.service_name"));
    let bomb: String =
        (1..30).map(|n| format!("l{n}={}\n", format!("${{l{}}}", n - 1).repeat(9))).collect();
    let error = fails(&format!("agent.namespace=${{l29}}\nl0=ha\n{bomb}"), &[]);
    assert_eq!(error.code(), Code::PlaceholderTooLarge);
    // What no setting refers to is not expanded at all.
    assert_eq!(name("plugin.x=${plugin.x}\nagent.service_name=a", &[]).as_deref(), Some("a"));
}

#[test]
fn what_resolves_nowhere_stays_as_it_is_written() {
    assert_eq!(name("agent.service_name=${NOPE}-x", &[]).as_deref(), Some("${NOPE}-x"));
    assert_eq!(fails("agent.force_tls=${NOPE}", &[]).code(), Code::BadValue);
}

#[test]
fn the_shipped_name_counts_as_unset() {
    assert_eq!(name("agent.service_name=Your_ApplicationName", &[]), None);
}

#[test]
fn long_names_are_cut_as_in_java() {
    let long = "x".repeat(60);
    let folder = agent(&format!("agent.service_name={long}\nagent.cluster={}", "é".repeat(30)));
    let loaded = loader(folder.path(), &[]).load().unwrap();
    assert_eq!(loaded.settings.agent.service_name.as_deref(), Some(&long[..50]));
    assert_eq!(loaded.settings.agent.cluster.unwrap().chars().count(), 20);
    assert_eq!(loaded.warnings.len(), 2);
    assert_eq!(loaded.warnings[0].kind, WarningKind::NameCut);
    let text = format!("agent.service_name={long}\nagent.service_name#length=${{MAX:70}}");
    assert_eq!(name(&text, &[]).as_deref(), Some(long.as_str()));
    assert_eq!(name(&text, &[("MAX", "3")]).as_deref(), Some("xxx"));
    assert_eq!(fails(&text, &[("MAX", "many")]).code(), Code::BadValue);
    let loaded = loader(folder.path(), &[]).set("agent.service_name#length", "5").load().unwrap();
    assert_eq!(loaded.settings.agent.service_name.as_deref(), Some("xxxxx"));
}

#[test]
fn lists_numbers_and_words() {
    let folder = agent(
        "buffer.channel_size=2\nbuffer.buffer_size=3\nbuffer.max_bytes=4096\nbuffer.on_full=DROP_OLDEST\n\
         logging.level=warn\nlogging.output=file\nlogging.dir=/var/log/skytls\nlogging.file_name=a.log\n\
         relay.forward_headers=X-Tenant, b\ncollector.authority=oap:1\nagent.enable=false\n\
         agent.force_tls=true\nagent.ssl_partial_chain=off\nagent.ssl_sni=front.example\n",
    );
    let settings = loader(folder.path(), &[]).load().unwrap().settings;
    assert_eq!((settings.buffer.max_records, settings.buffer.max_bytes), (6, 4096));
    assert_eq!(settings.buffer.on_full, Some(skytls::config::OnFull::DropOldest));
    assert_eq!(settings.logging.file.unwrap(), Path::new("/var/log/skytls/a.log"));
    assert_eq!(settings.logging.level, log::LevelFilter::Warn);
    assert_eq!(settings.relay.forward_headers, ["x-tenant", "b"]);
    assert_eq!(settings.link.authority.as_deref(), Some("oap:1"));
    assert!(!settings.enabled && !settings.tls.partial_chain && settings.tls.same_name_issuer);
    assert_eq!(settings.tls.sni.as_deref(), Some("front.example"));
    for (text, code) in [
        ("collector.grpc_upstream_timeout=30s", Code::BadValue),
        ("collector.grpc_upstream_timeout=0", Code::OutOfRange),
        ("collector.heartbeat_period=x", Code::BadValue),
        ("buffer.on_full=panic", Code::BadValue),
        ("agent.instance_properties_json={", Code::BadValue),
        ("agent.ssl_server_name=oap:1", Code::BadServerName),
        ("relay.forward_headers=grpc-timeout", Code::BadValue),
        ("relay.listen=11800", Code::BadListen),
    ] {
        assert_eq!(fails(text, &[]).code(), code, "{text}");
    }
}

#[test]
fn only_the_relay_has_backends_of_its_own() {
    let folder = agent("collector.backend_service=oap:1\nrelay.backend_service=far:2\n");
    let first = |relay| {
        let loaded = loader(folder.path(), &[]).relay(relay).load().unwrap();
        loaded.settings.link.backends[0].to_string()
    };
    assert_eq!((first(false), first(true)), ("oap:1".into(), "far:2".into()));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_an_error_where_it_is_used() {
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(vec![0xff]);
    let load = |name: &str| Loader::new().environment([(OsString::from(name), bad.clone())]).load();
    let error = load("SW_AGENT_SSL_TRUSTED_CA_PATH").unwrap_err();
    assert_eq!(error.code(), Code::BadValue);
    assert!(error.to_string().contains("SW_AGENT_SSL_TRUSTED_CA_PATH"));
    assert!(load("UNRELATED").is_ok());
}
