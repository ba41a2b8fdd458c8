//! Key identifiers, serial numbers and names: how an issuer is found.

use super::Line::V4;
use super::der::{self, PRINTABLE, UTF8};
use super::extension::{
    AUTHORITY_KEY_ID, Extension, SUBJECT_KEY_ID, authority_key_id, subject_key_id,
};
use super::mint::{Key, Recipe, bare_leaf, leaf, middle, root};
use super::{Case, Demand, Refused, Trusted, Verdict, case, of, way};

const RULE: &str =
    "a leaf may have its issuer's name if the file has that issuer (SkyWalking's key script)";

/// No CA gives a serial number twice (RFC 5280 section 4.1.2.2), but people who make certificates by hand do.
const TWICE: &str =
    "two of one issuer and serial number are the same to it, whatever their key identifiers say";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = key_ids();
    cases.extend(serials());
    cases.extend(serials_given_twice());
    cases.extend(subjects());
    cases.extend(same_names());
    cases
}

fn key_ids() -> Vec<Case> {
    let on_leaf = |what, extension: Extension, verdict: Verdict| {
        case(what, &way(root(), [middle()], leaf().with(extension)), verdict)
    };
    let by = |id: Option<&[u8]>, issuer, serial| authority_key_id(id, Some((issuer, serial)));
    let root_ = root().own();
    let middle_ = middle().serial(&[5]).by(&root_);
    vec![
        case("no identifier on the leaf", &way(root(), [middle()], leaf().anonymous()), Trusted),
        case(
            "no identifier anywhere",
            &way(root().anonymous(), [middle().anonymous()], leaf().anonymous()),
            Trusted,
        ),
        case(
            "no own identifier of the CA",
            &way(root(), [middle().without(SUBJECT_KEY_ID)], leaf()),
            Trusted,
        ),
        case(
            "the leaf names no authority",
            &way(root(), [middle()], leaf().without(AUTHORITY_KEY_ID)),
            Trusted,
        ),
        on_leaf("another identifier", authority_key_id(Some(b"somebody"), None), Refused(20)),
        on_leaf("an empty identifier", authority_key_id(Some(b""), None), Refused(20)),
        on_leaf("an authority without fields", authority_key_id(None, None), Trusted),
        on_leaf(
            "another identifier, critical",
            authority_key_id(Some(b"x"), None).critical(true),
            Refused(20),
        ),
        of(
            "issuer and serial number",
            &[&root_],
            &[&leaf().with(by(None, "oracle root", 5)).by(&middle_), &middle_],
            Trusted,
        ),
        of(
            "another serial number",
            &[&root_],
            &[&leaf().with(by(None, "oracle root", 6)).by(&middle_), &middle_],
            Refused(20),
        ),
        of(
            "another issuer",
            &[&root_],
            &[&leaf().with(by(None, "somebody", 5)).by(&middle_), &middle_],
            Refused(20),
        ),
        of(
            "an identifier and another serial number",
            &[&root_],
            &[&leaf().with(by(Some(b"x"), "oracle root", 5)).by(&middle_), &middle_],
            Refused(20),
        ),
        case(
            "a root that names another authority",
            &way(root().with(authority_key_id(Some(b"x"), None)), [middle()], leaf()),
            Trusted,
        ),
        of(
            "an intermediate by a misnamed root",
            &[&root_],
            &[&leaf().by(&middle_), &middle().by(&root_.misnamed())],
            Refused(20),
        ),
        case(
            "an own identifier of one byte",
            &way(root(), [middle()], leaf().with(subject_key_id(b"x"))),
            Trusted,
        ),
        case(
            "a long own identifier",
            &way(root(), [middle()], leaf().with(subject_key_id(&[7; 200]))),
            Trusted,
        ),
    ]
}

fn serials() -> Vec<Case> {
    let with = |what, serial: &[u8], verdict| {
        case(what, &way(root(), [middle()], leaf().serial(serial)), verdict)
    };
    vec![
        with("serial number 0", &[0], Trusted),
        with("a negative serial number", &[0x80], Trusted),
        with("a serial number of 20 bytes", &[0x7f; 20], Trusted),
        with("a serial number of 40 bytes", &[0x7f; 40], Trusted),
        case(
            "the same serial number throughout",
            &way(root().serial(&[1]), [middle().serial(&[1])], leaf().serial(&[1])),
            Trusted,
        ),
    ]
}

