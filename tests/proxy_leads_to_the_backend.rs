//! With `collector.proxy` every backend is reached by CONNECT through it: TLS from end to end, the names as
//! without a proxy, credentials for the proxy only. What a proxy does wrong is explained.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod check_report;
mod grpc_client;
mod support;
mod tls_client;
mod transport_fixture;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use check_report::Report;
use grpc_client::{Client, SEGMENTS, framed, request};
use skytls::config::{IdentitySource, Secret, Source};
use skytls::server::{Collector, CollectorSettings, CollectorTls, Counts};
use skytls::transport::{Transport, Upkeep, targets};
use support::DEADLINE;
use support::folder::Folder;
use support::peers::Peer;
use support::pki::{self, Set};
use support::process::{Process, Skytls};
use support::proxy::Proxy;
use tls_client::{Agent, runtime};
use tokio::sync::mpsc::unbounded_channel;
use transport_fixture::{keep_alive, within};

/// A name that only the proxy knows.
const BACKEND: &str = "oap.invalid:11800";
const CREDENTIALS: &str = "agent:s3cret/p@ss";
const IN_A_URL: &str = "agent:s3cret%2Fp%40ss";

/// A collector that demands the client's certificate.
fn collector(set: &Set) -> Collector {
    let bytes = |pem: &str| Source::Bytes(Secret::new(pem.as_bytes().to_vec()));
    let identity =
        IdentitySource { chain: bytes(&set.server), key: bytes(&set.server_key), passphrase: None };
    let tls = Some(CollectorTls { identity, client_ca: Some(bytes(&set.ca)) });
    start(CollectorSettings { tls, ..CollectorSettings::default() })
}

fn start(settings: CollectorSettings) -> Collector {
    runtime().block_on(Collector::start(settings)).expect("it starts")
}

/// A certificate for the backend's name, by which it is verified without any setting.
fn set() -> Set {
    pki::proper_for(["oap.invalid"])
}

fn report(agent: &Agent, check: Skytls) -> Report {
    Report::of(check, agent.folder.path())
}

/// The words that must not show anywhere.
#[track_caller]
fn assert_secret(output: &str) {
    let encoded = openssl::base64::encode_block(CREDENTIALS.as_bytes());
    for secret in ["s3cret", &encoded] {
        assert!(!output.contains(secret), "{secret} in {output}");
    }
}

/// One segment through a relay.
fn send(relay: &Process) {
    let line = relay.line("listening on ");
    let address: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
    runtime().block_on(async {
        let mut client = Client::plain(address).await;
        let reply = client.call(request(SEGMENTS, &[]), [framed(b"segment")]).await.unwrap();
        assert_eq!(reply.status, Some(0), "{reply:?}");
    });
}

// === the way ===

#[test]
fn the_relay_reports_by_mutual_tls_through_it() {
    let set = set();
    let collector = collector(&set);
    let proxy = Proxy::demanding(CREDENTIALS, BACKEND, collector.address());
    let agent = Agent::trusting(&set.ca).showing(&set);
    let relay = agent
        .relay(BACKEND)
        .arg("-vvv")
        .env("RUST_LOG", "trace")
        .env("SW_COLLECTOR_PROXY", proxy.url_as(IN_A_URL))
        .start();
    send(&relay);
    let one = |counts: &Counts| counts.received == 1;
    assert!(runtime().block_on(collector.wait_for(one, DEADLINE)), "{}", relay.stderr());
    let encoded = openssl::base64::encode_block(CREDENTIALS.as_bytes());
    let head = format!(
        "CONNECT {BACKEND} HTTP/1.1\r\nHost: {BACKEND}\r\nProxy-Authorization: Basic {encoded}\r\n\r\n"
    );
    assert_eq!(proxy.requests(), [head]);
    relay.terminate();
    let finished = relay.finish().expect_code(0);
    assert!(finished.stderr.contains("connected to oap.invalid:11800 by TLSv1.3"));
    assert_secret(&format!("{}{}", finished.stdout, finished.stderr));

    // Its twin: without the proxy nobody knows the name.
    let relay = agent.relay(BACKEND).start();
    assert!(relay.line("SKT-401").contains("oap.invalid"));
}

