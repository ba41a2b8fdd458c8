//! Revocation: lists of `agent.ssl_crl_path`, and OCSP answers that the server staples.
//!
//! Every verdict is a handshake with `s_server`; each refusal has a twin that is accepted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod revocation_fixture;
mod support;

use std::fs;
use std::path::Path;

use ::openssl::x509::X509;
use revocation_fixture::World;
use skytls::pki::{Authority, Profile};
use skytls::tls::Generation;
use support::crl::List;
use support::openssl::{self, Peer};
use support::pki::{DAY, HOUR, MINTED};
use support::script::Script;
use support::verdict::{self, Pair};

const REVOKED: &str = "SKT-517";
const UNKNOWN: &str = "SKT-518";
const OCSP: &str = "SKT-519";

/// Not a test by itself: what others run again, with a trust store of their own.
#[test]
fn the_verdict_of_a_process_of_its_own() {
    verdict::answer();
}

/// Without the name of a list nothing is asked; with it, every CA below the anchor needs one.
#[test]
fn the_whole_chain_below_the_anchor_needs_lists() {
    let world = World::new();
    let (root, middle) = (world.root_list().pem(), world.middle_list().pem());
    assert_eq!(world.connect("root.crt", None), "connected");
    assert_eq!(world.connect("root.crt", Some(&[&*root, &middle].concat())), "connected");
    assert_eq!(world.connect("root.crt", Some(&root)), UNKNOWN);
    assert_eq!(world.connect("root.crt", Some(&middle)), UNKNOWN);
}

#[test]
fn an_anchor_that_is_an_intermediate_needs_no_list_about_itself() {
    let world = World::new();
    let middle = world.middle_list().pem();
    assert_eq!(world.connect("middle.crt", Some(&middle)), "connected");
    // The leaf still needs its own.
    assert_eq!(world.connect("middle.crt", Some(&world.root_list().pem())), UNKNOWN);
}

/// The list of an issuer who is not in the chain cannot be verified; it does no harm, and counts.
#[test]
fn a_list_about_the_anchor_does_no_harm_unless_the_anchor_is_on_it() {
    let world = World::new();
    let (middle, root) = (world.middle_list().pem(), world.root_list().pem());
    assert_eq!(world.connect("middle.crt", Some(&[&*middle, &root].concat())), "connected");
    let revoked = world.root_list().revoke(world.middle.certificate()).pem();
    assert_eq!(world.connect("middle.crt", Some(&[&*middle, &revoked].concat())), REVOKED);
    assert_eq!(world.connect("leaf.crt", Some(&middle)), "connected");
    // OpenSSL keeps what the server sent above a leaf that is trusted itself, and looks at all of it.
    assert_eq!(world.connect("leaf.crt", Some(&root)), UNKNOWN);
    let revoked = world.middle_list().revoke(world.identity.certificate()).pem();
    assert_eq!(world.connect("leaf.crt", Some(&revoked)), REVOKED);
}

#[test]
fn what_is_on_a_list_is_refused_wherever_it_stands() {
    let world = World::new();
    let (root, middle) = (world.root_list(), world.middle_list());
    let with = |root: &List<'_>, middle: &List<'_>| {
        world.connect("root.crt", Some(&[root.pem(), middle.pem()].concat()))
    };
    let leaf_revoked = world.middle_list().revoke(world.identity.certificate());
    let middle_revoked = world.root_list().revoke(world.middle.certificate());
    assert_eq!(with(&root, &middle), "connected");
    assert_eq!(with(&root, &leaf_revoked), REVOKED);
    assert_eq!(with(&middle_revoked, &middle), REVOKED);
}

#[test]
fn a_list_that_its_ca_did_not_sign_counts_for_nothing() {
    let world = World::new();
    let impostor = Authority::new(&Profile::new("test intermediate").expect(MINTED)).unwrap();
    let forged = List::signed_by(world.middle.certificate(), impostor.key()).pem();
    assert_eq!(world.connect("middle.crt", Some(&forged)), UNKNOWN);
    assert_eq!(world.connect("middle.crt", Some(&world.middle_list().pem())), "connected");
}

#[test]
fn lists_are_read_in_every_form() {
    let world = World::new();
    let middle = world.middle_list();
    let pem = middle.pem();
    let text = [b"A list:\r\n".as_slice(), pem.replace('\n', "\r\n").as_bytes()].concat();
    let with_ca = [world.middle.certificate_pem(), &pem].concat().into_bytes();
    for content in [middle.der(), text, with_ca] {
        fs::write(world.at("lists"), content).unwrap();
        assert_eq!(world.connect_with("middle.crt", &[world.crl("lists")]), "connected");
    }
}

#[test]
fn a_hashed_folder_of_lists() {
    let world = World::new();
    let folder = world.folder.path().join("crls");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("root.pem"), world.root_list().pem()).unwrap();
    fs::write(folder.join("middle.pem"), world.middle_list().pem()).unwrap();
    let connect = || world.connect_with("root.crt", &[world.crl("crls")]);
    assert_eq!(connect(), "SKT-217");
    assert_eq!(openssl::run(["rehash", folder.to_str().unwrap()]).code, 0);
    assert_eq!(connect(), "connected");
    let revoked = world.middle_list().revoke(world.identity.certificate());
    fs::write(folder.join("middle.pem"), revoked.pem()).unwrap();
    assert_eq!(connect(), REVOKED);
}

