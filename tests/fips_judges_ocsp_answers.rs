//! With FIPS an OCSP answer counts if the FIPS provider has verified it: the issuer's or its delegate's, with
//! an approved key and digest. Each refusal has a twin that is accepted.

mod fips_provider;
mod revocation_fixture;
mod support;

use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use revocation_fixture::World;
use support::pki::ec_key;
use support::verdict;

const REVOKED: &str = "SKT-517";
const OCSP: &str = "SKT-519";

fn ask(world: &World, rule: &str, answer: Option<&str>, fips: bool) -> String {
    let mut server = world.peer();
    if let Some(answer) = answer {
        server = server.option("-status_file", answer);
    }
    let server = server.listen();
    let mut pairs = vec![world.ca("root.crt"), ("agent.ssl_ocsp", rule.to_owned())];
    if fips {
        pairs.push(("agent.ssl_fips", "required".to_owned()));
        pairs.push(("agent.ssl_fips_config", fips_provider::config()));
    }
    verdict::of(&server, &pairs)
}

/// The same with FIPS as without.
#[track_caller]
fn alike(world: &World, rule: &str, answer: Option<&str>, expected: &str) {
    for fips in [true, false] {
        assert_eq!(ask(world, rule, answer, fips), expected, "{rule}, {answer:?}, FIPS {fips}");
    }
}

#[test]
fn staple_judges_an_answer_that_comes_and_require_wants_one() {
    let world = World::new();
    let good = world.answer("good.der", "V", &world.middle);
    let revoked = world.answer("revoked.der", "R", &world.middle);
    alike(&world, "staple", None, "connected");
    alike(&world, "require", None, OCSP);
    for rule in ["staple", "require"] {
        alike(&world, rule, Some(&good), "connected");
        alike(&world, rule, Some(&revoked), REVOKED);
    }
}

#[test]
fn an_answer_is_the_issuers_or_its_delegates() {
    let world = World::new();
    // The root did not issue the leaf, and appointed nobody.
    alike(&world, "require", Some(&world.answer("root.der", "V", &world.root)), OCSP);
    for (usage, expected) in [("OCSPSigning", "connected"), ("clientAuth", OCSP)] {
        let (certificate, key) = world.delegate(usage);
        let by = (&*certificate, &*key);
        let answer = world.answer_by("delegate.der", "V", by, "sha256");
        alike(&world, "require", Some(&answer), expected);
    }
    // Somebody else's delegate.
    let other = World::new();
    let (certificate, key) = other.delegate("OCSPSigning");
    let answer = world.answer_by("other.der", "V", (&certificate, &key), "sha256");
    alike(&world, "require", Some(&answer), OCSP);
}

#[test]
fn what_signed_it_has_to_be_approved() {
    let world = World::new();
    let issuer = (world.middle.certificate_pem(), world.middle.key_pem());
    let old = world.answer_by("sha1.der", "V", issuer, "sha1");
    assert_eq!(ask(&world, "require", Some(&old), true), OCSP);
    assert_eq!(ask(&world, "require", Some(&old), false), "connected");
    alike(
        &world,
        "require",
        Some(&world.answer_by("sha384.der", "V", issuer, "sha384")),
        "connected",
    );

    let weak = PKey::from_rsa(Rsa::generate(1024).expect("OpenSSL makes it")).expect("a key");
    for (key, expected) in [(weak, OCSP), (ec_key(), "connected")] {
        let (certificate, key) = world.delegate_with("OCSPSigning", &key);
        let answer = world.answer_by("delegate.der", "V", (&certificate, &key), "sha256");
        assert_eq!(ask(&world, "require", Some(&answer), true), expected);
        assert_eq!(ask(&world, "require", Some(&answer), false), "connected");
    }
}
