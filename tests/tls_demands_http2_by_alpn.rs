//! A connection stands only when the peer speaks TLS, takes our certificate and agrees to HTTP/2; otherwise
//! the error says what was found, in time.

mod support;
mod tls_client;

use std::time::{Duration, Instant};

use skytls::config::{Backend, IdentitySource, Secret, Source};
use skytls::error::{Chain, Code, Error, Fact, Result};
use skytls::server::{Collector, CollectorSettings, CollectorTls};
use skytls::transport::{Connector, State, Transport, targets};
use support::openssl::{Peer, Server};
use support::pki::{self, Files, Script, Set};
use support::{DEADLINE, peers};
use tls_client::{Agent, deadlines, dial, h2_server, refused, runtime};

fn server(files: &Files) -> Peer {
    Peer::server(&files.server, &files.server_key)
}

fn fails<T: std::fmt::Debug>(result: Result<T>, code: Code) -> Error {
    let error = result.expect_err("it fails");
    assert_eq!((error.code(), error.exit_code()), (code, 4), "{error:?}");
    error
}

// === ALPN ===

#[test]
fn a_server_that_chooses_h2_is_connected_to() {
    let set = pki::proper();
    for option in ["-tls1_2", "-tls1_3"] {
        let server = h2_server(&set.write()).flag(option).listen();
        let io = Agent::trusting(&set.ca).dial("localhost", server.port()).expect("it agrees");
        assert_eq!(io.negotiated().expect("it is TLS").alpn, b"h2");
        server.process.line("ALPN protocols advertised by the client: h2");
    }
}

#[test]
fn a_server_that_chooses_nothing_is_refused() {
    let set = pki::proper();
    for option in ["-tls1_2", "-tls1_3"] {
        let server = server(&set.write()).flag(option).listen();
        let error =
            fails(Agent::trusting(&set.ca).dial("localhost", server.port()), Code::AlpnMissing);
        assert_eq!(error.get(Fact::Found), Some("no choice of protocol"));
        assert_eq!(error.get(Fact::Expected), Some("h2"));
    }
}

/// It does not even offer `h2`: a proper server ends the handshake, a lax one chooses what it likes.
#[test]
fn a_server_of_http_1_1_is_refused() {
    let set = pki::proper();
    let server = server(&set.write()).option("-alpn", "http/1.1").listen();
    let error = fails(Agent::trusting(&set.ca).dial("localhost", server.port()), Code::AlpnMissing);
    assert!(error.get(Fact::Expected) == Some("h2") && error.get(Fact::Found).is_some(), "{error}");
    assert!(error.remedy().contains("gRPC port"), "{}", error.remedy());
}

/// What somebody else's connector offers besides is not used.
#[test]
fn a_connector_made_elsewhere_offers_h2_and_nothing_else() {
    let set = pki::proper();
    let foreign = || {
        let method = openssl::ssl::SslMethod::tls_client();
        let mut builder = openssl::ssl::SslConnector::builder(method).expect("it can be made");
        let ca = openssl::x509::X509::from_pem(set.ca.as_bytes()).expect("it is PEM");
        builder.cert_store_mut().add_cert(ca).expect("it can be trusted");
        builder.set_alpn_protos(b"\x08http/1.1\x02h2").expect("it can be set");
        Connector::new(builder.build())
    };
    let listening = h2_server(&set.write()).listen();
    let _io = dial(foreign(), "localhost", listening.port()).expect("it agrees");
    listening.process.line("ALPN protocols advertised by the client: h2");
    let listening = server(&set.write()).option("-alpn", "http/1.1").listen();
    fails(dial(foreign(), "localhost", listening.port()), Code::AlpnMissing);
}

// === peers that do not speak TLS ===

fn knock(peer: &peers::Peer) -> Result<skytls::transport::Io> {
    Agent::trusting(pki::proper().ca).dial("localhost", peer.port())
}

