//! The name that is verified is the name that is sent (SNI), unless another one is set; an address is never
//! sent. What was sent is what a real `openssl s_server` says it got.

mod support;
mod tls_client;

use std::sync::Arc;

use skytls::config::Backend;
use skytls::error::{Code, Error};
use skytls::tls::PeerName;
use skytls::transport::{State, Target, Transport, targets};
use support::DEADLINE;
use support::openssl::{Peer, Server};
use support::pki::{self, Files};
use tls_client::{Agent, h2_server, refused, runtime};

/// A server that says which name it got, if any, and does not mind which.
fn server(files: &Files) -> Server {
    naming(files, "other.example.com").listen()
}

/// A server that knows one name.
fn naming(files: &Files, name: &str) -> Peer {
    h2_server(files)
        .flag("-tlsextdebug")
        .option("-servername", name)
        .option("-cert2", &files.server)
        .option("-key2", &files.server_key)
}

/// The name in the hello, once the connection stands.
fn sent(server: &Server) -> Option<String> {
    server.process.line("CIPHER is ");
    let said = server.process.stdout();
    let name = said.lines().find_map(|line| line.strip_prefix("Hostname in TLS extension: "));
    let extension = said.contains("TLS client extension \"server name\"");
    assert_eq!(extension, name.is_some(), "{said}");
    name.map(|name| name.trim_matches('"').to_owned())
}

#[test]
fn the_verified_name_is_sent() {
    let set = pki::proper_for(["localhost", "oap.example.com"]);
    let agent = Agent::trusting(&set.ca);
    let listening = server(&set.write());
    let _io = agent.dial("localhost", listening.port()).expect("it is accepted");
    assert_eq!(sent(&listening).as_deref(), Some("localhost"));

    let listening = server(&set.write());
    let _io = agent.dial_as("oap.example.com", listening.port()).expect("it is accepted");
    assert_eq!(sent(&listening).as_deref(), Some("oap.example.com"));

    // The root's dot is no part of a name in TLS (RFC 6066 section 3).
    let listening = server(&set.write());
    let _io = agent.dial_as("oap.example.com.", listening.port()).expect("it is accepted");
    assert_eq!(sent(&listening).as_deref(), Some("oap.example.com"));
}

#[test]
fn an_address_is_verified_and_not_sent() {
    let set = pki::proper();
    let agent = Agent::trusting(&set.ca);
    for name in ["127.0.0.1", "::1", "[::1]"] {
        let listening = server(&set.write());
        let _io = agent.dial_as(name, listening.port()).expect("it is accepted");
        assert_eq!(sent(&listening), None, "{name}");
    }
    let listening = server(&set.write());
    let _io = agent.dial("127.0.0.1", listening.port()).expect("it is accepted");
    assert_eq!(sent(&listening), None);
}

/// A server that insists on a name is not left guessing.
#[test]
fn a_server_that_knows_one_name_is_satisfied_or_says_so() {
    let set = pki::proper_for(["localhost", "oap.example.com"]);
    let files = set.write();
    let agent = Agent::trusting(&set.ca);
    let strict = naming(&files, "oap.example.com").flag("-servername_fatal").listen();
    // For the name it knows `s_server` has a context of its own, without ALPN: the handshake is over then.
    let known = agent.dial_as("oap.example.com", strict.port());
    assert_eq!(refused(known), Code::AlpnMissing);
    let strict = naming(&files, "oap.example.com").flag("-servername_fatal").listen();
    let error = agent.dial("localhost", strict.port()).expect_err("it knows no such name");
    assert!(error.remedy().contains("agent.ssl_sni"), "{error:?}");
    assert_eq!(refused::<()>(Err(error)), Code::HandshakeRefused);
}

// === by the settings ===

fn target(agent: &Agent, host: &str, port: u16) -> Vec<Arc<Target>> {
    let mut settings = agent.settings();
    settings.link.backends = vec![Backend::Tcp { host: host.to_owned(), port }];
    targets(&settings.link, &settings.tls, Some(&agent.generation())).expect("it is one")
}

