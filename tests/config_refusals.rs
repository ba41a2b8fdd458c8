//! What settings are refused or warned about: unknown keys, keys not built yet, addresses, secrets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::fs;

use skytls::config::{Key, Loaded, Loader, RelayAck, Status, WarningKind};
use skytls::error::{Code, Error, Fact, Result};

fn load(lines: &str, relay: bool) -> Result<Loaded> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.config");
    fs::write(&file, lines).unwrap();
    Loader::new().file(file).environment([]).relay(relay).load()
}

fn fails(lines: &str) -> Error {
    load(lines, true).unwrap_err()
}

#[test]
fn an_unknown_key_in_an_override_is_an_error_with_the_nearest_name() {
    let error = Loader::new().environment([]).set("agent.force_tsl", "true").load().unwrap_err();
    assert_eq!(error.code(), Code::UnknownKey);
    assert!(error.remedy().contains("agent.force_tls"), "{}", error.remedy());
    for key in ["plugin.mount", "agent.force_tls#length", "Agent.Force_Tls", ""] {
        let error = Loader::new().environment([]).set(key, "x").load().unwrap_err();
        assert_eq!(error.code(), Code::UnknownKey, "{key}");
    }
}

#[test]
fn a_misspelt_key_in_a_file_is_a_warning_with_the_nearest_name() {
    for (line, meant) in [
        ("agent.ssl_trusted_ca=x", "agent.ssl_trusted_ca_path"),
        ("collector.backend_services=x", "collector.backend_service"),
        ("buffer.max_byte=1", "buffer.max_bytes"),
        ("spool.paths=x", "spool.path"),
        ("relay.liste=x", "relay.listen"),
        ("admin.listn=x", "admin.listen"),
        ("agent.require_tsl=true", "agent.require_tls"),
        ("agent.force-tls=true", "agent.force_tls"),
    ] {
        let loaded = load(line, false).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{line}");
        assert_eq!(loaded.warnings[0].kind, WarningKind::UnknownKey);
        assert!(loaded.warnings[0].text.contains(meant), "{:?}", loaded.warnings[0]);
        assert_eq!(loaded.effective.unused.len(), 1);
    }
    let loaded =
        load("plugin.mount=x\nsome.map[inner]=v\nagent.sample_n_per_3_secs=3", false).unwrap();
    assert_eq!((loaded.warnings.len(), loaded.effective.unused.len()), (0, 3));
}

#[test]
fn a_key_that_is_not_built_yet_is_an_error_unless_it_says_the_default() {
    for &key in Key::ALL.iter().filter(|key| key.status() == Status::Later) {
        let default = key.default_text();
        let other = match default {
            "false" => "true",
            "off" => "staple",
            "auto" => "ca",
            _ => "12345",
        };
        let error = Loader::new().environment([]).set(key.name(), other).load().unwrap_err();
        assert_eq!(error.code(), Code::NotBuiltYet, "{}", key.name());
        assert_eq!(error.get(Fact::Key), Some(key.name()));
        let line = format!("{}={default}\n", key.name());
        assert!(load(&line, true).is_ok(), "{line}");
    }
    let variable = [(OsString::from("SW_AGENT_SSL_KEYLOG_PATH"), OsString::from("keys"))];
    let error = Loader::new().environment(variable).load().unwrap_err();
    assert_eq!(error.code(), Code::NotBuiltYet);
}

#[test]
fn an_answer_for_what_is_on_disk_needs_a_disk() {
    let ack = |lines: &str| load(lines, true).map(|loaded| loaded.settings.relay.ack);
    assert_eq!(fails("relay.ack=spooled").code(), Code::AckWithoutSpool);
    assert_eq!(ack("relay.ack=spooled\nspool.path=x").unwrap(), RelayAck::Spooled);
    assert_eq!(ack("spool.path=x").unwrap(), RelayAck::Spooled);
    assert_eq!(ack("").unwrap(), RelayAck::Queued);
    assert_eq!(ack("relay.ack=QUEUED\nspool.path=x").unwrap(), RelayAck::Queued);
    assert_eq!(ack("relay.ack=delivered").unwrap(), RelayAck::Delivered);
    // An agent may share the relay's environment.
    assert!(load("relay.ack=spooled", false).is_ok());
}

