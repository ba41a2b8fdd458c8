//! `skytls check` against real servers that are wrong in one way each: the lines it prints, and the exit
//! code.

mod check_report;
mod support;
mod tls_client;

use check_report::Report;
use openssl::hash::MessageDigest;
use skytls::pki::{Authority, Leaf, Profile};
use support::crl::List;
use support::openssl::{Peer, Server};
use support::peers;
use support::pki::{self, DAY, Files, HOUR, MINTED, Recipe, Set, V3};
use tls_client::{Agent, h2_server};

fn plain_server(files: &Files) -> Peer {
    Peer::server(&files.server, &files.server_key)
}

/// The full check of `localhost` at this server.
fn check(agent: &Agent, server: &Server) -> Report {
    let check = agent.check(format!("localhost:{}", server.port()));
    Report::of(check, agent.folder.path())
}

/// `check --tls-only`.
fn tls_only(agent: &Agent, server: &Server) -> Report {
    let check = agent.check(format!("localhost:{}", server.port())).arg("--tls-only");
    Report::of(check, agent.folder.path())
}

/// The check of a server with the certificates of this set.
fn check_set(set: &Set) -> Report {
    let server = plain_server(&set.write()).h2().listen();
    check(&Agent::trusting(&set.ca), &server)
}

fn first_certificate(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem[..pem.find(END).expect("it is PEM") + END.len()].to_owned()
}

// === the handshake ===

#[test]
fn a_server_without_tls() {
    let set = pki::proper();
    let peer = peers::Peer::http();
    let agent = Agent::trusting(&set.ca);
    let check = agent.check(format!("localhost:{}", peer.port()));
    Report::of(check, agent.folder.path()).golden("plaintext_server").code(4);
}

#[test]
fn a_proxy_without_http2() {
    let set = pki::proper();
    let server = plain_server(&set.write()).listen();
    let agent = Agent::trusting(&set.ca);
    check(&agent, &server).golden("no_h2").code(4);
}

#[test]
fn a_server_of_http_1_1_only() {
    let set = pki::proper();
    let server = plain_server(&set.write()).option("-alpn", "http/1.1").listen();
    let report = check(&Agent::trusting(&set.ca), &server);
    assert_eq!(report.code(4).mark("alpn.h2"), "error");
}

#[test]
fn no_common_version() {
    let set = pki::proper();
    let server = plain_server(&set.write()).tls_1_1().listen();
    check(&Agent::trusting(&set.ca), &server).golden("no_common_version").code(4);
}

#[test]
fn no_common_cipher_group_or_signature_algorithm() {
    let set = pki::proper();
    let files = set.write();
    let rows: [(&[&str], &str, &str); 3] = [
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            "CipherString = ECDHE-ECDSA-AES256-GCM-SHA384",
            "no_common_cipher",
        ),
        (&["-groups", "P-521"], "Groups = X25519", "no_common_group"),
        (&[], "SignatureAlgorithms = RSA-PSS+SHA256", "no_common_signature_algorithm"),
    ];
    for (options, policy, name) in rows {
        let server = options.iter().fold(plain_server(&files), |server, word| server.flag(word));
        let server = server.listen();
        let agent = Agent::trusting(&set.ca);
        let cnf = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n";
        agent.folder.replace("openssl.cnf", format!("{cnf}{policy}\n"), 0o644);
        let check = agent
            .check(format!("localhost:{}", server.port()))
            .env("OPENSSL_CONF", agent.folder.join("openssl.cnf"));
        Report::of(check, agent.folder.path()).golden(name).code(4);
    }
}

#[test]
fn a_server_that_renegotiates_the_old_way() {
    let set = pki::proper();
    let peer = peers::Peer::legacy_renegotiation();
    let agent = Agent::trusting(&set.ca);
    let check = agent.check(format!("localhost:{}", peer.port()));
    Report::of(check, agent.folder.path()).golden("legacy_renegotiation").code(4);
}

// === the server's certificate ===

#[test]
fn another_name() {
    let set = pki::proper_for(["backend.example", "localhorst", "10.0.0.1"]);
    check_set(&set).golden("name_mismatch").code(4);
}

#[test]
fn a_missing_intermediate() {
    let set = pki::with_intermediate();
    let set = Set { server: first_certificate(&set.server), ..set };
    check_set(&set).golden("missing_intermediate").code(4);
}

#[test]
fn another_ca() {
    check_set(&pki::unrelated_root()).golden("wrong_ca").code(4);
}

#[test]
fn another_ca_of_the_same_name() {
    let set = Set { ca: pki::proper().ca, ..pki::proper() };
    let report = check_set(&set);
    report.golden("wrong_ca_same_name").code(4);
}

#[test]
fn a_clients_certificate_at_the_server() {
    let set = pki::proper();
    let set = Set { server: set.client.clone(), server_key: set.client_key.clone(), ..set };
    check_set(&set).golden("wrong_purpose").code(4);
}

#[test]
fn an_expired_certificate() {
    check_set(&pki::proper_between(-10 * DAY, -3 * DAY - HOUR)).golden("expired").code(4);
}

#[test]
fn a_clock_that_is_slow() {
    check_set(&pki::proper_between(HOUR / 2, DAY)).golden("clock_skew").code(4);
}

#[test]
fn a_certificate_for_later() {
    check_set(&pki::proper_between(3 * DAY + HOUR, 9 * DAY)).golden("not_yet_valid").code(4);
}

