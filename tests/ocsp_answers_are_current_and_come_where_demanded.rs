//! A stapled OCSP answer is refused before its thisUpdate and past its nextUpdate; a certificate that
//! demands one (must-staple, RFC 7633) is refused without.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod check_report;
mod support;
mod tls_client;

use std::fs;

use check_report::Report;
use openssl::hash::MessageDigest;
use support::openssl::{Peer, Server};
use support::pki::{DAY, HOUR, Recipe, V3, rsa_key};
use support::{keys, ocsp_dates, verdict};
use tempfile::TempDir;
use tls_client::Agent;

/// A CA, and the server's certificate of it.
struct World {
    folder: TempDir,
}

const SERIAL: &str = "1234";
const OCSP: &str = "SKT-519";

impl World {
    /// With these lines for the leaf's extensions, besides its name.
    fn new(extensions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder };
        let ca = Recipe {
            common_name: "test root",
            key: rsa_key(0),
            serial: 1,
            from: -HOUR,
            until: 365 * DAY,
            digest: MessageDigest::sha256(),
            v3: Some(V3 { ca: true, may_sign: Some(true) }),
        };
        let ca = ca.mint(None);
        fs::write(world.at("ca.crt"), ca.certificate_pem()).unwrap();
        fs::write(world.at("ca.pem"), ca.key_pem()).unwrap();
        fs::write(world.at("leaf.pem"), keys::pkcs8_pem(&rsa_key(1))).unwrap();
        fs::write(world.at("request"), keys::request_pem(&rsa_key(1))).unwrap();
        let extensions = format!("subjectAltName=DNS:localhost\n{extensions}\n");
        fs::write(world.at("extensions"), extensions).unwrap();
        let serial = format!("0x{SERIAL}");
        let [request, ca, key, file, leaf] =
            ["request", "ca.crt", "ca.pem", "extensions", "leaf.crt"].map(|name| world.at(name));
        let mut arguments = vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &key];
        arguments.extend(["-set_serial", &serial, "-days", "2", "-extfile", &file, "-out", &leaf]);
        let done = support::openssl::run(arguments);
        assert_eq!(done.code, 0, "{done:?}");
        world
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A server that staples this answer, or none.
    fn server(&self, version: &str, answer: Option<&[u8]>) -> Server {
        let peer = Peer::server(self.at("leaf.crt"), self.at("leaf.pem")).h2().flag(version);
        match answer {
            Some(answer) => {
                fs::write(self.at("stapled.der"), answer).unwrap();
                peer.option("-status_file", self.at("stapled.der")).listen()
            }
            None => peer.listen(),
        }
    }

    fn verdict(&self, version: &str, rule: &str, answer: Option<&[u8]>) -> String {
        let server = self.server(version, answer);
        let ca = ("agent.ssl_trusted_ca_path", self.at("ca.crt"));
        verdict::of(&server, &[ca, ("agent.ssl_ocsp", rule.to_owned())])
    }

    fn answer(&self, ends: bool) -> Vec<u8> {
        ocsp_dates::good(self.folder.path(), SERIAL, ends)
    }
}

#[test]
fn an_answer_holds_between_its_dates() {
    let world = World::new("");
    let answer = world.answer(true);
    let dated = |this, next| ocsp_dates::redated(&answer, &rsa_key(0), this, next);
    for (this, next, expected) in [
        (-HOUR, HOUR, "connected"),
        (-2 * DAY, DAY, "connected"),
        (-2 * DAY, -DAY, OCSP),
        (-2 * HOUR, -HOUR, OCSP),
        (HOUR, DAY, OCSP),
        (DAY, 2 * DAY, OCSP),
        // It ends before it begins.
        (HOUR, -HOUR, OCSP),
        // Clocks differ by a minute or two.
        (120, DAY, "connected"),
        (-DAY, -120, "connected"),
    ] {
        for (version, rule) in [("-tls1_3", "staple"), ("-tls1_2", "require")] {
            let found = world.verdict(version, rule, Some(&dated(this, next)));
            assert_eq!(found, expected, "{this} to {next}, {rule} {version}");
        }
    }
}

#[test]
fn an_answer_that_names_no_end_holds_for_a_day() {
    let world = World::new("");
    let answer = world.answer(false);
    let dated = |this| ocsp_dates::redated(&answer, &rsa_key(0), this, 0);
    assert_eq!(world.verdict("-tls1_3", "require", Some(&dated(-DAY + HOUR))), "connected");
    assert_eq!(world.verdict("-tls1_3", "require", Some(&dated(-DAY - HOUR))), OCSP);
}

#[test]
fn a_certificate_can_demand_an_answer() {
    let demanding = World::new("tlsfeature=status_request");
    let answer = demanding.answer(true);
    for version in ["-tls1_2", "-tls1_3"] {
        for rule in ["staple", "require"] {
            assert_eq!(demanding.verdict(version, rule, None), OCSP, "{rule} {version}");
            let found = demanding.verdict(version, rule, Some(&answer));
            assert_eq!(found, "connected", "{rule} {version}");
        }
        // As s_client, which asks for none either.
        assert_eq!(demanding.verdict(version, "off", None), "connected", "{version}");
        // Other features are other demands.
        let other = World::new("tlsfeature=17");
        assert_eq!(other.verdict(version, "staple", None), "connected", "{version}");
    }
    // Nobody knows what it demands.
    for broken in ["0101FF", "30030201"] {
        let broken = World::new(&format!("1.3.6.1.5.5.7.1.24=DER:{broken}"));
        assert_eq!(broken.verdict("-tls1_3", "staple", None), OCSP);
    }
}

#[test]
fn check_says_which() {
    let world = World::new("tlsfeature=status_request");
    let agent =
        Agent::trusting(fs::read(world.at("ca.crt")).unwrap()).set("agent.ssl_ocsp", "staple");
    let check = |answer: Option<&[u8]>, name: &str| {
        let server = world.server("-tls1_3", answer);
        let check = agent.check(format!("localhost:{}", server.port())).arg("--tls-only");
        Report::of(check, agent.folder.path()).golden(name).code(4);
    };
    check(None, "ocsp_demanded");
    let old = ocsp_dates::redated(&world.answer(true), &rsa_key(0), -2 * DAY, -DAY);
    check(Some(&old), "ocsp_outdated");
}
