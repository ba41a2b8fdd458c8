//! Which OpenSSL is in use: version, files, providers.

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Serialize;

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
    /// The active providers of the default library context.
    pub providers: Vec<String>,
    /// Whether the default properties ask for FIPS; not a proof that FIPS is in force.
    pub fips_requested: bool,
}

// === impl Library ===

impl Library {
    /// Asks the loaded library; initialises OpenSSL if nobody has.
    pub fn inspect() -> Self {
        openssl::init();
        let configuration = configuration();
        Self {
            version: openssl::version::version().to_owned(),
            origin: if cfg!(feature = "vendored") { "vendored" } else { "linked" },
            files: mapped_files(),
            directory: directory().to_owned(),
            configuration_readable: fs::File::open(&configuration).is_ok(),
            configuration,
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
fn directory() -> &'static str {
    openssl::version::dir().trim_start_matches("OPENSSLDIR:").trim().trim_matches('"')
}

fn configuration() -> PathBuf {
    match env::var_os("OPENSSL_CONF").filter(|value| !value.is_empty()) {
        Some(path) => path.into(),
        None => Path::new(directory()).join("openssl.cnf"),
    }
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