/// The root and what is below it have one issuer, and here one number as well.
fn serials_given_twice() -> Vec<Case> {
    let numbered = |recipe: Recipe| recipe.serial(&[1]);
    let root_ = numbered(root()).own();
    let other = numbered(root()).key(Key::Ec(9)).own();
    let misnamed = numbered(root()).with(authority_key_id(Some(b"x"), None)).own();
    let direct = numbered(leaf()).by(&root_);
    let below_misnamed = numbered(leaf()).by(&misnamed);
    let misnaming = numbered(leaf()).by(&root_.misnamed());
    vec![
        of("a number twice: the root", &[&root_], &[&direct], Trusted),
        of("a number twice: another key", &[&other], &[&direct], Refused(20)).since(
            V4,
            Refused(7),
            TWICE,
        ),
        of("a number twice: another key comes first", &[&other, &root_], &[&direct], Trusted)
            .since(V4, Refused(7), TWICE),
        of("a number twice: a root that names another", &[&misnamed], &[&below_misnamed], Trusted)
            .since(V4, Refused(20), TWICE),
        of("a number twice: a leaf that names another", &[&root_], &[&misnaming], Refused(20))
            .since(V4, Trusted, TWICE),
    ]
}

fn subjects() -> Vec<Case> {
    let named = |tag, text: &str| der::name(&[("2.5.4.3", tag, text.as_bytes())]);
    let root_ = root().own();
    let printable = root().subject(named(PRINTABLE, "oracle root")).own();
    let spaced = root().subject(named(UTF8, "  Oracle   ROOT ")).own();
    let nobody = root().subject(der::name(&[])).own();
    let long = root().called(&"long ".repeat(200)).own();
    vec![
        of(
            "the issuer's name in another string type",
            &[&printable],
            &[&leaf().issuer("oracle root").by(&printable)],
            Trusted,
        ),
        of(
            "the issuer's name in capitals and spaces",
            &[&spaced],
            &[&leaf().issuer("oracle root").by(&spaced)],
            Trusted,
        ),
        of(
            "the issuer has another name",
            &[&root_],
            &[&leaf().issuer("somebody").by(&root_)],
            Refused(20),
        ),
        of("an issuer without a name", &[&nobody], &[&leaf().by(&nobody)], Trusted),
        of("an issuer with a name of a thousand bytes", &[&long], &[&leaf().by(&long)], Trusted),
        case(
            "umlauts in a CA's name",
            &way(root().called("Größte Bank"), [middle().called("Filiale Köln")], leaf()),
            Trusted,
        ),
    ]
}

/// Leaf and issuer have one name.
fn same_names() -> Vec<Case> {
    let shared = |recipe: Recipe| recipe.called("localhost");
    let script_root = || shared(root());
    let script_leaf = || shared(bare_leaf("")).version_1();
    let strict = |case: Case| case.demand(Demand::Strict);
    let stranger = shared(root()).key(Key::Ec(9)).own();
    let is = |what, root: &_, leaf: &_, verdict| of(what, &[root], &[leaf], verdict);
    let proper = script_root().own();
    let constrained =
        script_root().with(super::extension::extended(&[super::extension::CLIENT_AUTH])).own();
    vec![
        is("one name for both", &proper, &script_leaf().by(&proper), Refused(18))
            .but(Trusted, RULE),
        {
            let root = script_root().serial(&[1]).own();
            let leaf = script_leaf().serial(&[1]).by(&root);
            is("one name and one number for both", &root, &leaf, Refused(18)).but(Trusted, RULE)
        },
        strict(is("one name for both, strictly", &proper, &script_leaf().by(&proper), Refused(18))),
        is("one name for both, identifiers tell", &proper, &shared(leaf()).by(&proper), Trusted),
        is(
            "one name for both, no identifiers, version 3",
            &proper,
            &shared(leaf()).anonymous().by(&proper),
            Refused(18),
        )
        .but(Trusted, RULE),
        is("one name for both, another key", &proper, &script_leaf().by(&stranger), Refused(18)),
        is("one name for both, its own key", &proper, &script_leaf().own(), Refused(18)),
        is(
            "one name for both, over",
            &proper,
            &script_leaf().valid(-9, -5).by(&proper),
            Refused(18),
        ),
        is(
            "one name for both, a CA for clients",
            &constrained,
            &script_leaf().by(&constrained),
            Refused(18),
        ),
        is(
            "one name for both, another is asked for",
            &proper,
            &script_leaf().by(&proper),
            Refused(18),
        )
        .name("oap.example")
        .but(Refused(62), RULE),
    ]
}
