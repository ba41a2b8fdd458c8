//! A server's chain is judged as `openssl s_client -verify_return_error -verify_hostname NAME -partial_chain
//! -CAfile FILE` judges it, but for the differences that are documented.

mod support;
mod tls_client;

use openssl::hash::MessageDigest;
use skytls::error::{Chain, Code, Fact};
use skytls::pki::{Authority, Identity, Leaf, Profile, Validity};
use support::openssl::{Peer, Server};
use support::pki::{self, DAY, HOUR, MINTED, Pair, Recipe, Script, Set, V3};
use tls_client::{Agent, h2_server, refused};

/// A server, who is trusted to know it, and what has to come out.
struct Case {
    what: &'static str,
    set: Set,
    /// What is verified: a DNS name or an IP address.
    name: &'static str,
    /// `None`: it is accepted.
    code: Option<Code>,
    /// OpenSSL decides otherwise, and that is documented.
    differs: bool,
}

// === the table ===

fn cases() -> Vec<Case> {
    let mut cases = names();
    cases.extend(chains());
    cases.extend(qualities());
    cases.extend(documented_differences());
    cases
}

fn names() -> Vec<Case> {
    let wildcard = pki::proper_for(["*.example.com"]);
    let common_name = |name| leaf_of(&root_pair(), common(name));
    vec![
        accepted("a name", pki::proper(), "localhost"),
        accepted("a name in capitals", pki::proper(), "LOCALHOST"),
        accepted("an address", pki::proper(), "127.0.0.1"),
        accepted("an IPv6 address", pki::proper(), "::1"),
        case("another name", pki::proper(), "oap.example.com", Code::NameMismatch),
        case("another address", pki::proper(), "127.0.0.2", Code::NameMismatch),
        case("a name below", pki::proper(), "a.localhost", Code::NameMismatch),
        accepted("a wildcard", wildcard.clone(), "oap.example.com"),
        case("a wildcard two below", wildcard.clone(), "a.b.example.com", Code::NameMismatch),
        case("a wildcard's own domain", wildcard, "example.com", Code::NameMismatch),
        accepted("a common name, no others", common_name("localhost"), "localhost"),
        accepted("a wildcard as common name", common_name("*.example.com"), "a.example.com"),
        case(
            "an address as common name",
            common_name("127.0.0.1"),
            "127.0.0.1",
            Code::NameMismatch,
        ),
    ]
}

fn chains() -> Vec<Case> {
    let (root, middle) = root_and_intermediate(&profile("test intermediate"));
    let sent = |chain: &[&str]| {
        let leaf = server_of(&middle);
        let server = format!("{}{}", leaf.certificate_pem(), chain.concat());
        Set { server, ..set_of(root.certificate_pem(), &leaf) }
    };
    let (middle_pem, root_pem) = (middle.certificate_pem(), root.certificate_pem());
    let stranger = authority("stranger");
    let self_signed = common("localhost").mint(None);
    let alone = pair_set(&self_signed.certificate_pem(), &self_signed);
    let untrusted = Set { ca: root_pem.to_owned(), ..alone.clone() };
    let (expired_root, expired) =
        root_and_intermediate(&profile("test intermediate").valid(over()));
    vec![
        accepted("an intermediate", sent(&[middle_pem]), "localhost"),
        accepted("the root is sent too", sent(&[middle_pem, root_pem]), "localhost"),
        accepted(
            "wrong order",
            sent(&[root_pem, stranger.certificate_pem(), middle_pem]),
            "localhost",
        ),
        case("the intermediate is not sent", sent(&[]), "localhost", Code::CertificateUntrusted),
        accepted("it is trusted instead", pki::intermediate_not_sent(), "localhost"),
        accepted("it is trusted alone", pki::intermediate_alone_trusted(), "localhost"),
        accepted("the leaf is trusted alone", pki::leaf_alone_trusted(), "localhost"),
        case("another root", pki::unrelated_root(), "localhost", Code::CertificateUntrusted),
        case("a root over", pki::expired_root(), "localhost", Code::CertificateExpired),
        accepted("a root over and its successor", renewed_root(), "localhost"),
        case(
            "an intermediate over",
            trusting_root_of((expired_root, expired)),
            "localhost",
            Code::CertificateExpired,
        ),
        case("self-signed, not in the file", untrusted, "localhost", Code::SelfSigned),
        accepted("self-signed, in the file", alone, "localhost"),
        case("too long a path", too_long_a_path(), "localhost", Code::CertificateRefused),
        case("an issuer that is no CA", issued_by_a_leaf(), "localhost", Code::CertificateRefused),
    ]
}

