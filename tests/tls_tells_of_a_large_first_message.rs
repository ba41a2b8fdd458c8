//! A ClientHello with a post-quantum key share does not fit into one packet. When nothing at all comes
//! back to it, a device that drops such messages is named as a possible reason; else it never is.

mod support;
mod tls_client;

use std::time::Duration;

use skytls::Connector;
use skytls::error::{Code, Error};
use support::peers::Peer;
use support::pki;
use tls_client::{Agent, deadlines, runtime};
use tower::ServiceExt;

/// A handshake with somebody who does not answer.
fn silence(groups: &str) -> Error {
    let peer = Peer::silent();
    let agent = Agent::trusting(pki::proper().ca).set("agent.ssl_groups", groups);
    let connector = Connector::from_generation(&agent.generation());
    let uri = format!("https://127.0.0.1:{}", peer.port()).parse().expect("it is a URI");
    let connector = connector.deadlines(deadlines(Duration::from_millis(300)));
    let dialled = runtime().block_on(connector.oneshot(uri));
    let error = dialled.expect_err("nobody answers");
    assert_eq!(error.code(), Code::HandshakeTimedOut, "{error}");
    error
}

fn told(error: &Error) -> bool {
    error.to_string().contains("more than one packet") && error.remedy().contains("post-quantum")
}

#[test]
fn a_small_first_message_has_nothing_to_do_with_it() {
    assert!(!told(&silence("P-256")));
}

/// The OpenSSL that is built in knows ML-KEM; the system's may be too old.
#[cfg(feature = "vendored")]
#[test]
fn a_large_first_message_without_an_answer_is_told() {
    let error = silence("X25519MLKEM768");
    assert!(told(&error), "{error:?}");
    // With an answer, whatever it is, it has arrived.
    let peer = Peer::http();
    let agent = Agent::trusting(pki::proper().ca).set("agent.ssl_groups", "X25519MLKEM768");
    let error = agent.dial("127.0.0.1", peer.port()).expect_err("it is no TLS");
    assert!(error.code() == Code::PeerNotTls && !told(&error), "{error:?}");
}
