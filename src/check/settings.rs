//! The settings: whether they can be loaded, and what they mean.

use super::{Check, Depth};
use crate::config::{Loaded, Mode};
use crate::error::{Code, Error, Stage};

/// The settings, or a file they name, could not be made sense of.
pub(super) fn refused(error: &Error) -> Check {
    let (id, fact) = match (error.code(), error.stage()) {
        (Code::BackendMissing, _) => ("settings.backend", "a backend is set"),
        (_, Stage::Files) => ("files.path", "the files that the settings name are there"),
        _ => ("settings.load", "the settings can be loaded"),
    };
    Check::error(id, fact, error)
}

/// What the settings say.
pub(super) fn checks(loaded: &Loaded, listener: Option<&Error>, depth: Depth) -> Vec<Check> {
    let settings = &loaded.settings;
    let file = match &loaded.effective.file {
        Some(path) => path.display().to_string(),
        None => "no configuration file".to_owned(),
    };
    let mut checks = vec![Check::ok("settings.load", "the settings can be loaded", file)];
    for warning in &loaded.warnings {
        let id = format!("settings.{}", warning.kind.word());
        checks.push(
            Check::warning(id, "the settings say what is meant", warning.key.clone())
                .why(warning.to_string())
                .remedy("correct the setting; `skytls config` shows what is in force"),
        );
    }
    if let Some(error) = listener {
        checks.push(
            Check::error("settings.listener", "a relay could listen as set", error)
                .also("an agent does not listen; `skytls run` would refuse")
                .mild(),
        );
    }
    let backends: Vec<String> = settings.link.backends.iter().map(ToString::to_string).collect();
    checks.push(match backends.as_slice() {
        [] => refused(
            &Error::new(Code::BackendMissing)
                .key("collector.backend_service")
                .found("no value")
                .expected("host:port"),
        ),
        _ => Check::ok("settings.backend", "a backend is set", backends.join(", ")),
    });
    checks.push(mode(settings.tls.mode, depth));
    checks
}

fn mode(mode: Mode, depth: Depth) -> Check {
    let value = format!("{} ({})", mode.name(), mode.reason());
    let (id, fact) = ("settings.tls", "the settings say whether TLS protects the link");
    if depth == Depth::Tls && !mode.is_tls() {
        let error = Error::new(Code::TlsRequired).found("plaintext").expected("TLS to check");
        return Check::error(id, fact, &error);
    }
    Check::ok(id, fact, value)
}
