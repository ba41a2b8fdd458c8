//! Keys and signatures of every strength, at every security level; signatures that do not hold.

use super::mint::{Hash, Key, leaf, middle, root};
use super::{Case, Demand, Refused, Trusted, Verdict, Way, below_root, case, of, way};

const LEAF_KEY: i32 = 66;
const CA_KEY: i32 = 67;
const DIGEST: i32 = 68;
const SIGNATURE: i32 = 7;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = keys();
    cases.extend(digests());
    cases.extend(levels());
    cases.extend(signatures());
    cases
}

fn keys() -> Vec<Case> {
    let of_leaf = |what, key, verdict| case(what, &below_root(leaf().key(key)), verdict);
    let of_middle =
        |what, key, verdict| case(what, &way(root(), [middle().key(key)], leaf()), verdict);
    let of_root = |what, key, verdict| case(what, &way(root().key(key), [], leaf()), verdict);
    vec![
        of_leaf("RSA 1024", Key::Rsa(1024), Refused(LEAF_KEY)),
        of_leaf("RSA 1536", Key::Rsa(1536), Refused(LEAF_KEY)),
        of_leaf("RSA 2048", Key::Rsa(2048), Trusted),
        of_leaf("RSA for PSS only", Key::RsaPss, Trusted),
        of_leaf("P-384", Key::Curve("secp384r1"), Trusted),
        of_leaf("P-521", Key::Curve("secp521r1"), Trusted),
        of_leaf("Ed25519", Key::Ed25519, Trusted),
        of_leaf("Ed448", Key::Ed448, Trusted),
        of_leaf("secp256k1", Key::Curve("secp256k1"), Refused(0)),
        of_leaf("P-224", Key::Curve("secp224r1"), Refused(0)),
        of_middle("an intermediate of RSA 1024", Key::Rsa(1024), Refused(CA_KEY)),
        of_middle("an intermediate of RSA 1536", Key::Rsa(1536), Refused(CA_KEY)),
        of_middle("an intermediate of RSA 2048", Key::Rsa(2048), Trusted),
        of_middle("an intermediate of P-224", Key::Curve("secp224r1"), Trusted),
        of_middle("an intermediate of secp256k1", Key::Curve("secp256k1"), Trusted),
        of_middle("an intermediate of Ed25519", Key::Ed25519, Trusted),
        of_middle("an intermediate of Ed448", Key::Ed448, Trusted),
        of_middle("an intermediate of DSA 1024", Key::Dsa(1024), Refused(CA_KEY)),
        of_root("a root of RSA 1024", Key::Rsa(1024), Refused(CA_KEY)),
        of_root("a root of RSA 1536", Key::Rsa(1536), Refused(CA_KEY)),
        of_root("a root of P-521", Key::Curve("secp521r1"), Trusted),
        of_root("a root of Ed25519", Key::Ed25519, Trusted),
        of_root("a root of P-192", Key::Curve("prime192v1"), Refused(CA_KEY)),
    ]
}

fn digests() -> Vec<Case> {
    let ec = |what, hash, verdict| case(what, &below_root(leaf().hash(hash)), verdict);
    let rsa = |what, hash, verdict| {
        case(what, &way(root().key(Key::Rsa(2048)), [], leaf().hash(hash)), verdict)
    };
    let pss = |what, hash, verdict| {
        let root = root().key(Key::RsaPss).hash(Hash::Pss(256, 32));
        case(what, &way(root, [], leaf().hash(hash)), verdict)
    };
    let of_middle = |what, hash, verdict| {
        let root = root().key(Key::Rsa(2048));
        case(what, &way(root, [middle().hash(hash)], leaf()), verdict)
    };
    vec![
        ec("ECDSA with SHA-1", Hash::Sha1, Refused(DIGEST)),
        ec("ECDSA with SHA-224", Hash::Sha224, Trusted),
        ec("ECDSA with SHA-384", Hash::Sha384, Trusted),
        ec("ECDSA with SHA-512", Hash::Sha512, Trusted),
        rsa("RSA with MD5", Hash::Md5, Refused(DIGEST)),
        rsa("RSA with SHA-1", Hash::Sha1, Refused(DIGEST)),
        rsa("RSA with SHA-224", Hash::Sha224, Trusted),
        rsa("RSA with SHA-256", Hash::Sha256, Trusted),
        rsa("RSA with SHA-512", Hash::Sha512, Trusted),
        rsa("PSS with SHA-256", Hash::Pss(256, 32), Trusted),
        rsa("PSS with SHA-384", Hash::Pss(384, 48), Trusted),
        rsa("PSS with SHA-512", Hash::Pss(512, 64), Trusted),
        rsa("PSS with SHA-1", Hash::Pss(1, 20), Refused(DIGEST)),
        rsa("PSS without salt", Hash::Pss(256, 0), Trusted),
        rsa("PSS with a long salt", Hash::Pss(256, 100), Trusted),
        pss("PSS by a key for PSS", Hash::Pss(256, 32), Trusted),
        pss("PSS by a key for PSS, another hash", Hash::Pss(512, 64), Trusted),
        of_middle("an intermediate with SHA-1", Hash::Sha1, Refused(DIGEST)),
        of_middle("an intermediate with MD5", Hash::Md5, Refused(DIGEST)),
        case("a root with SHA-1", &way(root().hash(Hash::Sha1), [], leaf()), Trusted),
        case(
            "a root with MD5",
            &way(root().key(Key::Rsa(2048)).hash(Hash::Md5), [], leaf()),
            Trusted,
        ),
        {
            let root = root().own();
            let middle = middle().hash(Hash::Sha1).by(&root);
            of(
                "an intermediate with SHA-1 is the anchor",
                &[&middle],
                &[&leaf().by(&middle)],
                Trusted,
            )
        },
        {
            let alone = leaf().hash(Hash::Sha1).own();
            of("self-signed with SHA-1, trusted", &[&alone], &[&alone], Trusted)
        },
    ]
}

