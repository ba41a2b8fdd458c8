//! Certificates whose bytes are not as they should be.

use super::der::{self, UTF8};
use super::mint::{leaf, middle, root};
use super::{Case, Trusted, case, way};

pub(super) fn cases() -> Vec<Case> {
    let version = |what, version, verdict| {
        case(what, &way(root(), [middle()], leaf().version(version)), verdict)
    };
    let empty_rdn = || der::tlv(der::SEQUENCE, &der::tlv(0x31, &[]));
    vec![
        case(
            "a leaf whose lengths are too long",
            &way(root(), [middle()], leaf().wrapped(der::padded)),
            Trusted,
        ),
        case(
            "an intermediate whose lengths are too long",
            &way(root(), [middle().wrapped(der::padded)], leaf()),
            Trusted,
        ),
        version("version 2", Some(1), Trusted),
        version("version 1, and extensions", None, Trusted),
        version("version 4", Some(3), Trusted),
        version("a version written that need not be", Some(0), Trusted),
        case(
            "a name of no attribute",
            &way(root(), [middle()], leaf().subject(empty_rdn())),
            Trusted,
        ),
        case(
            "a country of five letters",
            &way(root(), [middle()], leaf().subject(der::name(&[("2.5.4.6", UTF8, b"Utopia")]))),
            Trusted,
        ),
        case(
            "an attribute that nobody knows",
            &way(
                root(),
                [middle()],
                leaf().subject(der::name(&[("1.3.6.1.4.1.55555.3", UTF8, b"x")])),
            ),
            Trusted,
        ),
    ]
}
