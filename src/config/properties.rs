//! The grammar of `java.util.Properties`: the bytes of a file to keys, values and line numbers.
//!
//! Placeholders stay as they are, nothing is trimmed, and nothing here knows which keys exist.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

use crate::error::{Code, Error, Result};

/// More than any `agent.config`, little enough to read at every start.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
/// The longest line after continuation lines have been joined.
const LONGEST_LINE: usize = 64 * 1024;

/// A parsed file. Values may be secrets, so there is no `Debug`.
pub(super) struct Properties {
    path: PathBuf,
    lines: Vec<Property>,
    index: HashMap<String, usize>,
}

/// A key with the value of its last line.
pub(super) struct Property {
    pub(super) key: String,
    pub(super) value: String,
    /// Where the line starts, counted from 1.
    pub(super) line: usize,
}

/// Joins natural lines to logical ones, as the JDK's `LineReader` does.
struct LogicalLines<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
}

/// A logical line with the number of its first natural line.
struct LogicalLine {
    text: String,
    number: usize,
}

/// The number of a logical line that is longer than allowed.
struct LineTooLong(usize);

/// A `\u` without four hexadecimal digits, or half of a surrogate pair.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

// === impl Properties ===

impl Properties {
    /// Reads a file. Whatever is not a regular file is refused before it is opened: opening a
    /// pipe blocks, and a device may never end.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| {
            Error::new(Code::ConfigUnreadable)
                .file(path)
                .expected("a file that can be read")
                .because(error)
        };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            let found = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
            return Err(Error::new(Code::ConfigNotAFile)
                .file(path)
                .found(found)
                .expected("a regular file"));
        }
        let too_large = |length: u64| {
            Error::new(Code::ConfigTooLarge)
                .file(path)
                .found(format_args!("{length} bytes"))
                .expected(format_args!("at most {LARGEST_FILE} bytes"))
        };
        if metadata.len() > LARGEST_FILE {
            return Err(too_large(metadata.len()));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        // A file can grow between the two calls.
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(too_large(bytes.len() as u64));
        }
        Self::parse(path, &bytes)
    }

    /// Parses what was read from `path`, which is only needed for errors.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let offset = error.valid_up_to();
            let byte = bytes.get(offset).copied().unwrap_or_default();
            Error::new(Code::ConfigNotText)
                .file(path)
                .line(1 + line_ends(&bytes[..offset]))
                .found(format_args!("byte 0x{byte:02x} at offset {offset}"))
                .expected("UTF-8")
        })?;
        // Windows editors put a byte order mark in front; Java would make it part of the first key.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);

        let mut properties =
            Self { path: path.to_owned(), lines: Vec::new(), index: HashMap::new() };
        for line in LogicalLines::new(text) {
            let LogicalLine { text, number } = line.map_err(|LineTooLong(number)| {
                Error::new(Code::ConfigTooLarge)
                    .file(path)
                    .line(number)
                    .found("a longer line")
                    .expected(format_args!("lines of at most {LONGEST_LINE} bytes"))
            })?;
            let (key, value) = split(&text);
            // The text itself stays out of the error: the line may hold a secret.
            let malformed = |Malformed| {
                Error::new(Code::BadEscape)
                    .file(path)
                    .line(number)
                    .found("something else behind a \\u, or half of a surrogate pair")
                    .expected("four hexadecimal digits")
            };
            let key = unescape(key).map_err(malformed)?;
            let value = unescape(value).map_err(malformed)?;
            properties.insert(Property { key, value, line: number });
        }
        Ok(properties)
    }

    /// The file this was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last line with this key.
    pub(super) fn get(&self, key: &str) -> Option<&Property> {
        self.index.get(key).and_then(|&at| self.lines.get(at))
    }

    /// Every key once, in the order of first appearance.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Property> {
        self.lines.iter()
    }

    fn insert(&mut self, property: Property) {
        match self.index.get(&property.key).and_then(|&at| self.lines.get_mut(at)) {
            Some(earlier) => *earlier = property,
            None => {
                self.index.insert(property.key.clone(), self.lines.len());
                self.lines.push(property);
            }
        }
    }
}

// === impl LogicalLines ===

impl<'a> LogicalLines<'a> {
    fn new(text: &'a str) -> Self {
        Self { chars: text.chars().peekable(), line: 1 }
    }

