//! A process may fork at any moment: nobody hangs, and no record is lost or doubled.

mod support;

use std::time::Instant;

use skytls::pki::{Authority, Profile, Validity};
use support::{Backend, Program, count};

#[test]
fn forks_under_load_lose_and_double_nothing() {
    let forks = count("SKYTLS_TEST_FORKS", 100);
    let backend = Backend::start();
    let program = Program::compile("tests/c/forks.c", &[]);
    let begun = Instant::now();
    let out = program.run(&backend, &[&forks.to_string(), "8"]);
    let [parent, children, median, p99, longest] =
        out.split_whitespace().map(|number| number.parse::<u64>().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("{out}")
    };
    // All but those that never use it; a grandchild adds one.
    let (idle, grand) = (count_of(forks, 7), count_of(forks, 3));
    assert_eq!(children, u64::from((forks - idle) * 5 + grand));
    let payloads = backend.segments();
    let doubled: Vec<_> = payloads.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(payloads.len() as u64, parent + children, "by the books and at the backend");
    support::figures(&format!(
        "{forks} forks: {parent} records of the parent, {children} of children, {} connections, {:?}; \
         held up for {median} µs in the middle, 99 % {p99} µs, longest {longest} µs",
        backend.counts().connections,
        begun.elapsed()
    ));
}

#[test]
fn a_fork_right_after_a_start_hangs_nobody() {
    let rounds = count("SKYTLS_TEST_FORKS", 100) / 4;
    let backend = Backend::start();
    let program = Program::compile("tests/c/fork_at_start.c", &[]);
    let out = program.run(&backend, &[&rounds.to_string()]);
    assert_eq!(out.trim(), rounds.to_string());
    assert_eq!(backend.segments().len(), rounds as usize);
    assert!(backend.segments().values().all(|times| *times == 1));
}

/// Runs one case of `processes.c`, and says which segments have arrived.
fn processes(case: &str) -> Vec<String> {
    processes_at(&Backend::start(), case)
}

fn processes_at(backend: &Backend, case: &str) -> Vec<String> {
    let program = Program::compile("tests/c/processes.c", &[]);
    assert_eq!(program.run(backend, &[case]), format!("{case}\n"));
    let arrived = backend.segments();
    let texts = arrived.iter().flat_map(|(bytes, times)| {
        std::iter::repeat_n(String::from_utf8_lossy(bytes).into_owned(), *times as usize)
    });
    let mut texts: Vec<_> = texts.collect();
    texts.sort();
    texts
}

#[test]
fn a_daemon_goes_on() {
    assert_eq!(processes("daemon"), ["after daemon", "before daemon"]);
}

#[test]
fn a_grandchild_is_a_child() {
    assert_eq!(processes("double"), ["child", "grandchild", "parent"]);
}

#[test]
fn other_programs_may_be_started() {
    let arrived = processes("vfork");
    assert_eq!(arrived.len(), 50);
}

#[test]
fn a_callback_may_fork() {
    assert_eq!(processes("callback"), ["after the callback"]);
}

#[test]
fn the_thread_that_starts_an_agent_may_fork_meanwhile() {
    let backend = Backend::start();
    let program = Program::compile("tests/c/fork_within.c", &[]);
    assert_eq!(program.run(&backend, &[]), "");
    let arrived = backend.segments();
    let mut texts: Vec<_> = arrived.keys().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    texts.sort();
    assert_eq!(texts, ["of the child", "of the parent"]);
}

#[test]
fn a_fork_as_soon_as_the_host_hears_of_a_start_finds_it_started() {
    // An authority that has expired is worth a line.
    let backend = Backend::start();
    let old = Profile::new("expired").unwrap().valid(Validity::relative(-86_400, -3_600));
    let text = std::fs::read_to_string(backend.ca()).unwrap();
    let text = text + Authority::new(&old).unwrap().certificate_pem();
    std::fs::write(backend.ca(), text).unwrap();
    assert_eq!(processes_at(&backend, "starting"), ["of the child", "of the parent"]);
}

#[test]
fn a_child_may_stop_and_free_and_start_over() {
    assert_eq!(processes("orders"), ["an agent of the child"]);
}

#[test]
fn workers_may_start_what_the_master_has_made() {
    assert_eq!(processes("workers"), ["worker"; 3]);
}

#[test]
fn a_child_without_the_files_is_told_and_may_try_again() {
    assert_eq!(processes("files"), ["after all"]);
}

#[test]
fn a_child_has_a_spool_of_its_own() {
    assert_eq!(processes("spool"), ["stored by the child", "stored by the parent"]);
}

#[test]
fn a_child_that_lives_on_does_not_keep_the_spool_of_its_dead_parent() {
    assert_eq!(processes("survivor"), ["stored by the dead"]);
}

/// How many of the numbers below `forks` leave that remainder by 16.
fn count_of(forks: u32, remainder: u32) -> u32 {
    (0..forks).map(|number| u32::from(number % 16 == remainder)).sum()
}
