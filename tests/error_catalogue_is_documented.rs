//! Every id that the code can give out stands in `docs/errors.md` under the same title with an
//! explanation, in the order of the numbers, and no other id does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use skytls::error::Code;

/// A section `## SKT-101 the title` of the document.
struct Section {
    id: String,
    title: String,
    text: String,
}

#[test]
fn the_code_and_the_document_know_the_same_ids() {
    let documented: Vec<String> = sections().into_iter().map(|section| section.id).collect();
    let in_code: Vec<String> = Code::ALL.iter().map(|code| code.id()).collect();
    let (left, right): (BTreeSet<_>, BTreeSet<_>) =
        (in_code.iter().collect(), documented.iter().collect());
    let missing: Vec<_> = left.difference(&right).collect();
    let unknown: Vec<_> = right.difference(&left).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
    assert!(unknown.is_empty(), "in docs/errors.md only: {unknown:?}");
    assert_eq!(documented, in_code, "each once, in the order of the numbers");
}

#[test]
fn titles_are_those_of_the_code() {
    for section in sections() {
        if let Some(code) = Code::ALL.iter().find(|code| code.id() == section.id) {
            assert_eq!(section.title, code.title(), "{}", section.id);
        }
    }
}

#[test]
fn every_section_explains_more_than_its_title() {
    for section in sections() {
        let words = section.text.split_whitespace().count();
        assert!(words >= 10, "{}: {:?}", section.id, section.text);
    }
}

#[test]
fn every_entry_says_what_failed_and_what_to_do() {
    for code in Code::ALL {
        assert!(!code.title().is_empty() && !code.title().ends_with('.'), "{code}");
        assert!(!code.remedy().is_empty() && !code.remedy().ends_with('.'), "{code}");
    }
}

fn sections() -> Vec<Section> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut sections: Vec<Section> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## SKT-") {
            let (number, title) = heading.split_once(' ').unwrap_or((heading, ""));
            let id = format!("SKT-{number}");
            sections.push(Section { id, title: plain(title), text: String::new() });
            inside = true;
        } else if line.starts_with("# ") || line.starts_with("## ") {
            // A chapter between the sections.
            inside = false;
        } else if let (true, Some(section)) = (inside, sections.last_mut()) {
            section.text.push_str(line);
            section.text.push('\n');
        }
    }
    assert!(!sections.is_empty(), "{path:?} has no headings `## SKT-nnn title`");
    sections
}

/// Markdown's own marks taken away.
fn plain(title: &str) -> String {
    title.trim().replace('`', "").replace("\\\\", "\\")
}
