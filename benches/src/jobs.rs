//! What there is to measure: each job is one measurement that is repeated every round, and fills one row or a few.

use std::process::Command;

use clap::ValueEnum;
use serde::Deserialize;

use crate::client::{Arrival, Cost, Name};
use crate::footprint;
use crate::handshakes::Handshake;
use crate::load::Shape;
use crate::relays::{self, Relay, Traffic};
use crate::stage::{Stage, said};
use crate::{Result, handshakes, instructions};

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Rust(Name),
    /// libskytls, from C.
    C,
    /// gRPC C++, with or without a hint that more will follow.
    Grpc {
        hint: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    Client {
        subject: Subject,
        size: usize,
        arrival: Arrival,
    },
    Relay {
        relay: Relay,
        shape: Shape,
        size: usize,
    },
    /// The library, with so many records.
    Growth {
        count: u64,
    },
    /// skytls's relay, with so many local agents.
    Agents {
        agents: u64,
    },
    Handshake(Handshake),
    /// Instructions of one segment, by callgrind: what other programs do leaves them as they are.
    Instructions {
        client: Name,
    },
    /// How long a report takes the thread that makes it, in C.
    Report {
        threads: u64,
    },
    /// A relay that has nothing to do.
    Idle,
    /// A relay to which so many local agents are connected.
    Crowd {
        agents: u64,
    },
    /// From the start of the relay until it listens.
    Start,
    /// Programs and libraries on disk.
    Size,
}

/// What one measurement says: an id, a unit, a value.
pub(crate) type Reading = (String, &'static str, f64);

/// Jobs that are measured in turns, since they are compared.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) rounds: usize,
    pub(crate) jobs: Vec<Job>,
}

const SIZES: [usize; 4] = [200, 682, 4096, 65_536];
const WARM_UP: u64 = 20_000;

/// Everything, in the order in which it is measured.
pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let group = |title, rounds, quickly, jobs| Group {
        title,
        rounds: if quick { quickly } else { rounds },
        jobs,
    };
    let mut groups = Vec::new();
    for size in if quick { &SIZES[1..2] } else { &SIZES[..] } {
        let jobs = Subject::all().map(|subject| Job::Client {
            subject,
            size: *size,
            arrival: Arrival::Backlog,
        });
        groups.push(group("backlog", 5, 3, jobs.collect()));
    }
    for rate in if quick { &[50_000][..] } else { &[1_000, 50_000] } {
        let paced = Subject::all().filter(|subject| matches!(subject, Subject::Rust(_)));
        let jobs =
            paced.map(|subject| Job::Client { subject, size: 682, arrival: Arrival::Rate(*rate) });
        groups.push(group("one at a time", 5, 3, jobs.collect()));
    }
    for shape in if quick { &[Shape::Batched, Shape::Single][..] } else { Shape::value_variants() }
    {
        let jobs = Relay::ALL.map(|relay| Job::Relay { relay, shape: *shape, size: 682 });
        groups.push(group("relay", 5, 3, jobs.to_vec()));
    }
    // The skywalking crate loses too much while callgrind slows it down.
    let clients = Name::value_variants().iter().filter(|name| name.word() != "skywalking");
    let jobs = clients.map(|client| Job::Instructions { client: *client }).collect();
    groups.push(group("instructions", 1, 1, jobs));
    groups.push(group("handshake", 5, 3, Handshake::ALL.map(Job::Handshake).to_vec()));
    groups.push(group("report", 5, 3, [1, 8].map(|threads| Job::Report { threads }).to_vec()));
    let most = if quick { 1_000_000 } else { 10_000_000 };
    let counts = [100_000, 1_000_000, 10_000_000].into_iter().filter(|count| *count <= most);
    groups.push(group("growth", 3, 1, counts.map(|count| Job::Growth { count }).collect()));
    groups.push(group(
        "agents",
        3,
        1,
        [1, 10, 100, 1000].map(|agents| Job::Agents { agents }).to_vec(),
    ));
    groups.push(group(
        "footprint",
        3,
        1,
        vec![Job::Idle, Job::Crowd { agents: 1000 }, Job::Start, Job::Size],
    ));
    groups
}

// === impl Subject ===

impl Subject {
    /// The floor comes first: the others are compared with it.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let foreign = [Self::C, Self::Grpc { hint: true }, Self::Grpc { hint: false }];
        Name::value_variants().iter().map(|name| Self::Rust(*name)).chain(foreign)
    }

    pub(crate) fn word(self) -> String {
        match self {
            Self::Rust(name) => name.word(),
            Self::C => "skytls-c".to_owned(),
            Self::Grpc { hint: true } => "grpc-hint".to_owned(),
            Self::Grpc { hint: false } => "grpc".to_owned(),
        }
    }

    /// About what a segment takes, in microseconds, so that all are measured for about as long.
    fn guess(self, size: usize) -> f64 {
        let own = match self {
            Self::Rust(Name::Floor) => 0.05,
            #[cfg(feature = "peers")]
            Self::Rust(Name::Skywalking) => 6.0,
            Self::Grpc { hint: false } => 6.0,
            Self::Grpc { hint: true } => 2.0,
            _ => 0.4,
        };
        own + size as f64 * 0.0005
    }
}

// === impl Job ===

