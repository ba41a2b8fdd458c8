//! `skytls version`: the version, and which OpenSSL is in use.

use std::fmt::Write;

use clap::Args;

use crate::tls::Library;

/// Arguments of `skytls version`.
#[derive(Debug, Clone, Args)]
pub(super) struct VersionArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Renders the answer.
pub(super) fn render(args: &VersionArgs) -> String {
    let library = Library::inspect();
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        return serde_json::json!({ "version": version, "openssl": library }).to_string() + "\n";
    }
    let mut text = format!("skytls {version}\n{}, {}\n", library.version, library.origin);
    let mut line = |name: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {name:<14} {value}");
    };
    for file in &library.files {
        line("library", &file.display().to_string());
    }
    line("OPENSSLDIR", &library.directory);
    let file = library.configuration.display();
    line(
        "openssl.cnf",
        &match (library.configuration_state, library.configuration_named_by) {
            ("disabled", _) => "none: OPENSSL_CONF is empty".to_owned(),
            ("missing", "default") => format!("{file} (not there: OpenSSL's defaults)"),
            (state, "default") => format!("{file} ({state})"),
            (state, "distribution") => format!("{file} ({state}; the distribution's)"),
            (state, named_by) => format!("{file} ({state}; named by {named_by})"),
        },
    );
    if library.system_default.is_empty() {
        line("system_default", "nothing");
    }
    for (name, value) in &library.system_default {
        line("system_default", &format!("{name} = {value}"));
    }
    for finding in &library.configuration_findings {
        line("warning", finding);
    }
    line("providers", &library.providers.join(", "));
    line(
        "FIPS",
        if library.fips_requested { "asked for by the default properties" } else { "off" },
    );
    text
}
