//! `admin.listen`: a relay tells probes, Prometheus and people how it is; above all, that renewed
//! certificates are not used, and why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod spool_fixture;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use grpc_client::{Client, SEGMENTS};
use serde_json::Value;
use spool_fixture::{DEADLINE, World, address, report};
use support::process::Process;

const LISTEN: &str = "admin.listen=127.0.0.1:0";

/// Where a relay tells how it is.
fn admin(relay: &Process) -> String {
    let line = relay.line("status and metrics at http://");
    line.rsplit("http://").next().unwrap().to_owned()
}

/// Head and body of the answer to a request.
fn ask(mut stream: impl Read + Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn get(admin: &str, path: &str) -> (String, String) {
    let stream = TcpStream::connect(admin).unwrap();
    ask(stream, &format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n"))
}

fn status(admin: &str) -> Value {
    let (head, body) = get(admin, "/status");
    assert!(head.starts_with("http/1.1 200") && head.contains("application/json"), "{head}");
    serde_json::from_str(&body).unwrap()
}

/// The value of a line of the metrics.
fn metric(admin: &str, name: &str) -> Option<String> {
    let (head, body) = get(admin, "/metrics");
    assert!(head.starts_with("http/1.1 200") && head.contains("version=0.0.4"), "{head}");
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

/// Waits until something is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < DEADLINE, "still not: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn figures_are_those_of_the_books_and_the_link() {
    let world = World::new();
    let collector = world.collector();
    let relay = world.relay(&[LISTEN]);
    let admin = admin(&relay);
    assert_eq!(get(&admin, "/healthz").1, "ok\n");
    world.runtime.block_on(async {
        let mut client = Client::plain(address(&relay)).await;
        assert!(report(&mut client, SEGMENTS, 0..10).await);
        world.arrivals.until(|arrivals| arrivals.count() == 10).await;
    });
    until("ten records are acknowledged", || {
        status(&admin)["books"]["total"]["acknowledged"] == 10
    });
    let now = status(&admin);
    assert_eq!((&now["mode"], &now["link"]["state"]), (&"mtls".into(), &"ready".into()), "{now}");
    assert!(now["link"]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{now}");
    assert!(now["link"]["connected_seconds"].as_u64().unwrap() < 60, "{now}");
    assert_eq!(now["books"]["total"]["accepted"], 10);
    assert_eq!(
        (&now["rotation"]["link"]["generation"], &now["stopping"]),
        (&1.into(), &false.into())
    );
    assert!(now["rotation"]["link"]["failure"].is_null());
    let own = &now["rotation"]["link"]["material"]["own"][0];
    assert!(own["subject"].as_str().unwrap().contains("CN=skytls agent"), "{own}");
    assert!(own["seconds_left"].as_i64().unwrap() > 0);
    for (name, value) in [
        ("skytls_records_accepted_total{kind=\"trace\"}", "10"),
        ("skytls_records_acknowledged_total{kind=\"trace\"}", "10"),
        ("skytls_records_dropped_total{kind=\"trace\",reason=\"rejected\"}", "0"),
        ("skytls_link_state{state=\"ready\"}", "1"),
        ("skytls_link_state{state=\"resting\"}", "0"),
        ("skytls_spool_failing", "0"),
        ("skytls_rotation_generation{set=\"link\"}", "1"),
        ("skytls_rotation_failing{set=\"link\"}", "0"),
        ("skytls_connections{generation=\"1\"}", "1"),
        ("skytls_backend_away", "0"),
    ] {
        assert_eq!(metric(&admin, name).as_deref(), Some(value), "{name}");
    }
    // A backend that goes away shows, and is no reason to restart the relay.
    world.runtime.block_on(collector.shutdown(Duration::ZERO));
    until("the link is down", || status(&admin)["link"]["state"] != "ready");
    assert_eq!(get(&admin, "/healthz").1, "ok\n");
    until("its reason is there", || status(&admin)["link"]["why"]["id"].is_string());
    let (head, page) = get(&admin, "/");
    assert!(head.contains("text/html") && page.contains("CN=skytls agent"), "{page}");
}

#[test]
fn a_bad_rotation_shows_until_it_is_mended() {
    let world = World::new();
    let relay = world.relay(&[LISTEN, "agent.ssl_reload_interval=1"]);
    let admin = admin(&relay);
    let chain = world.folder.path().join("ca/client.crt");
    let sound = fs::read(&chain).unwrap();
    fs::write(&chain, "garbage").unwrap();
    relay.line("SKT-230");
    let failure = || status(&admin)["rotation"]["link"]["failure"].clone();
    until("it shows", || !failure().is_null());
    let failure = failure();
    assert_eq!(failure["why"]["id"], "SKT-230", "{failure}");
    assert!(failure["why"]["text"].as_str().unwrap().contains("client.crt"), "{failure}");
    assert!(failure["attempts"].as_u64().unwrap() >= 1);
    assert_eq!(metric(&admin, "skytls_rotation_failing{set=\"link\"}").as_deref(), Some("1"));
    let since = metric(&admin, "skytls_rotation_failing_since_seconds{set=\"link\"}").unwrap();
    assert!(since.parse::<u64>().unwrap() > 1_700_000_000);
    let refused = metric(&admin, "skytls_rotation_refused_total{set=\"link\"}").unwrap();
    assert!(refused.parse::<u64>().unwrap() >= 1);
    fs::write(&chain, sound).unwrap();
    until("it is mended", || {
        metric(&admin, "skytls_rotation_failing{set=\"link\"}").as_deref() == Some("0")
    });
    assert!(status(&admin)["rotation"]["link"]["failure"].is_null());
    assert_eq!(metric(&admin, "skytls_rotation_failing_since_seconds{set=\"link\"}"), None);
}

/// Prometheus throws a whole scrape away that has two series with the same labels.
#[test]
fn no_two_series_have_the_same_labels() {
    let world = World::new();
    let ca = world.folder.path().join("ca/ca.crt");
    let once = fs::read(&ca).unwrap();
    fs::write(&ca, [&once[..], &once[..]].concat()).unwrap();
    let twice = format!("collector.backend_service={0},{0}", world.backend);
    let relay = world.relay(&[LISTEN, &twice]);
    let (_, body) = get(&admin(&relay), "/metrics");
    let mut series: Vec<&str> = body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let part =
        |part: &str| format!("skytls_certificate_not_after_seconds{{set=\"link\",part=\"{part}\"");
    for part in [part("ca"), part("own")] {
        assert_eq!(series.iter().filter(|one| one.starts_with(&part)).count(), 1, "{part}");
    }
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "{body}");
}

#[test]
fn a_probe_is_told_when_the_relay_comes_to_its_end() {
    let world = World::new();
    // Nobody takes the record: the drain lasts.
    let relay = world.skytls(&[LISTEN, "relay.drain_timeout=600"]).start();
    let admin = admin(&relay);
    world.runtime.block_on(async {
        let mut client = Client::plain(address(&relay)).await;
        assert!(report(&mut client, SEGMENTS, 0..1).await);
    });
    assert!(get(&admin, "/healthz").0.starts_with("http/1.1 200"));
    relay.terminate();
    relay.line("stopping: ");
    assert!(get(&admin, "/healthz").0.starts_with("http/1.1 503"));
    assert_eq!(status(&admin)["stopping"], true);
    relay.terminate();
    relay.finish().expect_code(1);
}

#[test]
fn only_questions_are_answered_and_only_of_this_machine() {
    let world = World::new();
    let relay = world.relay(&[LISTEN]);
    let admin = admin(&relay);
    assert!(get(&admin, "/other").0.starts_with("http/1.1 404"));
    let asked = |request: &str| ask(TcpStream::connect(&admin).unwrap(), request);
    let host = format!("Host: {admin}\r\n\r\n");
    let (head, body) = asked(&format!("HEAD /healthz HTTP/1.1\r\n{host}"));
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
    let (head, _) = asked(&format!("POST /status HTTP/1.1\r\n{host}"));
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    let (head, body) = asked("GET /status HTTP/1.1\r\nHost: attacker.example\r\n\r\n");
    assert!(head.starts_with("http/1.1 421") && !body.contains("books"), "{head}");
    assert!(asked("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").0.contains("200"));
}

#[test]
fn who_keeps_connections_open_takes_no_more_than_there_are() {
    let world = World::new();
    let relay = world.relay(&[LISTEN]);
    let admin = admin(&relay);
    let mut silent: Vec<TcpStream> = (0..32).map(|_| TcpStream::connect(&admin).unwrap()).collect();
    let mut beyond = TcpStream::connect(&admin).unwrap();
    beyond.set_read_timeout(Some(DEADLINE)).unwrap();
    assert!(matches!(beyond.read(&mut [0]), Ok(0) | Err(_)), "it is closed upon");
    // The last of them has a place: it is answered.
    let last = silent.pop().unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    assert_eq!(ask(last, &request).1, "ok\n");
    // Its place is free again, a moment after its connection has ended.
    let begun = Instant::now();
    loop {
        let mut answer = String::new();
        let mut next = TcpStream::connect(&admin).unwrap();
        next.set_read_timeout(Some(DEADLINE)).unwrap();
        let told =
            next.write_all(request.as_bytes()).and_then(|()| next.read_to_string(&mut answer));
        if told.is_ok() && answer.ends_with("ok\n") {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{told:?} {answer:?}");
    }
}

#[test]
fn a_unix_socket_will_do_and_another_machine_will_not() {
    let world = World::new();
    let path = world.folder.path().join("admin.sock");
    let relay = world.relay(&[&format!("admin.listen=unix:{}", path.display())]);
    relay.line("status and metrics at unix:");
    let stream = UnixStream::connect(&path).unwrap();
    assert_eq!(ask(stream, "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n").1, "ok\n");
    relay.terminate();
    relay.finish().expect_code(0);
    assert!(!path.exists());
    for listen in ["admin.listen=0.0.0.0:0", "admin.listen=127.0.0.1:0,[::]:0"] {
        let finished = world.skytls(&[listen]).run().expect_code(2);
        assert!(finished.stderr.contains("SKT-841"), "{}", finished.stderr);
    }
}