fn levels() -> Vec<Case> {
    let at = |what, way: &Way, level, verdict: Verdict| {
        case(what, way, verdict).demand(Demand::Level(level))
    };
    let rsa = |size| below_root(leaf().key(Key::Rsa(size)));
    let sha1 = || below_root(leaf().hash(Hash::Sha1));
    let sha1_of_rsa = || way(root().key(Key::Rsa(2048)), [], leaf().hash(Hash::Sha1));
    let md5 = || way(root().key(Key::Rsa(2048)), [], leaf().hash(Hash::Md5));
    let ec = || below_root(leaf());
    let p384 = || {
        let key = Key::Curve("secp384r1");
        way(root().key(key).hash(Hash::Sha384), [], leaf().key(key).hash(Hash::Sha384))
    };
    let below = |key| way(root(), [middle().key(key)], leaf());
    vec![
        at("level 0: RSA 1024", &rsa(1024), 0, Trusted),
        at("level 0: SHA-1", &sha1(), 0, Trusted),
        at("level 0: MD5", &md5(), 0, Trusted),
        at("level 0: an intermediate of DSA 1024", &below(Key::Dsa(1024)), 0, Trusted),
        at("level 0: an intermediate of P-192", &below(Key::Curve("prime192v1")), 0, Trusted),
        at("level 1: RSA 1024", &rsa(1024), 1, Trusted),
        at("level 1: RSA 1536", &rsa(1536), 1, Trusted),
        at("level 1: SHA-1", &sha1_of_rsa(), 1, Refused(DIGEST)),
        at("level 1: MD5", &md5(), 1, Refused(DIGEST)),
        at("level 2: RSA 2048", &rsa(2048), 2, Trusted),
        at("level 2: RSA 1536", &rsa(1536), 2, Refused(LEAF_KEY)),
        at("level 3: RSA 2048", &rsa(2048), 3, Refused(LEAF_KEY)),
        at("level 3: P-256", &ec(), 3, Trusted),
        at("level 3: an intermediate of RSA 2048", &below(Key::Rsa(2048)), 3, Refused(CA_KEY)),
        at("level 3: SHA-224", &below_root(leaf().hash(Hash::Sha224)), 3, Refused(DIGEST)),
        at("level 4: P-256", &ec(), 4, Refused(0)),
        at("level 4: P-384", &p384(), 4, Trusted),
        at("level 5: P-384", &p384(), 5, Refused(0)),
    ]
}

fn signatures() -> Vec<Case> {
    let root_ = root().own();
    let other = root().key(Key::Ec(9)).own();
    vec![
        case("a spoilt leaf", &below_root(leaf().spoilt()), Refused(SIGNATURE)),
        case(
            "a spoilt intermediate",
            &way(root(), [middle().spoilt()], leaf()),
            Refused(SIGNATURE),
        ),
        case("a spoilt root", &way(root().spoilt(), [], leaf()), Trusted),
        case("a spoilt root below itself", &way(root().spoilt(), [middle()], leaf()), Trusted),
        case(
            "two algorithms for one signature",
            &below_root(leaf().claiming(Hash::Sha384)),
            Refused(SIGNATURE),
        ),
        case(
            "two algorithms at the intermediate",
            &way(root(), [middle().claiming(Hash::Sha512)], leaf()),
            Refused(SIGNATURE),
        ),
        of("another key of the same name", &[&root_], &[&leaf().by(&other)], Refused(20)),
        of(
            "another key of the same name, without identifiers",
            &[&root().anonymous().own()],
            &[&leaf().anonymous().by(&other)],
            Refused(SIGNATURE),
        ),
        of("both keys of one name", &[&other, &root_], &[&leaf().by(&root_)], Trusted),
        of(
            "both keys of one name, without identifiers",
            &[&root().anonymous().key(Key::Ec(9)).own(), &root().anonymous().own()],
            &[&leaf().anonymous().by(&root_)],
            Refused(SIGNATURE),
        ),
    ]
}
