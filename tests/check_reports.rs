//! `skytls check` beside TLS: settings, files, network, the backend's answer, and its two outputs.

mod check_report;
mod support;
mod tls_client;

use check_report::Report;
use serde_json::Value;
use skytls::config::{IdentitySource, Secret, Source};
use skytls::pki::{Authority, Leaf, Profile, Validity};
use skytls::server::{Collector, CollectorSettings, CollectorTls, Fault};
use support::folder::Folder;
use support::pki::{self, DAY, Set};
use support::process::Skytls;
use support::{keys, peers};
use tls_client::{Agent, runtime};

const TOKEN: &str = "t0ken-of-the-backend";

/// A collector with the server's certificate of the set.
fn collector(set: &Set, change: impl FnOnce(&mut CollectorSettings)) -> Collector {
    let bytes = |pem: &str| Source::Bytes(Secret::new(pem.as_bytes().to_vec()));
    let identity =
        IdentitySource { chain: bytes(&set.server), key: bytes(&set.server_key), passphrase: None };
    let tls = Some(CollectorTls { identity, client_ca: Some(bytes(&set.ca)) });
    let mut settings = CollectorSettings { tls, ..CollectorSettings::default() };
    change(&mut settings);
    runtime().block_on(Collector::start(settings)).expect("it starts")
}

fn address(collector: &Collector) -> String {
    format!("localhost:{}", collector.address().port())
}

fn report(agent: &Agent, check: Skytls) -> Report {
    Report::of(check, agent.folder.path())
}

fn json(report: &Report) -> Value {
    serde_json::from_str(&report.finished.stdout).expect("it is JSON")
}

// === the backend ===

#[test]
fn all_is_well_and_leaves_no_trace() {
    let set = pki::proper();
    let collector = collector(&set, |settings| {
        settings.authentication = Some(Secret::new(TOKEN.to_owned()));
    });
    let agent = Agent::trusting(&set.ca).showing(&set).set("agent.authentication", TOKEN);
    let report = report(&agent, agent.check(address(&collector)).arg("-vv"));
    report.golden("all_is_well").code(0);
    for id in ["http2.greeting", "grpc.answer", "oap.token", "oap.segments", "tls.client_ca_list"] {
        assert_eq!(report.mark(id), "ok");
    }
    assert!(report.finished.stdout.contains("a second handshake was a short one"));
    let counts = collector.counts();
    assert_eq!((counts.received, counts.calls, counts.calls_ok), (0, 1, 1), "{counts:?}");
    let output = format!("{}{}", report.finished.stdout, report.finished.stderr);
    assert!(!output.contains(TOKEN) && !output.contains('\u{1b}'), "{output}");
}

#[test]
fn a_token_that_is_refused() {
    let set = pki::proper();
    let collector = collector(&set, |settings| {
        settings.authentication = Some(Secret::new(TOKEN.to_owned()));
    });
    let agent = Agent::trusting(&set.ca).showing(&set);
    report(&agent, agent.check(address(&collector))).golden("token_missing").code(5);
    let agent = agent.set("agent.authentication", "another-token");
    let refused = report(&agent, agent.check(address(&collector)));
    refused.golden("token_refused").code(5);
    assert!(!refused.finished.stdout.contains("another-token"));
}

#[test]
fn a_port_that_is_not_an_oaps() {
    let set = pki::proper();
    let collector = collector(&set, |settings| settings.faults = vec![Fault::status(12)]);
    let agent = Agent::trusting(&set.ca).showing(&set);
    report(&agent, agent.check(address(&collector))).golden("not_an_oap").code(5);
}

#[test]
fn plaintext_to_a_server_of_tls() {
    let set = pki::proper();
    let collector = collector(&set, |_| ());
    let folder = Folder::new("");
    let check = || {
        Skytls::new(["check"])
            .in_folder(folder.path())
            .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", address(&collector))
    };
    // What exactly breaks first is a race; that it is explained is none.
    let refused = Report::of(check(), folder.path());
    assert_eq!(refused.code(3).mark("http2.greeting"), "error");
    assert!(refused.finished.stdout.contains("the link is plaintext by the settings"));
    Report::of(check().arg("--tls-only"), folder.path()).golden("tls_only_plaintext").code(2);
}

