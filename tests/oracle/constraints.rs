//! Name constraints: which names a CA may vouch for.

use super::der::{self, UTF8};
use super::extension::{
    ALTERNATIVE_NAME, Extension, General, NAME_CONSTRAINTS, alternative, constraints, dns,
};
use super::mint::{Key, Recipe, authority, leaf, middle, root};
use super::{Case, Demand, Refused, Trusted, Verdict, case, way};

const PERMITTED: i32 = 47;
const EXCLUDED: i32 = 48;
const UNSUPPORTED_TYPE: i32 = 51;
const UNSUPPORTED_SYNTAX: i32 = 53;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = dns_names();
    cases.extend(other_names());
    cases.extend(places());
    cases
}

fn dns_names() -> Vec<Case> {
    let permitted = |what, tree: &str, name: &str, verdict| {
        on_root(what, constraints(&[General::Dns(tree.as_bytes())], &[]), name, verdict)
    };
    let excluded = |what, tree: &str, name: &str, verdict| {
        on_root(what, constraints(&[], &[General::Dns(tree.as_bytes())]), name, verdict)
    };
    let both = constraints(&[General::Dns(b"example.com")], &[General::Dns(b"secret.example.com")]);
    vec![
        permitted("permitted itself", "example.com", "example.com", Trusted),
        permitted("permitted above it", "example.com", "oap.example.com", Trusted),
        permitted("permitted far above it", "example.com", "a.b.c.example.com", Trusted),
        permitted("permitted in capitals", "EXAMPLE.COM", "oap.example.com", Trusted),
        permitted("permitted: another", "example.com", "oap.example.org", Refused(PERMITTED)),
        permitted(
            "permitted: the same end of a word",
            "example.com",
            "myexample.com",
            Refused(PERMITTED),
        ),
        permitted("permitted with a dot at the start", ".example.com", "oap.example.com", Trusted),
        permitted(
            "permitted with a dot at the start: itself",
            ".example.com",
            "example.com",
            Refused(PERMITTED),
        ),
        permitted("permitted: every name", "", "oap.example.com", Trusted),
        permitted("permitted: a name below", "oap.example.com", "example.com", Refused(PERMITTED)),
        excluded("excluded itself", "example.com", "example.com", Refused(EXCLUDED)),
        excluded("excluded above it", "example.com", "oap.example.com", Refused(EXCLUDED)),
        excluded("excluded: another", "example.org", "oap.example.com", Trusted),
        excluded(
            "excluded with a dot at the start: itself",
            ".example.com",
            "example.com",
            Trusted,
        ),
        excluded("excluded: every name", "", "oap.example.com", Refused(EXCLUDED)),
        on_root("permitted and not excluded", both.clone(), "oap.example.com", Trusted),
        on_root("permitted and excluded", both, "a.secret.example.com", Refused(EXCLUDED)),
        on_root(
            "permitted, uncritical",
            constraints(&[General::Dns(b"example.com")], &[]).critical(false),
            "oap.example.org",
            Refused(PERMITTED),
        ),
        // A wildcard is a name like any other here.
        wild("permitted: a wildcard", constraints(&[General::Dns(b"example.com")], &[]), Trusted),
        wild(
            "excluded: a part of a wildcard",
            constraints(&[], &[General::Dns(b"oap.example.com")]),
            Trusted,
        ),
        wild(
            "excluded: all of a wildcard",
            constraints(&[], &[General::Dns(b"example.com")]),
            Refused(EXCLUDED),
        ),
    ]
}

