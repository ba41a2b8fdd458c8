//! `docs/configuration.md` and `man/skytls.conf.5` say what the table of keys says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::{env, fs};

#[test]
fn the_page_is_up_to_date() {
    up_to_date("docs/configuration.md", &skytls::config::reference());
}

#[test]
fn the_manual_page_is_up_to_date() {
    up_to_date("man/skytls.conf.5", &skytls::config::manual());
}

fn up_to_date(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "write it anew: UPDATE_DOCS=1 cargo test --test config_reference");
}

#[test]
fn every_key_has_one_row() {
    let page = skytls::config::reference();
    for key in skytls::config::Key::ALL {
        let start = format!("| `{}`<br>", key.name());
        assert_eq!(page.lines().filter(|line| line.starts_with(&start)).count(), 1, "{start}");
    }
}

#[test]
fn every_key_has_one_entry_in_the_manual() {
    let page = skytls::config::manual();
    for key in skytls::config::Key::ALL {
        let start = format!(".BR {} ", key.name());
        assert_eq!(page.lines().filter(|line| line.starts_with(&start)).count(), 1, "{start}");
    }
}
