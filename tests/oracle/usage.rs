//! What certificates say they are for: keyUsage, extendedKeyUsage, basicConstraints, Netscape's type.

use super::extension::{
    ANY_USAGE, BASIC_CONSTRAINTS, CLIENT_AUTH, CODE_SIGNING, CRL_SIGN, DIGITAL_SIGNATURE,
    EXTENDED_USAGE, Extension, KEY_AGREEMENT, KEY_CERT_SIGN, KEY_ENCIPHERMENT, KEY_USAGE,
    MICROSOFT_STEP_UP, NETSCAPE_STEP_UP, NON_REPUDIATION, OCSP_SIGNING, SERVER_AUTH, authority,
    basic, extended, netscape_type, usage,
};
use super::mint::{Key, bare_leaf, leaf, middle, root};
use super::{Case, Refused, Trusted, Verdict, below_root, case, of, way};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = extended_usages();
    cases.extend(usages());
    cases.extend(authorities());
    cases
}

fn extended_usages() -> Vec<Case> {
    let on_leaf = |what, kinds: &[&str], verdict| leaf_with(what, extended(kinds), verdict);
    let on_ca = |what, kinds: &[&str], verdict| {
        case(what, &way(root(), [middle().with(extended(kinds))], leaf()), verdict)
    };
    let on_root = |what, kinds: &[&str], verdict| {
        case(what, &way(root().with(extended(kinds)), [middle()], leaf()), verdict)
    };
    vec![
        case("no purpose on the leaf", &below_root(leaf().without(EXTENDED_USAGE)), Trusted),
        on_leaf("for servers", &[SERVER_AUTH], Trusted),
        on_leaf("for servers and clients", &[CLIENT_AUTH, SERVER_AUTH], Trusted),
        on_leaf("for clients", &[CLIENT_AUTH], Refused(26)),
        on_leaf("for code", &[CODE_SIGNING], Refused(26)),
        on_leaf("for OCSP", &[OCSP_SIGNING], Refused(26)),
        on_leaf("for anything", &[ANY_USAGE], Refused(26)),
        on_leaf("for anything and clients", &[ANY_USAGE, CLIENT_AUTH], Refused(26)),
        on_leaf("for something unknown", &["1.3.6.1.4.1.55555.2"], Refused(26)),
        on_leaf("for Netscape's step-up", &[NETSCAPE_STEP_UP], Trusted),
        on_leaf("for Microsoft's step-up", &[MICROSOFT_STEP_UP], Trusted),
        on_leaf("for nothing", &[], Refused(26)),
        leaf_with("for servers, critical", extended(&[SERVER_AUTH]).critical(true), Trusted),
        leaf_with("for clients, critical", extended(&[CLIENT_AUTH]).critical(true), Refused(26)),
        leaf_with("for anything, critical", extended(&[ANY_USAGE]).critical(true), Refused(26)),
        on_ca("an intermediate for servers", &[SERVER_AUTH], Trusted),
        on_ca("an intermediate for both", &[CLIENT_AUTH, SERVER_AUTH], Trusted),
        on_ca("an intermediate for clients", &[CLIENT_AUTH], Refused(26)),
        on_ca("an intermediate for code", &[CODE_SIGNING], Refused(26)),
        on_ca("an intermediate for anything", &[ANY_USAGE], Refused(26)),
        on_ca("an intermediate for Netscape's step-up", &[NETSCAPE_STEP_UP], Trusted),
        on_root("a root for servers", &[SERVER_AUTH], Trusted),
        on_root("a root for clients", &[CLIENT_AUTH], Refused(26)),
        on_root("a root for anything", &[ANY_USAGE], Refused(26)),
    ]
}