// === the network ===

#[test]
fn nobody_listens_and_no_such_name() {
    let set = pki::proper();
    let agent = Agent::trusting(&set.ca);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    report(&agent, agent.check(format!("127.0.0.1:{port}"))).golden("nobody_listens").code(3);
    let unknown = report(&agent, agent.check("nowhere.invalid:11800"));
    assert_eq!(unknown.code(3).mark("dns.resolve"), "error");
}

#[test]
fn of_several_backends_the_first_that_fails_counts() {
    let set = pki::proper();
    let collector = collector(&set, |_| ());
    let plain = peers::Peer::http();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let agent = Agent::trusting(&set.ca).showing(&set);
    let (well, not_tls) = (address(&collector), format!("localhost:{}", plain.port()));
    let nobody = format!("localhost:{port}");
    report(&agent, agent.check(format!("{well},{not_tls},{nobody}"))).code(4);
    report(&agent, agent.check(format!("{nobody},{well},{not_tls}"))).code(3);
    let document = json(&report(&agent, agent.check(format!("{well},{nobody}")).arg("--json")));
    assert_eq!(document["backends"].as_array().unwrap().len(), 2);
    assert_eq!(document["exit"], 3);
}

// === settings and files ===

#[test]
fn settings_that_cannot_be_loaded() {
    let folder = Folder::new("agent.force_tls=perhaps\n");
    let check = || Skytls::new(["check"]).in_folder(folder.path());
    Report::of(check(), folder.path()).golden("bad_setting").code(2);
    let document = json(&Report::of(check().arg("--json"), folder.path()));
    assert_eq!((&document["ok"], &document["exit"]), (&Value::from(false), &Value::from(2)));
    assert_eq!(document["backends"][0]["checks"][0]["id"], "settings.load");
    let folder = Folder::new("agent.force_tls=true\nagent.ssl_trustd_ca_path=x\n");
    let check = Skytls::new(["check"]).in_folder(folder.path());
    Report::of(check, folder.path()).golden("no_backend").code(2);
    let folder = Folder::new("agent.ssl_trusted_ca_path=/no/such/ca.crt\n");
    let check = Skytls::new(["check"]).in_folder(folder.path());
    Report::of(check, folder.path()).golden("no_such_file").code(2);
}

#[test]
fn a_listener_is_no_reason_not_to_look_at_the_backend() {
    let set = pki::proper();
    let collector = collector(&set, |_| ());
    let agent = Agent::trusting(&set.ca)
        .showing(&set)
        .set("relay.listen", address(&collector))
        .set("relay.backend_service", address(&collector));
    let report = report(&agent, agent.check("elsewhere.invalid:1"));
    report.golden("listener").code(0);
    assert_eq!(report.mark("oap.segments"), "ok");
}

#[test]
fn a_key_that_everybody_can_read() {
    let set = pki::proper();
    let collector = collector(&set, |_| ());
    let agent = Agent::trusting(&set.ca).showing(&set);
    agent.folder.replace("ca/client.pem", &set.client_key, 0o644);
    report(&agent, agent.check(address(&collector))).golden("key_permissions").code(0);
    report(&agent, agent.check(address(&collector)).arg("--strict")).code(1);
    agent.folder.replace("ca/client.pem", &set.client_key, 0o640);
    let narrow = report(&agent, agent.check(address(&collector)));
    assert_eq!(narrow.code(0).mark("files.key_permissions"), "ok");
}

#[test]
fn a_path_with_two_meanings() {
    let set = pki::proper();
    let collector = collector(&set, |_| ());
    let outside = Folder::empty().file("ca.crt", "not this one", 0o644);
    let path = outside.join("ca.crt");
    let inside = path.strip_prefix("/").unwrap().to_str().unwrap();
    let agent = Agent::trusting(&set.ca).showing(&set);
    agent.folder.replace(inside, &set.ca, 0o644);
    let agent = agent.set("agent.ssl_trusted_ca_path", path.to_str().unwrap());
    let report = report(&agent, agent.check(address(&collector)));
    assert_eq!(report.code(0).mark("files.ca_path"), "warning");
    let why = format!("{} exists too, but the agent folder goes first", path.display());
    assert!(report.finished.stdout.contains(&why), "{}", report.finished.stdout);
}

