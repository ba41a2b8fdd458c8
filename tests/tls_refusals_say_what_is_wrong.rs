//! A refused chain is explained, and the settings of trust are kept to; whether a chain is refused at all is
//! compared with OpenSSL's own verdict in `tls_verifies_like_openssl.rs`.

mod support;
mod tls_client;

use skytls::error::{Chain, Code, Fact};
use skytls::pki::{Authority, Identity, Leaf, Profile, Validity};
use support::openssl::Server;
use support::pki::{self, DAY, MINTED, Set};
use tls_client::{Agent, h2_server, refused};

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
