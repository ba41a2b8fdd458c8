//! Dynamic configuration and profiling tasks: asked for as the Java agent asks, told once, and only what
//! has changed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent_fixture;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use agent_fixture::{
    CONFIGURATION, DEADLINE, Fixture, KEEP_ALIVE, PROFILE_TASKS, PROPERTIES, command,
};
use skytls::agent::{Host, ProfileTask};
use skytls::protocol::v3::{
    Command, ConfigurationSyncRequest, ProfileTaskCommandQuery, ProfileTaskFinishReport,
};
use skytls::server::Fault;

const QUICK: [(&str, &str); 3] = [
    ("collector.heartbeat_period", "1"),
    ("collector.get_agent_dynamic_config_interval", "1"),
    ("collector.get_profile_task_interval", "1"),
];
const FINISH: &str = "/skywalking.v3.ProfileTask/reportTaskFinish";

fn configuration(serial: &str, uuid: &str, pairs: &[(&str, &str)]) -> Command {
    let head = [("SerialNumber", serial), ("UUID", uuid)];
    command("ConfigurationDiscoveryCommand", &[&head, pairs].concat())
}

fn task(serial: &str, id: &str, created: &str) -> Command {
    let args = [
        ("SerialNumber", serial),
        ("TaskId", id),
        ("EndpointName", "GET:/"),
        ("Duration", "5"),
        ("MinDurationThreshold", "0"),
        ("DumpPeriod", "10"),
        ("MaxSamplingCount", "5"),
        ("StartTime", "1"),
        ("CreateTime", created),
    ];
    command("ProfileTaskQuery", &args)
}

fn next<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(DEADLINE).unwrap()
}

#[test]
fn a_watcher_hears_of_changes_only_and_of_the_end_of_a_value() {
    let fixture = Fixture::new();
    // Each answer belongs to one poll.
    fixture.reply(CONFIGURATION, [configuration("1", "u1", &[("sample", "5"), ("other", "x")])]);
    fixture.reply(CONFIGURATION, []);
    fixture.reply(CONFIGURATION, [configuration("2", "u2", &[("sample", "5")])]);
    fixture.reply(CONFIGURATION, [configuration("3", "u3", &[("sample", "6")])]);
    fixture.reply(CONFIGURATION, [configuration("4", "u4", &[])]);
    let (tell, told) = channel();
    let begun = Instant::now();
    let host = Host::new("rust")
        .watch("sample", move |value| tell.send(value.map(str::to_owned)).unwrap());
    let _agent = fixture.agent(&QUICK, host);
    let heard = [next(&told), next(&told), next(&told)];
    assert_eq!(heard, [Some("5".to_owned()), Some("6".to_owned()), None]);
    let polls = fixture.await_seen(CONFIGURATION, 6);
    let requests: Vec<ConfigurationSyncRequest> = polls.iter().map(|seen| seen.decode()).collect();
    let uuids: Vec<&str> = requests.iter().map(|request| &*request.uuid).collect();
    assert_eq!(uuids[..6], ["", "u1", "u1", "u2", "u3", "u4"]);
    assert!(requests.iter().all(|request| request.service == "shop"));
    assert!(told.try_recv().is_err());
    // Unlike the heartbeat the first poll comes after an interval.
    assert!(polls[0].at - begun >= Duration::from_millis(900), "{:?}", polls[0].at - begun);
}

#[test]
fn a_watcher_that_panics_keeps_the_change_from_nobody() {
    let fixture = Fixture::new();
    let values = [("a", "1"), ("b", "2"), ("c", "3")];
    fixture.reply(CONFIGURATION, [configuration("1", "u1", &values)]);
    let (tell, told) = channel();
    let tells = |key: &'static str| {
        let tell = tell.clone();
        move |value: Option<&str>| tell.send((key, value.map(str::to_owned))).unwrap()
    };
    let host = Host::new("rust")
        .watch("a", tells("a"))
        .watch("b", |_| panic!("a host's own fault"))
        .watch("c", tells("c"));
    let _agent = fixture.agent(&QUICK, host);
    let some = |value: &str| Some(value.to_owned());
    assert_eq!([next(&told), next(&told)], [("a", some("1")), ("c", some("3"))]);
}

#[test]
fn nothing_is_asked_for_that_nobody_watches() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&QUICK, Host::new("rust"));
    fixture.await_seen(KEEP_ALIVE, 3);
    assert!(fixture.seen(CONFIGURATION).is_empty() && fixture.seen(PROFILE_TASKS).is_empty());
    // Its twin, and one that comes late: the whole configuration is sent again.
    let (tell, told) = channel();
    agent.watch("a", |_| {});
    fixture.reply(CONFIGURATION, [configuration("1", "u1", &[("a", "1"), ("b", "2")])]);
    fixture.await_seen(CONFIGURATION, 2);
    agent.watch("b", move |value| tell.send(value.map(str::to_owned)).unwrap());
    fixture.reply(CONFIGURATION, [configuration("2", "u1", &[("a", "1"), ("b", "2")])]);
    assert_eq!(next(&told).as_deref(), Some("2"));
    let uuids = |seen: &agent_fixture::Seen| seen.decode::<ConfigurationSyncRequest>().uuid;
    let asked: Vec<String> = fixture.seen(CONFIGURATION).iter().map(uuids).collect();
    assert_eq!((&*asked[0], &*asked[1]), ("", "u1"));
    assert!(asked[2..].contains(&String::new()), "{asked:?}");
}

