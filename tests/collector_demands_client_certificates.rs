//! The collector over TLS: HTTP/2 by ALPN or nothing, and mutual TLS when a client CA is set.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod support;

use std::pin::Pin;
use std::process::{Command, Stdio};

use grpc_client::*;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use skytls::config::{IdentitySource, Secret, Source};
use skytls::error::{Code, Error, Fact};
use skytls::pki::{Authority, Identity, Leaf, Profile};
use skytls::server::{Collector, CollectorSettings, CollectorTls};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

struct Pki {
    ca: Authority,
    server: Identity,
    client: Identity,
}

/// How the client shakes hands.
struct Hello<'a> {
    identity: Option<&'a Identity>,
    alpn: Option<&'static [u8]>,
    highest: SslVersion,
}

const H2: Hello<'static> =
    Hello { identity: None, alpn: Some(b"\x02h2"), highest: SslVersion::TLS1_3 };

impl Pki {
    fn new() -> Self {
        let ca = Authority::new(&Profile::new("test CA").unwrap()).unwrap();
        let server = ca.issue(&Leaf::server(["localhost", "127.0.0.1"]).unwrap()).unwrap();
        let client = ca.issue(&Leaf::client("agent 7").unwrap()).unwrap();
        Self { ca, server, client }
    }

    fn tls(&self) -> CollectorTls {
        CollectorTls {
            identity: IdentitySource {
                chain: bytes(self.server.chain_pem()),
                key: bytes(self.server.key_pem()),
                passphrase: None,
            },
            client_ca: None,
        }
    }

    fn mutual(&self) -> CollectorTls {
        CollectorTls { client_ca: Some(bytes(self.ca.certificate_pem())), ..self.tls() }
    }

    async fn connect(
        &self,
        collector: &Collector,
        hello: &Hello<'_>,
    ) -> Result<SslStream<TcpStream>, String> {
        let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(X509::from_pem(self.ca.certificate_pem().as_bytes()).unwrap()).unwrap();
        builder.set_verify_cert_store(store.build()).unwrap();
        builder.set_verify(SslVerifyMode::PEER);
        builder.set_max_proto_version(Some(hello.highest)).unwrap();
        if hello.highest == SslVersion::TLS1_1 {
            // Low enough for the client to offer the old version at all.
            builder.set_security_level(0);
            builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        }
        if let Some(alpn) = hello.alpn {
            builder.set_alpn_protos(alpn).unwrap();
        }
        if let Some(identity) = hello.identity {
            builder.set_certificate(identity.certificate()).unwrap();
            builder.set_private_key(identity.key()).unwrap();
        }
        let mut ssl = Ssl::new(&builder.build()).unwrap();
        ssl.param_mut().set_host("localhost").unwrap();
        let tcp = tcp(collector.address()).await;
        let mut stream = SslStream::new(ssl, tcp).unwrap();
        Pin::new(&mut stream).connect().await.map_err(|error| error.to_string())?;
        Ok(stream)
    }
}

fn bytes(pem: &str) -> Source {
    Source::Bytes(Secret::new(pem.as_bytes().to_vec()))
}

async fn start(tls: CollectorTls) -> Result<Collector, Error> {
    Collector::start(CollectorSettings { tls: Some(tls), ..CollectorSettings::default() }).await
}

/// Whether the server hangs up; in TLS 1.3 a client learns only so that it was refused.
async fn hangs_up(stream: Result<SslStream<TcpStream>, String>) -> bool {
    let Ok(mut stream) = stream else { return true };
    let mut buffer = [0; 16_384];
    let end = async { while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(DEADLINE, end).await.is_ok()
}

#[tokio::test]
async fn tls_is_spoken_and_described() {
    let pki = Pki::new();
    for highest in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let collector = start(pki.tls()).await.unwrap();
        let stream = pki.connect(&collector, &Hello { highest, ..H2 }).await.unwrap();
        let version = stream.ssl().version_str();
        let cipher = stream.ssl().current_cipher().unwrap().name();
        let mut client = Client::over(stream).await;
        assert_eq!(client.report(SEGMENTS, 5000).await.status, Some(0));
        let counts = collector.counts();
        assert_eq!(counts.protocol.as_deref(), Some(version));
        assert_eq!(counts.cipher.as_deref(), Some(cipher));
        assert_eq!((counts.received, counts.client_certificates.len()), (5000, 0));
    }
}

#[tokio::test]
async fn a_client_with_a_certificate_is_let_in_by_name() {
    let pki = Pki::new();
    let collector = start(pki.mutual()).await.unwrap();
    for _ in 0..2 {
        let hello = Hello { identity: Some(&pki.client), ..H2 };
        let mut client = Client::over(pki.connect(&collector, &hello).await.unwrap()).await;
        assert_eq!(client.report(SEGMENTS, 3).await.status, Some(0));
    }
    let counts = collector.counts();
    assert_eq!(counts.client_certificates, ["CN=agent 7"]);
    assert_eq!((counts.received, counts.failed_handshakes), (6, 0));
}

