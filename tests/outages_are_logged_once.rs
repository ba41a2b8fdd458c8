//! An outage is one line when it begins, with the cause and what to do, one when it ends, and a line for
//! every doubling of the attempts in between: a log of a night without a backend can be read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;
mod transport_fixture;

use support::folder::Folder;
use support::process::Skytls;
use transport_fixture::{collector, nobody};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_cause_and_its_end() {
    let backend = nobody();
    let lines = format!("collector.backend_service={backend}\nrelay.listen=127.0.0.1:0\n");
    let folder = Folder::new(&lines);
    let relay = Skytls::new(["run"]).arg("--config").arg(folder.config()).start();
    relay.line("(attempt 8)");
    let back = collector(backend).await;
    relay.line("is back after");
    relay.line(&format!("connected to {backend}"));
    drop(back);
    // A second outage is a new one.
    relay.lines("trying again with growing pauses", 2);
    relay.terminate();
    let log = relay.finish().expect_code(0).stderr;

    let first = log.find("is back after").unwrap();
    let count = |text: &str| log[..first].matches(text).count();
    assert_eq!(count("trying again with growing pauses"), 1, "{log}");
    assert!(count("SKT-402") >= 4 && log[..first].contains("Connection refused"), "{log}");
    let attempts: Vec<_> = log[..first]
        .split("(attempt ")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap().parse::<u32>().unwrap())
        .collect();
    assert_eq!(attempts, [2, 4, 8], "{log}");
    assert_eq!(log.matches("is back after").count(), 1, "{log}");
}
