//! The manual pages format without a warning, and libskytls(3) names every function of the header.

use std::path::{Path, PathBuf};
use std::process::Command;

fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    ["skytls.1", "skytls.conf.5", "libskytls.3"].map(|name| folder.join(name)).to_vec()
}

#[test]
fn they_format_without_a_warning() {
    for page in pages() {
        let groff = Command::new("groff").args(["-man", "-Tutf8", "-z", "-ww"]).arg(&page).output();
        let Ok(output) = groff else {
            // Not every machine that compiles can format: then the macros are at least known ones.
            let text = std::fs::read_to_string(&page).expect("the page is there");
            let known = [
                "TH", "SH", "TP", "PP", "IP", "B", "BR", "BI", "I", "IR", "RB", "RS", "RE", "br",
                "nf", "fi",
            ];
            for line in text.lines().filter_map(|line| line.strip_prefix('.')) {
                let word = line.split(' ').next().unwrap_or_default();
                assert!(
                    word.starts_with('\\') || known.contains(&word),
                    "{}: .{line}",
                    page.display()
                );
            }
            continue;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
}

#[test]
fn libskytls_names_every_function() {
    let header = include_str!("../capi/include/skytls.h");
    let page = include_str!("../man/libskytls.3");
    let mut functions = 0;
    for (at, _) in header.match_indices("skytls_") {
        let rest = &header[at..];
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        // A declaration: its name stands behind a type, and its arguments follow.
        let declared = rest[end..].starts_with('(')
            && header[..at].ends_with([' ', '*'])
            && !header[..at].ends_with(" * ")
            && !rest[end..].starts_with("()");
        if declared {
            functions += 1;
            let entry = format!(".BR {} ()", &rest[..end]);
            assert!(page.contains(&entry), "{entry}");
        }
    }
    assert!(functions > 50, "{functions}");
}