#[test]
fn a_peer_that_speaks_plaintext_is_not_tls() {
    for peer in [peers::Peer::garbage(), peers::Peer::http()] {
        let error = fails(knock(&peer), Code::PeerNotTls);
        assert_eq!(error.get(Fact::Peer), Some(&*format!("localhost:{}", peer.port())));
    }
}

#[test]
fn a_peer_that_closes_has_closed_the_handshake() {
    fails(knock(&peers::Peer::closing()), Code::HandshakeClosed);
}

#[test]
fn a_peer_that_stays_silent_is_given_up_in_time() {
    let peer = peers::Peer::silent();
    let limit = Duration::from_millis(300);
    let generation = Agent::trusting(pki::proper().ca).generation();
    let connector = Connector::from_generation(&generation);
    let uri = format!("https://localhost:{}", peer.port()).parse().expect("it is a URI");
    let (result, took) = runtime().block_on(async {
        let begun = Instant::now();
        let dialling = connector.deadlines(deadlines(limit));
        (tower::ServiceExt::oneshot(dialling, uri).await, begun.elapsed())
    });
    let error = fails(result, Code::HandshakeTimedOut);
    assert!(error.get(Fact::Found).is_some_and(|found| found.contains("300ms")), "{error}");
    assert!((limit..DEADLINE).contains(&took), "{took:?}");
    peer.accepted(1);
}

#[test]
fn a_port_that_nobody_listens_on_is_the_networks_fault() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let error = Agent::trusting(pki::proper().ca).dial("127.0.0.1", address.port());
    let error = error.expect_err("nobody listens");
    assert_eq!((error.code(), error.exit_code()), (Code::ConnectRefused, 3));
}

#[test]
fn a_server_of_tls_1_1_has_no_protocol_in_common() {
    let set = pki::proper();
    let server = h2_server(&set.write()).tls_1_1().listen();
    let error =
        fails(Agent::trusting(&set.ca).dial("localhost", server.port()), Code::NoCommonProtocol);
    assert!(Chain(&error).to_string().contains("TLS 1.2 or newer"), "{error:?}");
}

#[test]
fn a_server_without_a_common_cipher_is_told_apart_when_it_can_be() {
    let set = Script::Documented.mint();
    let files = set.write();
    let server = || {
        let peer = h2_server(&files).flag("-tls1_2");
        peer.option("-cipher", "ECDHE-RSA-NULL-SHA:@SECLEVEL=0").listen()
    };
    // With a certificate the alert can mean nothing else; without, it could be what is missing.
    let agent = Agent::trusting(&set.ca);
    let error = fails(agent.dial("localhost", server().port()), Code::HandshakeRefused);
    assert!(error.remedy().contains("no common cipher suite"), "{}", error.remedy());
    fails(agent.showing(&set).dial("localhost", server().port()), Code::NoCommonCipher);
}

// === client certificates ===

/// A server that demands certificates of this CA in this protocol version.
fn demanding(set: &Set, ca: &str, version: &str) -> Server {
    let files = set.write();
    let trusted = files.folder().join("clients.crt");
    std::fs::write(&trusted, ca).expect("the folder is ours");
    h2_server(&files).verify(&trusted).flag(version).listen()
}

/// Why the link rests. With TLS 1.3 the client's handshake ends before the server has seen its certificate.
fn resting(agent: &Agent, port: u16) -> Error {
    let mut settings = agent.settings();
    let generation = agent.generation();
    settings.link.backends = vec![Backend::Tcp { host: "localhost".to_owned(), port }];
    let targets = targets(&settings.link, &settings.tls, Some(&generation)).expect("it is one");
    runtime().block_on(async {
        let mut transport = Transport::start(targets);
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
        let reason = tokio::time::timeout(DEADLINE, rest).await.expect("it comes to rest");
        transport.stop();
        reason
    })
}