#[test]
fn a_list_outside_its_dates_is_refused_at_once_and_one_near_its_end_is_a_warning() {
    let world = World::new();
    let load = |list: List<'_>| {
        fs::write(world.at("lists"), list.pem()).unwrap();
        let pairs = [world.ca("middle.crt"), world.crl("lists")];
        Generation::load(&verdict::settings(pairs).unwrap())
    };
    for (from, until) in [(-2 * DAY, -DAY), (DAY, 2 * DAY)] {
        let error = load(world.middle_list().between(from, until)).unwrap_err();
        assert_eq!((error.id().as_str(), error.exit_code()), ("SKT-216", 2), "{error}");
        assert!(error.to_string().contains("CN=test intermediate"), "{error}");
    }
    let soon = load(world.middle_list().between(-6 * DAY, 2 * HOUR)).unwrap();
    let warnings = &soon.description().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("SKT-216"), "{warnings:?}");
    let fresh = load(world.middle_list().between(-HOUR, 7 * DAY)).unwrap();
    assert_eq!(fresh.description().warnings, [""; 0]);
    let crl = &fresh.description().crls[0];
    assert!(matches!(crl.days_left, Some(6 | 7)) && crl.revoked == 0, "{crl:?}");
    // Lists of a day, as many CAs publish them, are not always near their end.
    let daily = load(world.middle_list().between(-HOUR, 23 * HOUR)).unwrap();
    assert_eq!(daily.description().warnings, [""; 0]);
}

#[test]
fn lists_hold_under_every_kind_of_trust() {
    let world = World::new();
    let revoked = world.middle_list().revoke(world.identity.certificate());
    for (list, expected) in [(world.middle_list(), "connected"), (revoked, REVOKED)] {
        fs::write(world.at("lists"), [world.root_list().pem(), list.pem()].concat()).unwrap();
        for (trust, file, system) in [
            ("system", "stranger.crt", "root.crt"),
            ("both", "stranger.crt", "root.crt"),
            ("both", "root.crt", "stranger.crt"),
            ("both", "middle.crt", "stranger.crt"),
        ] {
            let pairs = [world.ca(file), world.crl("lists"), ("agent.ssl_trust", trust.to_owned())];
            let verdict = verdict::with_system(&world.server, Path::new(&world.at(system)), &pairs);
            assert_eq!(verdict, expected, "{trust}, file {file}, system {system}");
        }
    }
}

#[test]
fn the_rule_for_same_names_is_off_where_it_cannot_vouch() {
    let files = Script::Documented.mint().write();
    let server = Peer::server(&files.server, &files.server_key).h2().listen();
    let ca: Pair = ("agent.ssl_trusted_ca_path", files.ca.display().to_string());
    verdict::connect(&server, std::slice::from_ref(&ca)).unwrap();
    let ca_key = support::pki::rsa_key(0);
    let certificate = X509::from_pem(&fs::read(&files.ca).unwrap()).unwrap();
    let path = files.folder().join("lists");
    fs::write(&path, List::signed_by(&certificate, &ca_key).pem()).unwrap();
    for pair in [
        ("agent.ssl_crl_path", path.display().to_string()),
        ("agent.ssl_strict", "true".to_owned()),
        ("agent.ssl_ocsp", "staple".to_owned()),
    ] {
        let error = verdict::connect(&server, &[ca.clone(), pair.clone()]).unwrap_err();
        assert_eq!(error.id(), "SKT-514", "{pair:?}: {error:?}");
    }
}

// === OCSP ===

#[test]
fn staple_judges_an_answer_that_comes_and_require_wants_one() {
    let world = World::new();
    let good = world.answer("good.der", "V", &world.middle);
    let revoked = world.answer("revoked.der", "R", &world.middle);
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |rule: &str, answer: Option<&str>| {
            let mut server = world.peer().flag(version);
            if let Some(answer) = answer {
                server = server.option("-status_file", answer);
            }
            let server = server.listen();
            let pairs = [world.ca("root.crt"), ("agent.ssl_ocsp", rule.to_owned())];
            verdict::of(&server, &pairs)
        };
        assert_eq!(ask("off", Some(&revoked)), "connected");
        assert_eq!(ask("staple", None), "connected");
        assert_eq!(ask("require", None), OCSP);
        for rule in ["staple", "require"] {
            assert_eq!(ask(rule, Some(&good)), "connected", "{rule} {version}");
            assert_eq!(ask(rule, Some(&revoked)), REVOKED, "{rule} {version}");
        }
    }
}

#[test]
fn an_answer_has_to_be_the_issuers_current_and_about_this_certificate() {
    let world = World::new();
    let ask = |answer: &str| {
        let server = world.peer().option("-status_file", answer).listen();
        let pairs = [world.ca("root.crt"), ("agent.ssl_ocsp", "require".to_owned())];
        verdict::of(&server, &pairs)
    };
    assert_eq!(ask(&world.answer("good.der", "V", &world.middle)), "connected");
    // Signed by the root, which did not issue the leaf, and appointed nobody.
    assert_eq!(ask(&world.answer("root.der", "V", &world.root)), OCSP);
    assert_eq!(ask(&world.answer("unknown.der", "", &world.middle)), OCSP);
    // Appointed by the issuer, and not.
    for (usage, expected) in [("OCSPSigning", "connected"), ("clientAuth", OCSP)] {
        let (certificate, key) = world.delegate(usage);
        assert_eq!(
            ask(&world.answer_by("delegate.der", "V", (&certificate, &key), "sha256")),
            expected
        );
    }
    let other = World::new();
    assert_eq!(ask(&other.answer("other.der", "V", &other.middle)), OCSP);
}
