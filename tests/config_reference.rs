//! `docs/configuration.md` says what the table of keys says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{env, fs};

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let expected = skytls::config::reference();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, &expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
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
