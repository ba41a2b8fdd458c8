//! The clients, one file for each kind. Each of them warms up, and is then measured to the last confirmation.

mod floor;
mod skytls;
#[cfg(feature = "peers")]
mod skywalking;
mod tonic;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::cpu::Cpu;

/// What one client has to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct Task {
    pub(crate) client: Name,
    /// The port of the sink, on 127.0.0.1.
    #[arg(long)]
    pub(crate) port: u16,
    /// The CA that has issued its certificate.
    #[arg(long)]
    pub(crate) ca: PathBuf,
    /// Bytes of one segment.
    #[arg(long, default_value_t = 682)]
    pub(crate) size: usize,
    /// How many are measured.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) count: u64,
    /// How many are sent before.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) warm_up: u64,
    /// `backlog`, or how many arrive in a second.
    #[arg(long, default_value = "backlog")]
    pub(crate) arrival: Arrival,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// `SSL_write` of full records of framed segments: what OpenSSL itself takes.
    Floor,
    /// skytls as Rust library, encoded segments.
    Skytls,
    /// tonic over tokio-openssl, encoded segments.
    TonicOpenssl,
    /// tonic over the crate tonic-tls with OpenSSL, encoded segments.
    #[cfg(feature = "peers")]
    TonicTls,
    /// tonic over rustls, encoded segments.
    #[cfg(feature = "peers")]
    TonicRustls,
    /// The skywalking crate, its own objects.
    #[cfg(feature = "peers")]
    Skywalking,
}

/// How segments come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// All are there from the beginning.
    Backlog,
    /// One at a time, so many in a second.
    Rate(u32),
}

/// What a client has taken for the segments that are measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) count: u64,
    pub(crate) cpu: Cpu,
    /// Of `cpu`: spent on waiting for the next segment to be due.
    pub(crate) pacing_us: f64,
    /// Segments that came later than they were due.
    pub(crate) late: u64,
    pub(crate) wall_us: f64,
}

/// Segments of one stream, where a client chooses.
pub(crate) const PER_STREAM: u64 = 10_000;

/// Runs one client.
pub(crate) fn run(task: &Task) -> Result<Cost> {
    match task.client {
        Name::Floor => floor::run(task),
        Name::Skytls => skytls::run(task),
        Name::TonicOpenssl => tonic::run(task, tonic::Tls::Openssl),
        #[cfg(feature = "peers")]
        Name::TonicTls => tonic::run(task, tonic::Tls::Foreign),
        #[cfg(feature = "peers")]
        Name::Skywalking => skywalking::run(task),
        #[cfg(feature = "peers")]
        Name::TonicRustls => tonic::run(task, tonic::Tls::Rustls),
    }
}

/// Measures one thing that a client does.
pub(crate) struct Meter {
    cpu: Cpu,
    begun: Instant,
}

// === impl Meter ===

impl Meter {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { cpu: Cpu::now()?, begun: Instant::now() })
    }

    pub(crate) fn stop(self, count: u64, paced: crate::pacer::Paced) -> Result<Cost> {
        let wall = self.begun.elapsed();
        Ok(Cost {
            count,
            cpu: Cpu::now()?.since(self.cpu),
            pacing_us: paced.idle_us,
            late: paced.late,
            wall_us: wall.as_secs_f64() * 1e6,
        })
    }
}

// === impl Cost ===

impl Cost {
    /// CPU time of one segment, in microseconds.
    pub(crate) fn per_segment(&self) -> f64 {
        (self.cpu.total_us() - self.pacing_us) / self.count as f64
    }
}

// === impl Name ===

impl Name {
    /// As it is written on the command line.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

// === impl Arrival ===

impl FromStr for Arrival {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if text == "backlog" { Ok(Self::Backlog) } else { text.parse().map(Self::Rate) }
    }
}

impl std::fmt::Display for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Backlog => f.write_str("backlog"),
            Self::Rate(rate) => write!(f, "{rate}"),
        }
    }
}
