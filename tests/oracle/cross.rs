//! Several ways up: CAs signed twice, renewed, lost, out of date.

use super::extension::{CLIENT_AUTH, extended};
use super::mint::{DAY, Hash, Key, Made, Recipe, authority, leaf, middle, root};
use super::{Case, Demand, Refused, Trusted, of};

/// An intermediate that two roots have signed.
struct Two {
    old: Made,
    new: Made,
    by_old: Made,
    by_new: Made,
    leaf: Made,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = intermediates(&two(|it| it, |it| it));
    cases.extend(faulty_ways());
    cases.extend(renewals());
    cases
}

fn intermediates(two: &Two) -> Vec<Case> {
    let Two { old, new, by_old, by_new, leaf } = two;
    vec![
        of("both ways are there", &[old, new], &[leaf, by_old, by_new], Trusted),
        of("the old root, both ways", &[old], &[leaf, by_old, by_new], Trusted),
        of("the new root, both ways", &[new], &[leaf, by_old, by_new], Refused(20)),
        of("the old root, turned round", &[old], &[leaf, by_new, by_old], Refused(20)),
        of("the new root, the old way only", &[new], &[leaf, by_old], Refused(20)),
        of("the old root, the new way only", &[old], &[leaf, by_new], Refused(20)),
        of("the new way is in the file", &[new, by_new], &[leaf, by_old], Trusted),
        of("the new way is the file", &[by_new], &[leaf, by_old], Trusted),
        of(
            "neither root",
            &[&root().called("a third").own()],
            &[leaf, by_old, by_new],
            Refused(20),
        ),
    ]
}

fn faulty_ways() -> Vec<Case> {
    let over = two(|old| old.valid(-2 * DAY, -DAY), |it| it);
    let weak = two(|old| old.hash(Hash::Sha1), |it| it);
    let client = two(|old| old.with(extended(&[CLIENT_AUTH])), |it| it);
    let both = two(|old| old.valid(-2 * DAY, -DAY), |new| new.valid(-2 * DAY, -DAY));
    let all = |two: &Two, what, verdict| {
        of(what, &[&two.old, &two.new], &[&two.leaf, &two.by_old, &two.by_new], verdict)
    };
    let turned = |two: &Two, what, verdict| {
        of(what, &[&two.new, &two.old], &[&two.leaf, &two.by_new, &two.by_old], verdict)
    };
    vec![
        all(&over, "one way is over", Trusted),
        turned(&over, "one way is over, turned round", Trusted),
        all(&both, "both ways are over", Refused(10)),
        all(&weak, "one way is weak, and first", Refused(68)),
        turned(&weak, "one way is weak, and last", Trusted),
        all(&client, "one way is for clients, and first", Refused(26)),
        turned(&client, "one way is for clients, and last", Trusted),
        of(
            "the way to the trusted root is over",
            &[&over.old],
            &[&over.leaf, &over.by_old, &over.by_new],
            Refused(20),
        ),
    ]
}

fn renewals() -> Vec<Case> {
    let old = root().own();
    let renewed = root().own();
    let rekeyed = root().key(Key::Ec(9)).own();
    let below_old = leaf().by(&old);
    // The new key of the root, signed by the old one: how a root hands over.
    let handover = root().key(Key::Ec(9)).by(&old);
    let below_new = leaf().by(&rekeyed);
    // The new root as an intermediate of the old one, as public CAs do it.
    let crossed = authority("new root", Key::Ec(9)).by(&old);
    let new_root = authority("new root", Key::Ec(9)).own();
    let middle = middle().by(&new_root);
    let end = leaf().by(&middle);
    let lost = authority("new root", Key::Ec(9)).valid(-2 * DAY, -DAY).by(&old);
    let old_over = root().valid(-2 * DAY, -DAY).own();
    vec![
        of("renewed with the same key", &[&renewed], &[&below_old], Trusted),
        of("renewed with another key", &[&rekeyed], &[&below_old], Refused(20)),
        of("both keys", &[&rekeyed, &old], &[&below_old], Trusted),
        of("a new key, handed over", &[&old], &[&below_new, &handover], Trusted),
        of("a new key, not handed over", &[&old], &[&below_new], Refused(20)),
        of("crossed: the old root", &[&old], &[&end, &middle, &crossed], Trusted),
        of("crossed: the new root", &[&new_root], &[&end, &middle, &crossed], Trusted),
        of("crossed: both roots", &[&old, &new_root], &[&end, &middle, &crossed], Trusted),
        of("crossed: the old root, not sent", &[&old], &[&end, &middle], Refused(20)),
        of(
            "crossed: the new root, and the cross is over",
            &[&new_root],
            &[&end, &middle, &lost],
            Trusted,
        ),
        of(
            "crossed: the old root, and the cross is over",
            &[&old],
            &[&end, &middle, &lost],
            Refused(10),
        ),
        of(
            "crossed: the old root is over, the new one is there",
            &[&old_over, &new_root],
            &[&end, &middle, &crossed],
            Trusted,
        ),
        of(
            "crossed: the new root is sent too",
            &[&old],
            &[&end, &middle, &new_root, &crossed],
            Refused(19),
        ),
        of("crossed: whole chains only", &[&new_root], &[&end, &middle, &crossed], Trusted)
            .demand(Demand::NoPartialChain),
    ]
}

fn two(change_old: fn(Recipe) -> Recipe, change_new: fn(Recipe) -> Recipe) -> Two {
    let (old, new) = (authority("old", Key::Ec(11)).own(), authority("new", Key::Ec(12)).own());
    let by_old = change_old(middle()).by(&old);
    let by_new = change_new(middle()).by(&new);
    let leaf = leaf().by(&by_old);
    Two { old, new, by_old, by_new, leaf }
}
