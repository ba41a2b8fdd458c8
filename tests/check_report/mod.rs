//! What `skytls check` has printed, compared with the files of `tests/check_golden/`.
//!
//! A golden file holds every line that is not `ok`, with why and do, and the last line. What differs
//! from run to run is replaced: ports, folders, dates. `UPDATE_GOLDEN=1` writes the files anew.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::Path;

use crate::support::process::{Finished, Skytls};

/// A finished check.
pub(crate) struct Report {
    pub(crate) finished: Finished,
    folder: String,
}

const OF_THE_BUILD: &str = "openssl.configuration";

/// What OpenSSL says of plaintext where TLS was expected, since 3.2 and before.
const NEWER_WORDS: &str = "packet length too long, record layer failure";
const OLDER_WORDS: &str = "wrong version number";

// === impl Report ===

impl Report {
    /// Runs it.
    pub(crate) fn of(check: Skytls, folder: &Path) -> Self {
        let folder = folder.display().to_string();
        Self { finished: check.run(), folder }
    }

    /// Fails unless everything that is not ok is exactly what the golden file says.
    #[track_caller]
    pub(crate) fn golden(&self, name: &str) -> &Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/check_golden/{name}.txt"));
        let found = self.not_ok();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &found).expect("the golden file can be written");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, expected, "{name}: \n{}\n{}", self.finished.stdout, self.finished.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn code(&self, code: i32) -> &Self {
        let Finished { stdout, stderr, .. } = &self.finished;
        assert_eq!(self.finished.code, code, "\n{stdout}\n{stderr}");
        self
    }

    /// The mark of the only line of this id.
    #[track_caller]
    pub(crate) fn mark(&self, id: &str) -> String {
        let lines: Vec<Vec<&str>> = self
            .finished
            .stdout
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|words: &Vec<&str>| words.get(1) == Some(&id))
            .collect();
        assert_eq!(lines.len(), 1, "{id} in \n{}", self.finished.stdout);
        lines[0][0].to_owned()
    }

    fn not_ok(&self) -> String {
        let mut kept = String::new();
        let mut keep = false;
        for line in self.finished.stdout.lines() {
            if !line.starts_with(' ') {
                let bad = line.starts_with("warning ") || line.starts_with("error ");
                keep = line.starts_with("errors: ") || (bad && !line.contains(OF_THE_BUILD));
            }
            if keep {
                kept.push_str(&self.steady(line));
                kept.push('\n');
            }
        }
        kept
    }

    fn steady(&self, line: &str) -> String {
        let mut line = line.replace(&self.folder, "FOLDER").replace(NEWER_WORDS, OLDER_WORDS);
        while let Some(end) = line.find(" GMT") {
            // "Nov  4 09:47:50 2027"
            line.replace_range(end - 20..end + 4, "DATE");
        }
        for host in ["localhost:", "127.0.0.1:"] {
            let mut from = 0;
            while let Some(at) = line[from..].find(host).map(|at| from + at + host.len()) {
                let digits = line[at..].chars().take_while(char::is_ascii_digit).count();
                if digits > 0 {
                    line.replace_range(at..at + digits, "PORT");
                }
                from = at;
            }
        }
        line
    }
}