impl Job {
    /// What this is called while it runs, and in the list of what could not be measured.
    pub(crate) fn id(self) -> String {
        match self {
            Self::Client { subject, size, arrival } => {
                format!("client/{}/{size}/{arrival}", subject.word())
            }
            Self::Relay { relay, shape, size } => {
                format!("relay/{}/{size}/{}", relay.word(), word(shape))
            }
            Self::Growth { count } => format!("growth/records/{count}"),
            Self::Agents { agents } => format!("growth/agents/{agents}"),
            Self::Handshake(handshake) => format!("handshake/{}", handshake.word()),
            Self::Instructions { client } => format!("instructions/{}", client.word()),
            Self::Report { threads } => format!("report/{threads}"),
            Self::Idle => "idle".to_owned(),
            Self::Crowd { agents } => format!("crowd/{agents}"),
            Self::Start => "start".to_owned(),
            Self::Size => "size".to_owned(),
        }
    }

    pub(crate) fn run(self, stage: &mut Stage, quick: bool) -> Result<Vec<Reading>> {
        let one = |unit, value| Ok(vec![(self.id(), unit, value)]);
        match self {
            Self::Client { subject, size, arrival } => {
                let budget = if quick { 300_000.0 } else { 600_000.0 };
                let count = match arrival {
                    Arrival::Backlog => {
                        ((budget / subject.guess(size)) as u64).clamp(5_000, 2_000_000)
                    }
                    Arrival::Rate(rate) => u64::from(rate) * 2,
                };
                one("µs", client(stage, subject, size, arrival, count)?.per_segment())
            }
            Self::Relay { relay, shape, size } => {
                let count = match (shape, quick) {
                    (Shape::Single, true) => 30_000,
                    (Shape::Single, false) => 60_000,
                    (_, true) => 400_000,
                    (_, false) => 1_000_000,
                };
                one("µs", relays::measure(stage, relay, Traffic { shape, size, count, agents: 8 })?)
            }
            Self::Growth { count } => {
                let cost =
                    client(stage, Subject::Rust(Name::Skytls), 682, Arrival::Backlog, count)?;
                Ok(vec![
                    (self.id(), "µs", cost.per_segment()),
                    (format!("growth/memory/{count}"), "KiB", cost.cpu.peak_kib as f64),
                ])
            }
            Self::Agents { agents } => {
                let traffic =
                    Traffic { shape: Shape::Batched, size: 682, count: 1_000_000, agents };
                one("µs", relays::measure(stage, Relay::Skytls, traffic)?)
            }
            Self::Handshake(handshake) => one("µs", handshakes::measure(stage, handshake)?),
            Self::Instructions { client } => {
                one("per segment", instructions::of_client(stage, client)?)
            }
            Self::Report { threads } => report(stage, threads),
            Self::Idle => footprint::idle(stage),
            Self::Crowd { agents } => footprint::crowd(stage, agents),
            Self::Start => footprint::start(stage),
            Self::Size => footprint::size(stage),
        }
    }
}

/// Runs a client, and holds what it says against what the sink has.
fn client(
    stage: &mut Stage,
    subject: Subject,
    size: usize,
    arrival: Arrival,
    count: u64,
) -> Result<Cost> {
    let warm_up = WARM_UP.min(count);
    stage.sink.expect(size)?;
    let mut command = match subject {
        Subject::Rust(name) => {
            let mut command = stage.own("client")?;
            command.arg(name.word()).args([
                "--size",
                &size.to_string(),
                "--arrival",
                &arrival.to_string(),
            ]);
            command.args(["--port", &stage.sink.port.to_string(), "--ca"]).arg(stage.ca());
            command.args(["--count", &count.to_string(), "--warm-up", &warm_up.to_string()]);
            command
        }
        Subject::C => foreign(stage, "skytls-c", size, count, warm_up)?,
        Subject::Grpc { hint } => {
            let mut command = foreign(stage, "grpc", size, count, warm_up)?;
            command.arg(if hint { "hint" } else { "plain" });
            command
        }
    };
    let mut cost: Cost = said(&mut command)?;
    let counts = stage.sink.take()?;
    let sent = warm_up + count;
    let lost = sent.saturating_sub(counts.good);
    // The skywalking crate drops what its queue has no room for: its price is that of what has arrived.
    let allowed = if subject.word() == "skywalking" { count / 2 } else { 0 };
    if counts.good > sent || lost > allowed || counts.bytes != counts.good * size as u64 {
        return Err(format!("{sent} were sent, and {counts:?} have arrived").into());
    }
    cost.count -= lost;
    Ok(cost)
}

fn foreign(stage: &Stage, program: &str, size: usize, count: u64, warm_up: u64) -> Result<Command> {
    let mut command = stage.program(program)?;
    command.arg(stage.sink.port.to_string()).arg(stage.ca()).arg(stage.segment(size)?);
    command.args([count.to_string(), warm_up.to_string()]);
    Ok(command)
}

fn report(stage: &mut Stage, threads: u64) -> Result<Vec<Reading>> {
    #[derive(Deserialize)]
    struct Quantiles {
        count: u64,
        p50: f64,
        p99: f64,
        /// What reading the clock takes, which is in all of them.
        clock: f64,
        waits: f64,
    }
    stage.sink.expect(682)?;
    let mut command = foreign(stage, "skytls-c", 682, 200_000, WARM_UP)?;
    command.arg(threads.to_string());
    let found: Quantiles = said(&mut command)?;
    let at = |what: &str| format!("report/{what}/{threads}");
    Ok(vec![
        (at("p50"), "ns", (found.p50 - found.clock).max(0.0)),
        (at("p99"), "ns", (found.p99 - found.clock).max(0.0)),
        (at("waits"), "per 1,000", found.waits.max(0.0) * 1000.0 / found.count as f64),
    ])
}

pub(crate) fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
