//! Tokens, passphrases and private keys show in nothing that is printed, logged or formatted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod support;

use std::fmt::{Debug, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use grpc_client::{Client, KEEP_ALIVE, SEGMENTS, framed, request};
use http::HeaderValue;
use openssl::pkey::PKey;
use skytls::Connector;
use skytls::config::{IdentitySource, Loaded, Loader, MASK, Secret, Source, TlsSettings};
use skytls::engine::{Engine, Purpose};
use skytls::error::{Chain, Code, Error};
use skytls::protocol::frame::Message;
use skytls::protocol::{METHODS, find};
use skytls::relay::Relay;
use skytls::server::{CallInfo, Collector, CollectorSettings, CollectorTls};
use skytls::tls::Generation;
use skytls::transport::targets;
use skytls::uplink::{Envelope, Metadata, Passport};
use support::folder::Folder;
use support::keys::{self, PASSPHRASE};
use support::pki::{self, Set};
use support::process::{Finished, Skytls};
use support::proxy::Proxy;
use tokio::runtime::Runtime;

const TOKEN: &str = "t0ken-of-nobody";
/// A local agent's own.
const FOREIGN_TOKEN: &str = "f0reign-token";
const WRONG: &str = "battery staple";
/// The password for the proxy.
const PROXY: &str = "l3t-me-through";

/// Files of a client whose key is encrypted, and what must not show of them.
struct Bed {
    folder: Folder,
    set: Set,
    secrets: Vec<String>,
}

#[test]
fn settings_show_no_secret() {
    let bed = Bed::new();
    let loaded = bed.loader().load().unwrap();
    // They are there, to begin with.
    assert_eq!(loaded.settings.agent.authentication.as_ref().unwrap().expose(), TOKEN);
    let passphrase = loaded.settings.tls.identity.as_ref().unwrap().passphrase.as_ref().unwrap();
    assert_eq!(passphrase.expose(), PASSPHRASE);
    let proxy = loaded.settings.link.proxy.as_ref().unwrap();
    assert_eq!(proxy.credentials.as_ref().unwrap().expose(), &format!("agent:{PROXY}"));

    let mut text = String::new();
    show(&mut text, &loaded);
    show(&mut text, &loaded.settings);
    show(&mut text, &loaded.effective);
    show(&mut text, &loaded.settings.agent.authentication);
    for source in [
        Source::Bytes(Secret::new(bed.key())),
        Source::Uri(Secret::new(String::from("pkcs11:?pin=s3cret"))),
    ] {
        let _ = write!(text, "{source}");
        show(&mut text, &source);
    }
    assert!(text.contains(MASK), "{text}");
    bed.assert_absent(&text);
}

#[test]
fn what_is_built_of_settings_shows_no_secret() {
    let bed = Bed::new();
    let Loaded { settings, .. } = bed.loader().load().unwrap();
    let mut text = String::new();
    let generation = Generation::load(&settings.tls).unwrap();
    show(&mut text, &generation);
    show(&mut text, generation.description());
    show(&mut text, &targets(&settings.link, &settings.tls, Some(&generation)).unwrap());
    show(&mut text, &Connector::from_generation(&generation));

    let engine = Engine::start(&settings, Purpose::Relay).unwrap();
    let handle = engine.handle().unwrap().clone();
    let uplink = engine.uplink().clone();
    let relay = Relay::start(&settings, uplink.clone(), engine.transport().clone(), &handle);
    let relay = relay.unwrap();
    let address = relay.addresses()[0];
    // A record with a token waits in the queue.
    Runtime::new().unwrap().block_on(report(address, &[("authentication", FOREIGN_TOKEN)]));
    show(&mut text, &engine);
    show(&mut text, &uplink);
    show(&mut text, &uplink.books());
    show(&mut text, engine.transport());
    show(&mut text, &engine.transport().state());
    show(&mut text, &relay);

    let mut metadata = Metadata::default();
    metadata.push("authentication".parse().unwrap(), HeaderValue::from_static(TOKEN));
    let method = find(SEGMENTS).unwrap_or(&METHODS[0]);
    let passport = Passport::new(method).with_metadata(metadata);
    let message = Message { compressed: false, data: Bytes::from_static(b"m") };
    show(&mut text, &passport);
    show(&mut text, &Envelope { passport, message });
    bed.assert_absent(&text);
}

#[test]
fn collector_and_minted_certificates_show_no_secret() {
    let bed = Bed::new();
    let ca = skytls::pki::Authority::new(&skytls::pki::Profile::new("root").unwrap()).unwrap();
    let leaf = ca.issue(&skytls::pki::Leaf::client("agent").unwrap()).unwrap();
    let mut text = String::new();
    show(&mut text, &ca);
    show(&mut text, &leaf);
    for line in key_lines(ca.key_pem()).into_iter().chain(key_lines(leaf.key_pem())) {
        assert!(!text.contains(&line), "{text}");
    }

    let (seen, settings) = bed.collector();
    let runtime = Runtime::new().unwrap();
    show(&mut text, &settings);
    let collector = runtime.block_on(Collector::start(settings)).unwrap();
    runtime.block_on(async {
        let metadata = [("authentication", TOKEN)];
        report(collector.address(), &metadata).await;
    });
    show(&mut text, &collector);
    show(&mut text, &collector.counts());
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    text.push_str(&seen.concat());
    bed.assert_absent(&text);
}

#[test]
fn errors_about_keys_show_neither_key_nor_passphrase() {
    let bed = Bed::new();
    let stranger = keys::pkcs8_pem(&pki::ec_key());
    let passphrase = Some(WRONG);
    let cases = [
        (Code::PassphraseNeeded, bed.key(), None),
        (Code::PassphraseWrong, bed.key(), passphrase),
        (Code::PassphraseWrong, keys::encrypted_pkcs8_der(&bed.plain_key()), passphrase),
        (Code::Damaged, keys::truncated(bed.set.client_key.as_bytes()), passphrase),
        (Code::Damaged, bed.set.client_key.replace("M", "N").into_bytes(), None),
        (Code::NotRecognised, bed.set.client_key.replace("-----", "").into_bytes(), None),
        (Code::WrongType, keys::public_pem(&bed.plain_key()), None),
        (Code::KeyMismatch, stranger.clone(), None),
    ];
    for (code, key, passphrase) in cases {
        let error = bed.load_key(&key, passphrase);
        assert_eq!(error.code(), code, "{error}");
        let mut text = format!("{error} {} ", Chain(&error));
        show(&mut text, &error);
        bed.assert_absent(&text);
        for line in key_lines(&String::from_utf8_lossy(&key)) {
            assert!(!text.contains(&line), "{text}");
        }
    }
    // A key where certificates should be.
    let tls = TlsSettings { ca: Some(source(bed.set.client_key.as_bytes())), ..bed.tls() };
    let error = Generation::load(&tls).unwrap_err();
    bed.assert_absent(&format!("{error} {error:?} {}", Chain(&error)));
}

#[test]
fn skytls_config_masks_secrets() {
    let bed = Bed::new();
    let config = bed.folder.config();
    let lines = std::fs::read_to_string(&config).unwrap();
    let lines = format!("{lines}agent.namespace=of ${{agent.authentication}}\n");
    bed.folder.replace("config/agent.config", lines, 0o644);
    let run = |arguments: &[&str], name: &str, value: &str| {
        let skytls = Skytls::new(["config", "--config"]).arg(&config).env(name, value);
        arguments.iter().fold(skytls, Skytls::arg).run().expect_code(0)
    };
    for json in [&[][..], &["--json"]] {
        for (name, value) in [("SW_AGENT_AUTHENTICATION", TOKEN), ("UNRELATED", TOKEN)] {
            let shown = run(json, name, value);
            assert!(shown.stdout.contains(MASK), "{}", shown.stdout);
            assert!(shown.stdout.contains("agent.ssl_key_passphrase"), "{}", shown.stdout);
            bed.assert_absent(&all(&shown));
        }
        let pair = format!("agent.authentication={TOKEN}");
        let sets = [&["--set", &pair], json].concat();
        bed.assert_absent(&all(&run(&sets, "UNRELATED", "")));
        let unused = [&["--unused"], json].concat();
        bed.assert_absent(&all(&run(&unused, "UNRELATED", "")));
    }
    // The document can be read by machines, with the mask in it.
    let shown = run(&["--json"], "SW_AGENT_AUTHENTICATION", TOKEN);
    let document: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let value = |key: &str| {
        let settings = document["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(value("agent.ssl_key_passphrase"), MASK);
    assert_eq!(value("agent.authentication"), MASK);
    // It is made of the token.
    assert_eq!(value("agent.namespace"), MASK);
    assert_eq!(value("relay.authentication"), "");
}

#[test]
fn the_most_talkative_log_shows_no_secret() {
    let bed = Bed::new();
    let (_, mut settings) = bed.collector();
    settings.tls = Some(bed.collector_tls());
    let runtime = Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start(settings)).unwrap();
    let skytls = Skytls::new(["run", "-vvv", "--config"])
        .arg(bed.folder.config())
        .arg("--set")
        .arg(format!("collector.backend_service=localhost:{}", collector.address().port()))
        .arg("--set=collector.proxy=")
        .env("SW_AGENT_AUTHENTICATION", TOKEN)
        .env("RUST_LOG", "trace")
        .start();
    let address = skytls.line("listening on ");
    let address = address.trim_start_matches("listening on ").parse().unwrap();
    let refused = runtime.block_on(async {
        report(address, &[]).await;
        report(address, &[("authentication", FOREIGN_TOKEN)]).await;
        let mut client = Client::plain(address).await;
        let passed = client.call(request(KEEP_ALIVE, &[]), [framed(b"m")]).await.unwrap();
        assert_eq!(passed.status, Some(0));
        let foreign = [("authentication", FOREIGN_TOKEN)];
        client.call(request(KEEP_ALIVE, &foreign), [framed(b"m")]).await.unwrap().status
    });
    // The collector has seen the tokens, so they were on their way.
    assert_eq!(refused, Some(7));
    let two = |counts: &skytls::server::Counts| counts.received >= 2;
    assert!(runtime.block_on(collector.wait_for(two, support::DEADLINE)));
    skytls.terminate();
    let finished = skytls.finish();
    assert!(finished.stderr.contains("connected to localhost"), "{}", finished.stderr);
    bed.assert_absent(&all(&finished));
}

/// Along a way that needs every secret there is, and along those that end at one of them.
#[test]
fn check_shows_no_secret() {
    let bed = Bed::new();
    let (_, mut settings) = bed.collector();
    settings.tls = Some(bed.collector_tls());
    let runtime = Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start(settings)).unwrap();
    let backend = format!("localhost:{}", collector.address().port());
    let proxy = Proxy::demanding(&format!("agent:{PROXY}"), &backend, collector.address());
    let pair = |key: &str, value: &str| format!("{key}={value}");
    let url = |user: &str| pair("collector.proxy", &proxy.url_as(user));
    let well = [pair("collector.backend_service", &backend), url(&format!("agent:{PROXY}"))];
    for (spoilt, code, says) in [
        (None, 0, "an empty stream was acknowledged"),
        (Some(url("agent:s3cret")), 3, "SKT-407"),
        (Some(url("agent:s3cret%")), 2, "SKT-125"),
        (
            Some(pair("collector.proxy", &format!("https://agent:{PROXY}@localhost:1"))),
            2,
            "SKT-125",
        ),
        (Some(pair("agent.authentication", FOREIGN_TOKEN)), 5, "PermissionDenied"),
        (Some(pair("agent.authentication", "s3cr\u{e9}t s3cret")), 2, "SKT-110"),
        (Some(pair("agent.ssl_key_passphrase", WRONG)), 2, "SKT-210"),
        (Some(pair("agent.ssl_key_passphrase", "")), 2, "SKT-209"),
        // Files exchanged.
        (Some(pair("agent.ssl_trusted_ca_path", "tls/client.pem")), 2, "SKT-207"),
        (Some(pair("agent.ssl_cert_chain_path", "tls/client.pem")), 2, "SKT-207"),
    ] {
        for json in [&[][..], &["--json"]] {
            let mut check = Skytls::new(["check", "-vvv", "--config"]).arg(bed.folder.config());
            for set in well.iter().chain(&spoilt) {
                check = check.arg("--set").arg(set);
            }
            let check = json.iter().fold(check, |check, argument| check.arg(argument));
            let finished = check.env("RUST_LOG", "trace").run().expect_code(code);
            assert!(finished.stdout.contains(says), "{says}: {}", finished.stdout);
            bed.assert_absent(&all(&finished));
        }
    }
    // They were all on their way.
    assert!(proxy.requests().iter().any(|head| head.contains("Proxy-Authorization: Basic ")));
    assert_eq!(collector.counts().calls_ok, 2, "{:?}", collector.counts());
}

async fn report(address: SocketAddr, metadata: &[(&'static str, &str)]) {
    let mut client = Client::plain(address).await;
    let reply = client.call(request(SEGMENTS, metadata), [framed(b"segment")]).await.unwrap();
    assert_eq!(reply.status, Some(0), "{reply:?}");
}

fn show(text: &mut String, value: &impl Debug) {
    let _ = write!(text, "{value:?}\n{value:#?}\n");
}

fn all(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

fn source(bytes: &[u8]) -> Source {
    Source::Bytes(Secret::new(bytes.to_vec()))
}

fn key_lines(pem: &str) -> Vec<String> {
    let lines = pem.lines().filter(|line| line.len() >= 16 && !line.starts_with("---"));
    lines.map(str::to_owned).collect()
}

// === impl Bed ===

impl Bed {
    fn new() -> Self {
        let set = pki::proper();
        let key = PKey::private_key_from_pem_passphrase(set.client_key.as_bytes(), b"").unwrap();
        let encrypted = keys::encrypted_pkcs8_pem(&key);
        let mut secrets =
            [TOKEN, FOREIGN_TOKEN, PASSPHRASE, WRONG, PROXY, "s3cret"].map(str::to_owned).to_vec();
        secrets.extend(key_lines(&set.client_key));
        secrets.extend(key_lines(&String::from_utf8_lossy(&encrypted)));
        secrets.push(openssl::base64::encode_block(format!("agent:{PROXY}").as_bytes()));
        // As `Debug` shows bytes.
        secrets.push(listed(&encrypted));
        secrets.push(listed(set.client_key.as_bytes()));
        secrets.push(listed(&key.private_key_to_der().unwrap()));
        secrets.push(listed(TOKEN.as_bytes()));
        let config = format!(
            "relay.listen=127.0.0.1:0\n\
             relay.drain_timeout=0\n\
             collector.backend_service=localhost:1\n\
             collector.proxy=http://agent:{PROXY}@localhost:1\n\
             agent.ssl_trusted_ca_path=tls/ca.crt\n\
             agent.ssl_cert_chain_path=tls/client.crt\n\
             agent.ssl_key_path=tls/client.pem\n\
             agent.ssl_key_passphrase={PASSPHRASE}\n\
             agent.authentication=${{SW_AGENT_AUTHENTICATION:{TOKEN}}}\n\
             plugin.password=s3cret\n\
             relay.authenticaton=s3cret\n"
        );
        let folder = Folder::new(&config)
            .file("tls/ca.crt", &set.ca, 0o644)
            .file("tls/client.crt", &set.client, 0o644)
            .file("tls/client.pem", &encrypted, 0o600);
        Self { folder, set, secrets }
    }

    fn loader(&self) -> Loader {
        Loader::new().file(self.folder.config()).environment([]).relay(true)
    }

    fn tls(&self) -> TlsSettings {
        self.loader().load().unwrap().settings.tls
    }

    fn plain_key(&self) -> PKey<openssl::pkey::Private> {
        PKey::private_key_from_pem_passphrase(self.set.client_key.as_bytes(), b"").unwrap()
    }

    /// The encrypted key's file.
    fn key(&self) -> Vec<u8> {
        std::fs::read(self.folder.join("tls/client.pem")).unwrap()
    }

    fn load_key(&self, key: &[u8], passphrase: Option<&str>) -> Error {
        let identity = IdentitySource {
            chain: source(self.set.client.as_bytes()),
            key: source(key),
            passphrase: passphrase.map(|text| Secret::new(text.to_owned())),
        };
        let mut text = String::new();
        show(&mut text, &identity);
        self.assert_absent(&text);
        Generation::load(&TlsSettings { identity: Some(identity), ..self.tls() }).unwrap_err()
    }

    /// A collector that wants the token, and how it shows the calls that it gets.
    fn collector(&self) -> (Arc<Mutex<Vec<String>>>, CollectorSettings) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        let settings = CollectorSettings {
            authentication: Some(Secret::new(TOKEN.to_owned())),
            observer: Some(Arc::new(move |call: &CallInfo, _: &Message| {
                notes.lock().unwrap().push(format!("{call:?}"));
            })),
            ..CollectorSettings::default()
        };
        (seen, settings)
    }

    fn collector_tls(&self) -> CollectorTls {
        CollectorTls {
            identity: IdentitySource {
                chain: source(self.set.server.as_bytes()),
                key: source(self.set.server_key.as_bytes()),
                passphrase: None,
            },
            client_ca: Some(source(self.set.ca.as_bytes())),
        }
    }

    #[track_caller]
    fn assert_absent(&self, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret), "{secret:?} shows in {text}");
        }
    }
}

/// The beginning of bytes as `Debug` lists them.
fn listed(bytes: &[u8]) -> String {
    let bytes = format!("{:?}", &bytes[bytes.len() - 12..]);
    bytes.trim_matches(['[', ']']).to_owned()
}