#[test]
fn check_shows_it_between_tcp_and_tls() {
    let set = set();
    let collector = collector(&set);
    let proxy = Proxy::demanding(CREDENTIALS, BACKEND, collector.address());
    let agent =
        Agent::trusting(&set.ca).showing(&set).set("collector.proxy", proxy.url_as(IN_A_URL));
    let well = report(&agent, agent.check(BACKEND).arg("-vvv").env("RUST_LOG", "trace"));
    let output = &well.code(0).finished.stdout;
    let ids: Vec<&str> = output.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let way = ["dns.resolve", "tcp.connect", "proxy.connect", "tls.names"];
    assert!(ids.windows(4).any(|ids| ids == way), "{ids:?}");
    assert_eq!(well.mark("oap.segments"), "ok");
    // So does the second handshake: nothing goes past the proxy.
    assert!(output.contains("a second handshake was a short one"), "{output}");
    assert_eq!(proxy.requests().len(), 2);
    // Of the four names the proxy changes none.
    let names = format!("verified oap.invalid, SNI oap.invalid, authority {BACKEND}");
    let through = format!("{BACKEND} through {}, with credentials", proxy.address);
    assert!(output.contains(&names) && output.contains(&through), "{output}");
    assert_secret(&format!("{output}{}", well.finished.stderr));

    let json = report(&agent, agent.check(BACKEND).arg("--json"));
    let document: serde_json::Value = serde_json::from_str(&json.finished.stdout).unwrap();
    assert_eq!(document["backends"][0]["address"], BACKEND);
    let checks = document["backends"][0]["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["id"] == "proxy.connect" && check["ok"] == true));
    assert_secret(&json.finished.stdout);
}

#[test]
fn an_address_of_ipv6_travels_in_brackets() {
    let set = pki::proper_for(["2001:db8::1"]);
    let collector = collector(&set);
    let proxy = Proxy::to("[2001:db8::1]:11800", collector.address());
    let agent = Agent::trusting(&set.ca).showing(&set).set("collector.proxy", proxy.url());
    report(&agent, agent.check("[2001:db8::1]:11800")).code(0);
    let head = "CONNECT [2001:db8::1]:11800 HTTP/1.1\r\nHost: [2001:db8::1]:11800\r\n\r\n";
    // Also for the second handshake.
    assert_eq!(proxy.requests(), [head; 2]);
}

#[test]
fn a_greeting_right_behind_the_answer_is_not_lost() {
    let collector = start(CollectorSettings::default());
    let proxy = Proxy::eager(BACKEND, collector.address());
    let folder = Folder::new(&format!("collector.proxy={}\n", proxy.url()));
    let check = Skytls::new(["check"])
        .in_folder(folder.path())
        .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", BACKEND);
    let well = Report::of(check, folder.path());
    assert_eq!(well.code(0).mark("oap.segments"), "ok");
}

#[test]
fn what_is_looked_up_anew_is_the_proxys_name() {
    let collector = start(CollectorSettings::default());
    let proxy = Proxy::to(BACKEND, collector.address());
    let url = format!("http://proxy.test:{}", proxy.address.port());
    let more = [
        ("collector.backend_service", BACKEND),
        ("collector.proxy", &url),
        ("collector.is_resolve_dns_periodically", "true"),
        ("collector.grpc_channel_check_interval", "1"),
    ];
    let settings = transport_fixture::settings(&[], &more);
    let (asked, mut names) = unbounded_channel();
    let lookup = move |host: &str| {
        let _ = asked.send(host.to_owned());
        // Where the backend is, is not for this end to know.
        let ip = if host == "proxy.test" { "127.0.0.1" } else { "192.0.2.1" };
        Ok(vec![ip.parse::<IpAddr>().expect("it is an address")])
    };
    runtime().block_on(async {
        let targets = targets(&settings.link, &settings.tls, None).unwrap();
        let targets = targets.iter().map(|target| Arc::new(target.looked_up_by(lookup.clone())));
        let transport = Transport::with(targets.collect(), Upkeep::from(&settings.link));
        for _ in 0..4 {
            assert_eq!(within(names.recv()).await.unwrap(), "proxy.test");
        }
        keep_alive(&transport).await.unwrap();
    });
    // It has not moved: one connection was enough.
    assert_eq!(proxy.requests().len(), 1);
}

#[test]
fn a_unix_socket_needs_none() {
    let inner = start(CollectorSettings::default());
    let folder = Folder::new("");
    let socket = format!("unix:{}", folder.join("relay.sock").display());
    let nobody = "http://127.0.0.1:1";
    let relay = Skytls::new(["run"])
        .in_folder(folder.path())
        .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", inner.address().to_string())
        .env("SW_RELAY_LISTEN", &socket)
        .start();
    relay.line("listening on ");
    let check = Skytls::new(["check"])
        .in_folder(folder.path())
        .env("SW_COLLECTOR_PROXY", nobody)
        .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", &socket);
    let well = Report::of(check, folder.path());
    assert_eq!(well.code(0).mark("unix.connect"), "ok");
    assert!(!well.finished.stdout.contains("proxy.connect"));
}

// === what is not allowed ===

#[test]
fn a_token_does_not_travel_in_plaintext_to_a_proxy() {
    let collector = start(CollectorSettings::default());
    let here = collector.address().to_string();
    let proxy = Proxy::to(&here, collector.address());
    let folder = Folder::new("agent.authentication=t0ken\n");
    let check = |proxy: &str| {
        let check = Skytls::new(["check"])
            .in_folder(folder.path())
            .env("SW_COLLECTOR_PROXY", proxy)
            .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", &here);
        Report::of(check, folder.path())
    };
    // The proxy's loopback address is not this machine's.
    let refused = check("http://192.0.2.1:3128");
    let output = &refused.code(2).finished.stdout;
    let way = "found a plaintext link through the proxy 192.0.2.1:3128";
    assert!(output.contains("SKT-123") && output.contains(way), "{output}");
    assert_eq!(check(&proxy.url()).code(0).mark("oap.token"), "ok");
}

// === proxies that do wrong ===

#[test]
fn credentials_that_are_missing_or_wrong() {
    let set = set();
    let collector = collector(&set);
    let proxy = Proxy::demanding(CREDENTIALS, BACKEND, collector.address());
    let agent = Agent::trusting(&set.ca).showing(&set);
    let check = |proxy: String| agent.check(BACKEND).env("SW_COLLECTOR_PROXY", proxy);
    report(&agent, check(proxy.url())).golden("proxy_credentials_missing").code(3);
    let wrong = report(&agent, check(proxy.url_as("agent:s3cret")).arg("-vvv"));
    wrong.golden("proxy_credentials_wrong").code(3);
    assert_secret(&format!("{}{}", wrong.finished.stdout, wrong.finished.stderr));
    report(&agent, check(proxy.url_as(IN_A_URL))).code(0);

    let relay = agent
        .relay(BACKEND)
        .env("SW_COLLECTOR_PROXY", proxy.url_as("agent:s3cret"))
        .env("RUST_LOG", "trace")
        .start();
    assert!(relay.line("SKT-407").contains("do: check user and password in collector.proxy"));
    relay.terminate();
    let finished = relay.finish();
    assert_secret(&format!("{}{}", finished.stdout, finished.stderr));
}

#[test]
fn every_refusal_has_its_line() {
    let set = set();
    let agent = Agent::trusting(&set.ca);
    for (name, answer) in [
        ("proxy_forbids", &b"HTTP/1.1 403 Fil\x1btered\r\n\r\n"[..]),
        ("proxy_cannot_reach", b"HTTP/1.1 503 Service Unavailable\r\nX: y\r\n\r\nsorry"),
        ("proxy_cannot_connect", b"HTTP/1.0 500 Unable to connect\r\n\r\n"),
        ("proxy_is_a_web_server", b"HTTP/1.1 405 Method Not Allowed\r\n\r\n"),
        (
            "proxy_demands_ntlm",
            b"HTTP/1.1 407 Denied\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
        ),
        // As tinyproxy answers wrong credentials.
        ("proxy_says_401", b"HTTP/1.0 401 Unauthorized\r\nServer: x\r\n\r\n"),
        ("proxy_is_a_mail_server", b"220 mail \x1b[31mready\r\n"),
        ("proxy_speaks_tls", b"\x15\x03\x01\x00\x02\x02\x46"),
        ("proxy_is_cut_off", b"HTTP/1.1 200 Connection est"),
    ] {
        let peer = Peer::answering(answer);
        let url = format!("http://127.0.0.1:{}", peer.port());
        let refused = report(&agent, agent.check(BACKEND).env("SW_COLLECTOR_PROXY", url));
        refused.golden(name).code(3);
        assert_eq!(refused.mark("proxy.connect"), "error", "{name}");
        assert!(!refused.finished.stdout.contains('\u{1b}'), "{name}");
    }
}

#[test]
fn an_endless_answer_is_cut_and_silence_has_an_end() {
    let set = set();
    let agent = Agent::trusting(&set.ca);
    let check = |peer: &Peer| {
        let url = format!("http://127.0.0.1:{}", peer.port());
        report(&agent, agent.check(BACKEND).env("SW_COLLECTOR_PROXY", url))
    };
    let head: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(90_000)).into_boxed_str());
    check(&Peer::answering(head.as_bytes())).golden("proxy_never_ends").code(3);
    let line: &'static str =
        Box::leak(format!("HTTP/1.1 403 {}\r\n\r\n", "long ".repeat(1_000)).into_boxed_str());
    check(&Peer::answering(line.as_bytes())).golden("proxy_talks_much").code(3);
    let began = Instant::now();
    check(&Peer::silent()).golden("proxy_is_silent").code(3);
    assert!(began.elapsed() < DEADLINE);
    let closed = check(&Peer::closing());
    assert!(closed.code(3).finished.stdout.contains("SKT-409"), "{}", closed.finished.stdout);
}

#[test]
fn a_proxy_that_is_not_there() {
    let agent = Agent::trusting(&set().ca);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("http://127.0.0.1:{port}");
    report(&agent, agent.check(BACKEND).env("SW_COLLECTOR_PROXY", nobody))
        .golden("proxy_is_down")
        .code(3);
    let check = agent.check(BACKEND).env("SW_COLLECTOR_PROXY", "http://proxy.invalid:3128");
    let unknown = report(&agent, check);
    assert_eq!(unknown.code(3).mark("dns.resolve"), "error");
    assert!(unknown.finished.stdout.contains("check the proxy's name in collector.proxy"));
}
