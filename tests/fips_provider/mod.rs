//! The FIPS provider that `ci/fips` has built, and copies of it with one thing wrong.
//!
//! Where it is, is said by `SKYTLS_FIPS_DIR`; without it every test of FIPS fails.

#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// A copy of the provider in a folder of its own.
pub(crate) struct Copy {
    folder: tempfile::TempDir,
}

/// The key of `Configure`'s FIPSKEY: the integrity check is no secret.
const KEY: [u8; 32] = [
    0xf4, 0x55, 0x66, 0x50, 0xac, 0x31, 0xd3, 0x54, 0x61, 0x61, 0x0b, 0xac, 0x4e, 0xd8, 0x1b, 0x1a,
    0x18, 0x1b, 0x2d, 0x8a, 0x43, 0xea, 0x28, 0x54, 0xcb, 0xae, 0x22, 0xca, 0x74, 0x56, 0x08, 0x13,
];

/// The folder with `fips.so`, `fipsmodule.cnf` and `fips.cnf`.
pub(crate) fn folder() -> PathBuf {
    let folder = std::env::var_os("SKYTLS_FIPS_DIR");
    folder.expect("SKYTLS_FIPS_DIR names the folder of a FIPS provider: run ci/fips").into()
}

pub(crate) fn config() -> String {
    folder().join("fips.cnf").display().to_string()
}

/// A folder with a provider that needs no configuration, as some distributions have it.
pub(crate) fn without_configuration() -> tempfile::TempDir {
    bringing_its_checksum(&folder())
}

/// The same around the provider of a folder.
fn bringing_its_checksum(folder: &Path) -> tempfile::TempDir {
    let text = fs::read_to_string(folder.join("fipsmodule.cnf")).expect("it is there");
    let mac =
        text.lines().find_map(|line| line.strip_prefix("module-mac = ")).expect("it is in it");
    let made = tempfile::tempdir().expect("there is room");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(made.path().join("fips.so"))
        .arg(format!("-DMODULE=\"{}\"", folder.join("fips.so").display()))
        .arg(format!("-DMAC=\"{}\"", mac.trim()))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fips_provider/own.c"))
        .arg("-ldl")
        .status();
    assert!(compiled.expect("a C compiler").success());
    made
}

// === impl Copy ===

impl Copy {
    /// The same, but in another place.
    pub(crate) fn new() -> Self {
        let copy = Self { folder: tempfile::tempdir().expect("there is room") };
        let module = fs::read(folder().join("fips.so")).expect("the provider is there");
        copy.put("fips.so", &module);
        for name in ["fipsmodule.cnf", "fips.cnf"] {
            let text = fs::read_to_string(folder().join(name)).expect("it is there");
            let (from, to) = (folder().display().to_string(), copy.path("").display().to_string());
            copy.put(name, text.replace(&from, to.trim_end_matches('/')).as_bytes());
        }
        copy
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> String {
        self.path("fips.cnf").display().to_string()
    }

    /// A folder with a provider that needs no configuration, and has its code from here.
    pub(crate) fn without_configuration(&self) -> tempfile::TempDir {
        bringing_its_checksum(self.folder.path())
    }

    /// What `fipsmodule.cnf` gives the provider, with this line, or none, for the module's place.
    pub(crate) fn with_module_line(self, line: &str) -> Self {
        let text = fs::read_to_string(self.path("fipsmodule.cnf")).expect("it is there");
        let lines = text.lines().filter(|one| !one.starts_with("module ="));
        let text: String = lines.chain([line]).map(|one| format!("{one}\n")).collect();
        self.put("fipsmodule.cnf", text.as_bytes());
        self
    }

    /// Replaces a file by a rename.
    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        let (path, draft) = (self.path(name), self.path(".draft"));
        fs::write(&draft, content).expect("there is room");
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(draft, path).expect("it is ours");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("it is there");
    }

    /// Flips a bit in the middle of the module.
    pub(crate) fn with_a_flipped_bit(self) -> Self {
        let mut module = fs::read(self.path("fips.so")).expect("it is there");
        let middle = module.len() / 2;
        module[middle] ^= 1;
        self.put("fips.so", &module);
        self
    }

    /// The expected result of one self-test is wrong, and the module's checksum right.
    pub(crate) fn with_a_failing_self_test(self) -> Self {
        // SHA-512 of "abc", FIPS 180-4.
        let known = [0xdd, 0xaf, 0x35, 0xa1, 0x93, 0x61, 0x7a, 0xba];
        let mut module = fs::read(self.path("fips.so")).expect("it is there");
        let at = module.windows(8).position(|window| window == known);
        module[at.expect("the module tests SHA-512")] ^= 1;
        self.put("fips.so", &module);
        let key = PKey::hmac(&KEY).expect("a key of HMAC");
        let mut signer = Signer::new(MessageDigest::sha256(), &key).expect("HMAC-SHA-256");
        let mac = signer.sign_oneshot_to_vec(&module).expect("a MAC");
        let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02X}")).collect();
        self.with_mac(&mac.join(":"))
    }

    /// The configuration is of another module.
    pub(crate) fn with_a_wrong_configuration(self) -> Self {
        self.with_mac(&["00"; 32].join(":"))
    }

    pub(crate) fn with_mac(self, mac: &str) -> Self {
        let text = fs::read_to_string(self.path("fipsmodule.cnf")).expect("it is there");
        let line = |line: &str| match line.starts_with("module-mac") {
            true => format!("module-mac = {mac}\n"),
            false => format!("{line}\n"),
        };
        self.put("fipsmodule.cnf", text.lines().map(line).collect::<String>().as_bytes());
        self
    }
}

/// An `openssl.cnf` that names the provider, with these lines as its policy and among its algorithms.
pub(crate) fn openssl_cnf(module: &Path, policy: &str, algorithms: &str) -> String {
    format!(
        "openssl_conf = init\n.include = {}\n[init]\nproviders = providers\nssl_conf = ssl\nalg_section = \
         algorithms\n[providers]\nfips = fips_sect\ndefault = default_sect\n[default_sect]\nactivate = \
         1\n[ssl]\nsystem_default = policy\n[policy]\n{policy}\n[algorithms]\n{algorithms}\n",
        module.display()
    )
}
