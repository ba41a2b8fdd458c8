//! The examples, as programs: two clients and an agent against the collector over mutual TLS, a traced web server in two
//! processes; and what the README shows of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skytls::protocol::v3::{LogData, SegmentObject};
use support::folder::Folder;
use support::pki::{self, Files};
use support::process::{Finished, Process, Skytls, clean};

mod agent_fixture;
mod support;

const KEEP_ALIVE: &str = "/skywalking.v3.ManagementService/keepAlive";

/// `cargo test` builds the examples into the folder beside the tests' own.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let folder = test.parent().and_then(Path::parent).expect("target/debug/deps is above it");
    let path = folder.join("examples").join(name);
    assert!(path.is_file(), "{} is missing: run cargo build --examples", path.display());
    path
}

/// Runs an example without the settings of whoever runs the tests.
fn run(mut command: Command, backend: Option<&str>) -> Finished {
    clean(&mut command);
    command.envs(backend.map(|backend| ("SW_AGENT_COLLECTOR_BACKEND_SERVICES", backend)));
    Process::start(command, Stdio::null()).finish()
}

/// A collector that demands certificates of this CA, and its `localhost:port`.
fn collector(files: &Files) -> (Process, String) {
    let process = Skytls::new(["collector", "--listen", "127.0.0.1:0", "--json"])
        .arg("--cert")
        .arg(&files.server)
        .arg("--key")
        .arg(&files.server_key)
        .arg("--client-ca")
        .arg(&files.ca)
        .start();
    let line = process.line("listening on ");
    let port = line.rsplit_once(':').expect("an address has a port").1;
    let authority = format!("localhost:{port}");
    (process, authority)
}

/// One keep-alive came, over TLS, with the client's certificate.
fn expect_one_keep_alive(collector: Process) {
    collector.terminate();
    let counts = collector.finish().expect_code(0).stdout;
    let json = counts.lines().last().expect("the counts are printed");
    let counts: serde_json::Value = serde_json::from_str(json).expect("the counts are JSON");
    assert_eq!(counts["by_method"][KEEP_ALIVE], 1, "{counts}");
    assert_eq!(counts["calls_ok"], 1, "{counts}");
    assert_eq!(counts["client_certificates"][0], "CN=test agent", "{counts}");
    assert!(counts["protocol"].as_str().is_some_and(|text| text.starts_with("TLS")), "{counts}");
}

#[test]
fn the_tonic_client_reaches_a_backend() {
    let files = pki::proper().write();
    let (collector, backend) = collector(&files);
    let mut command = Command::new(example("tonic_client"));
    command.arg(&backend).args([&files.ca, &files.client, &files.client_key]);
    let finished = run(command, None).expect_code(0);
    assert_eq!(finished.stdout, "the backend is alive and sent 0 commands\n");
    expect_one_keep_alive(collector);
}

#[test]
fn the_hyper_client_reaches_a_backend() {
    let set = pki::proper();
    let (collector, backend) = collector(&set.write());
    let folder = Folder::new(
        "agent.ssl_key_path=/ca/client.pem\nagent.ssl_cert_chain_path=/ca/client.crt\n",
    )
    .file("ca/ca.crt", &set.ca, 0o644)
    .file("ca/client.crt", &set.client, 0o644)
    .file("ca/client.pem", &set.client_key, 0o600);
    let mut command = Command::new(example("hyper_client"));
    command.current_dir(folder.path());
    let finished = run(command, Some(&backend)).expect_code(0);
    assert_eq!(finished.stdout, "HTTP/2.0 200 OK, grpc-status Some(\"0\")\n");
    expect_one_keep_alive(collector);
}

/// What an example does with another CA is what a program does that was made after it.
#[test]
fn the_tonic_client_refuses_a_backend_of_another_ca() {
    let files = pki::proper().write();
    let (collector, backend) = collector(&files);
    let stranger = pki::unrelated_root().write();
    let mut command = Command::new(example("tonic_client"));
    command.arg(&backend).args([&stranger.ca, &files.client, &files.client_key]);
    let finished = run(command, None).expect_code(1);
    assert!(finished.stdout.is_empty(), "{}", finished.stdout);
    assert!(finished.stderr.contains("SKT-5"), "{}", finished.stderr);
    drop(collector);
}