#[test]
fn a_revoked_certificate() {
    let ca = Authority::new(&Profile::new("test root").expect(MINTED)).expect(MINTED);
    let server = ca.issue(&Leaf::server(["localhost"]).expect(MINTED)).expect(MINTED);
    let set = Set {
        ca: ca.certificate_pem().to_owned(),
        server: server.chain_pem().to_owned(),
        server_key: server.key_pem().to_owned(),
        ..pki::proper()
    };
    let agent = Agent::trusting(&set.ca).set("agent.ssl_crl_path", "/ca/ca.crl");
    let files = set.write();
    agent.folder.replace("ca/ca.crl", List::of(&ca).revoke(server.certificate()).pem(), 0o644);
    let report = check(&agent, &h2_server(&files).listen());
    assert_eq!(report.golden("revoked").code(4).mark("files.crl"), "ok");
    // The twin: a list without it.
    agent.folder.replace("ca/ca.crl", List::of(&ca).pem(), 0o644);
    tls_only(&agent, &h2_server(&files).listen()).code(0);
}

#[test]
fn a_weak_key() {
    let recipe = |common_name, key, ca, serial| Recipe {
        common_name,
        key,
        serial,
        from: -HOUR,
        until: 99 * DAY,
        digest: MessageDigest::sha256(),
        v3: Some(V3 { ca, may_sign: None }),
    };
    let ca = recipe("test root", pki::rsa_key(0), true, 1).mint(None);
    let server = recipe("localhost", pki::weak_key(0), false, 2).mint(Some(&ca));
    let set = Set {
        ca: ca.certificate_pem(),
        server: server.certificate_pem(),
        server_key: server.key_pem(),
        ..pki::proper()
    };
    let server = h2_server(&set.write()).option("-cipher", "ALL:@SECLEVEL=0").listen();
    check(&Agent::trusting(&set.ca), &server).golden("weak_key").code(4);
}

// === the client's certificate ===

#[test]
fn a_client_certificate_of_another_ca() {
    let (set, other) = (pki::proper(), pki::unrelated_root());
    let files = set.write();
    for (version, name) in [("-tls1_3", "client_refused"), ("-tls1_2", "client_refused_tls_1_2")] {
        let agent = Agent::trusting(&set.ca).showing(&set);
        let ca = other.write().ca;
        // The folder of `other` is gone with its files; the CA has to outlive the server's start.
        let folder = support::folder::Folder::empty().file("ca.crt", &other.ca, 0o644);
        drop(ca);
        let demanding = || h2_server(&files).verify(folder.join("ca.crt")).flag(version).listen();
        check(&agent, &demanding()).golden(name).code(4);
        let report = tls_only(&agent, &demanding());
        assert_eq!(report.code(4).mark("tls.client_certificate"), "error");
        // The twin: the same server that knows the CA.
        let server = h2_server(&files).verify(&files.ca).flag(version).listen();
        let report = tls_only(&agent, &server);
        assert_eq!(report.code(0).mark("tls.client_ca_list"), "ok");
    }
}

#[test]
fn a_client_certificate_that_is_demanded() {
    let set = pki::proper();
    let files = set.write();
    for (version, name) in [("-tls1_3", "client_demanded"), ("-tls1_2", "client_demanded_tls_1_2")]
    {
        let agent = Agent::trusting(&set.ca);
        let demanding = || h2_server(&files).verify(&files.ca).flag(version).listen();
        check(&agent, &demanding()).golden(name).code(4);
        let report = tls_only(&agent, &demanding());
        assert_eq!(report.code(4).mark("tls.client_certificate"), "error");
    }
}

/// As OAP's core server, which is not its sharing server.
#[test]
fn a_client_certificate_that_nobody_asks_for() {
    let set = pki::proper();
    let agent = Agent::trusting(&set.ca).showing(&set);
    for version in ["-tls1_2", "-tls1_3"] {
        let server = h2_server(&set.write()).flag(version).listen();
        tls_only(&agent, &server).golden("client_not_asked").code(0);
    }
}

#[test]
fn a_client_certificate_that_is_only_asked_for() {
    let (set, other) = (pki::proper(), pki::unrelated_root());
    let folder = support::folder::Folder::empty().file("ca.crt", &other.ca, 0o644);
    // It asks, says which CA it likes, and takes whatever comes.
    let server = h2_server(&set.write())
        .option("-verify", "4")
        .option("-CAfile", folder.join("ca.crt"))
        .listen();
    let report = tls_only(&Agent::trusting(&set.ca).showing(&set), &server);
    report.golden("client_ca_list").code(0);
}

// === --tls-only ===

#[test]
fn a_plain_openssl_server_is_trusted_or_refused() {
    let set = pki::proper();
    let files = set.write();
    for version in ["-tls1_2", "-tls1_3"] {
        let agent = Agent::trusting(&set.ca);
        let report = tls_only(&agent, &plain_server(&files).flag(version).listen());
        assert_eq!(report.code(0).mark("certificate.trust"), "ok");
        report.golden("tls_only_without_alpn");
        let server = plain_server(&files).flag(version).listen();
        let strict = agent.check(format!("localhost:{}", server.port())).arg("--tls-only");
        Report::of(strict.arg("--strict"), agent.folder.path()).code(1);
        let stranger = Agent::trusting(pki::unrelated_root().ca);
        tls_only(&stranger, &plain_server(&files).flag(version).listen()).code(4);
        let server = plain_server(&files).flag(version).listen();
        let check = agent.check(format!("127.0.0.1:{}", server.port())).arg("--tls-only");
        let check = check.env("SW_AGENT_SSL_SERVER_NAME", "another.example");
        Report::of(check, agent.folder.path()).code(4);
    }
}
