//! Processes under observation: their lines as they come, their exit code, signals, no survivors.
//!
//! It does not interpret what they print.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use super::DEADLINE;

/// The `skytls` binary of this build, in an environment without settings, to be run or started.
pub(crate) struct Skytls(Command);

/// A running process. It is killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; 128 and the signal's number for one that was killed, as in a shell.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

#[derive(Default)]
struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// In the order they came, each with its line break if it had one.
    lines: Vec<(Stream, String)>,
    closed: usize,
}

// === impl Skytls ===

impl Skytls {
    /// With these arguments; stdin is empty.
    pub(crate) fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skytls"));
        command.args(arguments);
        clean(&mut command);
        Self(command)
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// The working directory.
    pub(crate) fn in_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Process {
        Process::start(self.0, Stdio::null())
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }
}

/// Takes away whatever could set up skytls or OpenSSL behind a test's back.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if ["SW_", "SSL", "OPENSSL", "RUST_LOG"].iter().any(|prefix| text.starts_with(prefix))
            || text.ends_with("_PROXY")
        {
            command.env_remove(name);
        }
    }
}

// === impl Process ===

impl Process {
    /// Starts a command. With `Stdio::piped()` its stdin stays open until [`Self::close_stdin`].
    pub(crate) fn start(mut command: Command, stdin: Stdio) -> Self {
        let name = format!("{command:?}");
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        read_lines(stdout, Stream::Stdout, Arc::clone(&output));
        read_lines(stderr, Stream::Stderr, Arc::clone(&output));
        Self { name, stdin: child.stdin.take(), child: Some(child), output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("the process has not been waited for")
    }

    /// The first line, of either stream, that contains the text; waits for it.
    pub(crate) fn line(&self, text: &str) -> String {
        self.lines(text, 1).pop().expect("there is one")
    }

    /// The lines that contain the text; waits until there are so many.
    pub(crate) fn lines(&self, text: &str, count: usize) -> Vec<String> {
        let what = format!("{count} lines with {text:?}");
        self.output.wait(&self.name, &what, |state| {
            let found: Vec<String> = state
                .lines
                .iter()
                .filter(|(_, line)| line.contains(text))
                .map(|(_, line)| line.trim_end().to_owned())
                .collect();
            // At the end of the output there is nothing left to wait for.
            match found.len() >= count {
                true => Wait::Done(found),
                false if state.closed == 2 => Wait::Hopeless,
                false => Wait::Longer,
            }
        })
    }

    /// What it has printed to stdout up to now.
    pub(crate) fn stdout(&self) -> String {
        self.output.text(Stream::Stdout)
    }

    /// What it has printed to stderr up to now.
    pub(crate) fn stderr(&self) -> String {
        self.output.text(Stream::Stderr)
    }

    /// Writes to stdin, which must be piped. One that has ended already does not matter.
    pub(crate) fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is piped and open");
        let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends a signal by its name, without `SIG`.
    pub(crate) fn signal(&self, signal: &str) {
        signal_process(self.id(), signal);
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        // Both streams end with the process, which wakes us; only then is it waited for.
        self.output.wait(&self.name, "the end of the process", |state| match state.closed {
            2 => Wait::Done(()),
            _ => Wait::Longer,
        });
        let child = self.child.take().expect("nobody else takes it");
        let status = reap(child, &self.name);
        Finished {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a process that has closed its output, and so is about to end; kills one that does not.
fn reap(mut child: Child, name: &str) -> ExitStatus {
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(status) => status.expect("a child can be waited for"),
        Err(_) => {
            signal_process(id, "KILL");
            panic!("{name} closed its output and did not end");
        }
    }
}

/// By the shell, since the standard library sends SIGKILL only. The process is not reaped yet, so its
/// number is not another's.
fn signal_process(id: u32, signal: &str) {
    let script = format!("kill -s {signal} {id}");
    let status = Command::new("sh").args(["-c", &script]).status().expect("there is a shell");
    assert!(status.success(), "{script}: {status}");
}

// === impl Finished ===

impl Finished {
    /// Fails with everything that was printed unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n{}\n{}", self.stdout, self.stderr);
        self
    }
}

// === impl Output ===

enum Wait<T> {
    Done(T),
    Longer,
    Hopeless,
}

impl Output {
    fn wait<T>(&self, name: &str, what: &str, look: impl Fn(&State) -> Wait<T>) -> T {
        let until = Instant::now() + DEADLINE;
        let mut state = self.state.lock().expect("no reader panics");
        loop {
            let why = match look(&state) {
                Wait::Done(found) => return found,
                Wait::Hopeless => "its output has ended",
                Wait::Longer => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => {
                        state = self.changed.wait_timeout(state, left).expect("no reader panics").0;
                        continue;
                    }
                    _ => "not in time",
                },
            };
            let printed: String = state.lines.iter().map(|(_, line)| line.as_str()).collect();
            drop(state); // or the readers would panic as well
            panic!("{name}: no {what}: {why}; it printed:\n{printed}");
        }
    }

    fn text(&self, stream: Stream) -> String {
        let state = self.state.lock().expect("no reader panics");
        let lines = state.lines.iter().filter(|(of, _)| *of == stream);
        lines.map(|(_, line)| line.as_str()).collect()
    }
}

fn read_lines(from: impl Read + Send + 'static, stream: Stream, output: Arc<Output>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            output.state.lock().expect("no reader panics").lines.push((stream, text));
            output.changed.notify_all();
            line.clear();
        }
        output.state.lock().expect("no reader panics").closed += 1;
        output.changed.notify_all();
    });
}
