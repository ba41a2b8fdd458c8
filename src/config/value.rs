//! The types of values: what a text must look like, and its canonical form.
//!
//! Texts come trimmed and not blank. Where a value came from is for the caller to say.

use std::fmt;
use std::net::IpAddr;

use super::{backend, idn, proxy};
use crate::error::Code;

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The `:authority` of HTTP/2.
    Authority,
    /// A comma-separated list of backends.
    Backends,
    /// A whole number of bytes.
    Bytes {
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
    /// A DNS name.
    DnsName,
    /// `true` or `false`.
    Flag,
    /// A comma-separated list of metadata names.
    Headers,
    /// A JSON object of strings.
    Json,
    /// A comma-separated list of listen addresses.
    Listen,
    /// A name that is cut at a length, as the Java agent does it.
    Name {
        /// The length, in UTF-16 units.
        longest: usize,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A path.
    Path,
    /// Permissions of a file, in octal.
    Permissions,
    /// The URL of an HTTP proxy; its password is never shown.
    Proxy,
    /// A whole number of seconds.
    Seconds {
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
    /// Text that is never shown.
    Secret,
    /// A DNS name or an IP address.
    ServerName,
    /// Text.
    Text,
    /// A secret that can be the value of a header.
    Token,
    /// A whole number.
    Whole {
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
    },
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) found: String,
    pub(super) expected: Option<String>,
    pub(super) hint: Option<&'static str>,
}

/// Metadata names that belong to HTTP/2 and gRPC themselves.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Checks a text and gives its canonical form.
pub(super) fn check(kind: Kind, text: &str) -> Result<String, Fault> {
    // A tab is a blank, and blanks around the entries of a list do no harm.
    let list = matches!(kind, Kind::Backends | Kind::Headers | Kind::Listen);
    let odd = |c: char| c.is_control() && !(list && c == '\t');
    if text.chars().any(odd) && kind != Kind::Json {
        return Err(Fault::new(Code::BadValue, text).expected("no control characters"));
    }
    match kind {
        Kind::Flag => flag(text).map(|flag| flag.to_string()),
        Kind::Bytes { .. } | Kind::Seconds { .. } | Kind::Whole { .. } => {
            number(kind, text).map(|number| number.to_string())
        }
        Kind::OneOf(words) => one_of(words, text).map(str::to_owned),
        Kind::Proxy => proxy::proxy(text).map(|_| text.to_owned()),
        Kind::Permissions => permissions(text).map(|mode| format!("{mode:04o}")),
        Kind::Json => properties(text).map(|_| text.to_owned()),
        Kind::Token => token(text).map(|()| text.to_owned()),
        Kind::DnsName => {
            let name = idn::address_to_ascii(text);
            dns_name(&name).map(|()| name.into_owned())
        }
        Kind::ServerName => {
            let name = idn::address_to_ascii(text);
            server_name(&name).map(|()| name.into_owned())
        }
        Kind::Authority => {
            let authority_text = idn::address_to_ascii(text);
            authority(&authority_text).map(|()| authority_text.into_owned())
        }
        Kind::Headers => headers(text).map(|names| names.join(",")),
        Kind::Backends => backend::backends(text).map(|_| text.to_owned()),
        Kind::Listen => backend::listen(text).map(|_| text.to_owned()),
        Kind::Name { .. } | Kind::Path | Kind::Secret | Kind::Text => Ok(text.to_owned()),
    }
}

/// Unlike Java, where everything but `true` is false: a misspelt `true` must not turn TLS off.
pub(super) fn flag(text: &str) -> Result<bool, Fault> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(Fault::new(Code::BadValue, text).expected("true or false"))
    }
}

pub(super) fn number(kind: Kind, text: &str) -> Result<u64, Fault> {
    let (least, most) = match kind {
        Kind::Bytes { least, most }
        | Kind::Seconds { least, most }
        | Kind::Whole { least, most } => (least, most),
        _ => (0, u64::MAX),
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::new(Code::BadValue, text).expected(kind));
    }
    // Only numbers beyond the range fail here.
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Fault::new(Code::OutOfRange, text).expected(format_args!("{least} to {most}"))),
    }
}

/// Whatever the system's umask, these are the permissions; nobody means a file without any.
pub(super) fn permissions(text: &str) -> Result<u32, Fault> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 1..=0o777) if digits => Ok(mode),
        Ok(_) if digits => {
            Err(Fault::new(Code::OutOfRange, text).expected("0001 to 0777, such as 0660"))
        }
        _ => Err(Fault::new(Code::BadValue, text).expected("octal digits, such as 0660")),
    }
}

