//! `skytls demo`: the whole product on one machine, with numbers.
//!
//! Mints certificates, starts a collector that demands them and a relay that has them, sends
//! segments through both like an agent would, and compares by id what was sent with what arrived.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use prost::Message as _;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{certs, out};
use crate::config::{IdentitySource, Loader, Settings, Source};
use crate::engine::{Engine, Purpose};
use crate::error::{Code, Error, Result};
use crate::pki::Algorithm;
use crate::protocol::v3::trace_segment_report_service_client::TraceSegmentReportServiceClient;
use crate::protocol::v3::{KeyStringValuePair, SegmentObject, SpanLayer, SpanObject, SpanType};
use crate::relay::Relay;
use crate::server::{CallInfo, Collector, CollectorSettings, CollectorTls};

/// Arguments of `skytls demo`.
#[derive(Debug, Clone, Args)]
pub(super) struct DemoArgs {
    /// How many segments to send
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    segments: u64,
    /// Override a setting of the relay's, such as agent.ssl_fips=required; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
struct Outcome {
    sent: u64,
    delivered: u64,
    lost: u64,
    seconds: f64,
    protocol: String,
    cipher: String,
    by_method: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    repeated: u64,
    #[serde(skip)]
    client: String,
    #[serde(skip)]
    per_second: f64,
}

/// The ids that have arrived.
#[derive(Debug, Default)]
struct Arrivals {
    ids: Mutex<HashSet<u64>>,
    repeated: AtomicU64,
}

/// Segments of one stream, as an agent under load batches them.
const BATCH: u64 = 1000;
/// Streams at a time.
const STREAMS: u64 = 4;
/// How long nothing may arrive before the rest counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
const PROGRESS: Duration = Duration::from_millis(500);

/// Runs the demo and prints the outcome.
///
/// # Errors
///
/// [`Code::RecordsLost`] when not everything that was sent arrived.
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    let bug = |error: std::io::Error| Error::new(Code::Bug).because(error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(bug)?;
    let folder = tempfile::tempdir()
        .map_err(|error| Error::new(Code::CannotWrite).file(std::env::temp_dir()).because(error))?;
    mint(folder.path())?;

    let arrivals = Arc::new(Arrivals::default());
    let collector = runtime.block_on(Collector::start(collector(folder.path(), &arrivals)))?;
    let settings = settings(folder.path(), collector.address(), &args.overrides)?;
    let engine = Engine::start(&settings, Purpose::Relay)?;
    let handle = engine.handle().cloned().ok_or_else(|| Error::new(Code::Bug))?;
    let relay =
        Relay::start(&settings, engine.uplink().clone(), engine.transport().clone(), &handle)?;
    let Some(address) = relay.addresses().first().copied() else {
        return Err(Error::new(Code::Bug).found("a relay without a listener"));
    };

    let begun = Instant::now();
    let sent = runtime.block_on(send_and_wait(address, args.segments, &arrivals))?;
    let seconds = begun.elapsed().as_secs_f64();

    handle.block_on(relay.drain(Duration::from_secs(2)));
    engine.stop(Duration::from_secs(2));
    let counts = runtime.block_on(collector.shutdown(Duration::from_secs(1)));
    let delivered = arrivals.count();
    let outcome = Outcome {
        sent,
        delivered,
        lost: sent - delivered,
        seconds,
        protocol: counts.protocol.unwrap_or_default(),
        cipher: counts.cipher.unwrap_or_default(),
        by_method: counts.by_method,
        repeated: arrivals.repeated.load(Ordering::Relaxed),
        client: counts.client_certificates.join(", "),
        per_second: delivered as f64 / seconds,
    };
    out::print(&if args.json { outcome.to_json()? } else { outcome.to_text() })?;
    if outcome.lost == 0 {
        return Ok(());
    }
    Err(Error::new(Code::RecordsLost).found(format!("{} of {sent} segments", outcome.lost)))
}

fn mint(folder: &Path) -> Result<()> {
    certs::write(&certs::Options {
        out: folder.join("ca"),
        hosts: Vec::new(),
        days: 1,
        algorithm: Algorithm::default(),
        force: false,
    })?;
    Ok(())
}

fn collector(folder: &Path, arrivals: &Arc<Arrivals>) -> CollectorSettings {
    let file = |name: &str| Source::File(folder.join("ca").join(name));
    let arrivals = arrivals.clone();
    CollectorSettings {
        tls: Some(CollectorTls {
            identity: IdentitySource {
                chain: file("server.crt"),
                key: file("server.pem"),
                passphrase: None,
            },
            client_ca: Some(file("ca.crt")),
        }),
        observer: Some(Arc::new(move |_: &CallInfo, message: &crate::protocol::frame::Message| {
            arrivals.note(&message.data);
        })),
        ..CollectorSettings::default()
    }
}

/// The settings of the documented example, in a folder of its own; nothing of this machine's own
/// configuration takes part.
fn settings(folder: &Path, backend: SocketAddr, overrides: &[String]) -> Result<Settings> {
    let file = folder.join("config").join("agent.config");
    let text = format!(
        "agent.ssl_trusted_ca_path=/ca/ca.crt\nagent.ssl_key_path=/ca/client.pem\n\
         agent.ssl_cert_chain_path=/ca/client.crt\ncollector.backend_service={backend}\n\
         relay.listen={}:0\n",
        Ipv4Addr::LOCALHOST
    );
    let write = || {
        std::fs::create_dir(folder.join("config"))?;
        std::fs::write(&file, text)
    };
    write().map_err(|error| Error::new(Code::CannotWrite).file(&file).because(error))?;
    let loader = Loader::new().environment([]).file(file).relay(true);
    Ok(super::overridden(loader, overrides)?.load()?.settings)
}

async fn send_and_wait(relay: SocketAddr, segments: u64, arrivals: &Arc<Arrivals>) -> Result<u64> {
    let sent = Arc::new(AtomicU64::new(0));
    let progress = tokio::spawn(show_progress(segments, sent.clone(), arrivals.clone()));
    let mut senders = JoinSet::new();
    for part in 0..STREAMS {
        senders.spawn(send(relay, part, segments, sent.clone()));
    }
    while let Some(ended) = senders.join_next().await {
        ended.map_err(|error| Error::new(Code::Bug).because(error))??;
    }
    let sent = sent.load(Ordering::Relaxed);
    let mut last = (arrivals.count(), Instant::now());
    while arrivals.count() < sent && last.1.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if arrivals.count() != last.0 {
            last = (arrivals.count(), Instant::now());
        }
    }
    progress.abort();
    clear_progress();
    Ok(sent)
}