    /// The next character; every kind of line end comes out as `\n` and is counted.
    fn step(&mut self) -> Option<char> {
        match self.chars.next()? {
            '\r' => {
                self.chars.next_if_eq(&'\n');
                self.line += 1;
                Some('\n')
            }
            '\n' => {
                self.line += 1;
                Some('\n')
            }
            other => Some(other),
        }
    }
}

impl Iterator for LogicalLines<'_> {
    type Item = Result<LogicalLine, LineTooLong>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        let mut number = self.line;
        let mut skipping_blanks = true;
        // Only the line right after a continued one: there a blank line ends the logical line.
        let mut continued = false;
        let mut odd_backslashes = false;
        loop {
            let here = self.line;
            let Some(c) = self.step() else { break };
            if skipping_blanks {
                if is_blank(c) || (c == '\n' && !continued) {
                    continue;
                }
                skipping_blanks = false;
                continued = false;
            }
            if text.is_empty() {
                number = here;
                if c == '#' || c == '!' {
                    while self.step().is_some_and(|c| c != '\n') {}
                    skipping_blanks = true;
                    continue;
                }
            }
            if c != '\n' {
                if text.len() >= LONGEST_LINE {
                    return Some(Err(LineTooLong(number)));
                }
                text.push(c);
                odd_backslashes = c == '\\' && !odd_backslashes;
            } else if text.is_empty() {
                skipping_blanks = true;
            } else if odd_backslashes {
                text.pop();
                skipping_blanks = true;
                continued = true;
                odd_backslashes = false;
            } else {
                return Some(Ok(LogicalLine { text, number }));
            }
        }
        if odd_backslashes {
            text.pop();
        }
        (!text.is_empty()).then_some(Ok(LogicalLine { text, number }))
    }
}

/// Splits at the first `=`, `:` or blank that no backslash protects; blanks around the separator
/// belong to neither side.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if !escaped && (c == '=' || c == ':' || is_blank(c)) {
            let rest = line[at..].trim_start_matches(is_blank);
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], rest.trim_start_matches(is_blank));
        }
        escaped = c == '\\' && !escaped;
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, Malformed> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => out.push(unicode(&mut chars)?),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// What follows `\u`. Java writes characters beyond the first 65536 as two escapes.
fn unicode(chars: &mut Chars<'_>) -> Result<char, Malformed> {
    let first = hex(chars)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).ok_or(Malformed);
    }
    if chars.next() != Some('\\') || chars.next() != Some('u') {
        return Err(Malformed);
    }
    let second = hex(chars)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(Malformed);
    }
    char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(Malformed)
}

fn hex(chars: &mut Chars<'_>) -> Result<u32, Malformed> {
    let mut value = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or(Malformed)?;
        value = value * 16 + digit;
    }
    Ok(value)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// Line ends in front of a place; only for error messages.
