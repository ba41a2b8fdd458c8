//! Handshakes as processes: what one takes the client, in CPU time.

use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

use crate::Result;
use crate::client::Cost;
use crate::connect::Visitor;
use crate::jobs::word;
use crate::stage::{Stage, said};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// `openssl s_time -new`.
    STime,
    By(Visitor),
}

const COUNT: u64 = 400;

/// CPU time of one handshake, in microseconds.
pub(crate) fn measure(stage: &mut Stage, handshake: Handshake) -> Result<f64> {
    stage.sink.expect(682)?;
    let Handshake::By(visitor) = handshake else { return s_time(stage) };
    let resumes = matches!(visitor, Visitor::OpensslResumed | Visitor::SkytlsResumed);
    let port = if resumes { stage.sink.port } else { stage.sink.without_tickets };
    let mut visits = stage.own("connect")?;
    visits.arg(word(visitor)).args(["--port", &port.to_string(), "--ca"]).arg(stage.ca());
    visits.args(["--count", &COUNT.to_string()]);
    let cost: Cost = said(&mut visits)?;
    let resumed = stage.sink.take()?.resumed;
    if (resumed >= COUNT) != resumes {
        return Err(format!("{resumed} handshakes of {COUNT} were resumed").into());
    }
    Ok(cost.per_segment())
}

/// It connects for a second of wall-clock time, and verifies the chain, though not the name.
fn s_time(stage: &mut Stage) -> Result<f64> {
    let children = || -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let us = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
        Ok(us(usage.user_time()) + us(usage.system_time()))
    };
    let before = children()?;
    let status = Command::new("openssl")
        .args(["s_time", "-new", "-time", "2", "-verify", "5", "-connect"])
        .arg(format!("localhost:{}", stage.sink.without_tickets))
        .arg("-CAfile")
        .arg(stage.ca())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let taken = children()? - before;
    let counts = stage.sink.take()?;
    if !status.success() || counts.connections == 0 {
        return Err(format!("openssl s_time: {status}, {counts:?}").into());
    }
    Ok(taken / counts.connections as f64)
}

// === impl Handshake ===

impl Handshake {
    /// The one that the others are compared with comes first.
    pub(crate) const ALL: [Self; 5] = [
        Self::STime,
        Self::By(Visitor::Openssl),
        Self::By(Visitor::OpensslResumed),
        Self::By(Visitor::Skytls),
        Self::By(Visitor::SkytlsResumed),
    ];

    pub(crate) fn word(self) -> String {
        match self {
            Self::STime => "s-time".to_owned(),
            Self::By(visitor) => word(visitor),
        }
    }
}