/// Sends every `STREAMS`-th batch, one stream each, as an agent does.
async fn send(relay: SocketAddr, part: u64, segments: u64, sent: Arc<AtomicU64>) -> Result<()> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Code::CallFailed).peer(relay).because(error)
    };
    let mut client = TraceSegmentReportServiceClient::connect(format!("http://{relay}"))
        .await
        .map_err(|error| failed(error.into()))?;
    let mut first = part * BATCH;
    while first < segments {
        let batch = first..(first + BATCH).min(segments);
        let count = batch.end - batch.start;
        client
            .collect(tokio_stream::iter(batch.map(segment)))
            .await
            .map_err(|error| failed(error.into()))?;
        sent.fetch_add(count, Ordering::Relaxed);
        first += STREAMS * BATCH;
    }
    Ok(())
}

/// A segment as a small web application makes it; its id carries the number.
fn segment(number: u64) -> SegmentObject {
    let id = format!("{number:032x}.1.17000000000000000");
    let now = 1_700_000_000_000 + number as i64;
    let span = SpanObject {
        span_id: 0,
        parent_span_id: -1,
        start_time: now,
        end_time: now + 12,
        operation_name: "GET:/orders/{id}".to_owned(),
        span_type: SpanType::Entry.into(),
        span_layer: SpanLayer::Http.into(),
        component_id: 1,
        tags: vec![
            KeyStringValuePair { key: "url".to_owned(), value: "http://shop/orders/17".to_owned() },
            KeyStringValuePair { key: "http.method".to_owned(), value: "GET".to_owned() },
        ],
        ..SpanObject::default()
    };
    SegmentObject {
        trace_id: id.clone(),
        trace_segment_id: id,
        spans: vec![span],
        service: "demo".to_owned(),
        service_instance: "demo@127.0.0.1".to_owned(),
        is_size_limited: false,
    }
}

async fn show_progress(segments: u64, sent: Arc<AtomicU64>, arrivals: Arc<Arrivals>) {
    let mut tick = tokio::time::interval(PROGRESS);
    loop {
        tick.tick().await;
        let (sent, arrived) = (sent.load(Ordering::Relaxed), arrivals.count());
        let (start, end) = if std::io::stderr().is_terminal() { ("\r", "") } else { ("", "\n") };
        out::note(&format!("{start}sent {sent} of {segments} segments, {arrived} arrived{end}"));
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        out::note("\r\u{1b}[K");
    }
}

// === impl Arrivals ===

impl Arrivals {
    fn note(&self, message: &[u8]) {
        let id = SegmentObject::decode(message).ok().and_then(|segment| {
            u64::from_str_radix(segment.trace_segment_id.split('.').next()?, 16).ok()
        });
        let Some(id) = id else { return };
        if !self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(&self) -> u64 {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

// === impl Outcome ===

impl Outcome {
    fn to_json(&self) -> Result<String> {
        serde_json::to_string(self)
            .map(|text| text + "\n")
            .map_err(|error| Error::new(Code::Bug).because(error))
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        line("sent", format!("{} segments", self.sent));
        line("delivered", self.delivered.to_string());
        line("lost", self.lost.to_string());
        line("repeated", self.repeated.to_string());
        line("time", format!("{:.2} s", self.seconds));
        line("speed", format!("{:.0} segments/s", self.per_second));
        line("protocol", self.protocol.clone());
        line("cipher", self.cipher.clone());
        line("client", self.client.clone());
        line("openssl", openssl::version::version().to_owned());
        text
    }
}
