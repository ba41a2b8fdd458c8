//! The crates the product is built on are its direct dependencies, and product code uses each of them;
//! no `unsafe` stands outside the two places that are made for it.

use std::fs;
use std::path::{Path, PathBuf};

/// A dependency, and an item of it that product code must use.
const AT_WORK: [(&str, &str); 10] = [
    ("openssl", "SslConnector"),
    ("tokio-openssl", "SslStream"),
    ("tonic", "Endpoint"),
    ("hyper", "http2"),
    ("tokio", "TcpStream"),
    ("tower", "Service"),
    ("envy", "from_iter"),
    ("idna", "domain_to_ascii"),
    ("log", "warn"),
    ("env_logger", "Builder"),
];

/// Where `unsafe` is allowed, and what is not ours.
const EXEMPT: [&str; 5] = ["vendor/ossl-ext", "capi", "target", "benches/target", ".git"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn they_are_in_cargo_toml() {
    let dependencies = section("[dependencies]");
    for (name, _) in AT_WORK {
        let line = dependencies.iter().find(|line| line.split([' ', '=']).next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not a direct dependency"));
        assert!(!line.contains("optional"), "{line}");
    }
}

#[test]
fn product_code_uses_each_of_them() {
    let sources = product_code();
    for (name, item) in AT_WORK {
        let name = name.replace('-', "_");
        assert!(
            sources.iter().any(|(_, code)| uses(code, &name, item)),
            "nothing in src/ uses {name}::{item}"
        );
    }
}

#[test]
fn the_default_features_build_no_openssl() {
    assert!(section("[features]").contains(&"default = []".to_owned()));
    let build = section("[build-dependencies]");
    let line = build.iter().find(|line| line.starts_with("openssl-src"));
    assert!(line.is_none_or(|line| line.contains("optional = true")), "{line:?}");
}

#[test]
fn no_unsafe_outside_its_places() {
    let word = ["un", "safe"].concat();
    let mut files = Vec::new();
    collect(root(), &mut files);
    assert!(files.len() > 50, "{files:?}");
    for path in files {
        let code = bare(&fs::read_to_string(&path).expect("sources are text"));
        assert!(!words(&code).any(|found| found == word), "{} has {word} code", path.display());
    }
    for entry in ["src/lib.rs", "src/main.rs"] {
        let code = fs::read_to_string(root().join(entry)).expect("the crate has it");
        assert!(code.contains(&format!("#![forbid({word}_code)]")), "{entry} does not forbid it");
    }
}

// === the check itself ===

#[test]
fn an_import_alone_is_no_use() {
    assert!(uses("use tower::{Layer, Service};\nimpl Service for X {}", "tower", "Service"));
    assert!(uses("let c = envy::from_iter(v);", "envy", "from_iter"));
    assert!(uses(
        "use tokio::net::TcpStream as Tcp;\ntype T = tokio::net::TcpStream;",
        "tokio",
        "TcpStream"
    ));
    assert!(!uses("use tower::{Layer, Service};", "tower", "Service"));
    assert!(!uses("use tower::ServiceExt;\nServiceExt::x();", "tower", "Service"));
    assert!(!uses("use other::Service;\nimpl Service for X {}", "tower", "Service"));
    assert!(!uses("my_tower::Service::x();", "tower", "Service"));
}

#[test]
fn text_and_comments_are_no_code() {
    let code = bare("a // b\n/* c /* d */ */ \"e \\\" f\" 'g' '\\'' r#\"h \" i\"# <'j> b\"k\" l");
    assert_eq!(words(&code).collect::<Vec<_>>(), ["a", "j", "b", "l"]);
}

// === helpers ===

/// The lines of a section of Cargo.toml.
fn section(title: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    let lines = text.lines().skip_while(|line| *line != title).skip(1);
    lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
}

/// Every file of `src/` without comments, texts and unit tests.
fn product_code() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    let unit_tests = |path: &Path| path.ends_with("tests.rs") || path.ends_with("testing.rs");
    let read = |path: PathBuf| {
        let code = bare(&fs::read_to_string(&path).expect("sources are text"));
        // By the house rules unit tests are the last thing in a file.
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        // An attribute in front of an import would hide that it is one.
        let code = code.lines().filter(|line| !line.starts_with("#!["));
        (path, code.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().filter(|path| !unit_tests(path)).map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let exempt = |path: &Path| EXEMPT.iter().any(|name| path == root().join(name));
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        // Test crates of their own may have a target folder of their own.
        let built = path.ends_with("target");
        if path.is_dir() && !exempt(&path) && !built && !path.is_symlink() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Whether the code names `krate::…::item` outside an import, or imports the item and then names it.
fn uses(code: &str, krate: &str, item: &str) -> bool {
    let mut imported = false;
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        match statement.trim_start().strip_prefix("use ") {
            Some(path) if names(path, krate, item) => imported = true,
            Some(_) => {}
            None => rest.push_str(statement),
        }
    }
    let inline = rest.split([' ', '(', '<', '&', ',', '\n', '!', '[']).any(|path| {
        path.starts_with(&format!("{krate}::")) && words(path).any(|word| word == item)
    });
    inline || (imported && words(&rest).any(|word| word == item))
}

fn names(path: &str, krate: &str, item: &str) -> bool {
    path.starts_with(&format!("{krate}::")) && words(path).any(|word| word == item)
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The code without comments, texts and characters.
fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '"' => quoted(rest),
            'r' if !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => raw(rest),
            '\'' => character(rest),
            _ => 0,
        };
        // A blank keeps the words on both sides apart.
        out.push(if skipped == 0 { c } else { ' ' });
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    out
}

/// The length of a block comment, which may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        match (rest.starts_with("/*"), rest.starts_with("*/")) {
            (true, _) => (depth, at) = (depth + 1, at + 2),
            (_, true) => (depth, at) = (depth - 1, at + 2),
            _ => at += rest.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 || at >= text.len() {
            return at.min(text.len());
        }
    }
}

/// The length of a text in quotes.
fn quoted(text: &str) -> usize {
    let mut escaped = true; // the opening quote does not close
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The length of a raw text; 0 if there is none.
fn raw(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}

/// The length of a character in quotes; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |at| at + 4),
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}
