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