/// The members of a JSON object in their order. Numbers and booleans count as their text, as they
/// do for the Java agent's parser.
pub(super) fn properties(text: &str) -> Result<Vec<(String, String)>, Fault> {
    use serde_json::Value;
    // The text stays out of the error: people put everything into properties.
    let fault = |found: &str| Fault::new(Code::BadValue, found).expected(Kind::Json);
    let value = serde_json::from_str(text).map_err(|error: serde_json::Error| {
        fault(&format!("a fault at line {}, column {}", error.line(), error.column()))
    })?;
    let Value::Object(object) = value else { return Err(fault("JSON, but no object")) };
    object
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(value) => Ok((name, value)),
            Value::Bool(value) => Ok((name, value.to_string())),
            Value::Number(value) => Ok((name, value.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(fault(&format!("something else at {name:?}")))
            }
        })
        .collect()
}

/// The names of a list in lower case, each once.
pub(super) fn headers(text: &str) -> Result<Vec<String>, Fault> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(|name| name.trim().to_ascii_lowercase()) {
        let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(legal) {
            return Err(Fault::new(Code::BadValue, name).expected("names of metadata"));
        }
        if RESERVED.contains(&name.as_str()) || name.starts_with("grpc-") {
            return Err(Fault::new(Code::BadValue, name)
                .expected("names that HTTP/2 and gRPC do not use themselves"));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a name consists of labels as DNS and certificates have them. Underscores occur in
/// container networks.
pub(super) fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // A name that ends in a number is an IPv4 address or nothing: `10.1` must not mean 10.0.0.1.
    let last_is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

fn one_of(words: &'static [&'static str], text: &str) -> Result<&'static str, Fault> {
    words
        .iter()
        .copied()
        .find(|word| word.eq_ignore_ascii_case(text))
        .ok_or_else(|| Fault::new(Code::BadValue, text).expected(words.join(", ")))
}

fn token(text: &str) -> Result<(), Fault> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(())
    } else {
        Err(Fault::new(Code::BadValue, "other characters").expected("printable ASCII characters"))
    }
}

fn dns_name(text: &str) -> Result<(), Fault> {
    if is_dns_name(text) {
        Ok(())
    } else {
        Err(Fault::new(Code::BadServerName, text).expected("a DNS name"))
    }
}

fn server_name(text: &str) -> Result<(), Fault> {
    if is_dns_name(text) || text.parse::<IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(Fault::new(Code::BadServerName, text)
            .expected("a DNS name or an IP address, without port, brackets and wildcard"))
    }
}

fn authority(text: &str) -> Result<(), Fault> {
    // A server name or host:port; user information has no place in HTTP/2.
    if is_dns_name(text) || text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
        return Ok(());
    }
    backend::host_and_port(text)
        .map(|_| ())
        .map_err(|_| Fault::new(Code::BadValue, text).expected("host or host:port"))
}