fn qualities() -> Vec<Case> {
    let ca = root_pair();
    let sha1 = Recipe { digest: MessageDigest::sha1(), ..common("localhost") };
    let weak_key = Recipe { key: pki::weak_key(0), ..common("localhost") };
    let weak_root = Recipe { key: pki::weak_key(2), ..common_ca() }.mint(None);
    let client = authority("test root");
    let for_clients = client.issue(&Leaf::client("localhost").expect(MINTED)).expect(MINTED);
    vec![
        case("over", pki::proper_between(-2 * DAY, -DAY), "localhost", Code::CertificateExpired),
        case(
            "too early",
            pki::proper_between(DAY, 2 * DAY),
            "localhost",
            Code::CertificateNotYetValid,
        ),
        case("SHA-1", leaf_of(&ca, sha1), "localhost", Code::CertificateWeak),
        case("a weak key", leaf_of(&ca, weak_key), "localhost", Code::CertificateWeak),
        case(
            "a weak root",
            leaf_of(&weak_root, common("localhost")),
            "localhost",
            Code::CertificateWeak,
        ),
        case(
            "for clients only",
            set_of(client.certificate_pem(), &for_clients),
            "localhost",
            Code::CertificateRefused,
        ),
        case(
            "the script's, self-signed",
            Script::LeafSelfSigned.mint(),
            "localhost",
            Code::SelfSigned,
        ),
        case(
            "the script's, of another key",
            Script::LeafOfAnotherKey.mint(),
            "localhost",
            Code::CertificateUntrusted,
        ),
    ]
}

fn documented_differences() -> Vec<Case> {
    let partial = leaf_of(&root_pair(), common("f*.example.com"));
    vec![
        Case { differs: true, ..accepted("the script's", Script::Documented.mint(), "localhost") },
        Case {
            differs: true,
            ..case("a partial wildcard", partial, "foo.example.com", Code::NameMismatch)
        },
    ]
}

fn accepted(what: &'static str, set: Set, name: &'static str) -> Case {
    Case { what, set, name, code: None, differs: false }
}

fn case(what: &'static str, set: Set, name: &'static str, code: Code) -> Case {
    Case { code: Some(code), ..accepted(what, set, name) }
}

#[test]
fn every_chain_is_judged_as_s_client_judges_it() {
    for Case { what, set, name, code, differs } in cases() {
        let files = set.write();
        let server = serve(&set);
        let outcome = match Agent::trusting(&set.ca).dial_as(name, server.port()) {
            Ok(_) => None,
            refusal => Some(refused(refusal)),
        };
        assert_eq!(outcome, code, "{what}");

        let kind = if name.parse::<std::net::IpAddr>().is_ok() {
            "-verify_ip"
        } else {
            "-verify_hostname"
        };
        let client = Peer::client(server.address).verify(&files.ca).flag("-partial_chain");
        let mut client = client.option(kind, name).start();
        client.close_stdin();
        let oracle = client.finish();
        assert_eq!(oracle.code == 0, code.is_none() != differs, "{what}: {oracle:?}");
    }
}

// === what is said ===

#[test]
fn another_name_lists_the_names_of_the_certificate() {
    let set = pki::proper_for(["oap.example.com", "*.example.org", "10.1.2.3", "fe80::1"]);
    let server = serve(&set);
    for name in ["localhost", "127.0.0.1"] {
        let error = Agent::trusting(&set.ca).dial(name, server.port()).expect_err("not its name");
        assert_eq!((error.code(), error.exit_code()), (Code::NameMismatch, 4));
        let names = "oap.example.com, *.example.org, 10.1.2.3, fe80::1";
        assert_eq!(error.get(Fact::Found), Some(names));
        assert_eq!(error.get(Fact::Expected), Some(name));
    }
}

