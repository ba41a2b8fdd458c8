//! `vendor/fips/build` takes OpenSSL's own release and nothing else: a tarball with another checksum is
//! refused before a byte of it is unpacked.
//!
//! The release itself is not at hand in a test; that it would be taken is shown up to its checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/fips/build");

fn build(script: &Path, arguments: &[&str]) -> Output {
    Command::new(script).args(arguments).output().expect("it can be run")
}

/// A tarball laid out like the release, with a Configure that says that it was run, and fails.
fn tarball(folder: &Path) -> PathBuf {
    let root = folder.join("openssl-3.1.2");
    fs::create_dir(&root).expect("there is room");
    let configure = root.join("Configure");
    fs::write(&configure, "#!/bin/sh\necho \"Configure $*\"\nexit 1\n").expect("there is room");
    let tar = folder.join("openssl-3.1.2.tar.gz");
    let made = Command::new("sh")
        .args([
            "-c",
            "chmod +x openssl-3.1.2/Configure && tar -czf openssl-3.1.2.tar.gz openssl-3.1.2",
        ])
        .current_dir(folder)
        .status();
    assert!(made.expect("tar").success());
    tar
}

#[test]
fn a_tarball_with_another_checksum_is_refused() {
    let folder = tempfile::tempdir().expect("there is room");
    let tar = tarball(folder.path()).display().to_string();
    let out = folder.path().join("out");
    let finished = build(Path::new(SCRIPT), &["--tarball", &tar, &out.display().to_string()]);
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(!finished.status.success() && said.contains("is not the published"), "{said}");
    assert!(!said.contains("Configure"), "{said}");
    assert_eq!(fs::read_dir(out).expect("it was made").count(), 0);
}

/// The same script with the checksum of our tarball in it: what it holds is configured for FIPS, as the security
/// policy says, with nothing else switched on or off.
#[test]
fn behind_the_checksum_the_tarball_is_built_as_the_security_policy_says() {
    let folder = tempfile::tempdir().expect("there is room");
    let tar = tarball(folder.path());
    let digest = openssl::sha::sha256(&fs::read(&tar).expect("it is there"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = fs::read_to_string(SCRIPT).expect("it is there");
    let line = text.lines().find(|line| line.starts_with("tarball_sha256=")).expect("it has one");
    // As published at openssl.org beside openssl-3.1.2.tar.gz.
    let published = "a0ce69b8b97ea6a35b96875235aa453b966ba3cba8af2de23657d8b6767d6539";
    assert_eq!(line, format!("tarball_sha256={published}"));
    let script = folder.path().join("build");
    fs::copy(SCRIPT, &script).expect("there is room");
    fs::write(&script, text.replace(published, &digest)).expect("it is ours");
    let out = folder.path().join("out").display().to_string();
    let finished = build(&script, &["--tarball", &tar.display().to_string(), &out]);
    let told = String::from_utf8_lossy(&finished.stdout);
    assert!(told.contains("SHA-256 as published"), "{finished:?}");
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(said.lines().any(|line| line == "Configure enable-fips"), "{said}");
}
