//! The policy of the system's `openssl.cnf` is in force in `skytls run`, whole, and TLS 1.2 is the least.
//!
//! OpenSSL reads the file once in a process, so the process is a child of the test: the policy shows in what
//! a real `openssl s_server` negotiates with it, and in what it logs.

mod support;
mod tls_client;

use std::path::PathBuf;

use skytls::error::Code;
use support::openssl::{Peer, Server};
use support::pki::{self, Files, Script, Set};
use support::process::Process;
use tls_client::{Agent, h2_server};

/// An agent on a machine with a policy, and its server's certificate.
struct Machine {
    agent: Agent,
    files: Files,
}

/// No policy but what OpenSSL was built with.
const NONE: &str = "";

// === impl Machine ===

impl Machine {
    fn new(policy: &str) -> Self {
        Self::with(policy, &pki::proper())
    }

    fn with(policy: &str, set: &Set) -> Self {
        let agent = Agent::trusting(&set.ca);
        let file = format!(
            "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = policy\n[policy]\n{policy}"
        );
        agent.folder.replace("openssl.cnf", file, 0o644);
        Self { agent, files: set.write() }
    }

    fn showing(self, set: &Set) -> Self {
        Self { agent: self.agent.showing(set), ..self }
    }

    fn policy(&self) -> PathBuf {
        self.agent.folder.join("openssl.cnf")
    }

    /// A server under no policy but these options.
    fn server(&self, options: &[&str]) -> Server {
        options.iter().fold(h2_server(&self.files), |peer, option| peer.flag(option)).listen()
    }

    fn relay(&self, server: &Server) -> Process {
        let relay = self.agent.relay(format!("localhost:{}", server.port()));
        relay.env("OPENSSL_CONF", self.policy()).start()
    }

    /// What the server says of the connection, once it stands.
    fn negotiated(&self, options: &[&str]) -> String {
        let server = self.server(options);
        let _relay = self.relay(&server);
        server.process.line("CIPHER is ");
        server.process.stdout()
    }

    /// The line in which the relay says why there is no connection.
    fn refusal(&self, options: &[&str], code: Code) -> String {
        let server = self.server(options);
        let line = self.relay(&server).line(&code.id());
        assert!(!server.process.stdout().contains("CIPHER is "), "{}", server.process.stdout());
        line
    }
}

#[track_caller]
fn assert_says(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in\n{text}");
}

#[test]
fn ciphersuites_of_tls_1_3_are_the_policys() {
    assert_says(&Machine::new(NONE).negotiated(&[]), "CIPHER is TLS_AES_256_GCM_SHA384");
    let machine = Machine::new("Ciphersuites = TLS_AES_128_GCM_SHA256\n");
    assert_says(&machine.negotiated(&[]), "CIPHER is TLS_AES_128_GCM_SHA256");
}

#[test]
fn ciphers_of_tls_1_2_are_the_policys() {
    let tls_1_2 = &["-tls1_2"];
    let cipher = "CIPHER is ECDHE-ECDSA-AES256-GCM-SHA384";
    assert_says(&Machine::new(NONE).negotiated(tls_1_2), cipher);
    let machine = Machine::new("CipherString = ECDHE-ECDSA-AES128-GCM-SHA256\n");
    assert_says(&machine.negotiated(tls_1_2), "CIPHER is ECDHE-ECDSA-AES128-GCM-SHA256");
}

/// What an `SslConnector` of the openssl crate gets wrong: its own list replaces the policy's.
#[test]
fn a_server_with_none_of_the_policys_ciphers_is_refused() {
    let server = &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    let set = pki::proper();
    for policy in ["CipherString = AES256\n", "CipherString = ECDHE+AES256:@SECLEVEL=2\n"] {
        // The server's alert is the same as for a missing client certificate.
        let machine = Machine::with(policy, &set);
        let line = machine.refusal(server, Code::HandshakeRefused);
        assert_says(&line, "no common cipher suite");
        machine.showing(&set).refusal(server, Code::NoCommonCipher);
    }
    Machine::new(NONE).negotiated(server);
}

