//! What an agent says by itself is what the Java agent says: messages, their order, their times, and the
//! headers on every call. What fails is said again soon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent_fixture;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_fixture::{DEADLINE, EVENTS, Fixture, KEEP_ALIVE, PROPERTIES, SEGMENTS, settings};
use skytls::Agent;
use skytls::agent::Host;
use skytls::error::Code;
use skytls::protocol::v3::{Event, InstancePingPkg, InstanceProperties, LogData};
use skytls::server::{Effect, Fault};

fn host() -> Host {
    Host::new("rust").agent_version("9.9.9").property("Rust Version", "1.88")
}

#[test]
fn properties_come_first_and_again_after_as_many_heartbeats_as_are_set() {
    let fixture = Fixture::new();
    let periods =
        [("collector.heartbeat_period", "1"), ("collector.properties_report_period_factor", "2")];
    let _agent = fixture.agent(&periods, host());
    fixture.await_seen(PROPERTIES, 2);
    fixture.await_seen(KEEP_ALIVE, 2);
    let management = |seen: &agent_fixture::Seen| [PROPERTIES, KEEP_ALIVE].contains(&seen.path);
    let beats: Vec<_> = fixture.all_seen().into_iter().filter(management).collect();
    let paths: Vec<&str> = beats.iter().take(4).map(|seen| seen.path).collect();
    assert_eq!(paths, [PROPERTIES, KEEP_ALIVE, PROPERTIES, KEEP_ALIVE]);
    for pair in beats.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&gap), "{gap:?}");
    }
    let ping: InstancePingPkg = beats[1].decode();
    assert_eq!((&*ping.service, &*ping.layer), ("shop", ""));
    assert_eq!(ping.service_instance, _agent.instance());
}

#[test]
fn the_properties_are_those_of_the_java_agent_in_its_order() {
    let fixture = Fixture::new();
    let named = [
        ("agent.namespace", "ns"),
        ("agent.instance_name", "shop-1"),
        ("agent.instance_properties_json", r#"{"zone":"b","rack":"7"}"#),
        ("osinfo.ipv4_list_size", "0"),
    ];
    let agent = fixture.agent(&named, host());
    assert_eq!((agent.service(), agent.instance()), ("shop|ns|", "shop-1"));
    let seen = fixture.await_seen(PROPERTIES, 1);
    let report: InstanceProperties = seen[0].decode();
    assert_eq!((&*report.service, &*report.service_instance), ("shop|ns|", "shop-1"));
    let pairs: Vec<(&str, &str)> =
        report.properties.iter().map(|pair| (&*pair.key, &*pair.value)).collect();
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
    assert_eq!(
        keys,
        [
            "OS Name",
            "hostname",
            "Process No.",
            "language",
            "zone",
            "rack",
            "namespace",
            "cluster",
            "version",
            "Start Time",
            "Rust Version"
        ]
    );
    let pid = std::process::id().to_string();
    assert_eq!(
        pairs[2..9],
        [
            ("Process No.", &*pid),
            ("language", "rust"),
            ("zone", "b"),
            ("rack", "7"),
            ("namespace", "ns"),
            ("cluster", ""),
            ("version", "9.9.9"),
        ]
    );
    #[cfg(target_os = "linux")]
    assert_eq!(pairs[0].1, "Linux");
    let form: String =
        pairs[9].1.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00 00:00:00");
}

#[test]
fn at_most_so_many_addresses_are_listed_as_are_set_and_no_loopback() {
    let fixture = Fixture::new();
    let _agent = fixture.agent(&[("osinfo.ipv4_list_size", "1")], host());
    let report: InstanceProperties = fixture.await_seen(PROPERTIES, 1)[0].decode();
    let keys: Vec<&str> = report.properties.iter().map(|pair| &*pair.key).collect();
    let addresses: Vec<_> = report.properties.iter().filter(|pair| pair.key == "ipv4").collect();
    assert!(addresses.len() <= 1, "{addresses:?}");
    if let Some(address) = addresses.first() {
        assert!(address.value.parse::<std::net::Ipv4Addr>().is_ok_and(|a| !a.is_loopback()));
        assert_eq!(keys[..4], ["OS Name", "hostname", "ipv4", "Process No."]);
    }
}

#[test]
fn start_and_shutdown_are_events_and_the_shutdown_comes_last() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&[("agent.cluster", "c")], host());
    fixture.await_seen(EVENTS, 1);
    for _ in 0..100 {
        let mut segment = agent.segment();
        segment.entry("GET:/", None);
        agent.report(segment);
    }
    assert_eq!(agent.shutdown(DEADLINE).wait(), 0);
    assert_eq!(agent.try_report(LogData::default()).unwrap_err().code(), Code::Stopped);
    let (start, shutdown) = (fixture.events("Start"), fixture.events("Shutdown"));
    assert_eq!((start.len(), shutdown.len(), fixture.seen(SEGMENTS).len()), (1, 1, 100));
    let last: Event = fixture.all_seen().last().unwrap().decode();
    assert_eq!(last, shutdown[0]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for (event, message) in
        [(&start[0], "Start Rust Application"), (&shutdown[0], "Shutting down Rust Application")]
    {
        assert_eq!((&*event.message, event.r#type, &*event.layer), (message, 0, "GENERAL"));
        let source = event.source.as_ref().unwrap();
        assert_eq!((&*source.service, &*source.endpoint), ("shop||c", ""));
        assert_eq!(source.service_instance, agent.instance());
        assert_eq!(event.uuid.len(), 36);
        assert!(event.start_time <= event.end_time && event.end_time <= now);
        assert!(event.start_time > now - 60_000, "{event:?}");
    }
    assert_ne!(start[0].uuid, shutdown[0].uuid);
}

/// `Duration::MAX` is how a host says "for ever".
#[test]
fn a_shutdown_without_a_limit_ends_when_all_is_delivered() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&[], host());
    assert_eq!(agent.flush(Duration::MAX).wait(), 0);
    assert_eq!(agent.shutdown(Duration::MAX).wait(), 0);
    assert_eq!(fixture.events("Shutdown").len(), 1);
}