fn line_ends(bytes: &[u8]) -> usize {
    let ends = bytes.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count();
    let pairs = bytes.windows(2).filter(|pair| *pair == b"\r\n").count();
    ends - pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::Xorshift;

    fn parse(text: impl AsRef<[u8]>) -> Vec<(String, String, usize)> {
        let properties = Properties::parse(Path::new("agent.config"), text.as_ref()).unwrap();
        properties.iter().map(|p| (p.key.clone(), p.value.clone(), p.line)).collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = parse(text);
        assert_eq!(all.len(), 1, "{text:?}");
        let (key, value, _) = all.remove(0);
        (key, value)
    }

    fn fails(bytes: impl AsRef<[u8]>) -> Error {
        Properties::parse(Path::new("agent.config"), bytes.as_ref()).err().unwrap()
    }

    #[test]
    fn separators_are_equals_colon_and_blank() {
        for text in ["k=v", "k:v", "k v", "k = v", "k : v", "k\tv", "  k=v", "k \u{c} = \t v"] {
            assert_eq!(one(text), ("k".into(), "v".into()), "{text:?}");
        }
        assert_eq!(one("k==v"), ("k".into(), "=v".into()));
        assert_eq!(one("k = = v"), ("k".into(), "= v".into()));
        assert_eq!(one("k"), ("k".into(), String::new()));
        assert_eq!(one("=v"), (String::new(), "v".into()));
        assert_eq!(one("k=a=b:c d"), ("k".into(), "a=b:c d".into()));
    }

    #[test]
    fn trailing_blanks_belong_to_the_value() {
        assert_eq!(one("k=true \t"), ("k".into(), "true \t".into()));
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_but_counted() {
        let all = parse("# a\r\n!b\n\n   # c \\\nk=v\r\rl=w\n");
        assert_eq!(all, [("k".into(), "v".into(), 5), ("l".into(), "w".into(), 7)]);
        assert_eq!(one("k=v # no comment"), ("k".into(), "v # no comment".into()));
    }

    #[test]
    fn an_odd_number_of_backslashes_continues() {
        assert_eq!(one("k=a\\\n   b\\\r\n\tc"), ("k".into(), "abc".into()));
        assert_eq!(parse("k=a\\\\\nb=c").len(), 2);
        assert_eq!(one("k=a\\\\\\\nb"), ("k".into(), "a\\b".into()));
        assert_eq!(one("k=a\\"), ("k".into(), "a".into()));
        assert_eq!(one("k=a\\\n"), ("k".into(), "a".into()));
        assert_eq!(one("k=a\\\n#b"), ("k".into(), "a#b".into()));
        // The blank line ends the value: the next line is a key of its own.
        let all = parse("k=a\\\n\nl=b");
        assert_eq!(all, [("k".into(), "a".into(), 1), ("l".into(), "b".into(), 3)]);
        assert_eq!(parse("\n\nk=\\\nv")[0].2, 3);
    }

    #[test]
    fn escapes() {
        assert_eq!(one(r"k=\t\n\r\f\z\\\=\:"), ("k".into(), "\t\n\r\u{c}z\\=:".into()));
        assert_eq!(one(r"a\=b\ c\:d=v"), ("a=b c:d".into(), "v".into()));
        assert_eq!(one(r"k=\u00fc\u20AC"), ("k".into(), "ü€".into()));
        assert_eq!(one(r"k=\ud83d\ude00"), ("k".into(), "😀".into()));
        assert_eq!(one(r"k=C:\ca\ca.crt"), ("k".into(), "C:caca.crt".into()));
    }

    #[test]
    fn malformed_escapes_name_file_and_line() {
        for text in [r"k=\u12", r"k=\u12g4", r"k=\u", r"\uz=v", r"k=\ud83d", r"k=\ude00"] {
            let error = fails(format!("# one\n{text}\n"));
            assert_eq!(error.code(), Code::BadEscape, "{text}");
            assert_eq!(error.get(crate::error::Fact::Line), Some("2"));
            assert_eq!(error.get(crate::error::Fact::File), Some("agent.config"));
        }
        assert!(parse("# \\u12 in a comment\n").is_empty());
    }

    #[test]
    fn the_last_duplicate_wins() {
        let all = parse("k=1\nl=2\nk=3");
        assert_eq!(all, [("k".into(), "3".into(), 3), ("l".into(), "2".into(), 2)]);
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_key() {
        assert_eq!(one("\u{feff}k=v"), ("k".into(), "v".into()));
    }

    #[test]
    fn special_java_keys_are_ordinary_keys() {
        let all = parse("agent.service_name#length=50\nsome.map[inner]=v\nsome.map[]=");
        assert_eq!(all[0].0, "agent.service_name#length");
        assert_eq!(all[1].0, "some.map[inner]");
    }

    #[test]
    fn text_that_is_not_utf_8_is_located() {
        let error = fails(b"a=b\r\nc=\xff\n");
        assert_eq!(error.code(), Code::ConfigNotText);
        assert_eq!(error.get(crate::error::Fact::Line), Some("2"));
        assert_eq!(error.get(crate::error::Fact::Found), Some("byte 0xff at offset 7"));
    }

    #[test]
    fn long_lines_are_refused() {
        assert_eq!(parse(format!("k={}", "x".repeat(LONGEST_LINE - 2))).len(), 1);
        let error = fails(format!("\nk={}", "x".repeat(LONGEST_LINE)));
        assert_eq!(error.code(), Code::ConfigTooLarge);
        assert_eq!(error.get(crate::error::Fact::Line), Some("2"));
        assert_eq!(fails("x\\\n".repeat(LONGEST_LINE + 1)).code(), Code::ConfigTooLarge);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Xorshift::new(0x9e37_79b9);
        let alphabet = b"ab=: \t\\\\\r\n#!u0d8{}$\xc3\xbc\xff";
        for _ in 0..20_000 {
            let bytes = random.bytes(alphabet, 40);
            if let Ok(properties) = Properties::parse(Path::new("f"), &bytes) {
                assert!(properties.iter().all(|p| properties.get(&p.key).is_some()));
            }
        }
    }
}
