//! Which OpenSSL is in use: version, files, providers.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::openssl_cnf::OpensslCnf;

/// The OpenSSL this process runs on.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Library {
    /// The version text of the library that is loaded, not of the headers.
    pub version: String,
    /// `linked` for the system's shared library, `vendored` for one built in.
    pub origin: &'static str,
    /// The files of libssl and libcrypto mapped into this process; empty when built in.
    pub files: Vec<PathBuf>,
    /// OPENSSLDIR.
    pub directory: String,
    /// The configuration file in force.
    pub configuration: PathBuf,
    /// Whether that file can be read; OpenSSL says nothing when it cannot.
    pub configuration_readable: bool,
    /// Why it is that file: `OPENSSL_CONF`, `default` for OpenSSL's own place, `distribution` for
    /// a built-in OpenSSL that found the distribution's.
    pub configuration_named_by: &'static str,
    /// `read`, `missing`, `unreadable`, `broken`, or `disabled` by an empty `OPENSSL_CONF`.
    pub configuration_state: &'static str,
    /// The policy for TLS that the file sets: the lines of its `system_default`.
    pub system_default: Vec<(String, String)>,
    /// What in that file has no effect, and why.
    pub configuration_findings: Vec<String>,
    /// The active providers of the default library context.
    pub providers: Vec<String>,
    /// Whether the default properties ask for FIPS; not a proof that FIPS is in force.
    pub fips_requested: bool,
}

// === impl Library ===

impl Library {
    /// Asks the loaded library; initialises OpenSSL if nobody has, and lets a built-in one read the
    /// distribution's `openssl.cnf`.
    pub fn inspect() -> Self {
        let file = OpensslCnf::in_force();
        Self {
            version: openssl::version::version().to_owned(),
            origin: if cfg!(feature = "vendored") { "vendored" } else { "linked" },
            files: mapped_files(),
            directory: directory().to_owned(),
            configuration: file.path().to_owned(),
            configuration_readable: file.is_readable(),
            configuration_named_by: file.named_by(),
            configuration_state: file.state(),
            system_default: file.system_default().to_vec(),
            configuration_findings: file.findings(),
            providers: ossl_ext::active_providers(),
            fips_requested: ossl_ext::default_properties_ask_for_fips(),
        }
    }

    /// Whether certificates lie where this OpenSSL looks by default.
    pub(super) fn has_own_trust_store() -> bool {
        let directory = Path::new(directory());
        directory.join("cert.pem").is_file()
            || fs::read_dir(directory.join("certs"))
                .is_ok_and(|mut entries| entries.next().is_some())
    }
}

/// OPENSSLDIR without the `OPENSSLDIR: "…"` around it.
pub(super) fn directory() -> &'static str {
    openssl::version::dir().trim_start_matches("OPENSSLDIR:").trim().trim_matches('"')
}

/// The shared libraries of OpenSSL in this process, by the kernel's own list.
fn mapped_files() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.split_once('/').map(|(_, path)| Path::new("/").join(path)))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libssl.so") || name.starts_with("libcrypto.so")
        })
        .collect();
    files.sort();
    files.dedup();
    files
}
