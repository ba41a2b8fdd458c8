//! The command line: arguments in, an exit code out.
//!
//! Each command is a file of its own and gives back what is to be printed; only this one and
//! [`out`] write to the standard streams.

pub mod certs;
mod check;
pub mod collector;
pub mod config;
mod demo;
mod logging;
pub mod out;
mod run;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Loaded, Loader};
use crate::error::{Code, Error, Result};

/// SkyWalking telemetry over the system's own OpenSSL
#[derive(Debug, Parser)]
#[command(name = "skytls", version, disable_version_flag = true, propagate_version = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// More log on the standard error; -vv for more still (RUST_LOG is finer)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay local agents' gRPC to the backend over OpenSSL
    Run(run::RunArgs),
    /// Check the way to the backend: settings, files, DNS, TCP, TLS, HTTP/2, gRPC
    Check(check::CheckArgs),
    /// Write certificates for agent and backend
    Certs(CertsArgs),
    /// Stand in for the backend: accept everything, count it, do wrong to order
    Collector(collector::CollectorArgs),
    /// Show it all working on this machine: certificates, collector, relay, mutual TLS
    Demo(demo::DemoArgs),
    /// Show every setting, its value and where it comes from
    Config(ConfigArgs),
    /// Show the version and which OpenSSL is in use
    Version(version::VersionArgs),
}

#[derive(Debug, Args)]
struct CertsArgs {
    #[command(flatten)]
    options: certs::Options,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// List only the keys of the file that mean nothing here
    #[arg(long)]
    unused: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Where settings come from; shared by the commands that load some.
#[derive(Debug, Clone, Args)]
pub(crate) struct SettingsArgs {
    /// Configuration file [default: $SW_AGENT_CONFIG, ./config/agent.config, ./agent.config]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, above file and environment; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the command line.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let wanted = !error.use_stderr();
            match error.render().to_string().strip_prefix("error: ") {
                Some(what) => out::note(&format!("error: {} {what}", Code::Usage)),
                // Help. Nothing can be done about a closed terminal here.
                None => _ = error.print(),
            }
            return ExitCode::from(if wanted { 0 } else { Code::Usage.kind().exit_code() });
        }
    };
    match dispatch(arguments.command, arguments.verbose) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            out::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a command; one that has already told why it failed gives an exit code.
fn dispatch(command: Command, verbose: u8) -> Result<u8> {
    if !matches!(command, Command::Run(_)) {
        logging::to_stderr(verbose, log::LevelFilter::Warn);
    }
    match command {
        Command::Check(args) => return check::check(&args),
        Command::Run(args) => run::run(&args, verbose),
        Command::Certs(args) => {
            let report = certs::write(&args.options)?;
            out::print(&if args.json { report.to_json() + "\n" } else { report.to_text() })
        }
        Command::Collector(args) => collect(args),
        Command::Demo(args) => demo::run(&args),
        Command::Config(args) => show_settings(&args),
        Command::Version(args) => out::print(&version::render(&args)),
    }
    .map(|()| 0)
}

fn show_settings(args: &ConfigArgs) -> Result<()> {
    // As a library would see them: a relay refuses some values that are worth showing.
    let loaded = args.settings.loader()?.relay(false).load()?;
    out::print(&config::render(&loaded.effective, &loaded.warnings, args.json, args.unused))
}

fn collect(args: collector::CollectorArgs) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Error::new(Code::Bug).found("no threads to be had").because(error))?;
    let report = runtime.block_on(collector::run(args, out::listening, async {
        run::stop_signal().await;
    }))?;
    out::print(&if report.ends_with('\n') { report } else { report + "\n" })
}

// === impl SettingsArgs ===

impl SettingsArgs {
    /// The settings of a relay, as every command shows and uses them.
    pub(crate) fn load(&self) -> Result<Loaded> {
        self.loader()?.load()
    }

    fn loader(&self) -> Result<Loader> {
        let loader = Loader::new().relay(true);
        let loader = match &self.config {
            Some(path) => loader.file(path),
            None => loader.discover(),
        };
        overridden(loader, &self.set)
    }
}

/// A loader with the pairs of `--set` on top.
fn overridden(mut loader: Loader, pairs: &[String]) -> Result<Loader> {
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            // What was meant as the value may be a secret.
            let key = pair.split(':').next().unwrap_or_default();
            return Err(Error::new(Code::Usage)
                .found(format!("--set {key}"))
                .expected("--set KEY=VALUE"));
        };
        loader = loader.set(key.trim(), value);
    }
    Ok(loader)
}
