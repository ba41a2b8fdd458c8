//! Extensions that are unknown, repeated, broken or rare: policies, proxies.

use super::Demand::Strict;
use super::Line::V4;
use super::extension::{
    self, ALTERNATIVE_NAME, BASIC_CONSTRAINTS, EXTENDED_USAGE, Extension, KEY_USAGE, POLICIES, dns,
    inhibit_any_policy, policies, policy_constraints, proxy, subject_key_id, unknown,
};
use super::mint::{Recipe, bare_leaf, leaf, middle, root};
use super::{Case, Refused, Trusted, Verdict, case, of, way};

const UNKNOWN: i32 = 34;
const UNCRITICAL: &str =
    "strictly, too, an extension that has to be critical is none the worse if it is not";
const ANY_POLICY: &str = "2.5.29.32.0";
const POLICY: &str = "1.3.6.1.4.1.55555.9";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = unknown_ones();
    cases.extend(repeated_and_broken());
    cases.extend(rare());
    cases.extend(strictly());
    cases
}

fn unknown_ones() -> Vec<Case> {
    let three = |what, root, middle, leaf, verdict| case(what, &way(root, [middle], leaf), verdict);
    let critical = || unknown(true);
    vec![
        three("unknown on the leaf", root(), middle(), leaf().with(unknown(false)), Trusted),
        three(
            "unknown on the intermediate",
            root(),
            middle().with(unknown(false)),
            leaf(),
            Trusted,
        ),
        three("unknown on the root", root().with(unknown(false)), middle(), leaf(), Trusted),
        three(
            "unknown and critical on the leaf",
            root(),
            middle(),
            leaf().with(critical()),
            Refused(UNKNOWN),
        ),
        three(
            "unknown and critical on the intermediate",
            root(),
            middle().with(critical()),
            leaf(),
            Refused(UNKNOWN),
        ),
        three(
            "unknown and critical on the root",
            root().with(critical()),
            middle(),
            leaf(),
            Refused(UNKNOWN),
        ),
        three(
            "an own identifier, critical",
            root(),
            middle(),
            leaf().with(subject_key_id(b"x").critical(true)),
            Refused(UNKNOWN),
        ),
        three(
            "alternative names, critical",
            root(),
            middle(),
            leaf().with(dns(&["localhost"]).critical(true)),
            Trusted,
        ),
    ]
}

fn repeated_and_broken() -> Vec<Case> {
    let on_leaf =
        |what, leaf: Recipe, verdict: Verdict| case(what, &way(root(), [middle()], leaf), verdict);
    let broken = |kind| Extension::new(kind, false, vec![4, 1]);
    vec![
        on_leaf("alternative names twice", leaf().twice(dns(&["localhost"])), Refused(20)),
        on_leaf("basicConstraints twice", leaf().twice(extension::basic(false, None)), Refused(20)),
        on_leaf(
            "something unknown twice",
            leaf().twice(unknown(false)).twice(unknown(false)),
            Trusted,
        ),
        on_leaf("broken alternative names", leaf().with(broken(ALTERNATIVE_NAME)), Refused(20)),
        on_leaf("broken basicConstraints", leaf().with(broken(BASIC_CONSTRAINTS)), Refused(20)),
        on_leaf("a broken usage", leaf().with(broken(KEY_USAGE)), Refused(20)),
        on_leaf("a broken extended usage", leaf().with(broken(EXTENDED_USAGE)), Refused(20)),
        on_leaf("broken policies", leaf().with(broken(POLICIES)), Trusted),
        case(
            "a broken usage on the intermediate",
            &way(root(), [middle().with(broken(KEY_USAGE))], leaf()),
            Refused(20),
        ),
    ]
}

fn rare() -> Vec<Case> {
    let above = |what, middle, verdict| case(what, &way(root(), [middle], leaf()), verdict);
    let root_ = root().own();
    let user = leaf().by(&root_);
    let acting = bare_leaf("")
        .subject(super::der::name(&[
            ("2.5.4.3", super::der::UTF8, b"a server"),
            ("2.5.4.3", super::der::UTF8, b"proxy"),
        ]))
        .key(super::mint::Key::Ec(8))
        .with(extension::usage(&[extension::DIGITAL_SIGNATURE]))
        .with(proxy())
        .by(&user);
    vec![
        above("a policy", middle().with(policies(&[POLICY])), Trusted),
        above("any policy", middle().with(policies(&[ANY_POLICY])), Trusted),
        above("a policy, critical", middle().with(policies(&[POLICY]).critical(true)), Trusted),
        above(
            "a policy is required, and none is there",
            middle().with(policy_constraints(Some(0), None)),
            Trusted,
        ),
        above("no mapping of policies", middle().with(policy_constraints(None, Some(0))), Trusted),
        above("any policy is inhibited", middle().with(inhibit_any_policy(0)), Trusted),
        above(
            "a policy is required, and policies are checked",
            middle().with(policy_constraints(Some(0), None)),
            Refused(43),
        )
        .demand(super::Demand::OfJudge(&["-policy_check"]))
        .but(
            Trusted,
            "skytls has no setting for policies of certificates, and so never looks at them",
        ),
        of("a proxy certificate", &[&root_], &[&acting, &user], Refused(40)),
    ]
}

fn strictly() -> Vec<Case> {
    let strict = |what, root, middle, leaf, verdict| {
        case(what, &way(root, [middle], leaf), verdict).demand(Strict)
    };
    let plain = |extension: Extension| extension.critical(false);
    vec![
        strict("strictly", root(), middle(), leaf(), Trusted),
        strict("strictly: a root of version 1", root().version_1(), middle(), leaf(), Refused(79)),
        strict(
            "strictly: a leaf of version 1",
            root(),
            middle(),
            bare_leaf("localhost").version_1(),
            Trusted,
        ),
        strict(
            "strictly: no identifier on the leaf",
            root(),
            middle(),
            leaf().anonymous(),
            Refused(85),
        ),
        strict(
            "strictly: no own identifier on the CA",
            root(),
            middle().without(extension::SUBJECT_KEY_ID),
            leaf(),
            Refused(86),
        ),
        strict(
            "strictly: uncritical basicConstraints",
            root(),
            middle().with(plain(extension::authority(None))),
            leaf(),
            Refused(89),
        )
        .since(V4, Trusted, UNCRITICAL),
        strict(
            "strictly: a usage without signing",
            root(),
            middle().without(KEY_USAGE),
            leaf(),
            Refused(92),
        ),
        strict(
            "strictly: no subject, uncritical names",
            root(),
            middle(),
            leaf().subject(super::der::name(&[])),
            Refused(88),
        )
        .since(V4, Trusted, UNCRITICAL),
        strict(
            "strictly: a path length on a leaf",
            root(),
            middle(),
            leaf().with(extension::basic(false, Some(vec![1]))),
            Refused(80),
        ),
        strict(
            "strictly: no names at all",
            root(),
            middle(),
            leaf().without(ALTERNATIVE_NAME).called("localhost"),
            Trusted,
        ),
        strict("strictly: a spoilt root", root().spoilt(), middle(), leaf(), Trusted),
        strict(
            "strictly: two algorithms at the root",
            root().claiming(super::mint::Hash::Sha384),
            middle(),
            leaf(),
            Refused(78),
        ),
    ]
}
