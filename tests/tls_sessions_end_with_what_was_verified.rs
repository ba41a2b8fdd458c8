//! A resumed handshake verifies nothing, so no session is offered beyond the end of what the full handshake
//! had verified: a certificate of the chain, a revocation list, an OCSP answer. Each with a twin that holds.

mod session_visits;
mod support;
mod tls_client;

use std::time::Duration;

use openssl::hash::MessageDigest;
use session_visits::{End, Host};
use skytls::error::Code;
use skytls::pki::{Authority, Leaf, Profile, Validity};
use skytls::transport::Connector;
use support::crl::List;
use support::ocsp;
use support::openssl::Peer;
use support::pki::{DAY, HOUR, MINTED, Recipe, Set, V3, rsa_key};
use tls_client::{Agent, refused};

/// Both kinds.
const VERSIONS: [&str; 2] = ["-tls1_3", "-tls1_2"];

/// Seconds until what ends ends: time for the visits before.
const SOON: i64 = 3;
const LATE: i64 = 30 * DAY;

/// Root, intermediate and leaf, each until so many seconds from now; the server sends the latter two.
struct World {
    root: Authority,
    middle: Authority,
    set: Set,
}

/// A server that has been visited, and the connector that will visit it again.
struct Visited {
    host: Host,
    connector: Connector,
    what: String,
}

// === impl World ===

impl World {
    fn new([root, middle, leaf]: [i64; 3]) -> Self {
        let until = |seconds| Validity::relative(-HOUR, seconds);
        let profile = |name, end| Profile::new(name).expect(MINTED).valid(until(end));
        let root = Authority::new(&profile("test root", root)).expect(MINTED);
        let middle = root.intermediate(&profile("test intermediate", middle)).expect(MINTED);
        let names = Leaf::server(["localhost"]).expect(MINTED);
        let leaf = middle.issue(&names.valid(until(leaf))).expect(MINTED);
        let set = Set {
            ca: root.certificate_pem().to_owned(),
            server: leaf.chain_pem().to_owned(),
            server_key: leaf.key_pem().to_owned(),
            client: String::new(),
            client_key: String::new(),
        };
        Self { root, middle, set }
    }

    /// Checked by these lists.
    fn agent(&self, lists: [List<'_>; 2]) -> Agent {
        let agent = Agent::trusting(&self.set.ca);
        agent.folder.replace("ca/lists", lists.map(|list| list.pem()).concat(), 0o644);
        agent.set("agent.ssl_crl_path", "/ca/lists")
    }
}

// === impl Visited ===

impl Visited {
    fn new(what: impl Into<String>, agent: &Agent, set: &Set, options: &[&str]) -> Self {
        let files = set.write();
        let peer = Peer::server(&files.server, &files.server_key).h2();
        let mut host = Host::of(peer, options);
        let connector = Connector::from_generation(&agent.generation());
        let what = format!("{}, {options:?}", what.into());
        assert!(!host.visit(&connector, End::Abrupt).expect(&what));
        Self { host, connector, what }
    }

