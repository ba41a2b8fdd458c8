//! What every measurement needs: certificates, the sink, segments as files, and the programs that are measured.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use skytls::pki::{Authority, Leaf, Profile};
use tempfile::TempDir;

use crate::Result;
use crate::segment;
use crate::sink::Counts;

pub(crate) struct Stage {
    pub(crate) sink: Sink,
    folder: TempDir,
    /// Where `ci/bench` has built what is not in Rust, and skytls itself.
    pub(crate) programs: PathBuf,
}

/// The sink as a process.
pub(crate) struct Sink {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) port: u16,
    /// The same server, without session tickets.
    pub(crate) without_tickets: u16,
}

/// A process that ends with its scope.
pub(crate) struct Running(pub(crate) Child);

/// How long anything may take to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

// === impl Stage ===

impl Stage {
    pub(crate) fn set(programs: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        mint(folder.path())?;
        let sink = Sink::start(folder.path())?;
        Ok(Self { sink, folder, programs: programs.to_owned() })
    }

    /// Any file of this run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// The segment of this size as a file.
    pub(crate) fn segment(&self, size: usize) -> Result<PathBuf> {
        let path = self.file(&format!("segment-{size}"));
        if !path.exists() {
            fs::write(&path, segment::encoded(size))?;
        }
        Ok(path)
    }

    /// This program, to be run once more.
    pub(crate) fn own(&self, command: &str) -> Result<Command> {
        let mut own = Command::new(std::env::current_exe()?);
        own.arg(command);
        Ok(own)
    }

    /// A program that `ci/bench` has built.
    pub(crate) fn program(&self, name: &str) -> Result<Command> {
        let path = self.programs.join(name);
        if !path.exists() {
            return Err(format!("{} is not there: ci/bench builds it", path.display()).into());
        }
        let mut command = Command::new(path);
        // The settings are those of the measurement.
        command
            .env_clear()
            .env("LD_LIBRARY_PATH", &self.programs)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Ok(command)
    }

    /// Waits until so many segments have arrived, and takes the counts.
    pub(crate) fn arrived(&mut self, count: u64) -> Result<Counts> {
        let begun = Instant::now();
        while self.sink.look()?.good < count {
            if begun.elapsed() > PATIENCE {
                return Err(
                    format!("{count} were sent, and {:?} have arrived", self.sink.take()?).into()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.sink.take()
    }
}

/// Runs a program to its end and reads what it says.
pub(crate) fn said<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        let arguments: Vec<&OsStr> = command.get_args().collect();
        return Err(format!("{name} {arguments:?}: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A CA and a server's certificate.
fn mint(folder: &Path) -> Result<()> {
    let ca = Authority::new(&Profile::new("bench")?)?;
    let server = ca.issue(&Leaf::server(["localhost", "127.0.0.1"])?)?;
    fs::write(folder.join("ca.crt"), ca.certificate_pem())?;
    fs::write(folder.join("server.crt"), server.chain_pem())?;
    fs::write(folder.join("server.pem"), server.key_pem())?;
    Ok(())
}

// === impl Sink ===

impl Sink {
    fn start(material: &Path) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["sink", "--material"])
            .arg(material)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take().ok_or("no pipe")?;
        let answers = BufReader::new(process.stdout.take().ok_or("no pipe")?);
        let mut sink = Self { process, orders, answers, port: 0, without_tickets: 0 };
        let ports = sink.answer()?;
        let (port, without_tickets) = ports.split_once(' ').ok_or("the sink does not start")?;
        (sink.port, sink.without_tickets) = (port.parse()?, without_tickets.parse()?);
        Ok(sink)
    }

    /// Says how large the segments are that come now, and forgets what came before.
    pub(crate) fn expect(&mut self, size: usize) -> Result<()> {
        writeln!(self.orders, "expect {size}")?;
        self.answer()?;
        self.take()?;
        Ok(())
    }

    /// What has come in since the last `take`.
    pub(crate) fn look(&mut self) -> Result<Counts> {
        writeln!(self.orders, "look")?;
        Ok(serde_json::from_str(&self.answer()?)?)
    }

    /// What has come in since the last time.
    pub(crate) fn take(&mut self) -> Result<Counts> {
        writeln!(self.orders, "take")?;
        Ok(serde_json::from_str(&self.answer()?)?)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
