//! Which name of a certificate is whose: names, wildcards, addresses, common names, odd bytes.

use super::Line::V4;
use super::der::{self, BMP, IA5, PRINTABLE, T61, UTF8};
use super::extension::{ALTERNATIVE_NAME, General, alternative, dns};
use super::mint::{Recipe, leaf};
use super::{Case, Refused, Trusted, Verdict, below_root, case};

const IDN: &str = "names are brought into the form they have on the wire before they are verified";
const DOT: &str = "a dot at the end says that a name is complete, and is no part of it";
const PARTIAL: &str = "partial wildcards are refused (RFC 9525)";
/// Of `s_client`, which then does not even start; skytls gives it the name's form on the wire.
const SPELLING: &str = "a name to be verified has two characters at least, letters, digits, - and _, and no dot at the end";
const NO_NAME: &str = "it is no name of a host, and refused as a setting";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = plain();
    cases.extend(wildcards());
    cases.extend(addresses());
    cases.extend(common_names());
    cases.extend(odd());
    cases.extend(international());
    cases
}

fn plain() -> Vec<Case> {
    let many: Vec<String> = (0..500).map(|number| format!("host-{number}.example.com")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let one = |what, san: &[&str], name: &str, verdict| named(what, san, name, verdict);
    vec![
        one("the name", &["localhost"], "localhost", Trusted),
        one("the second of three", &["a.example", "localhost", "b.example"], "localhost", Trusted),
        one("none of three", &["a.example", "b.example", "c.example"], "localhost", Refused(62)),
        one("in capitals here", &["localhost"], "LOCALHOST", Trusted),
        one("in capitals there", &["OAP.Example.COM"], "oap.example.com", Trusted),
        one("the beginning of it", &["oap.example.com"], "oap.example", Refused(62)),
        one("the end of it", &["oap.example.com"], "example.com", Refused(62)),
        one("a name below it", &["example.com"], "oap.example.com", Refused(62)),
        one("a letter more", &["localhost"], "localhosts", Refused(62)),
        one("an underscore", &["my_oap.example"], "my_oap.example", Trusted),
        one("hyphens", &["a--b.example"], "a--b.example", Trusted),
        one("digits", &["123.example"], "123.example", Trusted),
        one("a single letter", &["x"], "x", Trusted).since(V4, Refused(0), SPELLING),
        one("the last of five hundred", &many, "host-499.example.com", Trusted),
        one("none of five hundred", &many, "host-500.example.com", Refused(62)),
        one("the longest there is", &[&longest], &longest, Trusted),
        one("a dot at the end there", &["localhost."], "localhost", Refused(62)),
        one("a dot at the end here", &["localhost"], "localhost.", Refused(62))
            .since(V4, Refused(0), SPELLING)
            .but(Trusted, DOT),
        one("a dot at the end of both", &["localhost."], "localhost.", Trusted)
            .since(V4, Refused(0), SPELLING)
            .but(Refused(62), DOT),
        one("a dot at the start there", &[".example.com"], "oap.example.com", Refused(62)),
        one("a dot at the start here", &["oap.example.com"], ".example.com", Trusted)
            .but(Refused(0), NO_NAME),
        one("an empty name", &[""], "localhost", Refused(62)),
        one("an empty name and the right one", &["", "localhost"], "localhost", Trusted),
        one("a space before it", &[" localhost"], "localhost", Refused(62)),
        one("a space behind it", &["localhost "], "localhost", Refused(62)),
    ]
}

fn wildcards() -> Vec<Case> {
    let one = |what, san: &str, name: &str, verdict| named(what, &[san], name, verdict);
    let long = format!("{}.example.com", "a".repeat(63));
    vec![
        one("a wildcard", "*.example.com", "oap.example.com", Trusted),
        one("a wildcard in capitals", "*.EXAMPLE.com", "oap.example.COM", Trusted),
        one("a long label for a wildcard", "*.example.com", &long, Trusted),
        one("a wildcard two below", "*.example.com", "a.b.example.com", Refused(62)),
        one("a wildcard's own domain", "*.example.com", "example.com", Refused(62)),
        one("a wildcard, deep", "*.a.b.example.com", "x.a.b.example.com", Trusted),
        one("a wildcard of a top level", "*.com", "example.com", Refused(62)),
        one("nothing but a wildcard", "*", "localhost", Refused(62)),
        one("nothing but a wildcard and a dot", "*.", "localhost", Refused(62)),
        one("two wildcards", "*.*.example.com", "a.b.example.com", Refused(62)),
        one("a wildcard inside", "a.*.example.com", "a.b.example.com", Refused(62)),
        one("a wildcard at the end", "oap.example.*", "oap.example.com", Refused(62)),
        one("a double wildcard", "**.example.com", "oap.example.com", Refused(62)),
        one("a wildcard for an underscore", "*.example.com", "my_oap.example.com", Refused(62)),
        one("a wildcard for an A-label", "*.example.com", "xn--bcher-kva.example.com", Trusted),
        one("a wildcard before a dot at the end", "*.example.com.", "oap.example.com", Refused(62)),
        one("a wildcard against an address", "*.0.0.1", "127.0.0.1", Refused(64)),
        one("the beginning of a label", "oap*.example.com", "oap-1.example.com", Trusted)
            .but(Refused(62), PARTIAL),
        one("the end of a label", "*-oap.example.com", "one-oap.example.com", Trusted)
            .but(Refused(62), PARTIAL),
        one("the middle of a label", "o*p.example.com", "oap.example.com", Refused(62)),
        one("a part of an A-label", "xn--*.example.com", "xn--bcher-kva.example.com", Refused(62)),
        one("itself", "*.example.com", "*.example.com", Trusted)
            .since(V4, Refused(0), SPELLING)
            .but(Refused(0), NO_NAME),
    ]
}

fn addresses() -> Vec<Case> {
    let one = |what, ips: &[&[u8]], name: &str, verdict| {
        let names: Vec<General<'_>> = ips.iter().map(|ip| General::Ip(ip)).collect();
        case(what, &below_root(leaf().with(alternative(&names))), verdict).name(name)
    };
    let v6: &[u8] = &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mapped: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    vec![
        one("an address", &[&[127, 0, 0, 1]], "127.0.0.1", Trusted),
        one("another address", &[&[127, 0, 0, 1]], "127.0.0.2", Refused(64)),
        one("an IPv6 address", &[v6], "2001:db8::1", Trusted),
        one(
            "an IPv6 address, written out",
            &[v6],
            "2001:0db8:0000:0000:0000:0000:0000:0001",
            Trusted,
        ),
        one("another IPv6 address", &[v6], "2001:db8::2", Refused(64)),
        one("both kinds", &[&[10, 0, 0, 1], v6], "2001:db8::1", Trusted),
        one("IPv4 for its mapped one", &[&[127, 0, 0, 1]], "::ffff:127.0.0.1", Refused(64)),
        one("a mapped one for IPv4", &[mapped], "127.0.0.1", Refused(64)),
        one("a mapped one", &[mapped], "::ffff:127.0.0.1", Trusted),
        one("an address of three bytes", &[&[127, 0, 1]], "127.0.0.1", Refused(64)),
        one("an address of five bytes", &[&[127, 0, 0, 1, 0]], "127.0.0.1", Refused(64)),
        one("an address and its mask", &[&[127, 0, 0, 1, 255, 0, 0, 0]], "127.0.0.1", Refused(64)),
        one("an address as text among addresses", &[b"127.0.0.1"], "127.0.0.1", Refused(64)),
        one("a name, and only addresses", &[&[127, 0, 0, 1]], "localhost", Refused(62)),
        named("an address among the DNS names", &["127.0.0.1"], "127.0.0.1", Refused(64)),
        named("an IPv6 address among the DNS names", &["::1"], "::1", Refused(64)),
        common("an address as common name", "127.0.0.1", UTF8, "127.0.0.1", Refused(64)),
    ]
}

fn common_names() -> Vec<Case> {
    let with = |what, cn: &str, names: &[General<'_>], verdict| {
        case(what, &below_root(leaf().called(cn).with(alternative(names))), verdict)
    };
    let two = |first: &str, second: &str| {
        let kind = "2.5.4.3";
        let subject = der::name(&[(kind, UTF8, first.as_bytes()), (kind, UTF8, second.as_bytes())]);
        below_root(nameless().subject(subject))
    };
    let long = format!("{}.example", "a".repeat(60));
    vec![
        common("a common name and no other", "localhost", UTF8, "localhost", Trusted),
        common("in capitals", "LocalHost", UTF8, "localhost", Trusted),
        common("printable", "localhost", PRINTABLE, "localhost", Trusted),
        common("IA5", "localhost", IA5, "localhost", Trusted),
        common("teletex", "localhost", T61, "localhost", Trusted),
        common("BMP", "\0l\0o\0c\0a\0l\0h\0o\0s\0t", BMP, "localhost", Trusted),
        common("a wildcard as common name", "*.example.com", UTF8, "oap.example.com", Trusted),
        common("another common name", "elsewhere", UTF8, "localhost", Refused(62)),
        common("words as common name", "my local host", UTF8, "localhost", Refused(62)),
        common("a long common name", &long, UTF8, &long, Trusted),
        case("the first of two common names", &two("localhost", "elsewhere"), Trusted),
        case("the second of two common names", &two("elsewhere", "localhost"), Trusted),
        with(
            "a common name beside another DNS name",
            "localhost",
            &[General::Dns(b"a.example")],
            Refused(62),
        ),
        with(
            "a common name beside an address",
            "localhost",
            &[General::Ip(&[127, 0, 0, 1])],
            Trusted,
        ),
        with(
            "a common name beside an e-mail address",
            "localhost",
            &[General::Email("a@b.example")],
            Trusted,
        ),
        with(
            "a common name beside a URI",
            "localhost",
            &[General::Uri("https://localhost/")],
            Trusted,
        ),
        with("a common name beside another kind", "localhost", &[General::Other], Trusted),
        with("a URI alone", "a server", &[General::Uri("https://localhost/")], Refused(62)),
        with(
            "a directory name alone",
            "a server",
            &[General::Directory(der::common_name("localhost"))],
            Refused(62),
        ),
        with("an empty list of names", "localhost", &[], Trusted),
        case(
            "no subject, a critical list of names",
            &below_root(leaf().subject(der::name(&[])).with(dns(&["localhost"]).critical(true))),
            Trusted,
        ),
        case(
            "no subject, an uncritical list of names",
            &below_root(leaf().subject(der::name(&[]))),
            Trusted,
        ),
        case("no name at all", &below_root(nameless().subject(der::name(&[]))), Refused(62)),
    ]
}

fn odd() -> Vec<Case> {
    let raw = |what, bytes: &[u8], verdict| {
        let names = alternative(&[General::Dns(bytes)]);
        case(what, &below_root(leaf().with(names)), verdict)
    };
    vec![
        raw("a NUL behind the name", b"localhost\0", Refused(62)),
        raw("a NUL and more behind the name", b"localhost\0.evil.example", Refused(62)),
        raw("a NUL before the name", b"\0localhost", Refused(62)),
        raw("a newline behind the name", b"localhost\n", Refused(62)),
        raw("bytes above ASCII", b"localh\xf6st", Refused(62)),
        raw("a very long name", &[b'a'; 4000], Refused(62)),
        common(
            "a NUL in the common name",
            "localhost\0.evil.example",
            UTF8,
            "localhost",
            Refused(62),
        ),
        common("a NUL ends the common name", "localhost\0", UTF8, "localhost", Refused(62)),
    ]
}

fn international() -> Vec<Case> {
    const U: &str = "bücher.example";
    const A: &str = "xn--bcher-kva.example";
    vec![
        named("an A-label", &[A], A, Trusted),
        named("an A-label in capitals", &[A], "XN--BCHER-KVA.example", Trusted),
        named("a U-label here, known as an A-label", &[A], U, Trusted).judge_knows_it_as(A),
        named("a U-label here, an A-label there", &[A], U, Refused(62))
            .since(V4, Refused(0), SPELLING)
            .but(Trusted, IDN),
        named("a U-label there, an A-label here", &[U], A, Refused(62)),
        named("a U-label in both", &[U], U, Trusted)
            .since(V4, Refused(0), SPELLING)
            .but(Refused(62), IDN),
        common("a U-label as common name", U, UTF8, U, Trusted)
            .since(V4, Refused(0), SPELLING)
            .but(Refused(62), IDN),
        common("a U-label as common name, an A-label here", U, UTF8, A, Refused(62)),
        common("an A-label as common name", A, UTF8, A, Trusted),
        case("umlauts in the subject", &below_root(leaf().called("Bücherei Köln")), Trusted),
    ]
}

fn named(what: &'static str, names: &[&str], name: &str, verdict: Verdict) -> Case {
    case(what, &below_root(leaf().with(dns(names))), verdict).name(name)
}

fn common(what: &'static str, text: &str, tag: u8, name: &str, verdict: Verdict) -> Case {
    let subject = der::name(&[("2.5.4.3", tag, text.as_bytes())]);
    case(what, &below_root(nameless().subject(subject)), verdict).name(name)
}

fn nameless() -> Recipe {
    leaf().without(ALTERNATIVE_NAME)
}
