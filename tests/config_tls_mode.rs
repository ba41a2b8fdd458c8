//! When TLS is on: one test for every row of the decision table, and what paths mean.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skytls::config::{
    IdentitySource, Key, Loaded, Loader, Mode, PlaintextReason, Source, TlsReason, WarningKind,
};
use skytls::error::{Code, Error, Fact, Result};
use tempfile::TempDir;

/// An agent folder with `config/agent.config`.
struct Agent(TempDir);

impl Agent {
    fn new(lines: &str) -> Self {
        let agent = Self(tempfile::tempdir().unwrap());
        agent.write("config/agent.config", lines);
        agent
    }

    fn with_ca(lines: &str) -> Self {
        let agent = Self::new(lines);
        agent.write("ca/ca.crt", "");
        agent
    }

    fn with_identity(self) -> Self {
        self.write("certs/client.crt", "");
        self.write("certs/client.key", "");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn load_with(&self, variables: &[(&str, &str)]) -> Result<Loaded> {
        let variables = variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        Loader::new().file(self.path("config/agent.config")).environment(variables).load()
    }

    fn load(&self) -> Loaded {
        self.load_with(&[]).unwrap()
    }

    fn fails(&self) -> Error {
        self.load_with(&[]).unwrap_err()
    }

    fn mode(&self) -> Mode {
        self.load().settings.tls.mode
    }
}

const FORCE: &str = "agent.force_tls=true\n";
const IDENTITY: &str =
    "agent.ssl_cert_chain_path=/certs/client.crt\nagent.ssl_key_path=certs/client.key\n";
const PLAINTEXT: Mode = Mode::Plaintext(PlaintextReason::NothingAsksForTls);

#[test]
fn no_ca_no_force_no_identity_is_plaintext() {
    let loaded = Agent::new("").load();
    assert_eq!(loaded.settings.tls.mode, PLAINTEXT);
    assert_eq!(loaded.warnings, []);
    let agent = Agent::new("agent.require_tls=true");
    let error = agent.fails();
    assert_eq!(error.code(), Code::TlsRequired);
    assert!(error.to_string().contains(agent.path("ca/ca.crt").to_str().unwrap()));
}

#[test]
fn no_ca_no_force_with_identity_is_an_error() {
    let agent = Agent::new(IDENTITY).with_identity();
    assert_eq!(agent.fails().code(), Code::IdentityWithoutTls);
}

#[test]
fn no_ca_with_force_is_tls_with_the_systems_trust() {
    let agent = Agent::new(&format!("{FORCE}agent.require_tls=true"));
    let settings = agent.load().settings;
    assert_eq!(settings.tls.mode, Mode::Tls(TlsReason::ForceTls));
    assert_eq!(settings.tls.ca, None);
}

#[test]
fn no_ca_with_force_and_identity_is_mutual_tls() {
    let agent = Agent::new(&format!("{FORCE}{IDENTITY}")).with_identity();
    let tls = agent.load().settings.tls;
    assert_eq!(tls.mode, Mode::Mutual(TlsReason::ForceTls));
    let identity = tls.identity.unwrap();
    assert_eq!(identity.chain, Source::File(agent.path("certs/client.crt")));
    assert_eq!(identity.key, Source::File(agent.path("certs/client.key")));
}

#[test]
fn a_ca_without_identity_is_tls() {
    for lines in ["", FORCE, "agent.force_tls=false"] {
        let agent = Agent::with_ca(lines);
        assert_eq!(agent.mode(), Mode::Tls(TlsReason::CaFile), "{lines}");
        assert_eq!(agent.load().settings.tls.ca, Some(Source::File(agent.path("ca/ca.crt"))));
    }
}

#[test]
fn a_ca_with_identity_is_mutual_tls() {
    for force in ["", FORCE] {
        let agent = Agent::with_ca(&format!("{force}{IDENTITY}")).with_identity();
        assert_eq!(agent.mode(), Mode::Mutual(TlsReason::CaFile));
    }
}

#[test]
fn half_an_identity_is_an_error_whatever_else_is_set() {
    for half in IDENTITY.lines() {
        for lines in [format!("{half}\n"), format!("{FORCE}{half}\n")] {
            assert_eq!(Agent::new(&lines).with_identity().fails().code(), Code::HalfIdentity);
            assert_eq!(Agent::with_ca(&lines).with_identity().fails().code(), Code::HalfIdentity);
        }
    }
}

#[test]
fn an_identity_that_is_not_there_is_an_error() {
    for missing in ["certs/client.crt", "certs/client.key"] {
        let agent = Agent::with_ca(IDENTITY).with_identity();
        fs::remove_file(agent.path(missing)).unwrap();
        let error = agent.fails();
        assert_eq!(error.code(), Code::FileMissing);
        assert_eq!(error.get(Fact::File), agent.path(missing).to_str());
        assert!(error.get(Fact::Key).unwrap().starts_with("agent.ssl_"));
    }
}

#[test]
fn any_other_tls_setting_with_plaintext_is_an_error() {
    for line in [
        "agent.ssl_server_name=oap",
        "agent.ssl_sni=oap",
        "agent.ssl_key_passphrase=x",
        "agent.ssl_key_passphrase_path=/no/such",
        "agent.ssl_same_name_issuer=off",
        "agent.ssl_partial_chain=off",
        "agent.ssl_reload_interval=1",
        "agent.ssl_drain_timeout=1",
    ] {
        let error = Agent::new(line).fails();
        assert_eq!(error.code(), Code::TlsSettingWithoutTls, "{line}");
        assert!(line.starts_with(error.get(Fact::Key).unwrap()));
    }
    assert_eq!(Agent::new("agent.ssl_partial_chain=auto\nagent.ssl_sni=\n").mode(), PLAINTEXT);
    assert!(Agent::with_ca("agent.ssl_server_name=oap").mode().is_tls());
}

#[test]
fn a_listener_with_certificates_rotates_them_also_above_a_plaintext_link() {
    let lines = "agent.ssl_reload_interval=3\nagent.ssl_drain_timeout=4\n\
        relay.ssl_cert_chain_path=/certs/client.crt\nrelay.ssl_key_path=/certs/client.key";
    let agent = Agent::new(lines).with_identity();
    let load = |relay| {
        let loader = Loader::new().file(agent.path("config/agent.config"));
        loader.environment([]).relay(relay).load()
    };
    let tls = load(true).unwrap().settings.tls;
    assert_eq!((tls.mode, tls.reload_interval), (PLAINTEXT, Some(Duration::from_secs(3))));
    assert_eq!(tls.drain_timeout, Duration::from_secs(4));
    // An agent has no listener.
    assert_eq!(load(false).unwrap_err().code(), Code::TlsSettingWithoutTls);
    let off = Agent::with_ca("agent.ssl_reload_interval=0").load().settings.tls;
    assert_eq!((off.reload_interval, off.drain_timeout), (None, Duration::from_secs(30)));
}

#[test]
fn plaintext_that_leaves_the_machine_is_a_warning_and_with_a_token_an_error() {
    let remote = "collector.backend_service=localhost:1,oap:11800\n";
    let loaded = Agent::new(remote).load();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].kind, WarningKind::Plaintext);
    let token = "agent.authentication=s3cret\n";
    let error = Agent::new(&format!("{remote}{token}")).fails();
    assert_eq!(error.code(), Code::TokenOverPlaintext);
    assert_eq!(error.get(Fact::Peer), Some("oap:11800"));
    for lines in [
        format!("{remote}{token}agent.allow_plaintext_token=true"),
        format!("{remote}{token}{FORCE}"),
        format!("{token}collector.backend_service=127.0.0.1:1,[::1]:1,localhost:1"),
    ] {
        assert!(Agent::new(&lines).load_with(&[]).is_ok(), "{lines}");
    }
}