#[test]
fn the_agent_reports_over_mutual_tls_and_ends_with_its_input() {
    let set = pki::proper();
    let (collector, backend) = collector(&set.write());
    let folder = Folder::new(
        "agent.ssl_key_path=/ca/client.pem\nagent.ssl_cert_chain_path=/ca/client.crt\n",
    )
    .file("ca/ca.crt", &set.ca, 0o644)
    .file("ca/client.crt", &set.client, 0o644)
    .file("ca/client.pem", &set.client_key, 0o600);
    let input = folder.path().join("input");
    std::fs::write(&input, "one\ntwo\n").expect("there is room for two lines");
    let mut command = Command::new(example("agent"));
    command.current_dir(folder.path());
    clean(&mut command);
    command.env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", &backend).env("SW_AGENT_NAME", "shop");
    let input = std::fs::File::open(input).expect("it was just written");
    let finished = Process::start(command, input.into()).finish().expect_code(0);
    assert!(finished.stdout.ends_with(" of shop\n"), "{}", finished.stdout);
    collector.terminate();
    let counts = collector.finish().expect_code(0).stdout;
    let json = counts.lines().last().expect("the counts are printed");
    let counts: serde_json::Value = serde_json::from_str(json).expect("the counts are JSON");
    let by_method = |path: &str| counts["by_method"][path].as_u64();
    assert_eq!(by_method("/skywalking.v3.LogReportService/collect"), Some(2), "{counts}");
    assert_eq!(by_method(agent_fixture::EVENTS), Some(2), "{counts}");
    assert_eq!(counts["client_certificates"][0], "CN=test agent", "{counts}");
}

/// A client with a trace of its own, a server that asks another one: the backend sees one trace.
#[test]
fn two_web_servers_are_one_trace() {
    let fixture = agent_fixture::Fixture::new();
    let server = |name: &str, other: Option<&str>| {
        let mut command = Command::new(example("web_server"));
        command.arg("127.0.0.1:0").args(other);
        clean(&mut command);
        command.env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", fixture.collector.address().to_string());
        command.env("SW_AGENT_NAME", name).env("SW_AGENT_INSTANCE_NAME", format!("{name}-1"));
        let process = Process::start(command, Stdio::null());
        let line = process.line("listening on ");
        (process, line.trim_start_matches("listening on ").trim().to_owned())
    };
    let (back, back_address) = server("back", None);
    let (front, front_address) = server("front", Some(&back_address));
    let sw8 = "1-My40LjU=-MS4yLjM=-4-c2VydmljZQ==-aW5zdGFuY2U=-L2FwcA==-MTI3LjAuMC4xOjgwODA=";
    let mut client = TcpStream::connect(&front_address).expect("the front server listens");
    let request = format!(
        "GET /forward HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         sw8: {sw8}\r\nsw8-correlation: dGVuYW50:Ymx1ZQ==\r\n\r\n"
    );
    client.write_all(request.as_bytes()).expect("the front server reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the front server answers");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("says 200"), "{answer}");
    for process in [front, back] {
        process.terminate();
        process.finish().expect_code(0);
    }

    let segments: Vec<SegmentObject> =
        fixture.seen(agent_fixture::SEGMENTS).iter().map(|seen| seen.decode()).collect();
    let of = |service: &str| {
        let mut own = segments.iter().filter(|segment| segment.service == service);
        own.next().unwrap_or_else(|| panic!("nothing of {service} in {segments:?}"))
    };
    let (front, back) = (of("front"), of("back"));
    assert_eq!((segments.len(), &*front.trace_id, &*back.trace_id), (2, "3.4.5", "3.4.5"));
    let [entry, exit] = &front.spans[..] else { panic!("{front:?}") };
    assert_eq!((&*entry.operation_name, &*exit.peer), ("GET:/forward", &*back_address));
    let reference = &entry.refs[0];
    assert_eq!((&*reference.parent_trace_segment_id, reference.parent_span_id), ("1.2.3", 4));
    let reference = &back.spans[0].refs[0];
    assert_eq!(reference.parent_trace_segment_id, front.trace_segment_id);
    assert_eq!((reference.parent_span_id, &*reference.parent_service), (exit.span_id, "front"));
    assert_eq!(
        (&*reference.parent_endpoint, &*reference.parent_service_instance),
        ("GET:/forward", "front-1")
    );
    assert_eq!(reference.network_address_used_at_peer, back_address);
    let logs = fixture.seen("/skywalking.v3.LogReportService/collect");
    let contexts = logs.iter().filter_map(|seen| seen.decode::<LogData>().trace_context);
    let of_trace = contexts.filter(|context| context.trace_id == "3.4.5");
    assert_eq!(of_trace.count(), 2);
    assert_eq!((fixture.events("Start").len(), fixture.events("Shutdown").len()), (2, 2));
}

#[test]
fn the_readme_shows_a_part_of_the_tonic_client() {
    let readme = include_str!("../README.md");
    let shown = readme.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```"));
    let shown = shown.expect("the README has a snippet").0;
    let example = include_str!("../examples/tonic_client.rs").replace("\n    ", "\n");
    assert!(example.contains(shown), "this is not in examples/tonic_client.rs:\n{shown}");
}

#[test]
fn they_are_short() {
    for text in [
        include_str!("../examples/tonic_client.rs"),
        include_str!("../examples/hyper_client.rs"),
        include_str!("../examples/agent.rs"),
    ] {
        assert!(text.lines().count() < 60);
    }
    assert!(include_str!("../examples/web_server.rs").lines().count() <= 120);
}