// === impl Kind ===

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "host or host:port",
            Self::Backends | Self::Listen => "addresses",
            Self::Bytes { .. } => "a plain number of bytes",
            Self::DnsName => "DNS name",
            Self::Flag => "true or false",
            Self::Headers => "names",
            Self::Json => "a JSON object of strings",
            Self::Name { longest } => return write!(f, "name of at most {longest} characters"),
            Self::OneOf(words) => return f.write_str(&words.join(", ")),
            Self::Path => "path",
            Self::Permissions => "permissions in octal",
            Self::Proxy => "URL, secret",
            Self::Seconds { .. } => "a plain number of seconds",
            Self::Secret => "secret",
            Self::ServerName => "DNS name or IP address",
            Self::Text => "text",
            Self::Token => "secret, printable ASCII",
            Self::Whole { .. } => "a plain number",
        })
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(code: Code, found: impl Into<String>) -> Self {
        Self { code, found: found.into(), expected: None, hint: None }
    }

    pub(super) fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.expected = Some(expected.to_string());
        self
    }

    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(kind: Kind, text: &str) -> Option<Code> {
        check(kind, text).err().map(|fault| fault.code)
    }

    #[test]
    fn flags_are_true_or_false_in_any_case() {
        assert_eq!(check(Kind::Flag, "TRUE").unwrap(), "true");
        assert_eq!(check(Kind::Flag, "False").unwrap(), "false");
        for text in ["yes", "1", "on", "treu", "true;", "\"true\""] {
            assert_eq!(code(Kind::Flag, text), Some(Code::BadValue), "{text}");
        }
    }

    #[test]
    fn numbers_are_strict() {
        let kind = Kind::Seconds { least: 1, most: 60 };
        assert_eq!(check(kind, "060").unwrap(), "60");
        assert_eq!(check(kind, "+5").unwrap(), "5");
        for text in ["30s", "1.5", "0x10", "1 0", "", "-", "+-1", "１"] {
            assert_eq!(code(kind, text), Some(Code::BadValue), "{text}");
        }
        for text in ["0", "61", "-1", "99999999999999999999999"] {
            assert_eq!(code(kind, text), Some(Code::OutOfRange), "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(check(Kind::Permissions, "660").unwrap(), "0660");
        assert_eq!(permissions("0777").unwrap(), 0o777);
        for text in ["", "rw", "0o660", "0680", "+660", "00660", "-1"] {
            assert_eq!(code(Kind::Permissions, text), Some(Code::BadValue), "{text}");
        }
        for text in ["0", "0000", "1777", "7777"] {
            assert_eq!(code(Kind::Permissions, text), Some(Code::OutOfRange), "{text}");
        }
    }

    #[test]
    fn words_are_matched_in_any_case() {
        let kind = Kind::OneOf(&["CONSOLE", "FILE"]);
        assert_eq!(check(kind, "console").unwrap(), "CONSOLE");
        assert_eq!(code(kind, "stdout"), Some(Code::BadValue));
    }

    #[test]
    fn json_is_an_ordered_object_of_scalars() {
        let all = properties(r#"{"b":"2","a":1,"c":true}"#).unwrap();
        assert_eq!(all, [("b", "2"), ("a", "1"), ("c", "true")].map(|(n, v)| (n.into(), v.into())));
        for text in ["[]", "x", r#"{"a":[1]}"#, r#"{"a":null}"#, r#"{"a":{}}"#, r#"{"a":"b""#] {
            assert_eq!(code(Kind::Json, text), Some(Code::BadValue), "{text}");
        }
        for text in [r#"{"a":"s3cret"x}"#, r#""s3cret""#, r#"["s3cret"]"#, r#"{"a":["s3cret"]}"#] {
            let fault = properties(text).unwrap_err();
            assert!(!fault.found.contains("s3cret"), "{fault:?}");
        }
    }

    #[test]
    fn tokens_are_header_values_and_stay_unsaid() {
        assert_eq!(check(Kind::Token, "Bearer a~b").unwrap(), "Bearer a~b");
        let fault = check(Kind::Token, "gehéim").unwrap_err();
        assert!(!fault.found.contains("ge"), "{fault:?}");
    }

    #[test]
    fn names_that_certificates_cannot_carry_are_refused() {
        for name in ["oap", "oap.example.com", "oap.example.com.", "my_oap", "a-b.c", "1a.2b"] {
            assert_eq!(code(Kind::DnsName, name), None, "{name}");
        }
        for name in ["10.1", "-a", "a..b", "a:1", "*.a", "bü cher.example", "[::1]", "1.2.3.4"] {
            assert_eq!(code(Kind::DnsName, name), Some(Code::BadServerName), "{name}");
        }
        assert_eq!(code(Kind::ServerName, "1.2.3.4"), None);
        assert_eq!(code(Kind::ServerName, "::1"), None);
        for name in ["[::1]", "oap:11800", "https://oap", "1.2.3.4.5"] {
            assert_eq!(code(Kind::ServerName, name), Some(Code::BadServerName), "{name}");
        }
    }

    #[test]
    fn authorities() {
        for text in ["oap", "oap:11800", "[::1]:11800", "1.2.3.4", "1.2.3.4:1"] {
            assert_eq!(code(Kind::Authority, text), None, "{text}");
        }
        for text in ["u@oap", "http://oap", "oap/x", "a b", "oap:", ":1"] {
            assert_eq!(code(Kind::Authority, text), Some(Code::BadValue), "{text}");
        }
    }

    #[test]
    fn headers_are_lowered_and_protocol_names_refused() {
        assert_eq!(headers("X-Tenant, x-tenant,trace-id").unwrap(), ["x-tenant", "trace-id"]);
        for text in ["", "a,,b", "a b", ":path", "grpc-timeout", "Content-Type", "te"] {
            assert!(headers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn control_characters_are_refused() {
        for kind in [Kind::Path, Kind::Text, Kind::Name { longest: 50 }, Kind::Secret] {
            assert_eq!(code(kind, "a\0b"), Some(Code::BadValue));
        }
    }
}
