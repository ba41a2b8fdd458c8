//! A program may exit at any moment, also in the middle of a handshake: no crash, no hang.

mod support;

use std::collections::VecDeque;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Backend, Program, count, told};

/// The host's own OpenSSL, as a program that uses it would link it.
const HOSTS_OPENSSL: [&str; 2] = ["-lssl", "-lcrypto"];

/// Takes connections and never answers: the handshake lasts for as long as the program does.
fn silent_backend() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let mut last = VecDeque::new();
        for client in listener.incoming() {
            last.push_back(client);
            if last.len() > 64 {
                last.pop_front();
            }
        }
    });
    format!("localhost:{port}")
}

/// How many programs are started, at most; of more exits the others are those of children.
const PROGRAMS: u32 = 500;

#[test]
fn programs_exit_under_load_and_in_mid_handshake() {
    let exits = count("SKYTLS_TEST_EXITS", 200).min(PROGRAMS);
    let backend = Backend::start();
    let program = Program::compile("tests/c/exits.c", &HOSTS_OPENSSL);
    let silent_address = silent_backend();
    let begun = Instant::now();
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= exits {
                        return;
                    }
                    let mode = ["exit", "return", "thread"][number as usize % 3];
                    // A handshake takes one to ten milliseconds, wherever in it this is.
                    let delay = (number.wrapping_mul(7919) % 12_000).to_string();
                    let address = if number.is_multiple_of(4) {
                        silent_address.clone()
                    } else {
                        backend.address()
                    };
                    let mut command: Command = program.command();
                    command
                        .args([mode, &delay])
                        .env("SKYTLS_TEST_BACKEND", address)
                        .env("SKYTLS_TEST_CA", backend.ca());
                    let started = Instant::now();
                    assert_eq!(told(&command.output().unwrap()), "", "{mode} {delay}");
                    let took = started.elapsed();
                    assert!(took < Duration::from_secs(20), "{mode} {delay}: {took:?}");
                }
            });
        }
    });
    let counts = backend.counts();
    support::figures(&format!(
        "{exits} exits, {} connections, {} of them cut off in the handshake, {:?}",
        counts.connections,
        counts.failed_handshakes,
        begun.elapsed()
    ));
}

#[test]
fn children_exit_under_load_and_in_mid_handshake() {
    let exits = count("SKYTLS_TEST_EXITS", 200).saturating_sub(PROGRAMS).max(100);
    let backend = Backend::start();
    let program = Program::compile("tests/c/exits.c", &HOSTS_OPENSSL);
    let silent = silent_backend();
    let begun = Instant::now();
    let mut command: Command = program.command();
    command
        .args(["many", "12000", &exits.to_string()])
        .env("SKYTLS_TEST_BACKEND", backend.address())
        .env("SKYTLS_TEST_CA", backend.ca())
        .env("SKYTLS_TEST_SILENT", silent);
    assert_eq!(told(&command.output().unwrap()), "");
    let counts = backend.counts();
    support::figures(&format!(
        "{exits} exits of children, {} connections, {} of them cut off in the handshake, {:?}",
        counts.connections,
        counts.failed_handshakes,
        begun.elapsed()
    ));
}

#[test]
fn an_exit_holds_the_threads_still_although_another_agent_is_being_started() {
    let backend = Backend::start();
    let program = Program::compile("tests/c/late.c", &[]);
    assert_eq!(program.run(&backend, &["start"]), "");
    let arrived = backend.segments();
    assert_eq!(arrived.keys().map(|bytes| &bytes[..]).collect::<Vec<_>>(), [b"in time"]);
}

#[test]
fn an_exit_that_waits_for_records_keeps_nobody_else_waiting() {
    let backend = Backend::start();
    let program = Program::compile("tests/c/late.c", &[]);
    assert_eq!(program.run(&backend, &["limit"]), "");
}

#[test]
fn an_exit_delivers_within_the_time_it_was_given() {
    let backend = Backend::start();
    let program = Program::compile("tests/c/exits.c", &HOSTS_OPENSSL);
    assert_eq!(program.run(&backend, &["deliver", "0"]), "");
    assert_eq!(backend.segments().values().sum::<u64>(), 500);
}