#[test]
fn the_least_protocol_of_the_policy_is_kept() {
    let machine = Machine::new("MinProtocol = TLSv1.3\n");
    let line = machine.refusal(&["-tls1_2"], Code::NoCommonProtocol);
    assert_says(&line, "alert 70 (protocol_version)");
    assert_says(&machine.negotiated(&[]), "CIPHER is TLS_");
}

#[test]
fn the_highest_protocol_of_the_policy_is_kept() {
    let machine = Machine::new("MaxProtocol = TLSv1.2\n");
    assert_says(&machine.negotiated(&[]), "CIPHER is ECDHE-");
    machine.refusal(&["-tls1_3"], Code::NoCommonProtocol);
}

#[test]
fn no_policy_leads_below_tls_1_2() {
    for policy in [
        NONE,
        "CipherString = ALL:@SECLEVEL=0\n",
        "MinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n",
    ] {
        let machine = Machine::new(policy);
        machine.refusal(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], Code::NoCommonProtocol);
    }
    // A policy that ends below leaves nothing: that is said at the start.
    let ends_below = "MinProtocol = TLSv1\nMaxProtocol = TLSv1.1\nCipherString = ALL:@SECLEVEL=0\n";
    let machine = Machine::new(ends_below);
    let relay = machine.agent.relay("localhost:1".to_owned()).env("OPENSSL_CONF", machine.policy());
    let finished = relay.run().expect_code(2);
    assert_says(&finished.stderr, &Code::NoVersionLeft.id());
    // An OpenSSL of the same policy alone would go there.
    let policy = "MinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n";
    let machine = Machine::new(policy);
    let server = machine.server(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    let client = Peer::client(server.address).option("-cipher", "ALL:@SECLEVEL=0").start();
    client.line("TLSv1.1");
}

#[test]
fn groups_are_the_policys() {
    let machine = Machine::new("Groups = P-384\n");
    let said = machine.negotiated(&[]);
    assert_says(&said, "Supported groups: secp384r1\n");
}

#[test]
fn signature_algorithms_are_the_policys() {
    let machine = Machine::new("SignatureAlgorithms = ecdsa_secp384r1_sha384:ECDSA+SHA256\n");
    let said = machine.negotiated(&[]);
    let line = said.lines().find_map(|line| line.strip_prefix("Signature Algorithms: "));
    let offered: Vec<&str> = line.expect("it is printed").split(':').collect();
    assert!(matches!(offered[..], [first, _] if first.contains("384")), "{offered:?}");
}

#[test]
fn the_security_level_of_the_policy_is_kept() {
    let rsa = Script::Documented.mint();
    // RSA-2048 has 112 bits: level 3 asks for 128.
    Machine::with("CipherString = DEFAULT:@SECLEVEL=2\n", &rsa).negotiated(&[]);
    let machine = Machine::with("CipherString = DEFAULT:@SECLEVEL=3\n", &rsa);
    machine.refusal(&[], Code::CertificateWeak);
}

/// The rule for certificates of SkyWalking's script asks for no more than the policy, and for no less.
#[test]
fn the_rule_for_the_script_follows_the_security_level() {
    let sent = &["-cipher", "DEFAULT:@SECLEVEL=0"];
    for (script, enough) in
        [(Script::LeafWeakKey, 1), (Script::CaWeakKey, 1), (Script::LeafSha1, 0)]
    {
        let set = script.mint();
        let at =
            |level| Machine::with(&format!("CipherString = DEFAULT:@SECLEVEL={level}\n"), &set);
        assert_says(&at(enough).negotiated(sent), "ALPN protocols selected: h2");
        at(enough + 1).refusal(sent, Code::CertificateWeak);
    }
}

/// A policy may allow suites without a certificate; then there is nothing to verify, and OpenSSL does not
/// ask whether that is all right.
#[test]
fn a_server_without_a_certificate_is_refused_whatever_the_policy_allows() {
    let machine = Machine::new("CipherString = ALL:@SECLEVEL=0\n");
    let server = machine.server(&["-tls1_2", "-nocert", "-cipher", "aNULL:@SECLEVEL=0"]);
    let line = machine.relay(&server).line(&Code::CertificateUntrusted.id());
    assert_says(&line, "no certificate");
    // OpenSSL's handshake stood; not a byte was sent on it.
    assert!(!server.process.stdout().contains("PRI * HTTP"), "{}", server.process.stdout());
}
