//! What a CA file may hold, and what each of it means.

use super::der::{explicit, oid, sequence};
use super::extension::{CLIENT_AUTH, SERVER_AUTH};
use super::mint::{DAY, Key, Made, leaf, middle, root};
use super::{Case, Demand, Refused, Trusted, of};

const REJECTED: i32 = 28;

pub(super) fn cases() -> Vec<Case> {
    let root = root().own();
    let middle_ = middle().by(&root);
    let leaf_ = leaf().by(&middle_);
    let stranger = super::mint::root().called("a stranger").key(Key::Ec(9)).own();
    let twin = super::mint::root().key(Key::Ec(9)).own();
    let direct = leaf().by(&root);
    let old_leaf = leaf().valid(-2 * DAY, -DAY).by(&root);
    let mut cases = vec![
        of("the root", &[&root], &[&leaf_, &middle_], Trusted),
        of("a stranger", &[&stranger], &[&leaf_, &middle_], Refused(20)),
        of(
            "a stranger, and the root is sent",
            &[&stranger],
            &[&leaf_, &middle_, &root],
            Refused(19),
        ),
        of("a stranger and the root", &[&stranger, &root], &[&leaf_, &middle_], Trusted),
        of("the root many times", &[&root; 5], &[&leaf_, &middle_], Trusted),
        of("the intermediate alone", &[&middle_], &[&leaf_, &middle_], Trusted),
        of("the leaf alone", &[&leaf_], &[&leaf_, &middle_], Trusted),
        of("the leaf alone, sent alone", &[&leaf_], &[&leaf_], Trusted),
        of("another leaf of the same CA", &[&leaf().by(&root)], &[&direct], Refused(20)),
        of("the leaf alone, and over", &[&old_leaf], &[&old_leaf], Refused(10)),
        of("leaf and root", &[&leaf_, &root], &[&leaf_, &middle_], Trusted),
        of("a root of the same name and another key", &[&twin], &[&leaf_, &middle_], Refused(20)),
        of("two roots of one name", &[&twin, &root], &[&leaf_, &middle_], Trusted),
        of(
            "the intermediate of another root",
            &[&middle().by(&twin)],
            &[&leaf_, &middle_],
            Trusted,
        ),
    ];
    let whole = |case: Case| case.demand(Demand::NoPartialChain);
    cases.extend([
        whole(of("whole chains: the root", &[&root], &[&leaf_, &middle_], Trusted)),
        whole(of("whole chains: the intermediate", &[&middle_], &[&leaf_, &middle_], Refused(2))),
        whole(of("whole chains: the leaf", &[&leaf_], &[&leaf_], Refused(20))),
        whole(of(
            "whole chains: a self-signed leaf",
            &[&leaf().own()],
            &[&leaf().own()],
            Refused(18),
        )),
        whole(of("whole chains: both, the root last", &[&middle_, &root], &[&leaf_], Trusted)),
    ]);
    cases.extend(files(&root, &middle_, &leaf_));
    cases
}

fn files(root: &Made, middle: &Made, leaf: &Made) -> Vec<Case> {
    let with =
        |what, file: String, verdict| of(what, &[root], &[leaf, middle], verdict).trusting(file);
    let settings = |made: &Made, trust: &[&str], reject: &[&str]| {
        let kinds = |kinds: &[&str]| kinds.iter().flat_map(|kind| oid(kind)).collect::<Vec<u8>>();
        let trust = if trust.is_empty() { Vec::new() } else { sequence(&[&kinds(trust)]) };
        let reject = if reject.is_empty() { Vec::new() } else { explicit(0, &kinds(reject)) };
        let der = [&made.der[..], &sequence(&[&trust, &reject])].concat();
        Made { der, ..made.clone() }.labelled("TRUSTED CERTIFICATE")
    };
    let text = format!("Somebody wrote this.\n\n{}\n# and this\n", root.pem());
    let bytes = format!("\u{2014} ä ö ü\n{}", root.pem());
    vec![
        with("text around it", text, Trusted),
        with("text in UTF-8 around it", bytes, Trusted),
        with("line ends of Windows", root.pem().replace('\n', "\r\n"), Trusted),
        with("the old label", root.labelled("X509 CERTIFICATE"), Trusted),
        with("trusted, nothing said", settings(root, &[], &[]), Trusted),
        with("trusted for servers", settings(root, &[SERVER_AUTH], &[]), Trusted),
        with("trusted for clients", settings(root, &[CLIENT_AUTH], &[]), Refused(REJECTED)),
        with("rejected for servers", settings(root, &[], &[SERVER_AUTH]), Refused(REJECTED)),
        with("rejected for clients", settings(root, &[], &[CLIENT_AUTH]), Trusted),
        with(
            "trusted and rejected",
            settings(root, &[SERVER_AUTH], &[SERVER_AUTH]),
            Refused(REJECTED),
        ),
        with("an intermediate trusted for servers", settings(middle, &[SERVER_AUTH], &[]), Trusted),
        with(
            "an intermediate rejected for servers",
            settings(middle, &[], &[SERVER_AUTH]),
            Refused(REJECTED),
        ),
        with(
            "an intermediate rejected, the root trusted",
            format!("{}{}", settings(middle, &[], &[SERVER_AUTH]), root.pem()),
            Refused(REJECTED),
        ),
        with("the leaf trusted for servers", settings(leaf, &[SERVER_AUTH], &[]), Trusted),
        with(
            "the leaf trusted for clients",
            settings(leaf, &[CLIENT_AUTH], &[]),
            Refused(REJECTED),
        ),
        with("a key beside it", format!("{}{}", root.pem(), Key::Ec(7).pem()), Trusted),
    ]
}
