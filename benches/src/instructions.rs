//! Guards the hot path: counts the instructions of a record under callgrind, and compares them with those that were
//! written down.
//!
//! Counted is what the program itself executes, and not libc or OpenSSL, which choose their code by the processor. Two
//! runs of different length are subtracted, so that the start does not count. No time is measured.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::client::Name;
use crate::jobs::word;
use crate::load::Shape;
use crate::relays::{self, Traffic};
use crate::results::Machine;
use crate::stage::{Running, Stage, free_port, said};

#[derive(Debug, Clone, Args)]
pub(crate) struct Guard {
    /// The folder with `skytls`.
    #[arg(long)]
    programs: PathBuf,
    /// What was written down.
    #[arg(long)]
    baseline: PathBuf,
    /// Write it down anew.
    #[arg(long)]
    write: bool,
}

/// What was counted, and by which tools: another compiler makes other instructions.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Baseline {
    rustc: String,
    openssl: String,
    /// Instructions of one record.
    rows: BTreeMap<String, f64>,
}

/// How much more may be executed with the very same tools: scheduling decides how many records share a wake-up.
/// Medians were up to 9 % apart, by the load of the machine.
const TOLERANCE: f64 = 0.25;
/// With other tools.
const LOOSE: f64 = 0.5;

/// So often is each row counted, for the median.
const ROUNDS: usize = 3;
const SIZE: usize = 682;
const PATIENCE: Duration = Duration::from_secs(120);

/// Fails when a row has grown by more than the tolerance.
pub(crate) fn run(guard: &Guard) -> Result<()> {
    let machine = Machine::here();
    let mut stage = Stage::set(&guard.programs)?;
    let mut rows = BTreeMap::new();
    let found = median(|| slope(20_000, 80_000, |count| library(&mut stage, count)))?;
    rows.insert("library".to_owned(), found);
    for (shape, least, most) in [(Shape::Batched, 20_000, 80_000), (Shape::Single, 2_000, 6_000)] {
        let found = median(|| slope(least, most, |count| relay(&mut stage, shape, count)))?;
        rows.insert(format!("relay, {}", word(shape)), found);
    }
    let found = Baseline { rustc: machine.rustc, openssl: machine.openssl, rows };
    if guard.write {
        fs::write(&guard.baseline, serde_json::to_string_pretty(&found)? + "\n")?;
    }
    compare(&found, &serde_json::from_str(&fs::read_to_string(&guard.baseline)?)?)
}

fn compare(found: &Baseline, known: &Baseline) -> Result<()> {
    let mut tolerance = TOLERANCE;
    if (&found.rustc, &found.openssl) != (&known.rustc, &known.openssl) {
        println!("written down with {} and {}", known.rustc, known.openssl);
        println!(
            "  counted now with {} and {}: only gross changes show",
            found.rustc, found.openssl
        );
        tolerance = LOOSE;
    }
    let mut grown = Vec::new();
    for (name, now) in &found.rows {
        let before = known.rows.get(name).ok_or("a row that was never written down: --write")?;
        let change = now / before - 1.0;
        println!(
            "{name:<16} {now:>8.0} instructions per record, {before:>8.0} written down, {:>+6.1} %",
            change * 100.0
        );
        if change > tolerance {
            grown.push(name.as_str());
        }
        if change < -tolerance {
            println!("{name}: better by more than the tolerance; write it down with --write");
        }
    }
    if grown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than {:.0} % above what was written down: {}",
        tolerance * 100.0,
        grown.join("; ")
    )
    .into())
}

/// Of several counts the one in the middle.
fn median(mut count: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut counts = (0..ROUNDS).map(|_| count()).collect::<Result<Vec<f64>>>()?;
    counts.sort_by(f64::total_cmp);
    counts.get(ROUNDS / 2).copied().ok_or_else(|| "no round".into())
}

/// Instructions of one record: the difference of two runs.
fn slope(least: u64, most: u64, mut count: impl FnMut(u64) -> Result<u64>) -> Result<f64> {
    let (few, many) = (count(least)?, count(most)?);
    Ok((many as f64 - few as f64) / (most - least) as f64)
}

/// The library, in this very program.
fn library(stage: &mut Stage, count: u64) -> Result<u64> {
    let profile = profile(stage, Name::Skytls, count)?;
    executed(&profile, &std::env::current_exe()?)
}

