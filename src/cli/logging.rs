//! Sets env_logger up: to the standard error, or to the file that the settings name.

use std::fs::{self, OpenOptions};

use env_logger::{Builder, Env, Target};
use log::LevelFilter;

use crate::config::LoggingSettings;
use crate::error::{Code, Error, Result};

/// Logs to the standard error; `-v` goes above `level`, RUST_LOG above both.
pub(super) fn to_stderr(verbose: u8, level: LevelFilter) {
    start(builder(verbose, level));
}

/// Logs as the settings say.
pub(super) fn from_settings(verbose: u8, settings: &LoggingSettings) -> Result<()> {
    let mut builder = builder(verbose, settings.level);
    if let Some(path) = &settings.file {
        let failed =
            |error| Error::new(Code::CannotWrite).key("logging.output").file(path).because(error);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        builder.target(Target::Pipe(Box::new(file)));
    }
    start(builder);
    Ok(())
}

fn builder(verbose: u8, level: LevelFilter) -> Builder {
    let level = match verbose {
        0 => level,
        1 => level.max(LevelFilter::Info),
        2 => level.max(LevelFilter::Debug),
        _ => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    // What other crates log at these levels is about their insides.
    builder.filter_level(level.min(LevelFilter::Warn)).filter_module("skytls", level);
    builder.parse_env(Env::default());
    builder
}

fn start(mut builder: Builder) {
    // Somebody who calls this as a library may have a logger already: theirs stays.
    let _ = builder.try_init();
}
