//! Revocation lists for a whole chain.

use openssl::x509::X509;

use super::mint::{DAY, Made, leaf, middle, root};
use super::{Case, Demand, Refused, Trusted, Verdict, of};
use crate::support::crl::List;

const NOT_NOW: &str =
    "a list out of its dates is refused when it is loaded, and so without a number";
const ANCHOR: &str = "an anchor that is no root needs no list about itself";

pub(super) fn cases() -> Vec<Case> {
    let root = root().own();
    let middle = middle().by(&root);
    let end = leaf().by(&middle);
    let direct = leaf().by(&root);
    let (root_x, middle_x) = (x509(&root), x509(&middle));
    let (root_key, middle_key) = (root.key.pair(), middle.key.pair());
    let of_root = || List::signed_by(&root_x, &root_key);
    let of_middle = || List::signed_by(&middle_x, &middle_key);
    let one = |what, lists: &[String], verdict: Verdict| {
        of(what, &[&root], &[&direct], verdict).demand(Demand::Lists(lists.concat()))
    };
    let two = |what, lists: &[String], verdict: Verdict| {
        of(what, &[&root], &[&end, &middle], verdict).demand(Demand::Lists(lists.concat()))
    };
    let anchored = |what, lists: &[String], verdict: Verdict| {
        of(what, &[&middle], &[&end, &middle], verdict).demand(Demand::Lists(lists.concat()))
    };
    vec![
        one("nobody is on the list", &[of_root().pem()], Trusted),
        one("the leaf is on the list", &[of_root().revoke(&x509(&direct)).pem()], Refused(23)),
        one("the list is over", &[of_root().between(-2 * DAY, -DAY).pem()], Refused(12))
            .but(Refused(0), NOT_NOW),
        one("the list is early", &[of_root().between(DAY, 2 * DAY).pem()], Refused(11))
            .but(Refused(0), NOT_NOW),
        one("the list is somebody's else", &[of_middle().pem()], Refused(3)),
        one(
            "the list is signed by another",
            &[List::signed_by(&root_x, &middle_key).pem()],
            Refused(8),
        ),
        two("two lists", &[of_root().pem(), of_middle().pem()], Trusted),
        two("the intermediate's list is missing", &[of_root().pem()], Refused(3)),
        two("the root's list is missing", &[of_middle().pem()], Refused(3)),
        two(
            "the intermediate is revoked",
            &[of_root().revoke(&middle_x).pem(), of_middle().pem()],
            Refused(23),
        ),
        two(
            "the leaf is revoked",
            &[of_root().pem(), of_middle().revoke(&x509(&end)).pem()],
            Refused(23),
        ),
        anchored("the anchor's own list", &[of_middle().pem()], Refused(3)).but(Trusted, ANCHOR),
        anchored(
            "the anchor's own list, and the leaf on it",
            &[of_middle().revoke(&x509(&end)).pem()],
            Refused(23),
        ),
        anchored("no list of the anchor's", &[of_root().pem()], Refused(3)),
    ]
}

fn x509(made: &Made) -> X509 {
    X509::from_der(&made.der).expect("it is a certificate")
}
