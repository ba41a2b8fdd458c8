//! What came out: rows with all their values, on which machine, and how targets were met.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::statistics::{Sample, ratios};
use crate::targets::Target;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) rows: Vec<Row>,
    /// What could not be measured, and why.
    pub(crate) missing: Vec<(String, String)>,
    pub(crate) targets: Vec<Target>,
}

/// What numbers depend on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) openssl: String,
    /// The load when the run began: other people's work disturbs.
    pub(crate) load: String,
}

/// One thing measured, round by round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Words with `/` between them, such as `client/floor/682/backlog`.
    pub(crate) id: String,
    pub(crate) unit: String,
    #[serde(flatten)]
    pub(crate) sample: Sample,
}

// === impl Results ===

impl Results {
    /// Adds a value to a row, which is made if need be.
    pub(crate) fn push(&mut self, id: &str, unit: &str, value: f64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == id) {
            row.sample.push(value);
            return;
        }
        let sample = Sample { values: vec![value] };
        self.rows.push(Row { id: id.to_owned(), unit: unit.to_owned(), sample });
    }

    pub(crate) fn sample(&self, id: &str) -> Option<&Sample> {
        self.rows.iter().find(|row| row.id == id).map(|row| &row.sample)
    }

    /// The median of a row.
    pub(crate) fn median(&self, id: &str) -> Option<f64> {
        self.sample(id).map(Sample::median)
    }

    /// The ratio of two rows, round by round.
    pub(crate) fn ratio(&self, of: &str, to: &str) -> Option<Sample> {
        Some(ratios(self.sample(of)?, self.sample(to)?))
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

// === impl Machine ===

impl Machine {
    pub(crate) fn here() -> Self {
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            output.map_or_else(
                |_| String::new(),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            )
        };
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let processor = file("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(String::new, |(_, name)| name.to_owned());
        Self {
            date: said("date", &["-u", "+%Y-%m-%d"]),
            commit: said("git", &["rev-parse", "--short", "HEAD"]),
            processor,
            processors: std::thread::available_parallelism().map_or(0, Into::into),
            kernel: file("/proc/sys/kernel/osrelease"),
            rustc: said("rustc", &["--version"]),
            openssl: openssl::version::version().to_owned(),
            load: file("/proc/loadavg"),
        }
    }
}
