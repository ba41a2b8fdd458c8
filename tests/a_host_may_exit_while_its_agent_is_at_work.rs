//! A host that exits without a word to its agent, or right after the agent's shutdown, must not crash:
//! OpenSSL, which threads still use at that moment, is not taken down by `exit`.
//!
//! A process of its own is needed for each exit, and for the very first use of OpenSSL in it. A host that
//! waits for the shutdown has no thread of its agent left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod outage_fixture;
mod support;
mod transport_fixture;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use openssl::ssl::{SslContext, SslMethod};
use outage_fixture::Tls;
use skytls::Agent;
use skytls::config::Loader;
use support::process::{Process, clean};

const CA: &str = "SKYTLS_TEST_CA";

#[test]
fn hosts_exit_with_their_own_code() {
    let tls = Tls::new("oap.example");
    let hosts: Vec<_> = (0..8)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            clean(&mut command);
            command.args(["--exact", "host", "--nocapture"]).env(CA, tls.file("ca.crt"));
            Process::start(command, Stdio::null())
        })
        .collect();
    for host in hosts {
        host.finish().expect_code(7);
    }
}

/// Does nothing unless it is one of those hosts.
#[test]
fn host() {
    let Some(ca) = std::env::var_os(CA) else { return };
    let _agent = agent(Path::new(&ca));
    // What the agent's thread does now and then, all the time.
    let (tell, told) = mpsc::channel();
    for _ in 0..4 {
        let tell = tell.clone();
        std::thread::spawn(move || {
            loop {
                let mut context = SslContext::builder(SslMethod::tls()).unwrap();
                context.set_default_verify_paths().unwrap();
                let _ = tell.send(());
            }
        });
    }
    told.iter().take(8).for_each(drop);
    #[expect(clippy::disallowed_methods, reason = "this process plays the host that exits")]
    std::process::exit(7);
}

#[test]
fn after_a_shutdown_no_thread_is_left() {
    let tls = Tls::new("oap.example");
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "skytls").count()
    };
    for _ in 0..10 {
        let agent = agent(&tls.file("ca.crt"));
        // A thread gets its name a moment after its life.
        while threads() == 0 {
            std::thread::yield_now();
        }
        agent.shutdown(Duration::ZERO).wait();
        assert_eq!(threads(), 0);
    }
}

fn agent(ca: &Path) -> Agent {
    let loader = Loader::new()
        .environment([])
        .set("collector.backend_service", "127.0.0.1:1")
        .set("agent.service_name", "host")
        .set("agent.ssl_trusted_ca_path", ca.display().to_string());
    Agent::start(&loader.load().unwrap().settings).unwrap()
}