/// Starts to connect; `s_server` speaks no HTTP/2, so this is as far as it gets.
fn connect(agent: &Agent, host: &str, server: &Server) -> Transport {
    let targets = target(agent, host, server.port());
    runtime().block_on(async { Transport::start(targets) })
}

/// Why the link rests.
fn resting(agent: &Agent, host: &str, server: &Server) -> Error {
    let mut transport = connect(agent, host, server);
    let rest = async {
        loop {
            match transport.state() {
                State::Resting { reason, .. } | State::Misconfigured { reason, .. } => {
                    return reason;
                }
                State::Ready(ready) => panic!("{ready:?}"),
                _ => transport.changed().await,
            }
        }
    };
    runtime().block_on(async { tokio::time::timeout(DEADLINE, rest).await.expect("it rests") })
}

#[test]
fn the_backends_host_is_verified_and_sent_by_default() {
    let set = pki::proper();
    let listening = server(&set.write());
    let _transport = connect(&Agent::trusting(&set.ca), "localhost", &listening);
    assert_eq!(sent(&listening).as_deref(), Some("localhost"));
}

#[test]
fn ssl_server_name_is_verified_and_sent_in_its_place() {
    let set = pki::proper_for(["oap.example.com"]);
    let agent = Agent::trusting(&set.ca).set("agent.ssl_server_name", "oap.example.com");
    for host in ["localhost", "127.0.0.1"] {
        let listening = server(&set.write());
        let _transport = connect(&agent, host, &listening);
        assert_eq!(sent(&listening).as_deref(), Some("oap.example.com"));
    }
    let agent = Agent::trusting(&set.ca);
    let listening = server(&set.write());
    assert_eq!(resting(&agent, "localhost", &listening).code(), Code::NameMismatch);
}

#[test]
fn ssl_server_name_may_be_an_address() {
    let set = pki::proper_for(["10.1.2.3"]);
    let agent = Agent::trusting(&set.ca).set("agent.ssl_server_name", "10.1.2.3");
    let listening = server(&set.write());
    let _transport = connect(&agent, "localhost", &listening);
    assert_eq!(sent(&listening), None);
}

#[test]
fn ssl_sni_is_sent_and_not_verified() {
    let set = pki::proper_for(["localhost", "127.0.0.1"]);
    let agent = Agent::trusting(&set.ca).set("agent.ssl_sni", "front.example.com");
    // For an address too: whoever sets it means it.
    for host in ["localhost", "127.0.0.1"] {
        let listening = server(&set.write());
        let _transport = connect(&agent, host, &listening);
        assert_eq!(sent(&listening).as_deref(), Some("front.example.com"));
    }
    // The name that is sent does not help a certificate that is for it alone.
    let set = pki::proper_for(["front.example.com"]);
    let agent = Agent::trusting(&set.ca).set("agent.ssl_sni", "front.example.com");
    let listening = server(&set.write());
    let error = resting(&agent, "localhost", &listening);
    assert_eq!(error.code(), Code::NameMismatch, "{error:?}");
}

#[test]
fn both_names_may_be_set() {
    let set = pki::proper_for(["oap.example.com"]);
    let agent = Agent::trusting(&set.ca)
        .set("agent.ssl_server_name", "oap.example.com")
        .set("agent.ssl_sni", "front.example.com");
    let listening = server(&set.write());
    let _transport = connect(&agent, "localhost", &listening);
    assert_eq!(sent(&listening).as_deref(), Some("front.example.com"));
}

#[test]
fn the_two_names_are_kept_apart() {
    let name = PeerName::new("localhost").and_then(|name| name.with_sni("front.example.com"));
    let name = name.expect("both are names");
    assert_eq!((name.verified().as_str(), name.sni()), ("localhost", Some("front.example.com")));
}