#[test]
fn a_set_ca_path_must_exist() {
    let agent = Agent::new("agent.ssl_trusted_ca_path=/etc/no/such/ca.pem");
    let error = agent.fails();
    assert_eq!(error.code(), Code::FileMissing);
    assert_eq!(error.get(Fact::Key), Some("agent.ssl_trusted_ca_path"));
    let text = error.to_string();
    assert!(text.contains(agent.path("etc/no/such/ca.pem").to_str().unwrap()), "{text}");
    assert!(text.contains("nor /etc/no/such/ca.pem"), "{text}");
    assert_eq!(Agent::new("agent.ssl_trusted_ca_path=ca.pem").fails().code(), Code::FileMissing);
    // Force or not: TLS with another trust than the one that was asked for is no help.
    let agent = Agent::new(&format!("{FORCE}agent.ssl_trusted_ca_path=ca.pem"));
    assert_eq!(agent.fails().code(), Code::FileMissing);
}

#[test]
fn a_set_path_may_lie_in_the_agent_folder_or_on_the_system() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("ca.pem");
    fs::write(&outside, "").unwrap();
    let agent = Agent::new(&format!("agent.ssl_trusted_ca_path={}", outside.display()));
    let loaded = agent.load();
    assert_eq!(loaded.settings.tls.ca, Some(Source::File(outside.clone())));
    assert_eq!(loaded.effective.get(Key::TrustedCaPath).unwrap().resolved, Some(outside.clone()));
    // The agent folder comes first.
    let inside = agent.path(outside.to_str().unwrap().trim_start_matches('/'));
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    fs::write(&inside, "").unwrap();
    assert_eq!(agent.load().settings.tls.ca, Some(Source::File(inside)));
}