    fn again(&mut self) -> Result<bool, Code> {
        self.host.visit(&self.connector, End::Abrupt).map_err(|error| refused::<()>(Err(error)))
    }
}

/// Waits until what was made to end soon before this call has ended. Up to OpenSSL 3.6 a certificate has ended in
/// the second that it names, with OpenSSL 4 and RFC 5280 (4.1.2.5) after it.
fn wait_for_the_end() {
    std::thread::sleep(Duration::from_secs(SOON.unsigned_abs() + 1));
}

#[test]
fn no_longer_than_any_certificate_of_the_chain() {
    let mut visited = Vec::new();
    for version in VERSIONS {
        for (what, ends, expected) in [
            ("all hold", [LATE, LATE, LATE], Ok(true)),
            ("the leaf ends", [LATE, LATE, SOON], Err(Code::CertificateExpired)),
            ("the intermediate ends", [LATE, SOON, LATE], Err(Code::CertificateExpired)),
            ("the root ends", [SOON, LATE, LATE], Err(Code::CertificateExpired)),
        ] {
            let World { set, .. } = World::new(ends);
            let agent = Agent::trusting(&set.ca);
            let mut one = Visited::new(what, &agent, &set, &[version]);
            // What a resumed connection brings ends no later.
            assert_eq!(one.again(), Ok(true), "{}", one.what);
            visited.push((one, expected));
        }
    }
    wait_for_the_end();
    for (mut visited, expected) in visited {
        assert_eq!(visited.again(), expected, "{}", visited.what);
    }
}

/// The CA is not in the chain that OpenSSL gives, since it stops at a leaf that names itself as issuer.
#[test]
fn no_longer_than_the_ca_of_the_same_name() {
    let mut visited = Vec::new();
    for (until, expected) in [(SOON, Err(Code::CertificateExpired)), (LATE, Ok(true))] {
        let recipe = |number, serial, until, v3| Recipe {
            common_name: "localhost",
            key: rsa_key(number),
            serial,
            from: -HOUR,
            until,
            digest: MessageDigest::sha256(),
            v3,
        };
        let leaf = recipe(1, 1, LATE, None);
        let ca = recipe(0, 2, until, Some(V3 { ca: true, may_sign: None })).mint(None);
        let leaf = leaf.mint(Some(&ca));
        let set = Set {
            ca: ca.certificate_pem(),
            server: leaf.certificate_pem(),
            server_key: leaf.key_pem(),
            client: String::new(),
            client_key: String::new(),
        };
        let agent = Agent::trusting(&set.ca);
        for version in VERSIONS {
            let what = format!("the CA ends in {until} s");
            visited.push((Visited::new(what, &agent, &set, &[version]), expected));
        }
    }
    wait_for_the_end();
    for (mut visited, expected) in visited {
        assert_eq!(visited.again(), expected, "{}", visited.what);
    }
}

#[test]
fn no_longer_than_a_revocation_list_about_the_chain() {
    let world = World::new([LATE; 3]);
    let stranger = Authority::new(&Profile::new("stranger").expect(MINTED)).expect(MINTED);
    let mut visited = Vec::new();
    for version in VERSIONS {
        let soon = |authority| List::of(authority).between(-HOUR, SOON);
        for (what, lists, expected) in [
            ("both hold", [List::of(&world.root), List::of(&world.middle)], Ok(true)),
            (
                "the intermediate's ends",
                [List::of(&world.root), soon(&world.middle)],
                Err(Code::RevocationUnknown),
            ),
            (
                "the root's ends",
                [soon(&world.root), List::of(&world.middle)],
                Err(Code::RevocationUnknown),
            ),
        ] {
            let agent = world.agent(lists);
            visited.push((Visited::new(what, &agent, &world.set, &[version]), expected));
        }
        // One that took no part ends, too.
        let agent = world.agent([List::of(&world.root), List::of(&world.middle)]);
        let lists = std::fs::read_to_string(agent.folder.join("ca/lists")).expect("it is there");
        agent.folder.replace("ca/lists", format!("{lists}{}", soon(&stranger).pem()), 0o644);
        let another = Visited::new("a stranger's ends", &agent, &world.set, &[version]);
        visited.push((another, Ok(true)));
    }
    wait_for_the_end();
    for (mut visited, expected) in visited {
        assert_eq!(visited.again(), expected, "{}", visited.what);
    }
}

/// Answers are accepted for some minutes more, since clocks differ; no session is made of that.
#[test]
fn no_longer_than_the_ocsp_answer() {
    let world = World::new([LATE; 3]);
    let leaf = openssl::x509::X509::from_pem(world.set.server.as_bytes()).expect("it is one");
    for version in VERSIONS {
        for rule in ["staple", "require"] {
            for (until, expected) in [(HOUR, true), (-10, false)] {
                let answer = ocsp::good(&leaf, &world.middle, -HOUR, until);
                let agent = Agent::trusting(&world.set.ca).set("agent.ssl_ocsp", rule);
                agent.folder.replace("answer", answer, 0o644);
                let path = agent.folder.join("answer");
                let options = [version, "-status_file", path.to_str().expect("it is ASCII")];
                let what = format!("{rule}, until {until}");
                let mut visited = Visited::new(what, &agent, &world.set, &options);
                assert_eq!(visited.again(), Ok(expected), "{}", visited.what);
            }
        }
        // Without an answer, which `staple` allows, there is nothing to end.
        let agent = Agent::trusting(&world.set.ca).set("agent.ssl_ocsp", "staple");
        let mut visited = Visited::new("no answer", &agent, &world.set, &[version]);
        assert_eq!(visited.again(), Ok(true), "{}", visited.what);
    }
}
