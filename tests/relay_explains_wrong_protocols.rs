//! A client that speaks another protocol than the listener is told from its first bytes, and the log
//! says what to do, once a minute.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use support::DEADLINE;
use support::folder::Folder;
use support::openssl::Peer;
use support::pki;
use support::process::{Process, Skytls};

fn relay(folder: &Folder) -> (Process, SocketAddr) {
    let relay = Skytls::new(["run"]).arg("--config").arg(folder.config()).start();
    let line = relay.line("listening on ");
    (relay, line.trim_start_matches("listening on ").parse().unwrap())
}

fn plaintext() -> Folder {
    Folder::new("collector.backend_service=127.0.0.1:1\nrelay.listen=127.0.0.1:0\n")
}

fn by_tls() -> Folder {
    let set = pki::proper();
    Folder::new(
        "collector.backend_service=127.0.0.1:1\nrelay.listen=127.0.0.1:0\n\
         relay.ssl_cert_chain_path=tls/server.crt\nrelay.ssl_key_path=tls/server.pem\n",
    )
    .file("tls/server.crt", &set.server, 0o644)
    .file("tls/server.pem", &set.server_key, 0o600)
}

/// Sends this, and gives back everything until the end of the connection, which has to come.
fn said(address: SocketAddr, text: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(text).unwrap();
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => heard,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => heard,
        Err(error) => panic!("not closed: {error}"),
    }
}

#[test]
fn tls_on_a_plaintext_listener() {
    let folder = plaintext();
    let (relay, address) = relay(&folder);
    for _ in 0..3 {
        assert_ne!(Peer::client(address).h2().start().finish().code, 0);
    }
    let line = relay.line("SKT-711");
    assert!(line.contains("relay.ssl_cert_chain_path") && line.contains("TLS off"), "{line}");
    assert!(line.contains("127.0.0.1:"), "{line}");
    relay.terminate();
    let log = relay.finish().expect_code(0).stderr;
    assert_eq!(log.matches("SKT-711").count(), 1, "{log}");
}

#[test]
fn http1_on_a_plaintext_listener() {
    let folder = plaintext();
    let (relay, address) = relay(&folder);
    for _ in 0..2 {
        let heard = said(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.starts_with("HTTP/1.1 505 "), "{heard}");
    }
    relay.line("SKT-713");
    relay.terminate();
    let log = relay.finish().expect_code(0).stderr;
    assert_eq!(log.matches("SKT-713").count(), 1, "{log}");
}

#[test]
fn plaintext_on_a_tls_listener() {
    for text in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0"] {
        let folder = by_tls();
        let (relay, address) = relay(&folder);
        assert_eq!(said(address, text), b"", "not a byte in plaintext");
        let line = relay.line("SKT-712");
        assert!(line.contains("relay.ssl_cert_chain_path"), "{line}");
        relay.terminate();
        relay.finish().expect_code(0);
    }
}

#[test]
fn a_handshake_that_fails_is_explained() {
    let folder = by_tls();
    let (relay, address) = relay(&folder);
    assert_ne!(Peer::client(address).option("-alpn", "http/1.1").start().finish().code, 0);
    let line = relay.line("SKT-714");
    assert!(line.contains("no h2 among") && line.contains("127.0.0.1:"), "{line}");
    relay.terminate();
    relay.finish().expect_code(0);
}

#[test]
fn whoever_only_connects_is_no_news() {
    let folder = plaintext();
    let (relay, address) = relay(&folder);
    drop(TcpStream::connect(address).unwrap());
    said(address, b"GET / HTTP/1.1\r\n\r\n");
    relay.line("SKT-713");
    relay.terminate();
    let log = relay.finish().expect_code(0).stderr;
    assert_eq!(log.matches("SKT-7").count(), 1, "{log}");
}
