//! An agent with a spool ends in the time that it is given, whatever the disk does.

mod support;

use support::{Backend, Program};

/// Runs one case of `disk.c`, and says how often the spool complained.
fn complaints(case: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::compile("tests/c/disk.c", &[]);
    program.run(&Backend::start(), &[case, folder.path().to_str().expect("a path of text")])
}

#[test]
fn an_orderly_stop_complains_of_nothing() {
    assert_eq!(complaints("well"), "0\n");
}

#[test]
fn a_disk_that_hangs_holds_up_neither_a_stop_nor_a_fork() {
    assert_eq!(complaints("stop"), "1\n");
}

#[test]
fn a_disk_that_hangs_does_not_hold_up_a_free() {
    assert_eq!(complaints("free"), "1\n");
}
