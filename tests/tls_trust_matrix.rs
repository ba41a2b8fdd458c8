//! Whom a server's chain may lead to: `agent.ssl_trust` × CA file × the system's store, with and
//! without `ssl_partial_chain` and `ssl_same_name_issuer`. Every row is a handshake with `s_server`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::openssl::hash::MessageDigest;
use skytls::pki::{Authority, Leaf, Profile};
use support::openssl::{self, Peer, Server};
use support::pki::{DAY, MINTED};
use support::script::{self, Recipe, Script, V3};
use support::verdict::{self, Pair};
use tempfile::TempDir;

/// Root, intermediate, leaf; a stranger's root; files of each and of some together. The server
/// sends leaf and intermediate.
struct World {
    folder: TempDir,
    server: Server,
}

const ROOT: &str = "root";
const MIDDLE: &str = "middle";
const LEAF: &str = "leaf";
const STRANGER: &str = "stranger";
/// Root and intermediate.
const BOTH: &str = "both";
/// An intermediate of the same name and key that has expired.
const OLD_MIDDLE: &str = "old";

const UNTRUSTED: &str = "SKT-510";
const CONNECTED: &str = "connected";

/// Not a test by itself: what the others run again, with a trust store of their own.
#[test]
fn the_verdict_of_a_process_of_its_own() {
    verdict::answer();
}

#[test]
fn auto_and_ca_trust_the_file_and_never_the_system() {
    let world = World::new();
    for trust in ["auto", "ca"] {
        world.is(trust, "auto", ROOT, STRANGER, CONNECTED);
        world.is(trust, "auto", MIDDLE, STRANGER, CONNECTED);
        world.is(trust, "auto", LEAF, STRANGER, CONNECTED);
        world.is(trust, "auto", STRANGER, ROOT, UNTRUSTED);
    }
    world.is("ca", "off", ROOT, STRANGER, CONNECTED);
    world.is("ca", "off", MIDDLE, STRANGER, UNTRUSTED);
    world.is("ca", "off", LEAF, STRANGER, UNTRUSTED);
}

/// A store on which whoever opens it waits for ever.
#[test]
fn the_systems_store_is_not_opened_where_it_is_not_trusted() {
    let world = World::new();
    let pipe = world.file("pipe");
    let status = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(status.success(), "{status}");
    for trust in ["auto", "ca"] {
        world.is(trust, "auto", ROOT, "pipe", CONNECTED);
    }
}

#[test]
fn system_trusts_the_system_and_never_the_file() {
    let world = World::new();
    world.is("system", "auto", STRANGER, ROOT, CONNECTED);
    world.is("system", "auto", ROOT, STRANGER, UNTRUSTED);
    // Partial chains are for certificates that somebody put into a file.
    world.is("system", "auto", STRANGER, MIDDLE, UNTRUSTED);
    world.is("system", "auto", STRANGER, BOTH, CONNECTED);
}

#[test]
fn both_trusts_either_and_only_the_file_may_end_a_chain_early() {
    let world = World::new();
    world.is("both", "auto", ROOT, STRANGER, CONNECTED);
    world.is("both", "auto", MIDDLE, STRANGER, CONNECTED);
    world.is("both", "auto", LEAF, STRANGER, CONNECTED);
    world.is("both", "auto", STRANGER, ROOT, CONNECTED);
    world.is("both", "auto", STRANGER, STRANGER, UNTRUSTED);
    // An intermediate of the system is none of its anchors, and does not stand in a root's way.
    world.is("both", "auto", STRANGER, MIDDLE, UNTRUSTED);
    world.is("both", "auto", STRANGER, BOTH, CONNECTED);
    world.is("both", "auto", STRANGER, LEAF, UNTRUSTED);
    world.is("both", "off", MIDDLE, STRANGER, UNTRUSTED);
    world.is("both", "off", LEAF, STRANGER, UNTRUSTED);
    world.is("both", "off", ROOT, STRANGER, CONNECTED);
    // A bad copy in the file does not take away what the system trusts; nor does it give more.
    world.is("both", "auto", OLD_MIDDLE, ROOT, CONNECTED);
    world.is("both", "auto", OLD_MIDDLE, STRANGER, "SKT-511");
}

