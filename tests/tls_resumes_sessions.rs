//! A reconnect resumes the session of an earlier connection to the same peer, and only there: both ends say
//! so. The peers are real `openssl s_server`s, and servers in this process for what those would not do.

mod session_visits;
mod support;
mod tls_client;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use openssl::ssl::{AlpnError, SslConnector, SslMethod, SslSessionCacheMode, SslVerifyMode};
use session_visits::{End, Host, Odd, hear};
use skytls::config::{IdentitySource, Secret, Source};
use skytls::error::Code;
use skytls::server::{Collector, CollectorSettings, CollectorTls};
use skytls::transport::Connector;
use support::openssl::Peer;
use support::pki;
use tls_client::{Agent, dial, refused, runtime};

/// Tickets of TLS 1.3; tickets and session ids of TLS 1.2. Of the latter the server keeps a copy, which it
/// throws away itself when the connection ends without a word.
const KINDS: [(&[&str], End); 3] = [
    (&["-tls1_3"], End::Abrupt),
    (&["-tls1_2"], End::Abrupt),
    (&["-tls1_2", "-no_ticket"], End::Orderly),
];

fn connector(agent: &Agent) -> Connector {
    Connector::from_generation(&agent.generation())
}

// === resumed ===

#[test]
fn a_reconnect_is_resumed_however_the_connection_before_it_ended() {
    let set = pki::proper();
    let files = set.write();
    for (options, end) in KINDS {
        let mut host = Host::new(&files, options);
        let connector = connector(&Agent::trusting(&set.ca));
        let ends = [end, End::Orderly, end, end];
        let resumed = ends.map(|end| host.visit(&connector, end).expect("it is accepted"));
        assert_eq!(resumed, [false, true, true, true], "{options:?}");
    }
}

#[test]
fn so_it_is_with_a_client_certificate() {
    let set = pki::proper();
    let files = set.write();
    for (options, end) in KINDS {
        let peer = Peer::server(&files.server, &files.server_key).h2().verify(&files.ca);
        let mut host = Host::of(peer, options);
        let connector = connector(&Agent::trusting(&set.ca).showing(&set));
        let resumed = [(); 2].map(|()| host.visit(&connector, end).expect("it is accepted"));
        assert_eq!(resumed, [false, true], "{options:?}");
    }
}

#[test]
fn a_ticket_of_tls_1_3_is_used_once_and_a_session_of_tls_1_2_again() {
    let set = pki::proper();
    let files = set.write();
    // The second connection reads nothing, so no new ticket comes.
    let ends = [End::Abrupt, End::Unread, End::Unread];
    for (options, expected) in [
        (&["-tls1_3", "-num_tickets", "1"][..], [false, true, false]),
        (&["-tls1_3", "-num_tickets", "2"], [false, true, true]),
        (&["-tls1_2"], [false, true, true]),
    ] {
        let mut host = Host::new(&files, options);
        let connector = connector(&Agent::trusting(&set.ca));
        let resumed = ends.map(|end| host.visit(&connector, end).expect("it is accepted"));
        assert_eq!(resumed, expected, "{options:?}");
    }
}

// === not resumed ===

#[test]
fn new_material_begins_without_sessions() {
    let set = pki::proper();
    let files = set.write();
    for (options, end) in KINDS {
        let mut host = Host::new(&files, options);
        let agent = Agent::trusting(&set.ca);
        let (old, new) = (connector(&agent), connector(&agent));
        assert!(!host.visit(&old, end).expect("it is accepted"));
        assert!(!host.visit(&new, end).expect("it is accepted"), "{options:?}");
        assert!(host.visit(&old, end).expect("it is accepted"), "{options:?}");
    }
}

#[test]
fn a_session_serves_no_other_name_and_no_other_address() {
    let set = pki::proper_for(["localhost", "127.0.0.1", "oap.example.com"]);
    let files = set.write();
    for (options, end) in KINDS {
        let mut host = Host::new(&files, options);
        let agent = Agent::trusting(&set.ca);
        let generation = agent.generation();
        let plain = Connector::from_generation(&generation);
        let named = plain.clone().server_name("oap.example.com").expect("it is a name");
        assert!(!host.visit(&plain, end).expect("it is accepted"));
        // Another name verified at the same address, and the same name at another address.
        assert!(!host.visit(&named, end).expect("it is accepted"), "{options:?}");
        let elsewhere = host.visit_as(&named, "127.0.0.1", end).expect("it is accepted");
        assert!(!elsewhere, "{options:?}");
        // A name that the certificate does not have is refused, session or not.
        let stranger = plain.clone().server_name("stranger.example.com").expect("it is a name");
        let refusal = host.visit(&stranger, end);
        assert_eq!(refused(refusal), Code::NameMismatch, "{options:?}");
        assert!(host.visit(&plain, end).expect("it is accepted"), "{options:?}");
    }
}