#[test]
fn a_task_reaches_the_profiler_once_and_its_end_the_backend() {
    let fixture = Fixture::new();
    // The same serial number again, then a new one; what is unreadable does no harm.
    fixture.reply(PROFILE_TASKS, [task("1", "t1", "1000")]);
    fixture.reply(PROFILE_TASKS, [task("1", "t1", "1000"), task("x", "t?", "soon")]);
    fixture.reply(PROFILE_TASKS, [task("2", "t2", "2000")]);
    let (tell, told) = channel();
    let host = Host::new("rust").on_profile_task(move |task: ProfileTask| tell.send(task).unwrap());
    let agent = fixture.agent(&QUICK, host);
    let tasks = [next(&told), next(&told)];
    assert_eq!((&*tasks[0].task_id, &*tasks[1].task_id), ("t1", "t2"));
    assert_eq!(tasks[0].duration, Duration::from_secs(300));
    let polls = fixture.await_seen(PROFILE_TASKS, 4);
    let queries: Vec<ProfileTaskCommandQuery> = polls.iter().map(|seen| seen.decode()).collect();
    let times: Vec<i64> = queries.iter().map(|query| query.last_command_time).collect();
    assert_eq!(times[..4], [0, 1000, 1000, 2000]);
    assert!(queries.iter().all(|q| q.service == "shop" && q.service_instance == agent.instance()));
    assert!(told.try_recv().is_err());

    // It arrives although the backend is out of order at first.
    fixture.set_faults(vec![Fault::status(14).on("reportTaskFinish").times(1)]);
    agent.finish_profile_task("t1");
    let report: ProfileTaskFinishReport = fixture.await_seen(FINISH, 1)[0].decode();
    assert_eq!((&*report.service, &*report.task_id), ("shop", "t1"));
    assert_eq!(report.service_instance, agent.instance());
}

#[test]
fn the_end_of_a_task_is_reported_before_the_agents_own_end() {
    let fixture = Fixture::new();
    let agent = fixture.agent(&[], Host::new("rust"));
    fixture.await_seen(PROPERTIES, 1);
    fixture.set_faults(vec![Fault::status(14).on("reportTaskFinish").times(1)]);
    agent.finish_profile_task("t1");
    fixture.until(|counts| counts.calls_refused == 1);
    // It rests now, before it tries again.
    agent.shutdown(DEADLINE).wait();
    assert_eq!(fixture.seen(FINISH).len(), 1);
    // Its twin: an end that may take no time waits for nothing.
    let agent = fixture.agent(&[], Host::new("rust"));
    fixture.await_seen(PROPERTIES, 2);
    fixture.set_faults(vec![Fault::status(14).on("reportTaskFinish")]);
    agent.finish_profile_task("t2");
    fixture.until(|counts| counts.calls_refused == 2);
    let begun = Instant::now();
    agent.shutdown(Duration::ZERO).wait();
    assert!(begun.elapsed() < DEADLINE / 3, "{:?}", begun.elapsed());
    assert_eq!(fixture.seen(FINISH).len(), 1);
}

#[test]
fn a_backend_that_does_not_know_profiling_is_asked_once() {
    let fixture = Fixture::new();
    fixture.set_faults(vec![Fault::status(12).on("getProfileTaskCommands")]);
    let _agent = fixture.agent(&QUICK, Host::new("rust").on_profile_task(|_| {}));
    fixture.until(|counts| counts.calls_refused == 1);
    fixture.await_seen(KEEP_ALIVE, 4);
    assert_eq!(fixture.collector.counts().calls_refused, 1);

    // Its twin: a backend that is out of order is asked again.
    fixture.set_faults(vec![Fault::status(14).on("getProfileTaskCommands").times(1)]);
    let _other = fixture.agent(&QUICK, Host::new("rust").on_profile_task(|_| {}));
    fixture.await_seen(PROFILE_TASKS, 1);
}

#[test]
fn a_host_that_blocks_or_panics_does_not_stop_the_agent() {
    let fixture = Fixture::new();
    fixture.reply(PROFILE_TASKS, [command("A", &[]), command("B", &[]), command("C", &[])]);
    let (tell, told) = channel::<String>();
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let host = Host::new("rust").on_profile_task(|_| {}).on_command(move |command| {
        tell.send(command.command.clone()).unwrap();
        match &*command.command {
            "A" => panic!("a host's own fault"),
            "B" => _ = wait.lock().unwrap().recv(),
            _ => {}
        }
    });
    let _agent = fixture.agent(&QUICK, host);
    assert_eq!([next(&told), next(&told)], ["A", "B"]);
    // While B blocks, the heart beats on.
    let beats = fixture.seen(KEEP_ALIVE).len() as u64;
    fixture.await_seen(KEEP_ALIVE, beats + 3);
    assert!(told.try_recv().is_err());
    drop(go);
    assert_eq!(next(&told), "C");
}
