//! Which configuration file is read, and which files are refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use skytls::config::Loader;
use skytls::error::{Code, Error, Fact};

fn name(folder: &Path, variables: &[(&str, &str)]) -> Result<Option<String>, Error> {
    let variables = variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
    let loader = Loader::new().directory(folder).discover().environment(variables);
    loader.load().map(|loaded| loaded.settings.agent.service_name)
}

fn fails(content: &[u8]) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.config");
    fs::write(&file, content).unwrap();
    Loader::new().file(file).environment([]).load().unwrap_err()
}

#[test]
fn the_first_of_the_usual_places_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(name(folder.path(), &[]).unwrap(), None);
    fs::write(path("agent.config"), "agent.service_name=second").unwrap();
    assert_eq!(name(folder.path(), &[]).unwrap().as_deref(), Some("second"));
    fs::create_dir(path("config")).unwrap();
    fs::write(path("config/agent.config"), "agent.service_name=first").unwrap();
    assert_eq!(name(folder.path(), &[]).unwrap().as_deref(), Some("first"));
    fs::write(path("other"), "agent.service_name=named").unwrap();
    let variables = [("SW_AGENT_CONFIG", "other")];
    assert_eq!(name(folder.path(), &variables).unwrap().as_deref(), Some("named"));
    assert_eq!(name(folder.path(), &[("SW_AGENT_CONFIG", "")]).unwrap().as_deref(), Some("first"));
}

#[test]
fn a_file_that_was_named_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let error = name(folder.path(), &[("SW_AGENT_CONFIG", "/no/such/file")]).unwrap_err();
    assert_eq!(error.code(), Code::ConfigUnreadable);
    assert_eq!(error.get(Fact::File), Some("/no/such/file"));
    let error = Loader::new().file("/no/such/file").environment([]).load().unwrap_err();
    assert_eq!(error.code(), Code::ConfigUnreadable);
}

#[test]
fn what_is_at_a_usual_place_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("config/agent.config")).unwrap();
    fs::write(folder.path().join("agent.config"), "").unwrap();
    assert_eq!(name(folder.path(), &[]).unwrap_err().code(), Code::ConfigNotAFile);
    #[cfg(unix)]
    {
        fs::remove_dir(folder.path().join("config/agent.config")).unwrap();
        let link = folder.path().join("config/agent.config");
        std::os::unix::fs::symlink("/no/such/file", link).unwrap();
        assert_eq!(name(folder.path(), &[]).unwrap_err().code(), Code::ConfigUnreadable);
    }
}

#[cfg(unix)]
#[test]
fn devices_and_folders_are_not_read() {
    for path in ["/dev/zero", "/dev/null", "/"] {
        let error = Loader::new().file(path).environment([]).load().unwrap_err();
        assert_eq!(error.code(), Code::ConfigNotAFile, "{path}");
    }
}

#[test]
fn large_files_and_long_lines_are_refused_at_once() {
    let start = Instant::now();
    for content in [vec![b'x'; 10 * 1024 * 1024], vec![b'x'; 3 * 1024 * 1024]] {
        assert_eq!(fails(&content).code(), Code::ConfigTooLarge);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn bytes_and_escapes_are_located() {
    let error = fails(b"# ok\nagent.service_name=caf\xe9\n");
    assert_eq!((error.code(), error.get(Fact::Line)), (Code::ConfigNotText, Some("2")));
    let error = fails(b"\xff\xfea\0g\0");
    assert_eq!(error.code(), Code::ConfigNotText);
    let error = fails(b"a=1\\\n2\nagent.namespace=\\u12\n");
    assert_eq!((error.code(), error.get(Fact::Line)), (Code::BadEscape, Some("3")));
}

#[test]
fn random_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.config");
    let words: [&[u8]; 20] = [
        b"agent.service_name",
        b"agent.force_tls",
        b"collector.backend_service",
        b"agent.authentication",
        b"relay.listen",
        b"=",
        b":",
        b" ",
        b"\n",
        b"\\",
        b"\\u0041",
        b"${",
        b"}",
        b"${SW_AGENT_NAME:",
        b"true",
        b"[::1]:1",
        b"oap:1,",
        b"\xc3\xbc",
        b"#",
        b"agent.ssl_trusted_ca_path",
    ];
    let mut state = 0x2545_f491_u32;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    for _ in 0..1000 {
        let content: Vec<u8> =
            (0..random(40)).flat_map(|_| words[random(words.len())].to_vec()).collect();
        fs::write(&file, &content).unwrap();
        for relay in [false, true] {
            // Whatever comes of it: an answer.
            let _ = Loader::new().file(&file).environment([]).relay(relay).load();
        }
    }
}