#[test]
fn both_still_verifies_the_name() {
    let world = World::new();
    for (file, system) in [(ROOT, STRANGER), (STRANGER, ROOT), (ROOT, ROOT)] {
        let mut pairs = world.pairs("both", "auto", file);
        pairs.push(("agent.ssl_server_name", "elsewhere.example".into()));
        assert_eq!(verdict::with_system(&world.server, &world.file(system), &pairs), "SKT-513");
    }
}

#[test]
fn both_accepts_the_documented_script_by_the_file_only() {
    let world = World::new();
    let files = Script::Documented.mint().write();
    let server = Peer::server(&files.server, &files.server_key).h2().listen();
    let verdict = |file: &Path, system: &Path, rule: &str| {
        let pairs = [
            ("agent.ssl_trust", "both".to_owned()),
            ("agent.ssl_trusted_ca_path", file.display().to_string()),
            ("agent.ssl_same_name_issuer", rule.to_owned()),
        ];
        verdict::with_system(&server, system, &pairs)
    };
    assert_eq!(verdict(&files.ca, &world.file(STRANGER), "auto"), CONNECTED);
    assert_eq!(verdict(&files.ca, &world.file(STRANGER), "off"), "SKT-514");
    assert_eq!(verdict(&world.file(STRANGER), &files.ca, "auto"), "SKT-514");
}

#[test]
fn trust_settings_of_a_trusted_certificate_are_respected() {
    let world = World::new();
    let ca = |of: &str, flags: &[&str]| {
        let (from, to) = (world.file(of), world.folder.path().join("trusted.crt"));
        let from = from.display().to_string();
        let to = to.display().to_string();
        let line = [&["x509", "-in", &from, "-out", &to, "-trustout"], flags].concat();
        let done = openssl::run(line);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(fs::read_to_string(&to).unwrap().contains("BEGIN TRUSTED CERTIFICATE"));
        to
    };
    let id = |file: String, partial: &str| {
        let pairs =
            [("agent.ssl_trusted_ca_path", file), ("agent.ssl_partial_chain", partial.to_owned())];
        verdict::connect(&world.server, &pairs).map_err(|error| error.id())
    };
    let refused = Err(UNTRUSTED.to_owned());
    assert_eq!(id(ca(ROOT, &["-setalias", "nothing said"]), "auto"), Ok(()));
    assert_eq!(id(ca(ROOT, &["-addtrust", "serverAuth"]), "auto"), Ok(()));
    assert_eq!(id(ca(ROOT, &["-addtrust", "clientAuth"]), "auto"), refused);
    assert_eq!(id(ca(ROOT, &["-addreject", "serverAuth"]), "auto"), refused);
    assert_eq!(id(ca(MIDDLE, &["-addreject", "serverAuth"]), "auto"), refused);
    // Somebody says so by name: an anchor without any help of ours.
    assert_eq!(id(ca(MIDDLE, &["-addtrust", "serverAuth"]), "off"), Ok(()));
}

#[test]
fn the_rule_for_same_names_asks_no_certificate_that_excludes_servers() {
    let files = Script::Documented.mint().write();
    let server = Peer::server(&files.server, &files.server_key).h2().listen();
    let path = files.folder().join("rejected.crt").display().to_string();
    let ca = files.ca.display().to_string();
    let connect =
        |ca: &str| verdict::connect(&server, &[("agent.ssl_trusted_ca_path", ca.to_owned())]);
    openssl::run(["x509", "-in", &ca, "-out", &path, "-trustout", "-addreject", "serverAuth"]);
    assert_eq!(connect(&path).unwrap_err().id(), "SKT-514");
    connect(&ca).unwrap();
}