#[test]
fn the_default_path_said_again_in_the_file_may_be_missing_but_not_from_elsewhere() {
    let variable = "SW_AGENT_SSL_TRUSTED_CA_PATH";
    let shipped = format!("agent.ssl_trusted_ca_path=${{{variable}:/ca/ca.crt}}");
    for lines in
        [shipped.as_str(), "agent.ssl_trusted_ca_path=/ca/ca.crt", "agent.ssl_trusted_ca_path="]
    {
        assert_eq!(Agent::new(lines).mode(), PLAINTEXT, "{lines}");
        assert!(Agent::with_ca(lines).mode().is_tls(), "{lines}");
    }
    assert_eq!(
        Agent::new(&shipped).load_with(&[(variable, "")]).unwrap().settings.tls.mode,
        PLAINTEXT
    );
    for lines in [shipped.as_str(), ""] {
        let error = Agent::new(lines).load_with(&[(variable, "/ca/ca.crt")]).unwrap_err();
        assert_eq!(error.code(), Code::FileMissing, "{lines}");
    }
}

#[cfg(unix)]
#[test]
fn whatever_is_at_the_default_path_turns_tls_on() {
    let agent = Agent::new("");
    fs::create_dir_all(agent.path("ca/ca.crt")).unwrap();
    assert!(agent.mode().is_tls());
    let agent = Agent::new("");
    fs::create_dir(agent.path("ca")).unwrap();
    std::os::unix::fs::symlink("/no/such/file", agent.path("ca/ca.crt")).unwrap();
    assert!(agent.mode().is_tls());
}

#[test]
fn the_agent_folder_can_be_named() {
    let home = Agent::with_ca("");
    let agent = Agent::new("");
    let path = home.0.path().to_str().unwrap();
    let loaded = agent.load_with(&[("SW_AGENT_HOME", path)]).unwrap();
    assert!(loaded.settings.tls.mode.is_tls());
    assert_eq!(loaded.settings.agent.folder, home.0.path());
    // A misspelt folder has no CA: it must not mean plaintext.
    let error = agent.load_with(&[("SW_AGENT_HOME", "/no/such/folder")]).unwrap_err();
    assert_eq!((error.code(), error.get(Fact::Key)), (Code::FileMissing, Some("SW_AGENT_HOME")));
}

