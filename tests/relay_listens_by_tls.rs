//! The relay's own listener speaks TLS when it has files for it, demands client certificates when it
//! has a CA for them, and lets other machines in no other way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;
mod support;

use std::path::PathBuf;
use std::pin::Pin;

use grpc_client::{Client, SEGMENTS, tcp};
use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod, SslVerifyMode};
use relay_fixture::Fixture;
use support::folder::Folder;
use support::openssl::Peer;
use support::pki::{self, Files};
use support::process::{Finished, Skytls};
use tokio::io::AsyncReadExt;
use tokio_openssl::SslStream;

/// The listener's files, as settings.
fn listener(files: &Files, mutual: bool) -> Vec<(&'static str, String)> {
    let text = |path: &PathBuf| path.display().to_string();
    let mut settings = vec![
        ("relay.ssl_cert_chain_path", text(&files.server)),
        ("relay.ssl_key_path", text(&files.server_key)),
    ];
    if mutual {
        settings.push(("relay.ssl_trusted_ca_path", text(&files.ca)));
    }
    settings
}

fn fixture(files: &Files, mutual: bool) -> Fixture {
    let settings = listener(files, mutual);
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Fixture::with(&settings, |_| {})
}

async fn connect(fixture: &Fixture, files: &Files, own: bool) -> SslStream<tokio::net::TcpStream> {
    let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
    builder.set_ca_file(&files.ca).unwrap();
    builder.set_verify(SslVerifyMode::PEER);
    builder.set_alpn_protos(b"\x02h2").unwrap();
    if own {
        builder.set_certificate_chain_file(&files.client).unwrap();
        builder.set_private_key_file(&files.client_key, SslFiletype::PEM).unwrap();
    }
    let mut ssl = Ssl::new(&builder.build()).unwrap();
    ssl.param_mut().set_host("localhost").unwrap();
    let mut stream = SslStream::new(ssl, tcp(fixture.address()).await).unwrap();
    Pin::new(&mut stream).connect().await.unwrap();
    stream
}

fn run(lines: &str) -> Finished {
    let folder = Folder::new(&format!("collector.backend_service=127.0.0.1:1\n{lines}"));
    let config = folder.config();
    Skytls::new(["run"]).arg("--config").arg(config).run()
}

#[test]
fn reports_arrive_over_tls_and_over_mutual_tls() {
    let files = pki::proper().write();
    for mutual in [false, true] {
        let fixture = fixture(&files, mutual);
        fixture.runtime.block_on(async {
            let mut client = Client::over(connect(&fixture, &files, mutual).await).await;
            assert_eq!(client.report(SEGMENTS, 5000).await.status, Some(0));
            fixture.settled().await;
            assert_eq!(fixture.seen(SEGMENTS).len(), 5000);
        });
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_demanded() {
    let (files, strangers) = (pki::proper().write(), pki::proper().write());
    let fixture = fixture(&files, true);
    let client = || Peer::client(fixture.address()).h2().option("-servername", "localhost");
    let refused = client().verify(&files.ca).flag("-tls1_2").start().finish();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("alert handshake failure"), "{}", refused.stderr);
    let refused = client()
        .identity(&strangers.client, &strangers.client_key)
        .flag("-tls1_2")
        .start()
        .finish();
    assert_ne!(refused.code, 0);
    let accepted = client().verify(&files.ca).identity(&files.client, &files.client_key).start();
    accepted.line("ALPN protocol: h2");
    accepted.line("Verify return code: 0 (ok)");
}

#[test]
fn a_client_that_does_not_offer_http2_is_refused() {
    let files = pki::proper().write();
    let fixture = fixture(&files, false);
    let refused = Peer::client(fixture.address()).option("-alpn", "http/1.1").start().finish();
    assert!(refused.stderr.contains("no application protocol"), "{}", refused.stderr);
}

#[test]
fn silent_clients_hold_nobody_up_and_are_let_go() {
    let files = pki::proper().write();
    let fixture = fixture(&files, false);
    fixture.runtime.block_on(async {
        let mut silent = tcp(fixture.address()).await;
        let mut client = Client::over(connect(&fixture, &files, false).await).await;
        assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
        let end = silent.read_u8();
        let end = tokio::time::timeout(relay_fixture::DEADLINE, end).await.unwrap();
        assert!(end.is_err(), "closed without a word");
    });
}

#[test]
fn half_of_the_files_is_an_error() {
    let files = pki::proper().write();
    for lines in [
        format!("relay.ssl_key_path={}", files.server_key.display()),
        format!("relay.ssl_cert_chain_path={}", files.server.display()),
        format!("relay.ssl_trusted_ca_path={}", files.ca.display()),
    ] {
        let error = run(&format!("relay.listen=127.0.0.1:0\n{lines}")).expect_code(2).stderr;
        let key = lines.split('=').next().unwrap();
        assert!(error.contains("SKT-703") && error.contains(&format!("key {key}")), "{error}");
    }
}

#[test]
fn faulty_files_are_named_by_the_keys_of_the_relay() {
    let (files, others) = (pki::proper().write(), pki::proper().write());
    let with = |chain: &PathBuf, key: &PathBuf, ca: &PathBuf| {
        run(&format!(
            "relay.listen=127.0.0.1:0\nrelay.ssl_cert_chain_path={}\nrelay.ssl_key_path={}\n\
             relay.ssl_trusted_ca_path={}",
            chain.display(),
            key.display(),
            ca.display()
        ))
        .expect_code(2)
        .stderr
    };
    let error = with(&files.server, &others.server_key, &files.ca);
    assert!(error.contains("SKT-211") && error.contains("key relay.ssl_key_path"), "{error}");
    let error = with(&files.server_key, &files.server_key, &files.ca);
    assert!(error.contains("SKT-207") && error.contains("relay.ssl_cert_chain_path"), "{error}");
    let error = with(&files.server, &files.server_key, &files.server_key);
    assert!(error.contains("SKT-207") && error.contains("relay.ssl_trusted_ca_path"), "{error}");
    assert!(!error.contains("agent.ssl"), "{error}");
}

#[test]
fn other_machines_are_let_in_by_tls_and_when_that_was_said() {
    let files = pki::proper().write();
    let tls: String =
        listener(&files, true).iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let allowed = "relay.allow_remote=true\n";
    for lines in ["", allowed, &tls] {
        let error = run(&format!("relay.listen=0.0.0.0:0\n{lines}")).expect_code(2).stderr;
        assert!(error.contains("SKT-117"), "{error}");
    }
    let folder = Folder::new(&format!(
        "collector.backend_service=127.0.0.1:1\nrelay.listen=0.0.0.0:0\n{allowed}{tls}"
    ));
    let relay = Skytls::new(["run"]).arg("--config").arg(folder.config()).start();
    let line = relay.line("listening on 0.0.0.0:");
    let port = line.rsplit(':').next().unwrap().parse().unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let client = Peer::client(address).h2().identity(&files.client, &files.client_key);
    client.start().line("ALPN protocol: h2");
    relay.terminate();
    relay.finish().expect_code(0);
}