#[test]
fn backends_are_checked_as_text() {
    for list in ["oap", "oap:0", "oap:70000", "http://oap:1", "::1:11800", "oap:1,,oap:2", "oap:1,"]
    {
        let error = fails(&format!("collector.backend_service={list}"));
        assert_eq!(error.code(), Code::BadBackend, "{list}");
        assert_eq!(error.get(Fact::Key), Some("collector.backend_service"));
    }
    let loaded =
        load("collector.backend_service=localhost:1, LOCALHOST:1 ,[::1]:1", false).unwrap();
    assert_eq!(loaded.settings.link.backends.len(), 2);
    assert_eq!(loaded.warnings[0].kind, WarningKind::RepeatedAddress);
    assert!(load("", false).unwrap().settings.link.backends.is_empty());
}

#[test]
fn without_tls_the_relay_listens_on_loopback_only() {
    for address in ["0.0.0.0:11800", "[::]:11800", "10.0.0.1:11800"] {
        let line = format!("relay.listen={address}\nrelay.allow_remote=true");
        let error = fails(&line);
        assert_eq!(error.code(), Code::ListenRemote);
        assert!(error.remedy().contains("set relay.ssl_cert_chain_path and relay.ssl_key_path"));
        // An agent that shares the relay's environment does not listen.
        assert!(load(&line, false).is_ok());
    }
    let line = "relay.listen=127.0.0.1:0, localhost:11801,[::1]:11802";
    assert_eq!(load(line, true).unwrap().settings.relay.listen.len(), 3);
    assert_eq!(load("", true).unwrap().settings.relay.listen[0].to_string(), "127.0.0.1:11800");
}

#[test]
fn the_relay_is_not_its_own_backend() {
    for backend in ["127.0.0.1:11800", "localhost:11800", "oap:1,localhost:11800"] {
        let line = format!("agent.force_tls=true\ncollector.backend_service={backend}");
        assert_eq!(fails(&line).code(), Code::BackendIsListener, "{backend}");
        assert!(load(&line, false).is_ok());
    }
    assert!(load("collector.backend_service=127.0.0.1:11801", true).is_ok());
    // As seen from a proxy on another machine it is another address.
    let line =
        "agent.force_tls=true\ncollector.backend_service=localhost:11800\ncollector.proxy=http://";
    assert!(load(&format!("{line}proxy:3128"), true).is_ok());
    assert_eq!(fails(&format!("{line}127.0.0.1:3128")).code(), Code::BackendIsListener);
}

#[test]
fn secrets_stay_out_of_errors_and_of_everything_that_is_printed() {
    let s3cret = "s3cr\\u0001et";
    for line in [
        format!("agent.authentication={s3cret}"),
        format!("agent.ssl_key_passphrase={s3cret}"),
        format!("collector.proxy=http://u:{s3cret}@h:1"),
        format!("relay.authentication={s3cret}"),
        "agent.force_tls=${agent.authentication}\nagent.authentication=s3cret".to_owned(),
        format!("x={s3cret}\nagent.authentication=${{x}}${{agent.authentication}}"),
    ] {
        let error = fails(&line);
        let text = format!("{error} {error:?} {}", skytls::error::Chain(&error));
        assert!(!text.contains("s3cr"), "{text}");
    }
    let loaded = load(
        "agent.authentication=s3cret\nagent.namespace=${agent.authentication}s3crets3crets3cret",
        false,
    );
    let loaded = loaded.unwrap();
    assert_eq!(loaded.settings.agent.authentication.as_ref().unwrap().expose(), "s3cret");
    assert!(!format!("{:?} {:?}", loaded.effective, loaded.warnings).contains("s3cret"));
}
