//! `skytls.h` is what the library exports, no more and no less, and compiles without a warning everywhere.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

const HEADER: &str = include_str!("../include/skytls.h");

#[test]
fn the_library_exports_what_the_header_declares() {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(support::library()).output();
    let table = support::told(&output.expect("there is an nm beside the C compiler"));
    let exported: BTreeSet<&str> =
        table.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(exported, declared());
    assert!(exported.iter().all(|name| name.starts_with("skytls_")));
}

#[test]
fn it_compiles_without_a_warning_as_c99_c11_and_cpp17() {
    let folder = tempfile::tempdir().unwrap();
    for (compiler, standard, suffix) in
        [("cc", "c99", "c"), ("cc", "c11", "c"), ("c++", "c++17", "cpp")]
    {
        let source = folder.path().join(format!("use.{suffix}"));
        // Twice, and every function's address taken.
        let mut text = "#include <skytls.h>\n#include <skytls.h>\n".to_owned();
        text.push_str(
            "typedef void (*function)(void);\nextern function all[];\nfunction all[] = {\n",
        );
        declared().iter().for_each(|name| text.push_str(&format!("(function){name},\n")));
        text.push_str("};\n");
        std::fs::write(&source, text).unwrap();
        let output = Command::new(compiler)
            .arg(format!("-std={standard}"))
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
            .arg(&source)
            .output()
            .expect("there is a C compiler");
        support::told(&output);
    }
}

/// Every declaration of a function starts its line, and its name is followed by its arguments.
fn declared() -> BTreeSet<&'static str> {
    let starts = HEADER.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let names = starts.filter(|line| !line.starts_with("typedef")).filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        before.rsplit([' ', '*']).next()
    });
    let names: BTreeSet<_> = names.filter(|name| name.starts_with("skytls_")).collect();
    assert!(names.len() > 25, "{names:?}");
    names
}
