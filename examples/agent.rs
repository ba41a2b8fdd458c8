//! An agent in a program without async code: every line of the standard input is reported as a log line.
//!
//! ```text
//! SW_AGENT_NAME=shop SW_AGENT_COLLECTOR_BACKEND_SERVICES=localhost:11800 cargo run --example agent
//! ```
//!
//! Says what it hears of the backend: the dynamic configuration `shop.discount`, and profiling tasks, which
//! it declares done at once.

use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use skytls::Agent;
use skytls::agent::Host;
use skytls::config::Loader;
use skytls::protocol::v3::{LogData, LogDataBody, TextLog, log_data_body::Content};

fn main() -> Result<(), Box<dyn Error>> {
    let (tell, tasks) = mpsc::channel();
    let host = Host::new("rust")
        .agent_version("1.2.3")
        .watch("shop.discount", |value| say(&format!("discount: {}", value.unwrap_or("none"))))
        .on_profile_task(move |task| _ = tell.send(task));
    let agent = Agent::start_for(&Loader::new().discover().load()?.settings, host)?;
    say(&format!("{} of {}", agent.instance(), agent.service()));

    let profiler = agent.clone();
    thread::spawn(move || {
        for task in tasks {
            say(&format!("profile: {} for {:?}", task.endpoint_name, task.duration));
            profiler.finish_profile_task(&task.task_id);
        }
    });
    for line in std::io::stdin().lock().lines() {
        let text = Content::Text(TextLog { text: line? });
        let body = LogDataBody { r#type: "TEXT".to_owned(), content: Some(text) };
        agent.report(LogData { body: Some(body), ..LogData::default() });
    }
    match agent.shutdown(Duration::from_secs(10)).wait() {
        0 => Ok(()),
        lost => Err(format!("{lost} records were lost").into()),
    }
}

fn say(text: &str) {
    // Whoever listened may be gone.
    let _ = writeln!(std::io::stdout(), "{text}");
}
