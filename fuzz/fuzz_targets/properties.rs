//! An `agent.config` by anybody: escapes, continuation lines, placeholders that name each other, values of
//! every kind. It loads or it is refused, the same way each time, and a secret never shows.

#![no_main]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use skytls::config::Loader;
use skytls::error::Chain;
use tempfile::TempDir;

const SECRET: &str = "Zq7-must-not-show-9xW";

static FOLDER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("agent.config");
    (folder, path)
});

fuzz_target!(|data: &[u8]| {
    let (folder, path) = &*FOLDER;
    fs::write(path, data).expect("a temporary file");
    let load = || {
        let variables = [
            ("SW_AGENT_NAME", "shop"),
            ("SW_AGENT_COLLECTOR_BACKEND_SERVICES", "oap:11800"),
            ("SW_AGENT_AUTHENTICATION", SECRET),
            ("A", "${B:x}"),
            ("B", "${A}"),
        ];
        Loader::new()
            .environment(variables.map(|(name, value)| (OsString::from(name), value.into())))
            .directory(folder.path())
            .file(path)
            .relay(true)
            .load()
    };
    let said = || match load() {
        Ok(loaded) => format!("{loaded:?}"),
        Err(error) => {
            assert_ne!(error.exit_code(), 70, "{error:?}");
            format!("{error:?} {}", Chain(&error))
        }
    };
    let once = said();
    assert_eq!(once, said(), "the same file means the same thing");
    // A file may point any key at the token's variable, and then it is no secret any more.
    if !data.windows(14).any(|part| part.eq_ignore_ascii_case(b"AUTHENTICATION"))
        && !data.contains(&b'\\')
        && !data.contains(&b'$')
    {
        assert!(!once.contains(SECRET), "{once}");
    }
});