#[tokio::test]
async fn a_client_without_a_fitting_certificate_is_refused() {
    let pki = Pki::new();
    let stranger = Pki::new();
    let collector = start(pki.mutual()).await.unwrap();
    let mut refused = 0;
    for highest in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        // None, one of another CA of the same name, and one that is for servers only.
        for identity in [None, Some(&stranger.client), Some(&pki.server)] {
            let hello = Hello { identity, highest, ..H2 };
            assert!(hangs_up(pki.connect(&collector, &hello).await).await);
            refused += 1;
            let counted = |counts: &skytls::server::Counts| counts.failed_handshakes == refused;
            assert!(collector.wait_for(counted, DEADLINE).await, "{:?}", collector.counts());
        }
    }
    let counts = collector.counts();
    assert_eq!((counts.calls, counts.client_certificates.len()), (0, 0));
}

#[tokio::test]
async fn a_client_that_does_not_ask_for_http2_or_speaks_an_old_tls_is_refused() {
    let pki = Pki::new();
    let collector = start(pki.tls()).await.unwrap();
    for hello in [
        Hello { alpn: Some(b"\x08http/1.1"), ..H2 },
        Hello { alpn: None, ..H2 },
        Hello { highest: SslVersion::TLS1_1, ..H2 },
    ] {
        assert!(hangs_up(pki.connect(&collector, &hello).await).await);
    }
    // Plaintext on the TLS port.
    let tcp = tcp(collector.address()).await;
    tcp.try_write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert!(collector.wait_for(|counts| counts.failed_handshakes == 4, DEADLINE).await);
    assert_eq!(collector.counts().connections, 4);
}

/// The server's behaviour as OpenSSL's own client sees it.
#[tokio::test]
async fn openssl_s_client_agrees() {
    let pki = Pki::new();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("cert.pem", pki.client.certificate_pem());
    write("key.pem", pki.client.key_pem());
    let collector = start(pki.mutual()).await.unwrap();
    let address = collector.address().to_string();
    let s_client = |args: &'static str| {
        let mut command = Command::new(support::command::openssl());
        command.args(["s_client", "-connect", &address, "-no_ign_eof"]).args(args.split(' '));
        command.current_dir(folder.path()).stdin(Stdio::null());
        async move {
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
            let output = output.expect("the openssl command");
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        }
    };

    let (ok, text) = s_client("-cert cert.pem -key key.pem -alpn http/1.1").await;
    assert!(!ok && text.contains("no application protocol"), "{text}");
    let (ok, text) = s_client("-tls1_2 -alpn h2").await;
    assert!(!ok && text.contains("handshake failure"), "{text}");
    assert!(
        text.contains("Acceptable client certificate CA names\nCN = test CA\n")
            || text.contains("Acceptable client certificate CA names\nCN=test CA\n"),
        "{text}"
    );
    // Sessions of clients with certificates are resumed.
    let (_, text) = s_client("-cert cert.pem -key key.pem -tls1_2 -alpn h2 -reconnect").await;
    assert_eq!(text.matches("Reused, TLSv1.2").count(), 5, "{text}");
    assert!(text.contains("ALPN protocol: h2"), "{text}");
}

#[tokio::test]
async fn wrong_files_are_named_before_the_port_is_opened() {
    let pki = Pki::new();
    let other = Pki::new();
    let folder = tempfile::tempdir().unwrap();
    let key =
        openssl::pkey::PKey::private_key_from_pem_passphrase(pki.server.key_pem().as_bytes(), b"")
            .unwrap();
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let locked = key.private_key_to_pem_pkcs8_passphrase(cipher, b"open sesame").unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Source::File(path)
    };
    let chain = || bytes(pki.server.chain_pem());
    let key = || bytes(pki.server.key_pem());
    let some = |text: &str| Some(Secret::new(text.to_owned()));
    for (chain, key, passphrase, code) in [
        (Source::File(folder.path().join("none")), key(), None, Code::FileMissing),
        (Source::File(folder.path().into()), key(), None, Code::FileNotRegular),
        (file("empty", b""), key(), None, Code::FileEmpty),
        (file("text", b"hello"), key(), None, Code::NotRecognised),
        (file("huge", &vec![b' '; 9 << 20]), key(), None, Code::FileTooLarge),
        (file("cut", &pki.server.chain_pem().as_bytes()[..200]), key(), None, Code::Damaged),
        (key(), key(), None, Code::WrongType),
        (chain(), chain(), None, Code::WrongType),
        (chain(), bytes(other.server.key_pem()), None, Code::KeyMismatch),
        (chain(), file("locked", &locked), None, Code::PassphraseNeeded),
        (chain(), file("locked", &locked), some("wrong"), Code::PassphraseWrong),
        (chain(), file("locked", &locked), some(&"x".repeat(5000)), Code::PassphraseWrong),
        (
            Source::Uri(Secret::new("pkcs11:token=x;pin-value=1234".into())),
            key(),
            None,
            Code::UriFailed,
        ),
    ] {
        let found = chain.to_string();
        let identity = IdentitySource { chain, key, passphrase };
        let error = start(CollectorTls { identity, client_ca: None }).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?} for {found}");
        assert!(error.get(Fact::File).is_some(), "{error:?}");
        assert!(!format!("{error:?}").contains("1234"), "{error:?}");
    }
    let client_ca = Some(file("text", b"hello"));
    let error = start(CollectorTls { client_ca, ..pki.tls() }).await.unwrap_err();
    assert_eq!(error.code(), Code::NotRecognised);

    let identity = IdentitySource {
        chain: chain(),
        key: file("locked", &locked),
        passphrase: some("open sesame"),
    };
    start(CollectorTls { identity, client_ca: None }).await.unwrap();
}
