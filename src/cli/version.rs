//! `skytls version`: the version, and which OpenSSL is in use.

use std::fmt::Write;

use clap::Args;

use super::SettingsArgs;
use crate::error::Chain;
use crate::tls::{Library, prove_fips};

/// Arguments of `skytls version`.
#[derive(Debug, Clone, Args)]
pub(super) struct VersionArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Renders the answer.
pub(super) fn render(args: &VersionArgs) -> String {
    let library = Library::inspect();
    // Only whether FIPS is required is of interest; what else the settings say is for others.
    let loaded = args.settings.loader().and_then(|loader| loader.relay(false).load());
    let proof = loaded.ok().and_then(|loaded| prove_fips(&loaded.settings.tls));
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        let fips = proof.map(|proof| match proof {
            Ok(info) => serde_json::json!({ "proven": true, "by": info }),
            Err(error) => {
                serde_json::json!({ "proven": false, "why": Chain(&error).to_string() })
            }
        });
        let document = serde_json::json!({ "version": version, "openssl": library, "fips": fips });
        return document.to_string() + "\n";
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
    match proof {
        None if library.fips_requested => line("FIPS", "asked for by the default properties"),
        None => line("FIPS", "off"),
        Some(Err(error)) => line("FIPS", &format!("required, not proven: {}", Chain(&error))),
        Some(Ok(info)) => {
            line("FIPS", &format!("required, and proven: {info}"));
            for proof in &info.proofs {
                line("proof", proof);
            }
        }
    }
    text
}