/// Instructions of one record with a client, those of libc and OpenSSL as well.
pub(crate) fn of_client(stage: &mut Stage, client: Name) -> Result<f64> {
    slope(20_000, 80_000, |count| {
        let profile = profile(stage, client, count)?;
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(total.ok_or("no total in the profile")?.trim().parse()?)
    })
}

/// What callgrind says of a client.
fn profile(stage: &mut Stage, name: Name, count: u64) -> Result<String> {
    stage.sink.expect(SIZE)?;
    let out = stage.file("callgrind.client");
    let mut client = callgrind(&out);
    client.arg(std::env::current_exe()?).args(["client", &word(name)]);
    client.args(["--port", &stage.sink.port.to_string(), "--ca"]).arg(stage.ca());
    client.args(["--count", &count.to_string(), "--warm-up", "10000"]);
    let _: serde_json::Value = said(&mut client)?;
    Ok(fs::read_to_string(&out)?)
}

/// The relay, as it is released.
fn relay(stage: &mut Stage, shape: Shape, count: u64) -> Result<u64> {
    stage.sink.expect(SIZE)?;
    let out = stage.file("callgrind.relay");
    let port = free_port()?;
    let plain = relays::skytls(stage, port)?;
    let program = stage.programs.join("skytls");
    let mut relay = callgrind(&out);
    relay.arg(&program).args(plain.get_args()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut relay = Running(relay.spawn()?);
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > PATIENCE {
            return Err("the relay does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    relays::send(stage, port, Traffic { shape, size: SIZE, count, agents: 2 })?;
    kill(Pid::from_raw(i32::try_from(relay.0.id())?), Signal::SIGTERM)?;
    relay.0.wait()?;
    executed(&fs::read_to_string(&out)?, &program)
}

fn callgrind(out: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()));
    // Threads take turns in a fixed order.
    command.arg("--fair-sched=yes");
    command.stderr(Stdio::null());
    command
}

/// How many instructions of this program a profile has: its own ones, without those of what it has called.
fn executed(profile: &str, program: &Path) -> Result<u64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let program = program.to_string_lossy();
    let (mut ours, mut total, mut after_call) = (false, 0, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=").or_else(|| line.strip_prefix("cob=")) {
            // "(number) name" the first time, "(number)" from then on.
            let (number, name) = object.split_once(' ').unwrap_or((object, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if line.starts_with("ob=") {
                // valgrind 3.19 does not understand how newer linkers lay a program out: "???".
                ours = names.get(number).is_some_and(|name| *name == program || *name == "???");
            }
        } else if line.starts_with("calls=") {
            after_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            // "line cost"; after a call it is the cost of what was called.
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !std::mem::take(&mut after_call) && ours {
                total += cost.ok_or("a line of the profile that is not understood")?;
            }
        }
    }
    if total == 0 { Err("nothing of the program is in its profile".into()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_instructions_count() {
        let profile = "events: Ir\nob=(1) /bin/us\nfl=(1) a.rs\nfn=(1) main\n16 3\n+2 4\ncob=(2) /lib/libc.so\ncfn=(2) memcpy\n\
                       calls=1 0 \n* 1000\n\nob=(2)\nfn=(2)\n0 1000\n\nob=(1)\nfn=(3) more\n5 10\ntotals: 1017\n";
        assert_eq!(executed(profile, Path::new("/bin/us")).ok(), Some(17));
        let unknown = profile.replace("/bin/us", "???");
        assert_eq!(executed(&unknown, Path::new("/bin/us")).ok(), Some(17));
        assert!(executed(profile, Path::new("/bin/other")).is_err());
    }

    #[test]
    fn what_grows_beyond_the_tolerance_fails_and_what_stays_below_does_not() {
        let baseline = |rustc: &str, count: f64| Baseline {
            rustc: rustc.to_owned(),
            openssl: String::new(),
            rows: BTreeMap::from([("library".to_owned(), count)]),
        };
        assert!(compare(&baseline("1", 124.0), &baseline("1", 100.0)).is_ok());
        assert!(compare(&baseline("1", 126.0), &baseline("1", 100.0)).is_err());
        assert!(compare(&baseline("2", 126.0), &baseline("1", 100.0)).is_ok());
        assert!(compare(&baseline("2", 151.0), &baseline("1", 100.0)).is_err());
    }
}
