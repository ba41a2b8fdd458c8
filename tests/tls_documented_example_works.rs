//! The documented example works as written: `skytls run` in an agent's folder, with only the environment
//! naming the backend, brings a segment to a backend over TLS or mutual TLS.

mod support;

use std::sync::{Arc, Mutex};

use prost::Message as _;
use skytls::config::{IdentitySource, Source};
use skytls::error::Code;
use skytls::protocol::frame::Message;
use skytls::protocol::v3::SegmentObject;
use skytls::protocol::v3::trace_segment_report_service_client::TraceSegmentReportServiceClient;
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls, Counts};
use support::DEADLINE;
use support::folder::Folder;
use support::pki::{self, Files, Script, Set};
use support::process::{Process, Skytls};

/// The lines of the documentation, to the letter.
const EXAMPLE: &str = "\
agent.force_tls=${SW_AGENT_FORCE_TLS:true}
agent.ssl_trusted_ca_path=${SW_AGENT_SSL_TRUSTED_CA_PATH:/ca/ca.crt}
agent.ssl_key_path=${SW_AGENT_SSL_KEY_PATH:/ca/client.pem}
agent.ssl_cert_chain_path=${SW_AGENT_SSL_CERT_CHAIN_PATH:/ca/client.crt}
collector.backend_service=${SW_AGENT_COLLECTOR_BACKEND_SERVICES:skywalking-oap:11801}
";

/// A backend that keeps the ids of the segments that arrive.
const SEGMENTS: &str = "/skywalking.v3.TraceSegmentReportService/collect";

struct Backend {
    collector: Collector,
    ids: Arc<Mutex<Vec<String>>>,
    _files: Files,
}

// === impl Backend ===

impl Backend {
    /// With the server's certificate of this set; a mutual one demands a client's.
    async fn start(set: &Set, mutual: bool) -> Self {
        let files = set.write();
        let (chain, key) =
            (Source::File(files.server.clone()), Source::File(files.server_key.clone()));
        let identity = IdentitySource { chain, key, passphrase: None };
        let client_ca = mutual.then(|| Source::File(files.ca.clone()));
        Self::with(Some(CollectorTls { identity, client_ca }), files).await
    }

    async fn with(tls: Option<CollectorTls>, files: Files) -> Self {
        let ids = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&ids);
        let observer = move |call: &CallInfo, message: &Message| {
            if call.path != SEGMENTS {
                // A relay with a name reports that it lives.
                return;
            }
            let segment = SegmentObject::decode(&*message.data).expect("it is a segment");
            seen.lock().expect("nobody panics with it").push(segment.trace_segment_id);
        };
        let observer: skytls::server::Observer = Arc::new(observer);
        let settings =
            CollectorSettings { tls, observer: Some(observer), ..CollectorSettings::default() };
        let collector = Collector::start(settings).await.expect("it starts");
        Self { collector, ids, _files: files }
    }

    fn port(&self) -> u16 {
        self.collector.address().port()
    }

    async fn wait_for(&self, condition: impl Fn(&Counts) -> bool + Send) -> Counts {
        let reached = self.collector.wait_for(condition, DEADLINE).await;
        assert!(reached, "{:?}", self.collector.counts());
        self.collector.counts()
    }
}

/// `skytls run` in this folder; nothing but the backend (and a free port to listen on) is in the environment.
fn run(folder: &Folder, port: &str) -> Process {
    Skytls::new(["run"])
        .in_folder(folder.path())
        .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", format!("localhost:{port}"))
        .env("SW_RELAY_LISTEN", "127.0.0.1:0")
        .start()
}

/// Reports these segments to the relay, as a local agent does.
async fn report(relay: &Process, ids: [&str; 2]) {
    let line = relay.line("listening on ");
    let address = line.trim_start_matches("listening on ");
    let client = TraceSegmentReportServiceClient::connect(format!("http://{address}")).await;
    let segments = ids.map(|id| SegmentObject {
        trace_segment_id: id.to_owned(),
        service: "shop".to_owned(),
        ..SegmentObject::default()
    });
    let reply = client.expect("the relay listens").collect(tokio_stream::iter(segments)).await;
    reply.expect("the relay accepts them");
}