fn other_names() -> Vec<Case> {
    let of = |what, extension: Extension, names: &[General<'_>], verdict| {
        let leaf = leaf().with(alternative(names));
        case(what, &way(root().with(extension), [], leaf), verdict)
    };
    let local = || General::Dns(b"localhost");
    let ten = || General::Ip(&[10, 0, 0, 0, 255, 0, 0, 0]);
    let mail = |domain| constraints(&[General::Email(domain)], &[]);
    let organisation = |text: &str| der::name(&[("2.5.4.10", UTF8, text.as_bytes())]);
    let below = |text: &str| {
        let kinds = [("2.5.4.10", UTF8, text.as_bytes()), ("2.5.4.3", UTF8, &b"a server"[..])];
        leaf().subject(der::name(&kinds))
    };
    let directory = |text| constraints(&[General::Directory(organisation(text))], &[]);
    let no_directory = |text| constraints(&[], &[General::Directory(organisation(text))]);
    let common = |name: &str| leaf().called(name).without(ALTERNATIVE_NAME);
    let only_dns = || constraints(&[General::Dns(b"example.com")], &[]);
    vec![
        of(
            "an address permitted",
            constraints(&[ten()], &[]),
            &[local(), General::Ip(&[10, 1, 2, 3])],
            Trusted,
        ),
        of(
            "an address not permitted",
            constraints(&[ten()], &[]),
            &[local(), General::Ip(&[11, 1, 2, 3])],
            Refused(PERMITTED),
        ),
        of(
            "an address excluded",
            constraints(&[], &[ten()]),
            &[local(), General::Ip(&[10, 1, 2, 3])],
            Refused(EXCLUDED),
        ),
        of(
            "IPv6 where IPv4 is permitted",
            constraints(&[ten()], &[]),
            &[local(), General::Ip(&[0; 16])],
            Refused(PERMITTED),
        ),
        of("addresses permitted, none there", constraints(&[ten()], &[]), &[local()], Trusted),
        of(
            "a constraint of half an address",
            constraints(&[General::Ip(&[10, 0, 0, 0])], &[]),
            &[local(), General::Ip(&[10, 0, 0, 1])],
            Refused(UNSUPPORTED_SYNTAX),
        ),
        of(
            "mail of a host permitted",
            mail("example.com"),
            &[local(), General::Email("a@example.com")],
            Trusted,
        ),
        of(
            "mail of another host",
            mail("example.com"),
            &[local(), General::Email("a@example.org")],
            Refused(PERMITTED),
        ),
        of(
            "mail of a domain permitted",
            mail(".example.com"),
            &[local(), General::Email("a@b.example.com")],
            Trusted,
        ),
        of(
            "mail of one permitted",
            mail("a@example.com"),
            &[local(), General::Email("a@example.com")],
            Trusted,
        ),
        of(
            "mail of another one",
            mail("a@example.com"),
            &[local(), General::Email("b@example.com")],
            Refused(PERMITTED),
        ),
        of(
            "a URI permitted",
            constraints(&[General::Uri("example.com")], &[]),
            &[local(), General::Uri("https://example.com/x")],
            Trusted,
        ),
        of(
            "a URI not permitted",
            constraints(&[General::Uri("example.com")], &[]),
            &[local(), General::Uri("https://example.org/")],
            Refused(PERMITTED),
        ),
        of(
            "another kind of name constrained",
            constraints(&[General::Other], &[]),
            &[local(), General::Other],
            Refused(UNSUPPORTED_TYPE),
        ),
        case(
            "a directory permitted",
            &way(root().with(directory("Bank")), [], below("Bank")),
            Trusted,
        ),
        case(
            "another directory",
            &way(root().with(directory("Bank")), [], below("Shop")),
            Refused(PERMITTED),
        ),
        case(
            "a directory in capitals",
            &way(root().with(directory("BANK")), [], below("Bank")),
            Trusted,
        ),
        case(
            "a directory excluded",
            &way(root().with(no_directory("Bank")), [], below("Bank")),
            Refused(EXCLUDED),
        ),
        case(
            "another directory excluded",
            &way(root().with(no_directory("Shop")), [], below("Bank")),
            Trusted,
        ),
        case(
            "a directory permitted, no subject",
            &way(root().with(directory("Bank")), [], leaf().subject(der::name(&[]))),
            Trusted,
        ),
        case(
            "a common name that is permitted",
            &way(root().with(only_dns()), [], common("oap.example.com")),
            Trusted,
        )
        .name("oap.example.com"),
        case(
            "a common name that is not",
            &way(root().with(only_dns()), [], common("oap.example.org")),
            Refused(PERMITTED),
        )
        .name("oap.example.org"),
        case(
            "a common name that is no host's",
            &way(
                root().with(constraints(&[General::Dns(b"localhost")], &[])),
                [],
                leaf().called("somebody else"),
            ),
            Trusted,
        ),
        case(
            "a common name beside a permitted name",
            &way(
                root().with(constraints(&[General::Dns(b"localhost")], &[])),
                [],
                leaf().called("evil.example"),
            ),
            Trusted,
        ),
    ]
}

fn places() -> Vec<Case> {
    let only = |name: &'static str| constraints(&[General::Dns(name.as_bytes())], &[]);
    let lower = || authority("lower", Key::Ec(10));
    let empty = Extension::new(NAME_CONSTRAINTS, true, der::sequence(&[]));
    vec![
        case(
            "at the intermediate, permitted",
            &way(root(), [middle().with(only("localhost"))], leaf()),
            Trusted,
        ),
        case(
            "at the intermediate, not",
            &way(root(), [middle().with(only("example.com"))], leaf()),
            Refused(PERMITTED),
        ),
        case(
            "at the root of three",
            &way(root().with(only("example.com")), [middle(), lower()], leaf()),
            Refused(PERMITTED),
        ),
        case(
            "narrower below",
            &way(root().with(only("localhost")), [middle().with(only("a.localhost"))], leaf()),
            Refused(PERMITTED),
        ),
        case(
            "wider below",
            &way(root().with(only("a.localhost")), [middle().with(only("localhost"))], leaf()),
            Refused(PERMITTED),
        ),
        case("at the leaf itself", &way(root(), [], leaf().with(only("example.com"))), Trusted),
        case(
            "a CA of the same name is not asked",
            &way(root().with(only("localhost")), [middle().called("oracle root")], leaf()),
            Trusted,
        ),
        case("empty", &way(root().with(empty.clone()), [], leaf()), Trusted),
        case("empty, strictly", &way(root().with(empty), [], leaf()), Trusted)
            .demand(Demand::Strict),
        case(
            "one that cannot be read",
            &way(root().with(Extension::new(NAME_CONSTRAINTS, true, vec![5, 0])), [], leaf()),
            Refused(20),
        ),
    ]
}

fn on_root(what: &'static str, extension: Extension, name: &str, verdict: Verdict) -> Case {
    constrained(what, extension, leaf().with(dns(&[name])), verdict).name(name)
}

fn wild(what: &'static str, extension: Extension, verdict: Verdict) -> Case {
    constrained(what, extension, leaf().with(dns(&["*.example.com"])), verdict)
        .name("oap.example.com")
}

fn constrained(what: &'static str, extension: Extension, leaf: Recipe, verdict: Verdict) -> Case {
    case(what, &way(root().with(extension), [], leaf), verdict)
}
