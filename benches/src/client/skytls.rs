//! skytls as a Rust program has it: encoded segments given to an agent.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use skytls::Agent;
use skytls::agent::{Encoded, Record};
use skytls::config::Loader;

use super::{Arrival, Cost, Meter, Task};
use crate::Result;
use crate::pacer::{Paced, pace};
use crate::segment::{self, PATH};

/// How long all that is queued may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a full queue is left alone: a fraction of what it takes to empty it.
const FULL: Duration = Duration::from_micros(500);

pub(super) fn run(task: &Task) -> Result<Cost> {
    let loaded = Loader::new()
        .environment([])
        .set("agent.service_name", "bench")
        .set("collector.backend_service", format!("localhost:{}", task.port))
        .set("agent.ssl_trusted_ca_path", task.ca.to_string_lossy())
        // A queue as long as its 64 MiB are.
        .set("buffer.channel_size", "10")
        .set("buffer.buffer_size", "10000")
        .load()?;
    let agent = Agent::start(&loaded.settings)?;
    let segment = Record::Encoded(Encoded::new(PATH, Bytes::from(segment::encoded(task.size)))?);

    backlog(&agent, &segment, task.warm_up)?;
    delivered(&agent)?;
    let meter = Meter::start()?;
    let paced = match task.arrival {
        Arrival::Backlog => {
            backlog(&agent, &segment, task.count)?;
            Paced::default()
        }
        Arrival::Rate(rate) => pace(rate, task.count, || Ok(agent.try_report(segment.clone())?))?,
    };
    delivered(&agent)?;
    let cost = meter.stop(task.count, paced)?;
    match agent.shutdown(LIMIT).wait() {
        0 => Ok(cost),
        lost => Err(format!("{lost} lost").into()),
    }
}

/// Hands segments in as fast as they are taken.
fn backlog(agent: &Agent, segment: &Record, count: u64) -> Result<()> {
    for _ in 0..count {
        while let Err(error) = agent.try_report(segment.clone()) {
            if error.code() != skytls::error::Code::QueueFull {
                return Err(error.into());
            }
            thread::sleep(FULL);
        }
    }
    Ok(())
}

fn delivered(agent: &Agent) -> Result<()> {
    match agent.flush(LIMIT).wait() {
        0 => Ok(()),
        left => Err(format!("{left} not delivered").into()),
    }
}
