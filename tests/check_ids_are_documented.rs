//! `docs/check.md` has a row for each check id of the code, and none that the code does not have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const CATEGORIES: [&str; 13] = [
    "settings",
    "files",
    "openssl",
    "dns",
    "tcp",
    "unix",
    "proxy",
    "tls",
    "certificate",
    "alpn",
    "http2",
    "grpc",
    "oap",
];

/// Made from the words of the warnings, which stand in `src/config/effective.rs`.
const FROM_WARNINGS: &str = "settings.";

fn is_id(text: &str) -> bool {
    text.split_once('.').is_some_and(|(category, word)| {
        CATEGORIES.contains(&category)
            && !word.is_empty()
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

/// What stands between these quotes and is an id.
fn ids(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote).filter(|piece| is_id(piece)).map(str::to_owned).collect()
}

#[test]
fn every_id_has_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("src/check.rs")];
    files.extend(fs::read_dir(root.join("src/check")).unwrap().map(|entry| entry.unwrap().path()));
    let mut code = BTreeSet::new();
    for file in files {
        code.extend(ids(&fs::read_to_string(file).unwrap(), '"'));
    }
    let warnings = fs::read_to_string(root.join("src/config/effective.rs")).unwrap();
    let words = warnings.split("\nimpl WarningKind").nth(1).unwrap();
    let words = words.split("// === impl").next().unwrap();
    for line in words.lines().filter(|line| line.contains("=> \"")) {
        code.insert(format!("{FROM_WARNINGS}{}", line.split('"').nth(1).unwrap()));
    }
    let document = fs::read_to_string(root.join("docs/check.md")).unwrap();
    let rows: BTreeSet<String> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| ids(line.split('|').nth(1).unwrap(), '`'))
        .collect();
    assert!(code.len() > 30, "{code:?}");
    assert_eq!(code, rows);
}
