//! Where to connect, what to send as SNI, what to verify and what to call the origin are four names, each
//! with a setting of its own; all may be written as people write them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod support;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use grpc_client::{Client, KEEP_ALIVE, framed, request};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::pkey::PKey;
use openssl::ssl::{AlpnError, NameType, Ssl, SslContext, SslMethod, select_next_proto};
use openssl::x509::X509;
use support::DEADLINE;
use support::folder::Folder;
use support::pki::{self, Set};
use support::process::{Process, Skytls};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What a server saw of one call.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    sni: Option<String>,
    authority: String,
}

/// A backend for one call that tells what it saw.
fn backend(runtime: &Runtime, set: &Set) -> (SocketAddr, Receiver<Seen>) {
    let context = context(set);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let ssl = Ssl::new(&context).unwrap();
            let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
            if Pin::new(&mut stream).accept().await.is_err() {
                continue;
            }
            let sni = stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned);
            let sender = sender.clone();
            let service = service_fn(move |call: http::Request<hyper::body::Incoming>| {
                let authority = call.uri().authority().map(ToString::to_string);
                let seen = Seen { sni: sni.clone(), authority: authority.unwrap_or_default() };
                let _ = sender.send(seen);
                async { Ok::<_, hyper::Error>(http::Response::new(Empty::<bytes::Bytes>::new())) }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    });
    (address, receiver)
}

fn context(set: &Set) -> SslContext {
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_certificate(&X509::from_pem(set.server.as_bytes()).unwrap()).unwrap();
    let key = PKey::private_key_from_pem_passphrase(set.server_key.as_bytes(), b"").unwrap();
    context.set_private_key(&key).unwrap();
    context.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
    context.build()
}

/// The relay with these settings, and one call through it.
fn call(runtime: &Runtime, set: &Set, backend: &str, settings: &[&str]) -> (Process, Folder) {
    let folder = Folder::empty().file("ca/ca.crt", &set.ca, 0o644).file(
        "config/agent.config",
        format!("relay.drain_timeout=0\nrelay.listen=127.0.0.1:0\ncollector.backend_service={backend}\n{}\n", settings.join("\n")),
        0o644,
    );
    let relay = Skytls::new(["run", "--config"]).arg(folder.config()).start();
    let line = relay.line("listening on ");
    let address: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
    runtime.block_on(async {
        let mut client = Client::plain(address).await;
        let _ = client.call(request(KEEP_ALIVE, &[]), [framed(b"")]).await;
    });
    (relay, folder)
}

fn seen(seen: &Receiver<Seen>, relay: &Process) -> Seen {
    seen.recv_timeout(DEADLINE).unwrap_or_else(|error: RecvTimeoutError| {
        panic!("{error}: {}", relay.stderr());
    })
}

#[test]
fn by_default_all_four_are_the_backends_host() {
    let runtime = Runtime::new().unwrap();
    let set = pki::proper();
    let (address, receiver) = backend(&runtime, &set);
    let backend = format!("localhost:{}", address.port());
    let (relay, _folder) = call(&runtime, &set, &backend, &[]);
    let expected = Seen { sni: Some("localhost".into()), authority: backend };
    assert_eq!(seen(&receiver, &relay), expected);
}

#[test]
fn an_address_is_verified_as_one_and_not_sent_as_sni() {
    let runtime = Runtime::new().unwrap();
    let set = pki::proper();
    let (address, receiver) = backend(&runtime, &set);
    let (relay, _folder) = call(&runtime, &set, &address.to_string(), &[]);
    assert_eq!(seen(&receiver, &relay), Seen { sni: None, authority: address.to_string() });
}

#[test]
fn each_is_set_apart_and_may_be_internationalised() {
    let runtime = Runtime::new().unwrap();
    let set = pki::proper_for(["xn--bcher-kva.example"]);
    let (address, receiver) = backend(&runtime, &set);
    let settings = [
        "agent.ssl_server_name=BÜCHER.example",
        "agent.ssl_sni=straße.example",
        "collector.authority=例え.テスト:443",
    ];
    let (relay, _folder) = call(&runtime, &set, &address.to_string(), &settings);
    let expected = Seen {
        sni: Some("xn--strae-oqa.example".into()),
        authority: "xn--r8jz45g.xn--zckzah:443".into(),
    };
    assert_eq!(seen(&receiver, &relay), expected);

    // Its twin: the name that is dialled, sent and called is not the one verified.
    let wrong = ["agent.ssl_server_name=bücher.test", "agent.ssl_sni=bücher.example"];
    let (relay, _folder) = call(&runtime, &set, &address.to_string(), &wrong);
    let line = relay.line("SKT-513");
    assert!(line.contains("xn--bcher-kva.test"), "{line}");
    assert!(receiver.try_recv().is_err());
}

#[test]
fn a_backend_is_looked_up_by_its_ascii_name() {
    let runtime = Runtime::new().unwrap();
    let set = pki::proper();
    let (relay, _folder) = call(&runtime, &set, "bücher.invalid:1", &[]);
    let line = relay.line("SKT-401");
    assert!(line.contains("xn--bcher-kva.invalid"), "{line}");
}
