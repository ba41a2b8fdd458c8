//! The programs under `examples/c` do what they say.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};

use prost::Message;
use skytls::protocol::v3::SegmentObject;

use support::{Backend, Program, told};

fn segments(backend: &Backend) -> Vec<SegmentObject> {
    let arrived = backend.segments();
    arrived.keys().map(|bytes| SegmentObject::decode(&bytes[..]).expect("a segment")).collect()
}

/// Takes its workers with it, also when the test fails: they would hold the test's output open.
struct Server(Child);

impl Server {
    fn stop(&mut self) -> ExitStatus {
        let id = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        assert!(asked.is_ok_and(|status| status.success()));
        self.0.wait().expect("it is our child")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

#[test]
fn the_minimal_one_is_short_and_delivers() {
    let source = include_str!("../../examples/c/minimal.c");
    assert!(source.lines().count() < 80);
    let backend = Backend::start();
    let program = Program::compile("../examples/c/minimal.c", &[]);
    let ca = backend.ca();
    let output = program
        .command()
        .current_dir("/")
        .env("SW_AGENT_NAME", "shop")
        .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", backend.address())
        .args(["agent.ssl_trusted_ca_path", ca.to_str().unwrap()])
        .output();
    let output = output.unwrap();
    assert_eq!(told(&output), "0 lost\n");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("skytls: connected to localhost:"), "{log}");
    let [segment] = &segments(&backend)[..] else { panic!("{:?}", segments(&backend)) };
    assert_eq!((&*segment.service, &*segment.spans[0].tags[0].value), ("shop", "42"));
}

#[test]
fn the_server_traces_in_every_worker_and_stops_gracefully() {
    const REQUESTS: usize = 40;
    let backend = Backend::start();
    let program = Program::compile("../examples/c/prefork.c", &[]);
    let (address, ca) = (backend.address(), backend.ca());
    let mut command: Command = program.command();
    command.arg("4").args(["agent.service_name", "server"]);
    command.args(["collector.backend_service", &address]);
    command.args(["agent.ssl_trusted_ca_path", ca.to_str().unwrap()]);
    let mut server = Server(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let mut workers = std::collections::HashSet::new();
    for number in 0..REQUESTS {
        let mut client = TcpStream::connect(format!("127.0.0.1:{}", port.trim())).unwrap();
        let sw8 = "1-MQ==-Mg==-3-c2hvcA==-c2hvcC0x-R0VUOi8=-bWU6ODA=";
        // In one piece: the example reads once.
        let request = format!("GET /{number} HTTP/1.1\r\nsw8: {sw8}\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("X-Trace: 1\r\n"), "{answer}");
        workers.insert(answer.rsplit(' ').next().unwrap_or_default().to_owned());
    }
    assert!(server.stop().success());
    let arrived = segments(&backend);
    assert_eq!(arrived.len(), REQUESTS);
    assert!(arrived.iter().all(|segment| segment.trace_id == "1"));
    support::figures(&format!("{} workers served {REQUESTS} requests", workers.len()));
}

#[test]
fn a_program_may_use_its_own_openssl_at_the_same_time() {
    let backend = Backend::start();
    let program = Program::compile("../examples/c/own_openssl.c", &["-lssl", "-lcrypto"]);
    let (address, ca) = (backend.address(), backend.ca());
    let (host, port) = address.split_once(':').unwrap();
    let out = program.command().args([ca.to_str().unwrap(), host, port]).output().unwrap();
    let out = told(&out);
    assert_eq!(out.matches("own: OpenSSL ").count(), 10, "{out}");
    assert!(out.contains("skytls: OpenSSL "), "{out}");
    // The one built in, and the host's.
    let copies = format!("{} copies", support::count("SKYTLS_TEST_COPIES", 1));
    assert!(out.contains(&copies), "{out}");
    assert_eq!(segments(&backend).len(), 10);
}