#[test]
fn an_own_certificate_that_has_ended() {
    let ca = Authority::new(&Profile::new("test root").unwrap()).unwrap();
    let server = ca.issue(&Leaf::server(["localhost"]).unwrap()).unwrap();
    let over = Validity::relative(-9 * DAY, -2 * DAY - DAY / 2);
    let own = ca.issue(&Leaf::client("test agent").unwrap().valid(over)).unwrap();
    let set = Set {
        ca: ca.certificate_pem().to_owned(),
        server: server.chain_pem().to_owned(),
        server_key: server.key_pem().to_owned(),
        client: own.chain_pem().to_owned(),
        client_key: own.key_pem().to_owned(),
    };
    let collector = collector(&set, |_| ());
    let agent = Agent::trusting(&set.ca).showing(&set);
    report(&agent, agent.check(address(&collector))).golden("own_expired").code(2);
}

#[test]
fn a_passphrase_never_shows() {
    let set = pki::proper();
    let agent = Agent::trusting(&set.ca).showing(&set);
    let key = openssl::pkey::PKey::private_key_from_pem_passphrase(set.client_key.as_bytes(), b"");
    let encrypted = keys::encrypted_pkcs8_pem(&key.unwrap());
    agent.folder.replace("ca/client.pem", encrypted, 0o600);
    let agent = agent.set("agent.ssl_key_passphrase", "not the right one");
    for arguments in [["-vv", "--strict"], ["-vv", "--json"]] {
        let check = agent.check("localhost:1").arg(arguments[0]).arg(arguments[1]);
        let refused = report(&agent, check);
        refused.code(2);
        let output = format!("{}{}", refused.finished.stdout, refused.finished.stderr);
        assert!(!output.contains("not the right one"), "{output}");
        assert!(output.contains("SKT-210") && output.contains("files.material"), "{output}");
    }
}

// === JSON ===

#[test]
fn json_is_one_document_of_the_shape_promised() {
    let set = pki::proper();
    let collector = collector(&set, |_| ());
    let agent = Agent::trusting(&set.ca).showing(&set);
    let document = json(&report(&agent, agent.check(address(&collector)).arg("--json")));
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&document), ["ok", "exit", "backends", "openssl"]);
    let backend = &document["backends"][0];
    assert_eq!(keys(backend), ["address", "checks", "tls"]);
    assert_eq!(backend["address"], address(&collector));
    for check in backend["checks"].as_array().unwrap() {
        assert_eq!(keys(check), ["id", "ok", "level", "fact", "value", "why", "do"]);
        assert_eq!(check["ok"], check["level"] == "info", "{check}");
    }
    let tls = &backend["tls"];
    assert_eq!(
        keys(tls),
        [
            "protocol",
            "cipher",
            "group",
            "alpn",
            "verify_code",
            "verify_text",
            "matched_name",
            "chain",
            "client_ca_names",
            "resumed"
        ]
    );
    assert_eq!((&tls["protocol"], &tls["alpn"]), (&"TLSv1.3".into(), &"h2".into()));
    assert_eq!((&tls["verify_code"], &tls["matched_name"]), (&0.into(), &"localhost".into()));
    assert!(tls["group"].is_string(), "{tls}");
    assert_eq!(tls["client_ca_names"][0], "CN=test root");
    assert_eq!(tls["resumed"], true);
    let leaf = &tls["chain"][0];
    assert_eq!(keys(leaf), ["subject", "issuer", "not_after", "serial", "days_left"]);
    assert_eq!(leaf["issuer"], "CN=test root");
    assert!(document["openssl"]["version"].as_str().unwrap().contains("OpenSSL"));

    // A refused certificate is shown too.
    let stranger = Agent::trusting(pki::unrelated_root().ca);
    let document = json(&report(&stranger, stranger.check(address(&collector)).arg("--json")));
    let tls = &document["backends"][0]["tls"];
    assert_eq!((&document["exit"], &tls["protocol"]), (&4.into(), &Value::Null));
    assert_eq!(tls["resumed"], Value::Null);
    assert_eq!(tls["chain"][0]["subject"], "CN=localhost");
    assert!(tls["verify_code"].as_i64().unwrap() > 0, "{tls}");
}