#[test]
fn a_certificate_of_another_ca_is_refused_by_the_server() {
    let set = pki::proper();
    for version in ["-tls1_2", "-tls1_3"] {
        let server = demanding(&set, &pki::unrelated_root().ca, version);
        let agent = Agent::trusting(&set.ca).showing(&set);
        let error = resting(&agent, server.port());
        assert_eq!(error.code(), Code::ClientCertificateRefused, "{version}: {error:?}");
        assert_eq!(error.exit_code(), 4);
        let found = error.get(Fact::Found).unwrap_or_default();
        assert!(found.contains("48 (unknown_ca)"), "{version}: {found}");
    }
}

#[test]
fn a_certificate_that_is_over_is_refused_by_the_server() {
    let set = Script::LeafExpired.mint();
    let proper = pki::proper();
    // An anchor of the server's, so that the dates are what it objects to.
    let trusted = format!("{}{}", set.client, proper.ca);
    for version in ["-tls1_2", "-tls1_3"] {
        let server = demanding(&proper, &trusted, version);
        let agent = Agent::trusting(&proper.ca).showing(&set);
        let error = resting(&agent, server.port());
        assert_eq!(error.code(), Code::ClientCertificateRefused, "{version}: {error:?}");
    }
}

#[test]
fn with_tls_1_2_the_refusal_ends_the_handshake_itself() {
    let set = pki::proper();
    let server = demanding(&set, &pki::unrelated_root().ca, "-tls1_2");
    let agent = Agent::trusting(&set.ca).showing(&set);
    let refusal = agent.dial("localhost", server.port());
    assert_eq!(refused(refusal), Code::ClientCertificateRefused);
}

#[test]
fn a_certificate_that_is_missing_is_asked_for() {
    let set = pki::proper();
    let agent = Agent::trusting(&set.ca);
    let server = demanding(&set, &set.ca, "-tls1_3");
    let error = resting(&agent, server.port());
    assert_eq!(error.code(), Code::ClientCertificateMissing, "{error:?}");
    assert_eq!(error.exit_code(), 4);
    assert!(error.remedy().contains("agent.ssl_cert_chain_path"), "{}", error.remedy());

    // A TLS 1.2 server has no word of its own for it: the error names both things it can mean.
    let server = demanding(&set, &set.ca, "-tls1_2");
    for error in [
        resting(&agent, server.port()),
        agent.dial("localhost", server.port()).expect_err("it is refused"),
    ] {
        assert_eq!(error.code(), Code::HandshakeRefused, "{error:?}");
        for part in ["demands a client certificate", "agent.ssl_cert_chain_path"] {
            assert!(error.remedy().contains(part), "{}", error.remedy());
        }
    }
}

/// The server's word is not lost when it closes the connection right behind it.
#[test]
fn the_reason_of_a_late_refusal_is_never_lost() {
    let set = pki::proper();
    let agent = Agent::trusting(&set.ca).showing(&set);
    let server = demanding(&set, &pki::unrelated_root().ca, "-tls1_3");
    let collector = collector(&set, pki::unrelated_root().ca);
    for round in 0..50 {
        for port in [server.port(), collector.address().port()] {
            let error = resting(&agent, port);
            assert_eq!(error.code(), Code::ClientCertificateRefused, "round {round}: {error:?}");
        }
    }
}

/// A backend in this process that demands certificates of this CA. It is quicker than `s_server`.
fn collector(set: &Set, ca: String) -> Collector {
    let memory = |pem: &str| Source::Bytes(Secret::new(pem.as_bytes().to_vec()));
    let (chain, key) = (memory(&set.server), memory(&set.server_key));
    let identity = IdentitySource { chain, key, passphrase: None };
    let tls = CollectorTls { identity, client_ca: Some(memory(&ca)) };
    let settings = CollectorSettings { tls: Some(tls), ..CollectorSettings::default() };
    runtime().block_on(Collector::start(settings)).expect("it starts")
}
