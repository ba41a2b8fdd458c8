//! `docs/errors.md` and the catalogue of errors say the same, id by id.

use skytls::error::Code;

const DOCS: &str = include_str!("../docs/errors.md");

#[test]
fn every_id_has_a_section_with_its_title_kind_stage_and_exit_code() {
    let sections: Vec<&str> = DOCS.split("\n## SKT-").skip(1).collect();
    assert_eq!(sections.len(), Code::ALL.len(), "ids without a section, or sections without an id");
    for (code, section) in Code::ALL.iter().zip(sections) {
        let heading = format!("{} {}\n", code.number(), code.title());
        assert!(section.starts_with(&heading), "{heading:?} is not the heading of\n{section}");
        let facts = format!(
            "\nKind {}, stage {}, exit code {}.\n",
            format!("{:?}", code.kind()).to_lowercase(),
            format!("{:?}", code.stage()).to_lowercase(),
            code.kind().exit_code()
        );
        assert!(section.contains(&facts), "{code}: {facts:?} is missing in\n{section}");
        let remedy = section.split_once("What to do: ").map(|(_, remedy)| remedy.trim());
        assert!(remedy.is_some_and(|remedy| !remedy.is_empty()), "{code}: no remedy");
    }
}