fn usages() -> Vec<Case> {
    let on_leaf = |what, bits: &[u8], verdict| leaf_with(what, usage(bits), verdict);
    let on_ca = |what, bits: &[u8], verdict| {
        case(what, &way(root(), [middle().with(usage(bits))], leaf()), verdict)
    };
    let on_root = |what, bits: &[u8], verdict| {
        case(what, &way(root().with(usage(bits)), [middle()], leaf()), verdict)
    };
    let rsa = |what, bits: &[u8], verdict| {
        case(what, &below_root(leaf().key(Key::Rsa(2048)).with(usage(bits))), verdict)
    };
    let netscape = |what, bits: &[u8], verdict| leaf_with(what, netscape_type(bits), verdict);
    vec![
        case("no usage on the leaf", &below_root(leaf().without(KEY_USAGE)), Trusted),
        on_leaf("signatures", &[DIGITAL_SIGNATURE], Trusted),
        on_leaf("non-repudiation", &[NON_REPUDIATION], Refused(26)),
        on_leaf("key agreement", &[KEY_AGREEMENT], Trusted),
        on_leaf("encipherment", &[KEY_ENCIPHERMENT], Trusted),
        on_leaf("signing certificates", &[KEY_CERT_SIGN], Refused(26)),
        on_leaf("no usage bit", &[], Refused(20)),
        on_leaf("every usage", &[0, 1, 2, 3, 4, 5, 6, 7, 8], Trusted),
        leaf_with("signatures, uncritical", usage(&[DIGITAL_SIGNATURE]).critical(false), Trusted),
        leaf_with(
            "non-repudiation, uncritical",
            usage(&[NON_REPUDIATION]).critical(false),
            Refused(26),
        ),
        rsa("RSA for encipherment", &[KEY_ENCIPHERMENT], Trusted),
        rsa("RSA for signatures", &[DIGITAL_SIGNATURE], Trusted),
        rsa("RSA for data", &[3], Refused(26)),
        on_ca("an intermediate that may sign", &[KEY_CERT_SIGN], Trusted),
        on_ca("an intermediate that may sign lists only", &[CRL_SIGN], Refused(79)),
        on_ca("an intermediate for signatures only", &[DIGITAL_SIGNATURE], Refused(79)),
        on_root("a root that may sign", &[KEY_CERT_SIGN], Trusted),
        on_root("a root that may sign lists only", &[CRL_SIGN], Refused(79)),
        case(
            "an intermediate without usage",
            &way(root(), [middle().without(KEY_USAGE)], leaf()),
            Trusted,
        ),
        case("a root without usage", &way(root().without(KEY_USAGE), [middle()], leaf()), Trusted),
        netscape("Netscape: a server", &[1], Trusted),
        netscape("Netscape: a client", &[0], Refused(26)),
        netscape("Netscape: both", &[0, 1], Trusted),
        netscape("Netscape: a CA", &[5], Refused(26)),
        case(
            "Netscape: an intermediate for mail",
            &way(root(), [middle().with(netscape_type(&[6]))], leaf()),
            Trusted,
        ),
        case(
            "Netscape: nothing else says CA",
            &way(
                root(),
                [middle().without(BASIC_CONSTRAINTS).without(KEY_USAGE).with(netscape_type(&[5]))],
                leaf(),
            ),
            Refused(79),
        ),
    ]
}

fn authorities() -> Vec<Case> {
    let above = |what, recipe, verdict| case(what, &way(root(), [recipe], leaf()), verdict);
    let top = |what, recipe, verdict| case(what, &way(recipe, [], leaf()), verdict);
    let self_signed = leaf().own();
    vec![
        above("CA, uncritical", middle().with(authority(None).critical(false)), Trusted),
        above("CA: false", middle().with(basic(false, None)), Refused(79)),
        above(
            "CA: false, no usage",
            middle().with(basic(false, None)).without(KEY_USAGE),
            Refused(79),
        ),
        above("nothing about CA, but a usage", middle().without(BASIC_CONSTRAINTS), Refused(79)),
        above(
            "nothing about CA",
            middle().without(BASIC_CONSTRAINTS).without(KEY_USAGE),
            Refused(79),
        ),
        above("a leaf as issuer", leaf().called("between").key(Key::Ec(1)), Refused(79)),
        above("an intermediate of version 1", middle().version_1(), Refused(79)),
        top("a root of version 1", root().version_1(), Trusted),
        top("a root that is no CA", root().with(basic(false, None)), Refused(79)),
        top(
            "a root without a word about CA",
            root().without(BASIC_CONSTRAINTS).without(KEY_USAGE),
            Refused(79),
        ),
        top("a root with a usage only", root().without(BASIC_CONSTRAINTS), Trusted),
        top("a root, uncritical", root().with(authority(None).critical(false)), Trusted),
        case("a leaf that is a CA", &below_root(leaf().with(authority(None))), Trusted),
        case(
            "a leaf that is a CA and says so twice",
            &below_root(
                leaf().with(authority(None)).with(usage(&[DIGITAL_SIGNATURE, KEY_CERT_SIGN])),
            ),
            Trusted,
        ),
        case("a leaf of version 1", &below_root(bare_leaf("localhost").version_1()), Trusted),
        case("a leaf without extensions", &below_root(bare_leaf("localhost")), Trusted),
        case(
            "a leaf without basicConstraints",
            &below_root(leaf().without(BASIC_CONSTRAINTS)),
            Trusted,
        ),
        of("a self-signed leaf, trusted", &[&self_signed], &[&self_signed], Trusted),
        of("a self-signed leaf, not trusted", &[&root().own()], &[&self_signed], Refused(18)),
        {
            let both = leaf().with(authority(None)).own();
            of("a self-signed leaf that is a CA, trusted", &[&both], &[&both], Trusted)
        },
        {
            let client = leaf().with(extended(&[CLIENT_AUTH])).own();
            of("a self-signed leaf for clients, trusted", &[&client], &[&client], Refused(26))
        },
    ]
}

fn leaf_with(what: &'static str, extension: Extension, verdict: Verdict) -> Case {
    case(what, &below_root(leaf().with(extension)), verdict)
}
