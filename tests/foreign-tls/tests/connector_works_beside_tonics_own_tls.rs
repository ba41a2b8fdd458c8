//! skytls's connector in a program whose tonic has TLS of its own.
//!
//! tonic wraps every connector as soon as one of its TLS features is on, and then refuses `https` URIs
//! that were not set up for its own TLS.

use std::error::Error as _;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use skytls::Connector;
use skytls::config::{IdentitySource, Loader, Secret, Source};
use skytls::pki::{Authority, Leaf, Profile};
use skytls::protocol::v3::InstancePingPkg;
use skytls::protocol::v3::management_service_client::ManagementServiceClient;
use skytls::server::{Collector, CollectorSettings, CollectorTls};
use skytls::tls::Generation;
use tonic::transport::Channel;

/// A collector that demands client certificates, and the files of a client that has one.
struct Scene {
    collector: Collector,
    folder: std::path::PathBuf,
    ca: String,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let ca = Authority::new(&Profile::new("test CA").unwrap()).unwrap();
        let server = ca.issue(&Leaf::server(["localhost", "127.0.0.1"]).unwrap()).unwrap();
        let client = ca.issue(&Leaf::client("agent").unwrap()).unwrap();
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("ca.crt", ca.certificate_pem()),
            ("client.crt", client.chain_pem()),
            ("client.pem", client.key_pem()),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let bytes = |pem: &str| Source::Bytes(Secret::new(pem.as_bytes().to_vec()));
        let collector = Collector::start(CollectorSettings {
            tls: Some(CollectorTls {
                identity: IdentitySource {
                    chain: bytes(server.chain_pem()),
                    key: bytes(server.key_pem()),
                    passphrase: None,
                },
                client_ca: Some(bytes(ca.certificate_pem())),
            }),
            ..CollectorSettings::default()
        });
        let collector = collector.await.unwrap();
        Self { collector, folder, ca: ca.certificate_pem().to_owned() }
    }

    fn authority(&self) -> String {
        format!("localhost:{}", self.collector.address().port())
    }

    /// A connector as a caller builds it with the openssl crate.
    fn connector(&self) -> Connector {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(X509::from_pem(self.ca.as_bytes()).unwrap()).unwrap();
        builder.set_cert_store(store.build());
        builder.set_certificate_chain_file(self.folder.join("client.crt")).unwrap();
        let key = self.folder.join("client.pem");
        builder.set_private_key_file(key, SslFiletype::PEM).unwrap();
        Connector::new(builder.build())
    }

    async fn expect_one_call(self, channel: Channel) {
        let ping = InstancePingPkg { service: "test".to_owned(), ..InstancePingPkg::default() };
        ManagementServiceClient::new(channel).keep_alive(ping).await.unwrap();
        let counts = self.collector.counts();
        assert_eq!(counts.received, 1);
        assert_eq!(counts.client_certificates, ["CN=agent"]);
        assert!(counts.protocol.is_some_and(|protocol| protocol.starts_with("TLS")));
    }
}

#[tokio::test]
async fn a_connector_of_the_callers_own() {
    let scene = Scene::new("own").await;
    let connector = scene.connector();
    let endpoint = connector.endpoint(&scene.authority()).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    scene.expect_one_call(channel).await;
}

#[tokio::test]
async fn a_connector_from_the_settings_of_an_agent() {
    let scene = Scene::new("settings").await;
    let path = |name: &str| scene.folder.join(name).display().to_string();
    let loaded = Loader::new()
        .environment([])
        .directory(&scene.folder)
        .set("collector.backend_service", scene.authority())
        .set("agent.ssl_trusted_ca_path", path("ca.crt"))
        .set("agent.ssl_cert_chain_path", path("client.crt"))
        .set("agent.ssl_key_path", path("client.pem"))
        .load()
        .unwrap();
    let connector = Connector::from_generation(&Generation::load(&loaded.settings.tls).unwrap());
    let endpoint = connector.endpoint(&scene.authority()).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    scene.expect_one_call(channel).await;
}

/// The trap is there: without it the two tests above would prove nothing.
#[tokio::test]
async fn an_https_endpoint_that_is_not_the_connectors_own_is_refused_by_tonic() {
    let scene = Scene::new("trap").await;
    let endpoint = Channel::from_shared(format!("https://{}", scene.authority())).unwrap();
    let error = endpoint.connect_with_connector(scene.connector()).await.unwrap_err();
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        chain.push(error.to_string());
        next = error.source();
    }
    assert!(chain.iter().any(|text| text.contains("HTTPS without TLS")), "{chain:?}");
    // It is refused after the handshake, so all that tonic's users see is a call that never came.
    assert_eq!(scene.collector.counts().calls, 0);
    // Tonic's own TLS is there for whoever wants it.
    assert!(foreign_tls::endpoint("https://localhost:1", &scene.ca).is_ok());
}

/// What is tested here is the tonic of the product.
#[test]
fn tonic_is_the_products() {
    let version = |lock: &str| {
        let (_, rest) = lock.split_once("name = \"tonic\"\nversion = ").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    let ours = include_str!("../Cargo.lock");
    let products = include_str!("../../../Cargo.lock");
    assert_eq!(version(ours), version(products));
}