#[test]
fn a_hashed_folder_is_a_file_of_many() {
    let world = World::new();
    let folder = world.folder.path().join("anchors");
    fs::create_dir(&folder).unwrap();
    for name in [STRANGER, ROOT] {
        fs::copy(world.file(name), folder.join(format!("{name}.pem"))).unwrap();
    }
    let pairs = [("agent.ssl_trusted_ca_path", folder.display().to_string())];
    let error = verdict::connect(&world.server, &pairs).unwrap_err();
    assert_eq!(error.id(), "SKT-217");
    assert!(error.remedy().contains(&format!("openssl rehash {}", folder.display())), "{error:?}");
    let done = openssl::run(["rehash", folder.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    verdict::connect(&world.server, &pairs).unwrap();
    // A link under another name's hash is one that OpenSSL would not find.
    let stranger = folder.join("stranger.pem");
    fs::remove_file(folder.join("root.pem")).unwrap();
    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        if entry.path().canonicalize().is_err() {
            fs::remove_file(entry.path()).unwrap();
            fs::copy(&stranger, entry.path()).unwrap();
        }
    }
    assert_eq!(verdict::connect(&world.server, &pairs).unwrap_err().id(), UNTRUSTED);
}

#[test]
fn depth_counts_the_intermediates() {
    let world = World::new();
    let connect = |depth: &str| {
        let mut pairs = world.pairs("ca", "auto", ROOT);
        pairs.push(("agent.ssl_verify_depth", depth.to_owned()));
        verdict::connect(&world.server, &pairs).map_err(|error| error.id())
    };
    assert_eq!(connect("1"), Ok(()));
    assert_eq!(connect("0"), Err("SKT-516".to_owned()));
}

#[test]
fn strict_refuses_what_the_documented_script_makes_and_not_proper_chains() {
    let world = World::new();
    let mut pairs = world.pairs("ca", "auto", ROOT);
    pairs.push(("agent.ssl_strict", "true".into()));
    verdict::connect(&world.server, &pairs).unwrap();
    let files = Script::Documented.mint().write();
    let server = Peer::server(&files.server, &files.server_key).h2().listen();
    let ca: Pair = ("agent.ssl_trusted_ca_path", files.ca.display().to_string());
    verdict::connect(&server, std::slice::from_ref(&ca)).unwrap();
    let strict = [ca, ("agent.ssl_strict", "true".into())];
    assert_eq!(verdict::connect(&server, &strict).unwrap_err().exit_code(), 4);
}

// === impl World ===

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = authority("test root");
        let middle = root.intermediate(&Profile::new("test intermediate").expect(MINTED)).unwrap();
        let server = middle.issue(&Leaf::server(["localhost"]).expect(MINTED)).unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put(ROOT, root.certificate_pem());
        put(MIDDLE, middle.certificate_pem());
        put(LEAF, server.certificate_pem());
        put(STRANGER, authority("stranger").certificate_pem());
        put(BOTH, &format!("{}{}", middle.certificate_pem(), root.certificate_pem()));
        put(OLD_MIDDLE, &expired(&middle, &root));
        put("server.crt", server.chain_pem());
        put("server.pem", server.key_pem());
        let at = |name: &str| folder.path().join(name);
        let server = Peer::server(at("server.crt"), at("server.pem")).h2().listen();
        Self { folder, server }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pairs(&self, trust: &str, partial: &str, file: &str) -> Vec<Pair> {
        vec![
            ("agent.ssl_trust", trust.to_owned()),
            ("agent.ssl_partial_chain", partial.to_owned()),
            ("agent.ssl_trusted_ca_path", self.file(file).display().to_string()),
        ]
    }

    fn is(&self, trust: &str, partial: &str, file: &str, system: &str, expected: &str) {
        let pairs = self.pairs(trust, partial, file);
        let verdict = verdict::with_system(&self.server, &self.file(system), &pairs);
        assert_eq!(verdict, expected, "trust {trust}, partial {partial}: {file}, system {system}");
    }
}

fn authority(name: &str) -> Authority {
    Authority::new(&Profile::new(name).expect(MINTED)).expect(MINTED)
}

/// A certificate of the same subject and key that is over, signed by the root.
fn expired(middle: &Authority, root: &Authority) -> String {
    let issuer =
        script::Pair { certificate: root.certificate().to_owned(), key: root.key().to_owned() };
    let recipe = Recipe {
        common_name: "test intermediate",
        key: middle.key().to_owned(),
        serial: 77,
        from: -2 * DAY,
        until: -DAY,
        digest: MessageDigest::sha256(),
        v3: Some(V3 { ca: true, may_sign: Some(true) }),
    };
    recipe.mint(Some(&issuer)).certificate_pem()
}
