//! What a segment costs with skytls, beside what it costs with others: the same bytes, the same server, client CPU.
//!
//! `skytls-bench run` starts everything else as a process of its own, so that the CPU time of a row is that of its
//! client alone. It needs what `ci/prepare-bench` installs; `ci/bench` is the way to start it.

mod client;
mod connect;
mod cpu;
mod footprint;
mod handshakes;
mod instructions;
mod jobs;
mod load;
mod pacer;
#[cfg(feature = "peers")]
mod plot;
mod relays;
mod report;
mod results;
mod run;
mod segment;
mod sink;
mod stage;
mod statistics;
mod targets;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// What can go wrong here ends the program; nobody catches it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The server that everything is sent to.
    Sink {
        /// A folder with `server.crt` and `server.pem`.
        #[arg(long)]
        material: PathBuf,
    },
    /// One client, once; prints what it took as JSON.
    Client(client::Task),
    /// The local agents of a relay.
    Load(load::Load),
    /// One client's handshakes.
    Connect(connect::Visits),
    /// Compares the instructions of the hot path with those that were written down.
    Instructions(instructions::Guard),
    /// Measures, and writes the results.
    Run(run::Plan),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Sink { material } => sink::run(&material),
        Command::Client(task) => {
            let cost = client::run(&task)?;
            println!("{}", serde_json::to_string(&cost)?);
            Ok(())
        }
        Command::Load(load) => {
            let done = load::run(&load)?;
            println!("{}", serde_json::to_string(&done)?);
            Ok(())
        }
        Command::Connect(visits) => {
            let cost = connect::run(&visits)?;
            println!("{}", serde_json::to_string(&cost)?);
            Ok(())
        }
        Command::Instructions(guard) => instructions::run(&guard),
        Command::Run(plan) => run::run(&plan),
    }
}
