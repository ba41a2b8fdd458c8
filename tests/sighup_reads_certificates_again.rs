//! `skytls run` reads certificates again at SIGHUP, those of the link and those of the listener, and says
//! what came of it; without a signal it looks by itself, and complains of each fault once.
//!
//! These tests block while they wait for lines, and the collector runs beside: hence the threads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod rotation_fixture;
mod support;

use std::net::SocketAddr;
use std::pin::Pin;

use grpc_client::{Client, SEGMENTS, tcp};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use rotation_fixture::{Bed, authority, client, server, within};
use skytls::pki::{Authority, Identity};
use support::process::{Process, Skytls};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// A relay with the bed's certificates to its collector, and a listener with others of the same CA.
fn relay(bed: &Bed, more: &[(&str, &str)]) -> (Process, SocketAddr) {
    put_listener(bed, &server(&bed.ca));
    let path = |name: &str| bed.folder.join(name).display().to_string();
    let backend = bed.collector.as_ref().unwrap().address().to_string();
    let mut relay = Skytls::new(["run"]).in_folder(bed.folder.path());
    for (key, value) in [
        ("collector.backend_service", &*backend),
        ("agent.ssl_trusted_ca_path", &*path("ca.crt")),
        ("agent.ssl_cert_chain_path", &*path("client.crt")),
        ("agent.ssl_key_path", &*path("client.pem")),
        ("relay.listen", "127.0.0.1:0"),
        ("relay.ssl_cert_chain_path", &*path("listener.crt")),
        ("relay.ssl_key_path", &*path("listener.pem")),
        ("relay.ssl_trusted_ca_path", &*path("clients.crt")),
    ]
    .iter()
    .chain(more)
    {
        relay = relay.arg("--set").arg(format!("{key}={value}"));
    }
    let relay = relay.start();
    let line = relay.line("listening on ");
    relay.line("connected to ");
    let address = line.trim_start_matches("listening on ").trim().parse().unwrap();
    (relay, address)
}

fn put_listener(bed: &Bed, own: &Identity) {
    bed.folder.replace("listener.crt", own.chain_pem(), 0o644);
    bed.folder.replace("listener.pem", own.key_pem(), 0o600);
    bed.folder.replace("clients.crt", bed.ca.certificate_pem(), 0o644);
}

/// A bed whose own engine does not take part.
async fn bed() -> Bed {
    Bed::with(|_, _| {}, |settings| settings.tls.reload_interval = None).await
}

/// Connects as a client of this CA to whoever has a certificate of one of these.
async fn connect(address: SocketAddr, ca: &Authority, own: &Identity) -> SslStream<TcpStream> {
    let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(X509::from_pem(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    builder.set_verify_cert_store(store.build()).unwrap();
    builder.set_verify(SslVerifyMode::PEER);
    builder.set_alpn_protos(b"\x02h2").unwrap();
    builder.set_certificate(own.certificate()).unwrap();
    builder.set_private_key(own.key()).unwrap();
    let ssl = Ssl::new(&builder.build()).unwrap();
    let mut stream = SslStream::new(ssl, tcp(address).await).unwrap();
    Pin::new(&mut stream).connect().await.unwrap();
    stream
}

fn serial_of(stream: &SslStream<TcpStream>) -> String {
    serial(&stream.ssl().peer_certificate().unwrap())
}

fn serial(certificate: &openssl::x509::X509Ref) -> String {
    certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_renews_the_link_and_the_listener_at_once() {
    let bed = bed().await;
    let (relay, address) = relay(&bed, &[("agent.ssl_reload_interval", "0")]);
    let agent = client(&bed.ca, "local agent");
    let stream = connect(address, &bed.ca, &agent).await;
    let mut before = Client::over(stream).await;
    assert_eq!(before.report(SEGMENTS, 1).await.status, Some(0));
    let own = server(&bed.ca);
    put_listener(&bed, &own);
    bed.renew(&bed.ca, "agent 2");
    relay.hang_up();
    relay.line("link: generation 2 is in force");
    relay.line("listener: generation 2 is in force");
    let stream = connect(address, &bed.ca, &agent).await;
    assert_eq!(serial_of(&stream), serial(own.certificate()));
    let mut after = Client::over(stream).await;
    assert_eq!(after.report(SEGMENTS, 1).await.status, Some(0));
    // The one before is asked to come again.
    within(before.connection).await.unwrap().unwrap();
    relay.lines("connected to ", 2);
    relay.terminate();
    let finished = relay.finish().expect_code(0);
    assert!(finished.stderr.contains("acknowledged 2, dropped 0,"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_connection_that_does_not_end_is_cut_when_its_time_is_over() {
    let bed = bed().await;
    let bounds = [("agent.ssl_reload_interval", "0"), ("agent.ssl_drain_timeout", "1")];
    let (relay, address) = relay(&bed, &bounds);
    let agent = client(&bed.ca, "local agent");
    let mut before = Client::over(connect(address, &bed.ca, &agent).await).await;
    let _call = before.open(grpc_client::request(SEGMENTS, &[]));
    // Agents of another CA are let in now, and these no more.
    let other = authority("ca 2");
    bed.folder.replace("clients.crt", other.certificate_pem(), 0o644);
    relay.hang_up();
    relay.line("listener: generation 2 is in force");
    // Whether in order or not, it ends.
    let _ = within(before.connection).await.unwrap();
    relay.line("made with replaced certificates");
    let stream = connect(address, &bed.ca, &client(&other, "other agent")).await;
    let mut other = Client::over(stream).await;
    assert_eq!(other.report(SEGMENTS, 1).await.status, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_tells_why_files_are_not_used_each_time() {
    let bed = bed().await;
    let (relay, _) = relay(&bed, &[("agent.ssl_reload_interval", "0")]);
    bed.folder.replace("client.pem", "garbage", 0o600);
    for times in 1..=2 {
        relay.hang_up();
        let line = relay.lines("link: SKT-230", times).pop().unwrap();
        for part in ["SKT-206", "generation 1 stays in force", "agent 1 until ", "client.pem"] {
            assert!(line.contains(part), "no {part:?}: {line}");
        }
        // The listener has nothing to do with it.
        relay.line(&format!("listener: generation {} is in force", times + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_signal_each_fault_is_said_once() {
    let bed = bed().await;
    let (relay, _) = relay(&bed, &[("agent.ssl_reload_interval", "1")]);
    let good = std::fs::read(bed.folder.join("client.pem")).unwrap();
    bed.folder.replace("client.pem", "garbage", 0o600);
    relay.line("SKT-206");
    bed.folder.remove("client.pem");
    relay.line("SKT-201");
    // Looked at several times: the listener's thread keeps the same time.
    for round in 2..=4 {
        put_listener(&bed, &server(&bed.ca));
        relay.line(&format!("listener: generation {round} is in force"));
    }
    bed.folder.replace("client.pem", good, 0o600);
    relay.line("link: the files hold what is in force again");
    bed.renew(&bed.ca, "agent 2");
    relay.line("link: generation 2 is in force");
    assert_eq!(relay.stderr().matches("link: SKT-230").count(), 2, "{}", relay.stderr());
}

#[test]
fn a_relay_without_certificates_says_that_there_is_nothing_to_read() {
    let relay = Skytls::new(["run", "--set=collector.backend_service=127.0.0.1:1"])
        .arg("--set=relay.listen=127.0.0.1:0")
        .start();
    relay.line("listening on ");
    relay.hang_up();
    relay.line("SIGHUP: there is nothing");
    relay.terminate();
    relay.finish().expect_code(0);
}
