//! What keeps an agent from starting comes back as an error, in a task of the host's own runtime too: the
//! threads that had been started by then are let go without waiting for them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use skytls::Agent;
use skytls::config::{Loader, Settings};

fn settings(spool: &std::path::Path) -> Settings {
    let loader = Loader::new()
        .environment([])
        .set("agent.service_name", "shop")
        .set("collector.backend_service", "127.0.0.1:1")
        .set("spool.path", spool.to_str().unwrap());
    loader.load().unwrap().settings
}

#[tokio::test]
async fn a_spool_that_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Agent::start(&settings(&file.join("spool"))).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    // Its twin.
    let agent = Agent::start(&settings(&folder.path().join("spool"))).unwrap();
    assert!(agent.status().enabled);
}
