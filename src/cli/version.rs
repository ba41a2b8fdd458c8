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
    let readable = if library.configuration_readable { "" } else { " (cannot be read)" };
    line("openssl.cnf", &format!("{}{readable}", library.configuration.display()));
    line("providers", &library.providers.join(", "));
    line(
        "FIPS",
        if library.fips_requested { "asked for by the default properties" } else { "off" },
    );
    text
}
