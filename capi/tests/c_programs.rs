//! The library as C programs see it: every function, every misuse, over TLS to a collector.

mod support;

use support::{Backend, Program};

#[test]
fn misuse_is_an_error_and_never_a_crash() {
    let program = Program::compile("tests/c/misuse.c", &[]);
    let out = support::told(&program.command().current_dir("/").output().unwrap());
    assert_eq!(out, "", "the library prints nothing");
}

#[test]
fn records_of_several_threads_arrive_over_tls() {
    let backend = Backend::start();
    let program = Program::compile("tests/c/reports.c", &[]);
    let out = program.run(&backend, &[]);
    let acknowledged: u64 = out.trim().parse().expect("a number and nothing else");
    // And the event that says that the instance has started.
    assert_eq!(acknowledged, 4 * 250 + 11 + 1);
    let counts = backend.counts();
    assert!(counts.protocol.is_some(), "{counts:?}");
    let payloads = backend.segments();
    assert_eq!(payloads.len(), 4 * 250);
    for name in ["one", "two", "three", "four"] {
        for number in 0..250 {
            let payload = format!("{name} {number}").into_bytes();
            assert_eq!(payloads.get(&payload), Some(&1), "{name} {number}");
        }
    }
}

#[test]
fn what_the_backend_orders_reaches_the_host() {
    const CONFIGURATION: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";
    const TASKS: &str = "/skywalking.v3.ProfileTask/getProfileTaskCommands";
    const FINISHED: &str = "/skywalking.v3.ProfileTask/reportTaskFinish";
    let backend = Backend::start();
    backend.order(
        "/skywalking.v3.ManagementService/keepAlive",
        Some(("Greet", &[("SerialNumber", "1"), ("whom", "the host"), ("whom", "again")])),
    );
    let task = [
        ("SerialNumber", "2"),
        ("TaskId", "t1"),
        ("EndpointName", "GET:/"),
        ("Duration", "5"),
        ("MinDurationThreshold", "100"),
        ("DumpPeriod", "10"),
        ("MaxSamplingCount", "7"),
        ("StartTime", "1700000000001"),
        ("CreateTime", "1700000000000"),
    ];
    // Twice: a repeat is no second task.
    backend.order(TASKS, Some(("ProfileTaskQuery", &task)));
    backend.order(TASKS, Some(("ProfileTaskQuery", &task)));
    let value = [("SerialNumber", "3"), ("UUID", "a"), ("sample", "5"), ("other", "x")];
    backend.order(CONFIGURATION, Some(("ConfigurationDiscoveryCommand", &value)));
    let gone = [("SerialNumber", "4"), ("UUID", "b")];
    backend.order(CONFIGURATION, Some(("ConfigurationDiscoveryCommand", &gone)));

    let program = Program::compile("tests/c/orders.c", &[]);
    let out = program.run(&backend, &[]);
    let mut lines: Vec<_> = out.lines().collect();
    assert!(
        lines.iter().position(|line| *line == "value sample=5")
            < lines.iter().position(|line| *line == "value sample=(default)"),
        "{out}"
    );
    lines.sort_unstable();
    let expected = [
        "command Greet SerialNumber=1 whom=the host whom=again",
        "task t1 of GET:/: 300000 100 10 7 1700000000001 1700000000000",
        "value sample=(default)",
        "value sample=5",
    ];
    assert_eq!(lines, expected);
    let by_method = backend.counts().by_method;
    assert_eq!(by_method.get(FINISHED), Some(&1), "{by_method:?}");
    assert_eq!(by_method.get("/skywalking.v3.ProfileTask/collectSnapshot"), Some(&1));
}