#[test]
fn properties_that_are_not_answered_do_not_stop_the_heart() {
    let fixture = Fixture::new();
    let slow = Effect::Delay(2 * DEADLINE);
    fixture.set_faults(vec![Fault::new(slow).on("reportInstanceProperties")]);
    let begun = Instant::now();
    let _agent = fixture.agent(&[("collector.heartbeat_period", "1")], host());
    fixture.await_seen(KEEP_ALIVE, 2);
    assert!(begun.elapsed() < DEADLINE / 3, "{:?}", begun.elapsed());
}

#[test]
fn calls_without_a_limit_are_made() {
    let fixture = Fixture::new();
    let mut settings = fixture.settings(&[]);
    settings.link.upstream_timeout = Duration::MAX;
    let agent = Agent::start_for(&settings, host()).unwrap();
    fixture.await_seen(PROPERTIES, 1);
    assert_eq!(agent.shutdown(DEADLINE).wait(), 0);
}

#[test]
fn every_call_carries_version_and_token() {
    let fixture = Fixture::new();
    let periods = [("agent.authentication", "t0ken"), ("collector.heartbeat_period", "1")];
    let agent = fixture.agent(&periods, host());
    agent.report(LogData::default());
    agent.report(agent.segment());
    fixture.await_seen(KEEP_ALIVE, 1);
    assert_eq!(agent.shutdown(DEADLINE).wait(), 0);
    let all = fixture.all_seen();
    assert!(all.len() >= 6, "{all:?}");
    for seen in all {
        let values = |name| seen.metadata.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("agent-version"), ["9.9.9"], "{}", seen.path);
        assert_eq!(values("authentication"), ["t0ken"], "{}", seen.path);
        if [PROPERTIES, KEEP_ALIVE].contains(&seen.path) {
            // The deadline of every call: 30 seconds by default.
            assert_eq!(values("grpc-timeout"), ["30000000u"], "{}", seen.path);
        }
    }
}

/// The loader refuses such settings; a host may change them afterwards.
#[test]
fn a_token_never_travels_in_plaintext() {
    let fixture = Fixture::new();
    let mut settings = fixture.settings(&[("agent.authentication", "t0ken")]);
    let exposed = settings_of_another_machine();
    settings.link.backends.extend(exposed.link.backends);
    let agent = Agent::start_for(&settings, host()).unwrap();
    agent.report(agent.segment());
    fixture.await_seen(PROPERTIES, 1);
    fixture.await_seen(SEGMENTS, 1);
    assert!(fixture.all_seen().iter().all(|seen| !seen.metadata.contains_key("authentication")));

    // Its twin: whoever says so has it sent.
    settings.agent.allow_plaintext_token = true;
    let _twin = Agent::start_for(&settings, host()).unwrap();
    fixture.until(|counts| counts.by_method.get(PROPERTIES).is_some_and(|n| *n >= 2));
    assert_eq!(fixture.seen(PROPERTIES)[1].metadata["authentication"], "t0ken");
}

fn settings_of_another_machine() -> skytls::config::Settings {
    // Nothing is there (RFC 3849): the other backend is the one that answers.
    settings("[2001:db8::1]:11800", &[])
}

