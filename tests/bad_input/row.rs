//! A row: an agent's folder, a command line, and what has to come of it.
//!
//! Whatever a row expects, all of them are asserted to end in time, not to panic and not to show the
//! passphrase or a line of a private key.

use std::any::Any;
use std::ffi::OsString;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::folder::Folder;
use crate::support::process::{Finished, Process, clean};

pub(crate) struct Row {
    name: String,
    folder: Folder,
    /// The whole command line in place of `run --config FILE`.
    command: Option<Vec<OsString>>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    manner: Manner,
    /// What must not show.
    secrets: Vec<String>,
    /// What has to be in the message besides the id: names of keys and files, facts.
    says: Vec<String>,
    outcome: Outcome,
    /// What has to live as long as the row.
    keep: Vec<Box<dyn Any + Send>>,
}

/// How the command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// With `/dev/null` for stdin.
    Plain,
    /// Without a stdin.
    Closed,
    /// As a session of its own on a terminal where nobody types.
    Terminal,
    /// Without the privilege of root to read every file.
    Unprivileged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Ends with this id and exit code before it has begun to listen.
    Refused(&'static str, i32),
    /// Ends with a message of the argument parser.
    Usage,
    /// `check` ends with this id in a line of an error, and this exit code.
    Checked(&'static str, i32),
    /// Runs, says this much in the log, and ends well when told to.
    Runs,
}

/// How many rows run at a time.
const WORKERS: usize = 3;

/// Checks all rows and fails with the list of those that do not hold.
pub(crate) fn check(rows: Vec<Row>) {
    let rows: Vec<Mutex<Row>> = rows.into_iter().map(Mutex::new).collect();
    let names = rows.iter().map(|row| row.lock().unwrap().name.clone());
    assert_unique(names.collect());
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = row.lock().unwrap();
                    if catch_unwind(AssertUnwindSafe(|| row.check())).is_err() {
                        failures.lock().unwrap().push(row.name.clone());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} rows: {failures:#?}", failures.len(), rows.len());
}

fn assert_unique(mut names: Vec<String>) {
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "two rows have the same name");
}

// === impl Row ===

impl Row {
    /// `skytls run` with these lines in `config/agent.config`, besides a free port to listen on.
    pub(crate) fn new(name: impl Into<String>, lines: &str) -> Self {
        Self::bare(name, format!("relay.listen=127.0.0.1:0\n{lines}").as_bytes())
    }

    /// `skytls run` with this file.
    pub(crate) fn bare(name: impl Into<String>, config: &[u8]) -> Self {
        Self {
            name: name.into(),
            folder: Folder::empty().file("config/agent.config", config, 0o644),
            command: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            manner: Manner::Plain,
            secrets: Vec::new(),
            says: Vec::new(),
            outcome: Outcome::Runs,
            keep: Vec::new(),
        }
    }

    // --- what is given ---

    /// A file in the agent's folder. The lines of a private key in it are secrets.
    pub(crate) fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.secrets.extend(key_lines(content.as_ref()));
        self.folder.replace(name, content, 0o600);
        self
    }

    /// Changes the folder by hand.
    pub(crate) fn prepare(self, change: impl FnOnce(&Folder)) -> Self {
        change(&self.folder);
        self
    }

    /// A file that cannot be read by whoever runs the command, root included.
    pub(crate) fn unreadable(mut self, name: &str) -> Self {
        self.folder.replace(name, "x", 0o000);
        let path = self.folder.join(name);
        if fs::read(&path).is_err() {
            return self;
        }
        if Manner::Unprivileged.command(&["true".into()]).status().is_ok_and(|s| s.success()) {
            self.manner = Manner::Unprivileged;
        } else {
            // Privileges that cannot be dropped: a file that fails to be read whoever reads it.
            self.folder.remove(name);
            std::os::unix::fs::symlink("/proc/self/mem", path).unwrap();
        }
        self
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn set(self, pair: &str) -> Self {
        self.arg("--set").arg(pair)
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Another command than `run`, with all of its arguments.
    pub(crate) fn command<A: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        self.command = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    pub(crate) fn without_stdin(mut self) -> Self {
        self.manner = Manner::Closed;
        self
    }

    pub(crate) fn on_a_terminal(mut self) -> Self {
        self.manner = Manner::Terminal;
        self
    }

    pub(crate) fn keep(mut self, what: impl Any + Send) -> Self {
        self.keep.push(Box::new(what));
        self
    }

    pub(crate) fn secret(mut self, text: &str) -> Self {
        self.secrets.push(text.to_owned());
        self
    }

    // --- what has to come of it ---

    /// An error of settings, files or this machine.
    pub(crate) fn refused(mut self, id: &'static str) -> Self {
        self.outcome = Outcome::Refused(id, 2);
        self
    }

    /// An error of the command line.
    pub(crate) fn misused(mut self, id: &'static str) -> Self {
        self.outcome = Outcome::Refused(id, 64);
        self
    }

    /// `skytls check` finds this error; text or `--json`.
    pub(crate) fn checked(mut self, id: &'static str, code: i32) -> Self {
        let config: OsString = self.folder.config().into();
        self.command = Some(vec!["check".into(), "--config".into(), config]);
        self.outcome = Outcome::Checked(id, code);
        self
    }

    /// The help, because nothing was asked for.
    pub(crate) fn helped(mut self) -> Self {
        self.outcome = Outcome::Usage;
        self
    }

    /// The message has to contain this.
    pub(crate) fn says(mut self, text: impl Into<String>) -> Self {
        self.says.push(text.into());
        self
    }

    fn check(&self) {
        let output = match self.outcome {
            Outcome::Runs => self.run_and_stop(),
            _ => self.start().finish(),
        };
        let Finished { code, stdout, stderr } = &output;
        let shown = format!("{}:\n{stdout}{stderr}", self.name);
        match self.outcome {
            Outcome::Runs => assert_eq!(*code, 0, "{shown}"),
            Outcome::Checked(id, exit) => {
                assert_eq!(*code, exit, "{shown}");
                let error = |line: &str| line.starts_with("error ") || line.contains("\"value\":");
                let found = stdout.lines().any(|line| error(line) && line.contains(id));
                assert!(found, "no {id}: {shown}");
            }
            Outcome::Usage => {
                assert_eq!(*code, 64, "{shown}");
                assert!(stderr.contains("Usage:"), "{shown}");
            }
            Outcome::Refused(id, exit) => {
                assert_eq!(*code, exit, "{shown}");
                assert!(!stdout.contains("listening on"), "{shown}");
                // A terminal has one stream for both.
                let all = format!("{stdout}{stderr}");
                let line = all.lines().find(|line| line.starts_with("error: "));
                self.judge(line.unwrap_or_else(|| panic!("no error: {shown}")), id);
            }
        }
        for text in &self.says {
            assert!(stdout.contains(text) || stderr.contains(text), "no {text:?}: {shown}");
        }
        for text in ["panicked", "RUST_BACKTRACE", "Enter ", "pass phrase"] {
            assert!(!shown.contains(text), "{text:?}: {shown}");
        }
        for secret in &self.secrets {
            assert!(!stdout.contains(secret) && !stderr.contains(secret), "a secret: {shown}");
        }
    }

    /// The parts that every message has.
    fn judge(&self, line: &str, id: &str) {
        let shown = format!("{}:\n{line}", self.name);
        assert!(line.starts_with(&format!("error: {id} ")), "not {id}: {shown}");
        assert_eq!(line.matches("SKT-").count(), 1, "{shown}");
        if id == "SKT-901" {
            // The argument parser has its own way to say the rest.
            return;
        }
        let place = ["(key ", "(file ", ", file "];
        let named = place.iter().any(|text| line.contains(text));
        // What other commands than `run` are told comes from their arguments.
        assert!(named || self.command.is_some(), "neither key nor file: {shown}");
        // A wrong name is itself what was found, and the remedy says which one was expected. What the
        // system said is as good as a fact.
        let facts = id != "SKT-112";
        assert!(
            !facts || line.contains(" found ") || line.contains("): "),
            "nothing found: {shown}"
        );
        assert!(!facts || line.contains(" expected "), "nothing expected: {shown}");
        let (_, remedy) = line.split_once("; do: ").unwrap_or_else(|| panic!("no remedy: {shown}"));
        assert!(remedy.len() > 10, "{shown}");
    }

    /// Waits for what it has to say and for the listener, then stops it.
    fn run_and_stop(&self) -> Finished {
        let process = self.start();
        process.line("listening on ");
        for text in &self.says {
            process.line(text);
        }
        process.terminate();
        process.finish()
    }

    fn start(&self) -> Process {
        let mut command = self.manner.command(&self.line());
        clean(&mut command);
        command.current_dir(self.folder.path()).envs(self.environment.iter().cloned());
        let stdin = match self.manner {
            // Stays open, so that a prompt would wait for ever.
            Manner::Terminal => Stdio::piped(),
            _ => Stdio::null(),
        };
        Process::start(command, stdin)
    }

    fn line(&self) -> Vec<OsString> {
        let program = env!("CARGO_BIN_EXE_skytls").into();
        let config: OsString = self.folder.config().into();
        let command = match &self.command {
            Some(command) => command.clone(),
            None => vec!["run".into(), "--config".into(), config],
        };
        [vec![program], command, self.arguments.clone()].concat()
    }
}

// === impl Manner ===

impl Manner {
    fn command(self, line: &[OsString]) -> Command {
        let through = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).args(line);
            command
        };
        match self {
            Self::Plain => through("env", &[]),
            Self::Closed => through("sh", &["-c", "exec \"$@\" <&-", "sh"]),
            // Root stays root, and owns the files, but has to keep to their modes.
            Self::Unprivileged => {
                through("setpriv", &["--bounding-set", "-dac_override,-dac_read_search"])
            }
            Self::Terminal => {
                let quoted: Vec<String> = line
                    .iter()
                    .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
                    .collect();
                let mut command = Command::new("script");
                command.args(["-qec", &quoted.join(" "), "/dev/null"]);
                command
            }
        }
    }
}

/// The lines of private keys, long enough not to be anything else.
fn key_lines(pem: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(pem);
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("-----") {
            inside = line.contains("BEGIN") && line.contains("PRIVATE KEY");
        } else if inside && line.len() >= 16 && !line.contains(':') {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// Makes a FIFO that nobody writes to.
pub(crate) fn fifo(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success(), "mkfifo {}: {status}", path.display());
}
