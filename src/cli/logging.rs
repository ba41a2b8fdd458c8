//! Sets env_logger up: to the standard error, or to the file that the settings name.

use std::env;
use std::fs::{self, OpenOptions};

use env_logger::{Builder, DEFAULT_FILTER_ENV, DEFAULT_WRITE_STYLE_ENV, Target};
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
    filter(&mut builder, level, &env::var(DEFAULT_FILTER_ENV).unwrap_or_default());
    builder.parse_write_style(&env::var(DEFAULT_WRITE_STYLE_ENV).unwrap_or_default());
    builder
}

fn filter(builder: &mut Builder, level: LevelFilter, filters: &str) {
    // What other crates log at these levels is about their insides.
    builder.filter_level(level.min(LevelFilter::Warn));
    // A level for everything is meant for skytls too, whose own level would go before it.
    if !filters.split(',').any(|filter| filter.trim().parse::<LevelFilter>().is_ok()) {
        builder.filter_module("skytls", level);
    }
    builder.parse_filters(filters);
}

fn start(mut builder: Builder) {
    // Somebody who calls this as a library may have a logger already: theirs stays.
    let _ = builder.try_init();
}

#[cfg(test)]
mod tests {
    use log::{Level, Log, Metadata};

    use super::*;

    #[test]
    fn rust_log_goes_above_the_settings() {
        let enabled = |filters: &str, target: &str, level: Level| {
            let mut builder = Builder::new();
            filter(&mut builder, LevelFilter::Info, filters);
            builder.build().enabled(&Metadata::builder().target(target).level(level).build())
        };
        assert!(enabled("", "skytls::cli", Level::Info) && !enabled("", "h2", Level::Info));
        for filters in ["debug", "h2=off, debug", "skytls=debug", "skytls::cli=debug"] {
            assert!(enabled(filters, "skytls::cli", Level::Debug), "{filters}");
        }
        for filters in ["off", "error", "skytls=error"] {
            assert!(!enabled(filters, "skytls::cli", Level::Info), "{filters}");
        }
        assert!(enabled("h2=trace", "h2", Level::Trace));
        assert!(enabled("h2=trace", "skytls::cli", Level::Info));
    }
}
