//! A report costs the thread that makes it next to nothing: no lock, no memory, no system call but to wake the engine.

mod support;

use support::{Backend, Program, count};

/// Debug builds on busy machines are slow: how long a report takes is shown, and only system calls are judged.
#[test]
fn a_report_makes_no_system_call_but_to_wake_the_engine_and_to_get_memory() {
    let reports = count("SKYTLS_TEST_REPORTS", 20_000);
    let program = Program::compile("tests/c/costs.c", &[]);
    for threads in [1, 8] {
        for counting in ["0", "1"] {
            let backend = Backend::start();
            let arguments =
                [&*threads.to_string(), &*reports.to_string(), "682", "1000", "20000", counting];
            let out = program.run(&backend, &arguments);
            let [_, total, refused, median, p99, p999, longest, wakes, memory, others] =
                out.split_whitespace().map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..]
            else {
                panic!("{out}")
            };
            assert_eq!((total, refused), (u64::from(threads * reports), 0));
            // After each pause of the threads, and whenever the engine has caught up with them: on an idle machine
            // three times in a thousand reports.
            assert!(wakes <= total / 100, "{out}");
            // Once for a few runs of records, until as many as are on their way have come back.
            assert!(memory <= total / 50 && others == 0, "{out}");
            support::figures(&format!(
                "{threads} threads, {total} reports: median {median} ns, 99 % {p99} ns, 99.9 % {p999} ns, \
                 longest {longest} ns{}",
                match counting {
                    "1" => format!("; {wakes} wakes, {memory} system calls for memory"),
                    _ => String::new(),
                }
            ));
        }
    }
}