/// Two segments go the whole way, and the relay ends well; says what the collector saw.
async fn delivers(folder: &Folder, backend: &Backend) -> (Counts, String) {
    delivers_by(folder, &backend.port().to_string(), backend).await
}

async fn delivers_by(folder: &Folder, ports: &str, backend: &Backend) -> (Counts, String) {
    let relay = run(folder, ports);
    report(&relay, ["first", "second"]).await;
    let counts = backend.wait_for(|counts| counts.by_method.get(SEGMENTS) == Some(&2)).await;
    relay.terminate();
    let finished = relay.finish().expect_code(0);
    // It ends when they are acknowledged, and so seen.
    assert_eq!(*backend.ids.lock().expect("nobody panics with it"), ["first", "second"]);
    (counts, finished.stderr)
}

fn example(set: &Set) -> Folder {
    Folder::new(EXAMPLE)
        .file("ca/ca.crt", &set.ca, 0o644)
        .file("ca/client.crt", &set.client, 0o644)
        .file("ca/client.pem", &set.client_key, 0o600)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_brings_a_segment_over_mutual_tls() {
    let set = pki::proper();
    let backend = Backend::start(&set, true).await;
    let (counts, log) = delivers(&example(&set), &backend).await;
    assert_eq!(counts.client_certificates, ["CN=test agent"]);
    assert_eq!((counts.failed_handshakes, counts.calls_refused), (0, 0));
    assert!(log.contains("by mtls (ca_file)"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_crt_alone_turns_tls_on_by_itself() {
    let set = pki::proper();
    for folder in [
        // `config/agent.config` is there, and says nothing of TLS.
        Folder::new("agent.service_name=${SW_AGENT_NAME:shop}\n"),
        // Not even that: the working directory is the agent folder.
        Folder::empty(),
    ] {
        let folder = folder.file("ca/ca.crt", &set.ca, 0o644);
        let backend = Backend::start(&set, false).await;
        let (counts, log) = delivers(&folder, &backend).await;
        assert_eq!(counts.protocol.as_deref(), Some("TLSv1.3"));
        assert_eq!((counts.client_certificates.len(), counts.failed_handshakes), (0, 0));
        assert!(log.contains("by tls (ca_file)"), "{log}");
    }
}

/// With the certificates that the documentation's own script makes. The server here, like OpenSSL, does not
/// take a client's; that is what `tls_accepts_certificates_of_skywalkings_key_script` has a server for.
#[tokio::test(flavor = "multi_thread")]
async fn both_work_with_certificates_of_the_documented_script() {
    let set = Script::Documented.mint();
    for folder in [example(&set), Folder::new("").file("ca/ca.crt", &set.ca, 0o644)] {
        let backend = Backend::start(&set, false).await;
        let (_, log) = delivers(&folder, &backend).await;
        assert!(log.contains("same subject"), "{log}");
    }
}

/// Never plaintext by accident: with the CA there, a plaintext backend gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_plaintext_backend_gets_nothing_when_tls_is_on() {
    let set = pki::proper();
    for folder in [example(&set), Folder::new("").file("ca/ca.crt", &set.ca, 0o644)] {
        let backend = Backend::with(None, set.write()).await;
        let relay = run(&folder, &backend.port().to_string());
        relay.line(&Code::PeerNotTls.id());
        let counts = backend.collector.counts();
        assert_eq!((counts.received, counts.calls), (0, 0));
        relay.terminate();
        relay.finish().expect_code(0);
    }
}

/// A backend that does not take the certificate is passed over for one that does.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_backends_the_one_that_takes_the_certificate_gets_the_segments() {
    let set = pki::proper();
    let wrong = Backend::start(&Set { ca: pki::unrelated_root().ca, ..set.clone() }, true).await;
    let right = Backend::start(&set, true).await;
    let folder = example(&set);
    let both = format!("{},localhost:{}", wrong.port(), right.port());
    delivers_by(&folder, &both, &right).await;
    assert_eq!(wrong.collector.counts().received, 0);
}