#[test]
fn the_passphrase_is_the_first_line_of_its_file() {
    let lines = format!("{IDENTITY}agent.ssl_key_passphrase_path=secrets/pass\n");
    let agent = Agent::with_ca(&lines).with_identity();
    let passphrase = |agent: &Agent| {
        agent.load_with(&[]).map(|loaded| {
            loaded.settings.tls.identity.unwrap().passphrase.unwrap().expose().clone()
        })
    };
    assert_eq!(passphrase(&agent).unwrap_err().code(), Code::FileMissing);
    for (content, expected) in
        [("pass", "pass"), ("pass\n", "pass"), ("pass\r\nx", "pass"), (" a b \n", " a b ")]
    {
        agent.write("secrets/pass", content);
        assert_eq!(passphrase(&agent).unwrap(), expected);
    }
    let long = "x".repeat(4097);
    for (content, code) in
        [("", Code::FileEmpty), ("\nx", Code::FileEmpty), (&long, Code::FileTooLarge)]
    {
        agent.write("secrets/pass", content);
        let error = passphrase(&agent).unwrap_err();
        assert_eq!(error.code(), code);
        assert_eq!(error.get(Fact::Key), Some("agent.ssl_key_passphrase_path"));
    }
    agent.write("secrets/pass", &"x".repeat(4096));
    assert_eq!(passphrase(&agent).unwrap().len(), 4096);
    fs::remove_file(agent.path("secrets/pass")).unwrap();
    fs::create_dir(agent.path("secrets/pass")).unwrap();
    assert_eq!(passphrase(&agent).unwrap_err().code(), Code::FileNotRegular);
}

#[test]
fn two_passphrases_are_one_too_many_and_one_without_a_key_is_odd() {
    let both = "agent.ssl_key_passphrase=a\nagent.ssl_key_passphrase_path=b\n";
    let agent = Agent::with_ca(&format!("{IDENTITY}{both}")).with_identity();
    assert_eq!(agent.fails().code(), Code::BadValue);
    let loaded = Agent::with_ca("agent.ssl_key_passphrase=a").load();
    assert_eq!(loaded.warnings[0].kind, WarningKind::PassphraseUnused);
}

#[test]
fn key_uris_are_taken_without_showing_their_pin() {
    let line = "agent.ssl_cert_chain_path=certs/client.crt\nagent.ssl_key_path=pkcs11:object=k;pin-value=s3cret\n";
    let loaded = Agent::with_ca(line).with_identity().load();
    assert!(matches!(
        loaded.settings.tls.identity,
        Some(IdentitySource { key: Source::Uri(_), .. })
    ));
    let shown = format!("{loaded:?} {loaded:#?}");
    assert!(shown.contains("pkcs11:…") && !shown.contains("s3cret"), "{shown}");
    // Elsewhere a path is meant.
    let elsewhere = "agent.ssl_crl_path=pkcs11:object=l;pin-value=s3cret\n";
    let error = Agent::with_ca(elsewhere).fails();
    assert_eq!(error.code(), Code::BadValue);
    assert!(!format!("{}", skytls::error::Chain(&error)).contains("s3cret"));
}

#[test]
fn relative_names_of_the_configuration_file_have_the_right_folder() {
    let agent = Agent::with_ca("");
    let load = |directory: &Path, file: &str| {
        Loader::new().directory(directory).file(file).environment([]).load().unwrap().settings
    };
    for (directory, file) in
        [(agent.path(""), "config/agent.config"), (agent.path("config"), "agent.config")]
    {
        assert!(load(&directory, file).tls.mode.is_tls(), "{file}");
    }
}
