//! What skytls takes without doing anything: memory, wake-ups, threads, disk, and the time to start.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;
use crate::jobs::Reading;
use crate::load::Shape;
use crate::relays::{self, Relay, Traffic};
use crate::stage::{Running, Stage, free_port};

/// For how long wake-ups are counted.
const WATCH: Duration = Duration::from_secs(10);
/// For how long agents stay connected.
const LINGER: Duration = Duration::from_secs(20);

/// A relay that has delivered something once, and has nothing more to do.
pub(crate) fn idle(stage: &mut Stage) -> Result<Vec<Reading>> {
    stage.sink.expect(682)?;
    let up = Relay::Skytls.start(stage)?;
    let pid = up.process.0.id();
    relays::send(
        stage,
        up.port,
        Traffic { shape: Shape::Batched, size: 682, count: 10, agents: 1 },
    )?;
    sleep(Duration::from_secs(2));
    let before = waits(pid)?;
    sleep(WATCH);
    // A thread that has ended meanwhile is not asked.
    let woken: f64 = waits(pid)?
        .iter()
        .map(|(thread, waits)| waits - before.get(thread).copied().unwrap_or(0.0))
        .sum();
    Ok(vec![
        ("idle/rss".to_owned(), "KiB", memory(pid, "VmRSS:")?),
        // What is not shared with files, and so no other process could use.
        ("idle/private".to_owned(), "KiB", memory(pid, "RssAnon:")?),
        ("idle/wake-ups".to_owned(), "per second", woken / WATCH.as_secs_f64()),
        ("idle/threads".to_owned(), "", memory(pid, "Threads:")?),
    ])
}

/// A relay to which agents are connected, each of which has sent something.
pub(crate) fn crowd(stage: &mut Stage, agents: u64) -> Result<Vec<Reading>> {
    stage.sink.expect(682)?;
    let up = Relay::Skytls.start(stage)?;
    let pid = up.process.0.id();
    relays::send(
        stage,
        up.port,
        Traffic { shape: Shape::Batched, size: 682, count: 10, agents: 1 },
    )?;
    let before = memory(pid, "RssAnon:")?;
    let mut load = stage.own("load")?;
    load.args([
        "--port",
        &up.port.to_string(),
        "--agents",
        &agents.to_string(),
        "--count",
        &agents.to_string(),
    ]);
    load.args(["--linger", &LINGER.as_secs().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut load = Running(load.spawn()?);
    // It says something when all have been answered.
    let output = load.0.stdout.take().ok_or("no pipe")?;
    BufReader::new(output).read_line(&mut String::new())?;
    stage.arrived(agents)?;
    sleep(Duration::from_secs(1));
    let after = memory(pid, "RssAnon:")?;
    Ok(vec![(format!("crowd/per-agent/{agents}"), "KiB", (after - before) / agents as f64)])
}

/// From the start of the process until it says that it listens; and what it takes to say its version.
pub(crate) fn start(stage: &mut Stage) -> Result<Vec<Reading>> {
    let begun = Instant::now();
    let mut relay = relays::skytls(stage, free_port()?)?;
    let mut relay =
        Running(relay.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let output = relay.0.stdout.take().ok_or("no pipe")?;
    BufReader::new(output).read_line(&mut String::new())?;
    let listening = begun.elapsed();
    Ok(vec![("start/listening".to_owned(), "ms", listening.as_secs_f64() * 1e3)])
}

/// On disk, stripped, as a package has it.
pub(crate) fn size(stage: &mut Stage) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for name in ["skytls", "libskytls.so"] {
        let stripped = stage.file(&format!("{name}.stripped"));
        let status = Command::new("strip")
            .arg("-o")
            .arg(&stripped)
            .arg(stage.programs.join(name))
            .status()?;
        if !status.success() {
            return Err(format!("strip: {status}").into());
        }
        readings.push((
            format!("size/{name}"),
            "KiB",
            fs::metadata(&stripped)?.len() as f64 / 1024.0,
        ));
    }
    Ok(readings)
}

/// A number of /proc/PID/status.
fn memory(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("no such line in /proc/PID/status")?;
    Ok(line.split_whitespace().next().ok_or("an empty line in /proc/PID/status")?.parse()?)
}

/// How often each thread of a process has gone to sleep: as often as it was woken.
fn waits(pid: u32) -> Result<HashMap<OsString, f64>> {
    let mut all = HashMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let status = fs::read_to_string(task.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = line.ok_or("no such line in /proc/PID/task/TID/status")?.trim().parse()?;
        all.insert(task.file_name(), count);
    }
    Ok(all)
}
