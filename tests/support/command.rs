//! Where the `openssl` command comes from: the machine's own, or, where there is none, one built once
//! from the sources that the feature `vendored` builds its library from.
//!
//! So the tests need nothing but Rust, a C compiler, perl and make. Building takes a few minutes, and
//! only on a machine without the command; the result stays in the target folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// The program to run as `openssl`.
pub(crate) fn openssl() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let there = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if there.is_ok_and(|status| status.success()) { "openssl".into() } else { build() }
    });
    &PROGRAM
}

/// Builds the command in a folder of its own and moves it to its place when it is complete.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder");
    let program = target.join("openssl-command");
    if program.exists() {
        return program;
    }
    let folder = tempfile::Builder::new()
        .prefix("openssl-command-build-")
        .tempdir_in(target)
        .expect("a folder to build the openssl command in");
    copy(&sources(), folder.path());
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(folder.path());
        expect(line, command.output().expect("a shell"));
    };
    // The configuration and trust store of the machine are the ones to compare with.
    shell("perl Configure no-shared no-tests no-docs no-module --openssldir=/etc/ssl");
    shell("make -s -j4 build_generated && make -s -j4 apps/openssl");
    fs::rename(folder.path().join("apps/openssl"), &program).expect("to move the openssl command");
    program
}

/// The folder of OpenSSL's sources inside the `openssl-src` crate, as Cargo has fetched it.
fn sources() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--features=vendored"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let metadata = expect("cargo metadata", output);
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).expect("JSON of cargo");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let manifest = packages
        .filter(|package| package["name"] == "openssl-src")
        .find_map(|package| package["manifest_path"].as_str())
        .expect("the openssl-src crate among the dependencies");
    Path::new(manifest).parent().expect("a folder of the crate").join("openssl")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("OpenSSL's sources") {
        let entry = entry.expect("an entry of OpenSSL's sources");
        let place = to.join(entry.file_name());
        if entry.file_type().expect("a kind of entry").is_dir() {
            fs::create_dir(&place).expect("a folder");
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), &place).expect("to copy a file");
        }
    }
}

fn expect(what: &str, output: Output) -> Vec<u8> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "there is no openssl command on this machine, and building one failed at {what}:\n{errors}"
    );
    output.stdout
}