#[test]
fn a_refusal_names_the_certificate_at_fault_and_openssls_reason() {
    let set = trusting_root_of(root_and_intermediate(&profile("test intermediate").valid(over())));
    let server = serve(&set);
    let error = Agent::trusting(&set.ca).dial("localhost", server.port()).expect_err("it is over");
    let text = Chain(&error).to_string();
    for part in
        ["CN=test intermediate issued by CN=test root", "at depth 1", "verify error 10", "expired"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

// === anchors ===

#[test]
fn a_ca_that_is_over_is_a_warning_at_load_and_a_refusal_at_the_handshake() {
    let set = pki::expired_root();
    let agent = Agent::trusting(&set.ca);
    let generation = agent.generation();
    let warnings = &generation.description().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let ca = agent.folder.join("ca/ca.crt").display().to_string();
    for part in [&*Code::CaExpired.id(), "CN=test root", &ca, "do: "] {
        assert!(warnings[0].contains(part), "{part}: {}", warnings[0]);
    }
    assert!(generation.description().ca[0].days_left < 0);
    let server = serve(&set);
    let refusal = agent.dial("localhost", server.port());
    assert_eq!(refused(refusal), Code::CertificateExpired);
    assert!(Agent::trusting(pki::proper().ca).generation().description().warnings.is_empty());
}

#[test]
fn partial_chains_can_be_switched_off() {
    let off = |set: &Set| Agent::trusting(&set.ca).set("agent.ssl_partial_chain", "off");
    for set in [pki::intermediate_alone_trusted(), pki::leaf_alone_trusted()] {
        let server = serve(&set);
        assert_eq!(refused(off(&set).dial("localhost", server.port())), Code::CertificateUntrusted);
    }
    for set in [pki::proper(), pki::with_intermediate(), pki::intermediate_not_sent()] {
        let server = serve(&set);
        off(&set).dial("localhost", server.port()).expect("it ends in a root");
    }
}

#[test]
fn the_systems_store_is_not_looked_at_beside_an_explicit_ca() {
    let set = pki::proper();
    let files = set.write();
    let stranger = Agent::trusting(pki::unrelated_root().ca);
    let system = Agent::trusting_the_system();

    // `SSL_CERT_FILE` is the system's store: it is used when there is no file, and not otherwise.
    let server = serve(&set);
    let relay = system.relay(format!("localhost:{}", server.port()));
    let _relay = relay.env("SSL_CERT_FILE", &files.ca).start();
    server.process.line("CIPHER is ");

    let server = serve(&set);
    let relay = stranger.relay(format!("localhost:{}", server.port()));
    let relay = relay.env("SSL_CERT_FILE", &files.ca).start();
    relay.line(&Code::CertificateUntrusted.id());
    assert!(!server.process.stdout().contains("CIPHER is "));
}

// === odd material ===

fn serve(set: &Set) -> Server {
    // Weak certificates need the lowest level to be sent.
    h2_server(&set.write()).option("-cipher", "DEFAULT:@SECLEVEL=0").listen()
}

fn profile(name: &str) -> Profile {
    Profile::new(name).expect(MINTED)
}

fn authority(name: &str) -> Authority {
    Authority::new(&profile(name)).expect(MINTED)
}

fn over() -> Validity {
    Validity::relative(-2 * DAY, -DAY)
}

fn server_of(ca: &Authority) -> Identity {
    ca.issue(&Leaf::server(["localhost"]).expect(MINTED)).expect(MINTED)
}

fn set_of(ca: &str, server: &Identity) -> Set {
    Set {
        ca: ca.to_owned(),
        server: server.chain_pem().to_owned(),
        server_key: server.key_pem().to_owned(),
        ..pki::proper()
    }
}

fn root_and_intermediate(middle: &Profile) -> (Authority, Authority) {
    let root = authority("test root");
    let middle = root.intermediate(middle).expect(MINTED);
    (root, middle)
}

fn trusting_root_of((root, middle): (Authority, Authority)) -> Set {
    set_of(root.certificate_pem(), &server_of(&middle))
}

/// The root says that no CA may follow, and one does.
fn too_long_a_path() -> Set {
    let root = Authority::new(&profile("test root").path_length(0)).expect(MINTED);
    let middle = root.intermediate(&profile("test intermediate")).expect(MINTED);
    trusting_root_of((root, middle))
}

/// Two roots of one name and key; the first one is over.
fn renewed_root() -> Set {
    let old = Recipe { from: -2 * DAY, until: -DAY, ..common_ca() }.mint(None);
    let new = Recipe { serial: 2, ..common_ca() }.mint(None);
    let set = leaf_of(&new, common("localhost"));
    Set { ca: format!("{}{}", old.certificate_pem(), set.ca), ..set }
}

fn issued_by_a_leaf() -> Set {
    let root = root_pair();
    let between = Recipe { key: pki::rsa_key(2), ..common("between") }.mint(Some(&root));
    let leaf = common("localhost").mint(Some(&between));
    let set = pair_set(&root.certificate_pem(), &leaf);
    Set { server: format!("{}{}", set.server, between.certificate_pem()), ..set }
}

fn root_pair() -> Pair {
    common_ca().mint(None)
}

fn common_ca() -> Recipe<'static> {
    let v3 = Some(V3 { ca: true, may_sign: Some(true) });
    Recipe { v3, key: pki::rsa_key(0), ..common("test root") }
}

/// A leaf without alternative names.
fn common(common_name: &str) -> Recipe<'_> {
    let (digest, key) = (MessageDigest::sha256(), pki::rsa_key(1));
    let v3 = Some(V3 { ca: false, may_sign: None });
    Recipe { common_name, key, serial: 1, from: -HOUR, until: DAY, digest, v3 }
}

fn leaf_of(ca: &Pair, recipe: Recipe<'_>) -> Set {
    pair_set(&ca.certificate_pem(), &recipe.mint(Some(ca)))
}

fn pair_set(ca: &str, server: &Pair) -> Set {
    Set {
        ca: ca.to_owned(),
        server: server.certificate_pem(),
        server_key: server.key_pem(),
        ..pki::proper()
    }
}