#[test]
fn what_failed_is_said_again_long_before_the_next_heartbeat() {
    let fixture = Fixture::new();
    fixture.set_faults(vec![Fault::status(14).on("reportInstanceProperties").times(3)]);
    let begun = Instant::now();
    let _agent = fixture.agent(&[], host());
    fixture.await_seen(PROPERTIES, 1);
    // Rests of at most a half, one and two seconds; a heartbeat comes every 30.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(fixture.seen(KEEP_ALIVE).is_empty());
    assert!(fixture.collector.counts().calls_refused == 3, "{:?}", fixture.collector.counts());
}

#[test]
fn the_heart_beats_though_the_properties_are_refused() {
    let fixture = Fixture::new();
    fixture.set_faults(vec![Fault::status(3).on("reportInstanceProperties")]);
    // Also where each beat would be the properties instead.
    for factor in ["10", "1"] {
        let before = fixture.seen(KEEP_ALIVE).len() as u64;
        let periods = [
            ("collector.heartbeat_period", "1"),
            ("collector.properties_report_period_factor", factor),
        ];
        let _agent = fixture.agent(&periods, host());
        fixture.await_seen(KEEP_ALIVE, before + 3);
    }
    assert!(fixture.seen(PROPERTIES).is_empty());
    fixture.set_faults(Vec::new());
    let _agent = fixture.agent(&[], host());
    fixture.await_seen(PROPERTIES, 1);
}

#[test]
fn a_backend_that_refuses_the_agent_is_not_pestered() {
    let fixture = Fixture::new();
    fixture.set_faults(vec![Fault::status(7).on("reportInstanceProperties")]);
    let quick = [("collector.heartbeat_period", "2"), ("collector.get_profile_task_interval", "1")];
    let _agent = fixture.agent(&quick, host().on_profile_task(|_| {}));
    // About five seconds: rests of a half, one, two and two seconds, or half of that.
    fixture.await_seen("/skywalking.v3.ProfileTask/getProfileTaskCommands", 6);
    let refused = fixture.collector.counts().calls_refused;
    assert!((2..=8).contains(&refused), "{refused}");
    fixture.set_faults(Vec::new());
    fixture.await_seen(PROPERTIES, 1);
    fixture.await_seen(KEEP_ALIVE, 1);
}

#[test]
fn a_call_that_is_never_answered_is_given_up_at_its_deadline() {
    let fixture = Fixture::new();
    let hang: Fault = "hang:method=reportInstanceProperties:times=1".parse().unwrap();
    fixture.set_faults(vec![hang]);
    let begun = Instant::now();
    let _agent = fixture.agent(&[("collector.grpc_upstream_timeout", "1")], host());
    fixture.await_seen(PROPERTIES, 1);
    let waited = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&waited), "{waited:?}");
}

#[test]
fn the_heart_beats_on_over_the_next_connection() {
    let fixture = Fixture::new();
    let _agent = fixture.agent(&[("collector.heartbeat_period", "1")], host());
    fixture.await_seen(KEEP_ALIVE, 1);
    fixture.collector.disconnect();
    fixture.until(|counts| counts.connections == 2);
    let beats = fixture.seen(KEEP_ALIVE).len() as u64;
    fixture.await_seen(KEEP_ALIVE, beats + 2);
    assert_eq!((fixture.seen(PROPERTIES).len(), fixture.events("Start").len()), (1, 1));
}

#[test]
fn without_a_name_there_is_no_agent() {
    for name in ["", "Your_ApplicationName"] {
        let nameless = settings("127.0.0.1:1", &[("agent.service_name", name)]);
        assert_eq!(Agent::start(&nameless).unwrap_err().code(), Code::ServiceNameMissing);
    }
    let odd = Host::new("rust").agent_version("1\n2");
    let error = Agent::start_for(&settings("127.0.0.1:1", &[]), odd).unwrap_err();
    assert_eq!(error.code(), Code::BadAgentVersion);
}

#[test]
fn one_that_is_switched_off_accepts_nothing_and_does_nothing() {
    let fixture = Fixture::new();
    let off = fixture.agent(&[("agent.enable", "false")], host());
    assert_eq!(off.try_report(off.segment()).unwrap_err().code(), Code::AgentDisabled);
    off.report(LogData::default());
    off.finish_profile_task("t");
    assert!(!off.status().enabled && off.status().books.total.accepted == 0);
    assert_eq!(off.flush(DEADLINE).wait(), 0);
    assert_eq!(off.shutdown(DEADLINE).wait(), 0);
    // Its twin is heard, and nobody else was.
    let on = fixture.agent(&[], host());
    fixture.await_seen(PROPERTIES, 1);
    assert!(on.status().enabled);
    assert_eq!(fixture.collector.counts().connections, 1);
}
