//! How long a path is, how long it may be, and in which order it comes.

use super::extension::{authority, basic};
use super::mint::{self, Key, Made, Recipe, leaf, middle, root};
use super::{Case, Demand, Refused, Trusted, Way, case, of, way};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = lengths();
    cases.extend(depths());
    cases.extend(orders());
    cases
}

fn lengths() -> Vec<Case> {
    let limited = |recipe: Recipe, length| recipe.with(authority(Some(length)));
    let ca = |number: u16| mint::authority(NAMES[usize::from(number)], Key::Ec(10 + number));
    let same_name = || middle().called("oracle root");
    vec![
        case("root and leaf", &way(root(), [], leaf()), Trusted),
        case("one between", &way(root(), [middle()], leaf()), Trusted),
        case("three between", &way(root(), [ca(0), ca(1), ca(2)], leaf()), Trusted),
        case("0 at the root, none follows", &way(limited(root(), 0), [], leaf()), Trusted),
        case(
            "0 at the root, one follows",
            &way(limited(root(), 0), [middle()], leaf()),
            Refused(25),
        ),
        case("1 at the root, one follows", &way(limited(root(), 1), [middle()], leaf()), Trusted),
        case(
            "1 at the root, two follow",
            &way(limited(root(), 1), [ca(0), ca(1)], leaf()),
            Refused(25),
        ),
        case("0 below, none follows", &way(root(), [limited(middle(), 0)], leaf()), Trusted),
        case("0 below, one follows", &way(root(), [limited(ca(0), 0), ca(1)], leaf()), Refused(25)),
        case(
            "2 at the root, 0 below, none follows",
            &way(limited(root(), 2), [limited(ca(0), 0)], leaf()),
            Trusted,
        ),
        case(
            "0 at the root, 5 below",
            &way(limited(root(), 0), [limited(ca(0), 5)], leaf()),
            Refused(25),
        ),
        case(
            "3 below 1 below 2",
            &way(root(), [limited(ca(0), 2), limited(ca(1), 1), limited(ca(2), 3)], leaf()),
            Trusted,
        ),
        case(
            "a renewed key of the same name does not count",
            &way(limited(root(), 0), [same_name()], leaf()),
            Trusted,
        ),
        case(
            "and another one after it does",
            &way(limited(root(), 0), [same_name(), ca(0)], leaf()),
            Refused(25),
        ),
        case("127 at the root", &way(limited(root(), 127), [middle()], leaf()), Trusted),
        case(
            "a negative one",
            &way(root().with(basic(true, Some(vec![0xff]))), [], leaf()),
            Refused(20),
        ),
        case(
            "one of nine bytes",
            &way(root().with(basic(true, Some(vec![1; 9]))), [], leaf()),
            Trusted,
        ),
        case("0 on a leaf", &way(root(), [], leaf().with(basic(false, Some(vec![0])))), Trusted),
        case("3 on a leaf", &way(root(), [], leaf().with(basic(false, Some(vec![3])))), Trusted),
        case(
            "0 on a leaf that is a CA",
            &way(root(), [], leaf().with(authority(Some(0)))),
            Trusted,
        ),
    ]
}

fn depths() -> Vec<Case> {
    let long = |count| chain(count);
    let deep = |what, count, depth, verdict| {
        case(what, &long(count), verdict).demand(Demand::Depth(depth))
    };
    vec![
        deep("depth 0, none between", 0, 0, Trusted),
        deep("depth 0, one between", 1, 0, Refused(22)),
        deep("depth 1, one between", 1, 1, Trusted),
        deep("depth 1, two between", 2, 1, Refused(22)),
        deep("depth 5, five between", 5, 5, Trusted),
        deep("depth 5, six between", 6, 5, Refused(22)),
        case("twenty between", &long(20), Trusted),
        case("as many as OpenSSL allows", &long(100), Trusted),
        case("one more", &long(101), Refused(22)),
    ]
}

fn orders() -> Vec<Case> {
    let Way { root, sent } = way(root(), [mint::authority("upper", Key::Ec(10)), middle()], leaf());
    let [leaf, middle, upper] = &sent[..] else { unreachable!("it has three") };
    let strangers: Vec<Made> =
        (0..50).map(|_| mint::authority("a stranger", Key::Ec(20)).own()).collect();
    let among: Vec<&Made> =
        std::iter::once(leaf).chain(&strangers).chain([middle, upper]).collect();
    let many: Vec<&Made> = std::iter::once(leaf).chain([middle; 20]).chain([upper; 20]).collect();
    vec![
        of("turned round", &[&root], &[leaf, upper, middle], Trusted),
        of("with the root", &[&root], &[leaf, middle, upper, &root], Trusted),
        of("the root in between", &[&root], &[leaf, &root, middle, upper], Trusted),
        of("the leaf twice", &[&root], &[leaf, leaf, middle, upper], Trusted),
        of("each many times", &[&root], &many, Trusted),
        of("fifty strangers among them", &[&root], &among, Trusted),
        of("the lower one is missing", &[&root], &[leaf, upper], Refused(20)),
        of("the upper one is missing", &[&root], &[leaf, middle], Refused(20)),
        of("both are missing", &[&root], &[leaf], Refused(20)),
        of("the missing one is in the file", &[&root, middle], &[leaf, upper], Trusted),
        of("both are in the file", &[&root, upper, middle], &[leaf], Trusted),
        of("the file ends below the root", &[upper], &[leaf, middle], Trusted),
        of("the file is the lower one alone", &[middle], &[leaf], Trusted),
    ]
}

const NAMES: [&str; 3] = ["first", "second", "third"];

/// With so many intermediates, each with a name of its own.
fn chain(count: u16) -> Way {
    let between = (0..count).map(|number| {
        let name = format!("number {number}");
        let name = super::der::name(&[("2.5.4.3", super::der::UTF8, name.as_bytes())]);
        // Two keys in turn: making a hundred of them would only take time.
        mint::authority("", Key::Ec(10 + number % 2)).subject(name)
    });
    way(root(), between, leaf())
}
