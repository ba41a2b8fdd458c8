//! From when and until when: each certificate of a chain, the edges, and how a date is written.

use super::Line::V3_5;
use super::der::{GENERALIZED_TIME, UTC_TIME};
use super::mint::{DAY, HOUR, Recipe, Time, leaf, middle, root};
use super::{Case, Refused, Trusted, Verdict, case, of, way};

const EARLY: i32 = 9;
const OVER: i32 = 10;
const BAD_START: i32 = 13;
const BAD_END: i32 = 14;
const SHORT: &str = "a certificate with a date that is too short is not even decoded";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = places();
    cases.extend(edges());
    cases.extend(forms());
    cases
}

fn places() -> Vec<Case> {
    let over = |recipe: Recipe| recipe.valid(-2 * DAY, -DAY);
    let early = |recipe: Recipe| recipe.valid(DAY, 2 * DAY);
    let three = |what, root, middle, leaf, verdict| case(what, &way(root, [middle], leaf), verdict);
    let stale = over(root()).own();
    let below = leaf().by(&stale);
    vec![
        three("the leaf is over", root(), middle(), over(leaf()), Refused(OVER)),
        three("the intermediate is over", root(), over(middle()), leaf(), Refused(OVER)),
        three("the root is over", over(root()), middle(), leaf(), Refused(OVER)),
        three("the leaf is early", root(), middle(), early(leaf()), Refused(EARLY)),
        three("the intermediate is early", root(), early(middle()), leaf(), Refused(EARLY)),
        three("the root is early", early(root()), middle(), leaf(), Refused(EARLY)),
        three("all are over", over(root()), over(middle()), over(leaf()), Refused(OVER)),
        three("the leaf outlives its CA", root(), middle().valid(-DAY, DAY), leaf(), Trusted),
        three(
            "the leaf is older than its CA",
            root(),
            middle(),
            leaf().valid(-90 * DAY, DAY),
            Trusted,
        ),
        of(
            "the leaf alone is trusted, and over",
            &[&over(leaf()).by(&root().own())],
            &[&over(leaf()).by(&root().own())],
            Refused(20),
        ),
        {
            let alone = over(leaf()).own();
            of("self-signed, trusted, and over", &[&alone], &[&alone], Refused(OVER))
        },
        of(
            "a root that is over and its twin that is not",
            &[&stale, &root().own()],
            &[&below],
            Trusted,
        ),
        of("the twin comes first", &[&root().own(), &stale], &[&below], Trusted),
    ]
}

fn edges() -> Vec<Case> {
    let dated = |what, from, until, verdict| {
        case(what, &way(root(), [], leaf().valid(from, until)), verdict)
    };
    vec![
        dated("since a second", -1, DAY, Trusted),
        dated("in two minutes", 120, DAY, Refused(EARLY)),
        dated("for two minutes more", -HOUR, 120, Trusted),
        dated("over since a second", -HOUR, -1, Refused(OVER)),
        dated("it ends before it begins", DAY, -DAY, Refused(EARLY)),
        dated("over for ten years", -3660 * DAY, -3650 * DAY, Refused(OVER)),
        dated("for fifty years", -HOUR, 50 * 366 * DAY, Trusted),
        dated("for fifty years, since fifty years", -50 * 366 * DAY, 50 * 366 * DAY, Trusted),
    ]
}

fn forms() -> Vec<Case> {
    let until = |what, tag, text, verdict| -> Case {
        case(what, &way(root(), [], leaf().until(Time::Raw(tag, text))), verdict)
    };
    let from = |what, tag, text, verdict: Verdict| {
        case(what, &way(root(), [], leaf().from(Time::Raw(tag, text))), verdict)
    };
    vec![
        until("without an end", GENERALIZED_TIME, "99991231235959Z", Trusted),
        until("until 2050", GENERALIZED_TIME, "20500101000000Z", Trusted),
        until("until 2049 in the long form", GENERALIZED_TIME, "20491231235959Z", Trusted),
        until("until 2049 in the short form", UTC_TIME, "491231235959Z", Trusted),
        until("the short form's 50 is 1950", UTC_TIME, "500101000000Z", Refused(OVER)),
        until("the year 0", GENERALIZED_TIME, "00000101000000Z", Refused(OVER)),
        until("without seconds", UTC_TIME, "4912312359Z", Refused(BAD_END)).since(
            V3_5,
            Refused(0),
            SHORT,
        ),
        until("with an offset", UTC_TIME, "491231235959+0100", Refused(BAD_END)),
        until(
            "with fractions of a second",
            GENERALIZED_TIME,
            "20491231235959.5Z",
            Refused(BAD_END),
        ),
        until("without a zone", GENERALIZED_TIME, "20491231235959", Refused(BAD_END)).since(
            V3_5,
            Refused(0),
            SHORT,
        ),
        until("the 31st of February", UTC_TIME, "490231000000Z", Refused(BAD_END)),
        until("no digits", UTC_TIME, "tomorrow at 1Z", Refused(BAD_END)),
        until("empty", UTC_TIME, "", Refused(BAD_END)).since(V3_5, Refused(0), SHORT),
        from("since 1970", UTC_TIME, "700101000000Z", Trusted),
        from("since 1949 in the long form", GENERALIZED_TIME, "19490101000000Z", Trusted),
        from("since 1950", UTC_TIME, "500101000000Z", Trusted),
        from("since 2020 in the long form", GENERALIZED_TIME, "20200101000000Z", Trusted),
        from("since nonsense", UTC_TIME, "x", Refused(BAD_START)).since(V3_5, Refused(0), SHORT),
        from("from 2049 on", UTC_TIME, "490101000000Z", Refused(EARLY)),
    ]
}