#[test]
fn a_foreign_connector_is_left_as_it_is() {
    let set = pki::proper();
    let files = set.write();
    let mut host = Host::new(&files, &["-tls1_2"]);
    let mut foreign = SslConnector::builder(SslMethod::tls_client()).expect("there is memory");
    foreign.set_ca_file(&files.ca).expect("it is read");
    foreign.set_session_cache_mode(SslSessionCacheMode::CLIENT);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    foreign.set_new_session_callback(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let connector = Connector::new(foreign.build());
    for _ in 0..2 {
        assert!(!host.visit(&connector, End::Abrupt).expect("it is accepted"));
    }
    // Its own callback was called, and nothing of ours took part.
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

/// A server that has forgotten the session makes a full handshake, and is verified like any other.
#[test]
fn a_server_that_does_not_know_the_session_is_verified() {
    let (set, stranger) = (pki::proper(), pki::proper());
    let (files, others) = (set.write(), stranger.write());
    for (options, end) in KINDS {
        let agent = Agent::trusting(&set.ca);
        let connector = connector(&agent);
        let first = Host::new(&files, options);
        let address = first.server.address;
        let again = |files: &pki::Files| Host::at(address, files, options);
        let visit = |mut host: Host| host.visit(&connector, end);
        assert!(!visit(first).expect("it is accepted"));
        assert!(!visit(again(&files)).expect("it is accepted"), "{options:?}");
        assert_eq!(refused(visit(again(&others))), Code::CertificateUntrusted, "{options:?}");
        assert!(!visit(again(&files)).expect("it is accepted"), "{options:?}");
    }
}

// === the relay ===

/// Passes bytes on to a backend, until it is cut.
struct Wire {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let all = open.clone();
        thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect(backend) else { return };
                for (mut from, mut to) in [(&here, &there), (&there, &here)].map(|(from, to)| {
                    (from.try_clone().expect("so far"), to.try_clone().expect("so far"))
                }) {
                    thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                all.lock().expect("nobody panics with it").extend([here, there]);
            }
        });
        Self { port, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().expect("nobody panics with it").drain(..) {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn the_log_tells_of_it() {
    let set = pki::proper();
    let bytes = |pem: &str| Source::Bytes(Secret::new(pem.as_bytes().to_vec()));
    let identity =
        IdentitySource { chain: bytes(&set.server), key: bytes(&set.server_key), passphrase: None };
    let tls = Some(CollectorTls { identity, client_ca: Some(bytes(&set.ca)) });
    let settings = CollectorSettings { tls, ..CollectorSettings::default() };
    let collector = runtime().block_on(Collector::start(settings)).expect("it starts");
    let wire = Wire::to(collector.address());
    let agent = Agent::trusting(&set.ca).showing(&set);
    let relay = agent.relay(format!("localhost:{}", wire.port)).start();
    let first = relay.line("connected to localhost");
    assert!(first.contains("by TLSv1.3 with TLS_") && !first.contains("resumed"), "{first}");
    wire.cut();
    let second = relay.lines("connected to localhost", 2).pop().expect("there are two");
    assert!(second.contains(", session resumed"), "{second}");
}

// === servers that do wrong ===

/// OpenSSL's servers refuse to resume what they have handed out themselves, when they ask for client
/// certificates and have no session id context.
#[test]
fn a_server_that_fails_when_a_session_is_resumed_gets_a_full_handshake() {
    let set = pki::proper();
    let files = set.write();
    let odd = Odd::start(
        &files,
        3,
        |context| {
            context.set_verify(SslVerifyMode::PEER);
            Ok(())
        },
        |_| true,
    );
    let connector = connector(&Agent::trusting(&set.ca));
    for _ in 0..2 {
        let io = dial(connector.clone(), "localhost", odd.port).expect("it is accepted");
        assert!(!io.negotiated().expect("it is TLS").resumed);
        hear(io).expect("it says hello");
    }
    assert_eq!(odd.outcomes(), [Some(false), None, Some(false)]);
}

#[test]
fn after_a_resumed_connection_that_ended_before_the_first_word_comes_a_full_handshake() {
    let set = pki::proper();
    let files = set.write();
    // Two tickets come with the first connection, and one with the second.
    let odd = Odd::start(&files, 4, |_| Ok(()), |ssl| !ssl.session_reused());
    let connector = connector(&Agent::trusting(&set.ca));
    let visit = || {
        let io = dial(connector.clone(), "localhost", odd.port).expect("it is accepted");
        let resumed = io.negotiated().expect("it is TLS").resumed;
        (resumed, hear(io).is_some())
    };
    assert_eq!(
        [(); 4].map(|()| visit()),
        [(false, true), (true, false), (false, true), (true, false)]
    );
    odd.outcomes();
}

#[test]
fn http_2_has_to_be_agreed_on_each_time() {
    let set = pki::proper();
    let files = set.write();
    let choices = AtomicUsize::new(0);
    let odd = Odd::start(
        &files,
        2,
        move |context| {
            context.set_alpn_select_callback(move |_, _| {
                match choices.fetch_add(1, Ordering::Relaxed) {
                    0 => Ok(b"h2"),
                    _ => Err(AlpnError::NOACK),
                }
            });
            Ok(())
        },
        |ssl| !ssl.session_reused(),
    );
    let connector = connector(&Agent::trusting(&set.ca));
    hear(dial(connector.clone(), "localhost", odd.port).expect("it is accepted"));
    assert_eq!(refused(dial(connector, "localhost", odd.port)), Code::AlpnMissing);
    assert_eq!(odd.outcomes(), [Some(false), Some(true)]);
}
