//! A token that is pulled out, or has no session left: the link says so, and comes back by itself when the
//! token does, with one login and without a question on the terminal.
//!
//! A PKCS#11 module of our own in front of SoftHSM makes the faults.

mod support;
mod tls_client;
mod token_fixture;

use support::process::{Process, Skytls};
use tls_client::Agent;
use token_fixture::{KEY, PIN, Token};

/// A collector that demands the client's certificate, at this port.
fn collector(token: &Token, port: u16) -> Process {
    let files = &token.files;
    Skytls::new(["collector"])
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .arg("--cert")
        .arg(&files.server)
        .arg("--key")
        .arg(&files.server_key)
        .arg("--client-ca")
        .arg(&files.ca)
        .start()
}

fn port(collector: &Process) -> u16 {
    let line = collector.line("listening on ");
    let address = line.split(' ').find_map(|word| word.trim().parse().ok());
    let address: std::net::SocketAddr = address.expect("an address");
    address.port()
}

/// A relay whose key is in the token, and its folder.
fn relay(token: &Token, port: u16) -> (Agent, Process) {
    let (agent, _check) = token.check(KEY, port);
    let relay = token.faulty(agent.relay(format!("localhost:{port}")));
    let relay = relay.env("SW_AGENT_SSL_KEY_PASSPHRASE", PIN);
    (agent, relay.env("SW_AGENT_SSL_RELOAD_INTERVAL", "1").start())
}

#[test]
fn a_token_that_was_pulled_out_is_used_again_when_it_is_back() {
    let token = Token::new();
    token.fault("");
    let first = collector(&token, 0);
    let port = port(&first);
    let (_agent, relay) = relay(&token, port);
    relay.line("connected to");
    token.fault("removed");
    drop(first);
    let second = collector(&token, port);
    second.line("listening on ");
    let said = relay.line("SKT-234");
    assert!(said.contains("token was not present"), "{said}");
    // It is looked for, and not found.
    let said = relay.line("SKT-230");
    assert!(said.contains("SKT-225") && said.contains("generation 1 stays in force"), "{said}");
    token.fault("");
    relay.line("generation 2 is in force");
    relay.lines("connected to", 2);
    drop(second);
    relay.terminate();
    let shown = relay.finish().stderr;
    assert!(!shown.contains("Enter") && !shown.contains(PIN), "{shown}");
    // One at the start, and one when it was back.
    assert_eq!(token.logins(), ["CKR_OK", "CKR_OK"]);
}

#[test]
fn without_a_session_nothing_starts() {
    let token = Token::new();
    let server = token.serve();
    for (fault, code) in [("sessions", 2), ("removed", 2), ("", 0)] {
        token.fault(fault);
        let (_agent, check) = token.check(KEY, server.port());
        let check = token.faulty(check).env("SW_AGENT_SSL_KEY_PASSPHRASE", PIN);
        let finished = check.run().expect_code(code);
        assert!(code == 0 || finished.stdout.contains("SKT-225"), "{fault}: {}", finished.stdout);
    }
    assert_eq!(token.logins(), ["CKR_OK"]);
}
