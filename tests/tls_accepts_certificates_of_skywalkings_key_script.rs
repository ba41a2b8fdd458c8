//! Certificates made by SkyWalking's documented key script work, although CA, server and client have the
//! same subject; certificates with one thing wrong do not. The peer is a real `openssl s_server`.

mod support;
mod tls_client;

use std::net::TcpStream;

use openssl::hash::MessageDigest;
use openssl::ssl::HandshakeError;
use skytls::error::{Chain, Code, Fact};
use skytls::server::{Collector, CollectorSettings, CollectorTls};
use skytls::transport::Connector;
use support::DEADLINE;
use support::openssl::Server;
use support::pki::{self, DAY, HOUR, Recipe, Script, Set, V3};
use tls_client::{Agent, dial, h2_server, refused, runtime};

/// What the server would do without our rule's help: weak certificates need the lowest level to be sent.
fn serve(set: &Set) -> Server {
    h2_server(&set.write()).option("-cipher", "DEFAULT:@SECLEVEL=0").listen()
}

fn outcome(agent: &Agent, set: &Set) -> Option<Code> {
    let server = serve(set);
    match agent.dial("localhost", server.port()) {
        Ok(_) => None,
        refusal => Some(refused(refusal)),
    }
}

#[test]
fn tls_stands_in_every_protocol_version() {
    let set = Script::Documented.mint();
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let option = format!("-{}", protocol.to_lowercase().replace('v', "").replace('.', "_"));
        let server = h2_server(&set.write()).flag(&option).listen();
        let io = Agent::trusting(&set.ca).dial("localhost", server.port()).expect("it is accepted");
        let negotiated = io.negotiated().expect("it is TLS");
        assert_eq!((negotiated.protocol.as_str(), &*negotiated.alpn), (protocol, &b"h2"[..]));
        server.process.line("ALPN protocols selected: h2");
        server.process.line("CIPHER is ");
        assert!(!server.process.stdout().contains("Client certificate"));
    }
}

#[test]
fn mutual_tls_stands_and_the_server_gets_the_clients_certificate() {
    let set = Script::Documented.mint();
    for option in ["-tls1_2", "-tls1_3"] {
        let server = h2_server(&set.write()).flag(option).option("-Verify", "1").listen();
        let agent = Agent::trusting(&set.ca).showing(&set);
        let _io = agent.dial("localhost", server.port()).expect("it is accepted");
        // OpenSSL 3.0 writes "CN = localhost", later ones "CN=localhost".
        let subject = server.process.line("subject=").replace(' ', "");
        assert_eq!(subject, "subject=CN=localhost");
        server.process.line("CIPHER is ");
        // Server and client have the same subject: it is the certificate that tells them apart.
        assert!(server.process.stdout().contains(set.client.trim()), "{}", server.process.stdout());
    }
}

#[test]
fn each_twin_with_one_thing_wrong_is_refused_for_that_reason() {
    for (script, code) in [
        (Script::LeafSelfSigned, Code::SelfSigned),
        (Script::LeafOfAnotherKey, Code::CertificateUntrusted),
        (Script::LeafExpired, Code::CertificateExpired),
        (Script::LeafNotYetValid, Code::CertificateNotYetValid),
        (Script::LeafWeakKey, Code::CertificateWeak),
        (Script::LeafSha1, Code::CertificateWeak),
        (Script::CaExpired, Code::CertificateExpired),
        (Script::CaNotYetValid, Code::CertificateNotYetValid),
        (Script::CaIsNone, Code::CertificateUntrusted),
        (Script::CaVersion1, Code::CertificateUntrusted),
        (Script::CaMayNotSign, Code::CertificateUntrusted),
        (Script::CaWeakKey, Code::CertificateWeak),
        (Script::AnotherName, Code::NameMismatch),
    ] {
        let set = script.mint();
        assert_eq!(outcome(&Agent::trusting(&set.ca), &set), Some(code), "{script:?}");
    }
}

/// The list above is whole: with the one that is accepted it is all there are.
#[test]
fn no_twin_is_accepted() {
    for script in Script::ALL {
        let set = script.mint();
        let accepted = outcome(&Agent::trusting(&set.ca), &set).is_none();
        assert_eq!(accepted, script == Script::Documented, "{script:?}");
    }
}

#[test]
fn a_refusal_says_what_the_rule_found() {
    for (script, why) in [
        (Script::LeafSelfSigned, "signed by its own key"),
        (Script::LeafOfAnotherKey, "signature does not verify"),
        (Script::LeafExpired, "the certificate has expired"),
        (Script::LeafNotYetValid, "the certificate is not valid yet"),
        (Script::CaExpired, "the CA of that name has expired"),
        (Script::CaNotYetValid, "the CA of that name is not valid yet"),
        (Script::CaIsNone, "is not a CA"),
        (Script::CaWeakKey, "too weak for the security level"),
    ] {
        let set = script.mint();
        let server = serve(&set);
        let error = Agent::trusting(&set.ca).dial("localhost", server.port());
        let error = error.expect_err("it is refused");
        let text = Chain(&error).to_string();
        assert!(text.contains(why) && text.contains("verify error 18"), "{script:?}: {text}");
        assert!(error.get(Fact::Found).is_some_and(|found| found.contains("CN=localhost")));
        assert_eq!(error.get(Fact::Peer), Some(&*format!("localhost:{}", server.port())));
    }
}

#[test]
fn no_certificate_of_that_name_in_the_file_is_a_refusal() {
    let set = Script::Documented.mint();
    let other = Script::AnotherName.mint();
    assert_eq!(outcome(&Agent::trusting(other.ca), &set), Some(Code::SelfSigned));
}

#[test]
fn a_self_signed_leaf_that_is_itself_in_the_file_is_accepted() {
    let set = Script::LeafSelfSigned.mint();
    for ca in [set.server.clone(), format!("{}{}", set.ca, set.server)] {
        for rule in ["auto", "off"] {
            let agent = Agent::trusting(&ca).set("agent.ssl_same_name_issuer", rule);
            assert_eq!(outcome(&agent, &set), None);
        }
    }
    // And none but this one.
    let other = Script::LeafOfAnotherKey.mint();
    assert_eq!(outcome(&Agent::trusting(&set.server), &other), Some(Code::CertificateUntrusted));
}

#[test]
fn the_right_one_of_several_cas_of_that_name_is_found_in_any_order() {
    let (set, stranger) = (Script::Documented.mint(), other_ca());
    let (expired, no_ca) = (Script::CaExpired.mint().ca, Script::CaIsNone.mint().ca);
    for ca in [
        format!("{}{stranger}", set.ca),
        format!("{stranger}{}", set.ca),
        format!("{expired}{no_ca}{stranger}{}", set.ca),
    ] {
        assert_eq!(outcome(&Agent::trusting(&ca), &set), None);
    }
    // Of several, the one that signed it is the one to be explained.
    for (script, code) in [
        (Script::CaExpired, Code::CertificateExpired),
        (Script::CaIsNone, Code::CertificateUntrusted),
        (Script::CaWeakKey, Code::CertificateWeak),
    ] {
        let set = script.mint();
        for ca in [format!("{}{stranger}", set.ca), format!("{stranger}{}", set.ca)] {
            assert_eq!(outcome(&Agent::trusting(&ca), &set), Some(code), "{script:?}");
        }
    }
}

/// A CA of the script's name with a key of its own.
fn other_ca() -> String {
    let v3 = Some(V3 { ca: true, may_sign: None });
    recipe("localhost", pki::rsa_key(3), v3).mint(None).certificate_pem()
}

fn recipe(
    common_name: &str,
    key: openssl::pkey::PKey<openssl::pkey::Private>,
    v3: Option<V3>,
) -> Recipe<'_> {
    let digest = MessageDigest::sha256();
    Recipe { common_name, key, serial: 7, from: -HOUR, until: DAY, digest, v3 }
}

/// What a server sends beyond its leaf proves nothing.
#[test]
fn a_ca_that_the_server_sends_along_changes_nothing() {
    let set = Script::Documented.mint();
    let sent = Set { server: format!("{}{}", set.server, set.ca), ..set.clone() };
    assert_eq!(outcome(&Agent::trusting(&set.ca), &sent), None);

    let forged = Script::LeafOfAnotherKey.mint();
    let sent = Set { server: format!("{}{}", forged.server, other_ca()), ..forged.clone() };
    assert_eq!(outcome(&Agent::trusting(&set.ca), &sent), Some(Code::CertificateUntrusted));
}

/// OpenSSL 3.2 and later put key identifiers into what the script makes: no rule is needed then.
#[test]
fn the_script_on_a_newer_openssl_makes_certificates_that_need_no_rule() {
    let ca = recipe("localhost", pki::rsa_key(0), Some(V3 { ca: true, may_sign: None })).mint(None);
    let v3 = Some(V3 { ca: false, may_sign: None });
    let leaf = recipe("localhost", pki::rsa_key(1), v3).mint(Some(&ca));
    let client = recipe("localhost", pki::rsa_key(2), v3).mint(Some(&ca));
    let set = Set {
        ca: ca.certificate_pem(),
        server: leaf.certificate_pem(),
        server_key: leaf.key_pem(),
        client: client.certificate_pem(),
        client_key: client.key_pem(),
    };
    for rule in ["auto", "off"] {
        let agent = Agent::trusting(&set.ca).set("agent.ssl_same_name_issuer", rule);
        assert_eq!(outcome(&agent, &set), None, "{rule}");
    }
}

#[test]
fn the_name_is_verified_all_the_same() {
    let set = Script::Documented.mint();
    let server = serve(&set);
    let agent = Agent::trusting(&set.ca);
    let error = agent.dial("127.0.0.1", server.port()).expect_err("it is no address of it");
    assert_eq!((error.code(), error.exit_code()), (Code::NameMismatch, 4));
    assert_eq!(error.get(Fact::Found), Some("CN=localhost"));
    assert_eq!(error.get(Fact::Expected), Some("127.0.0.1"));
    assert_eq!(refused(agent.dial_as("oap.example.com", server.port())), Code::NameMismatch);
    agent.dial_as("localhost", server.port()).expect("the name is in the certificate");
}

#[test]
fn the_rule_can_be_switched_off() {
    let set = Script::Documented.mint();
    let agent = Agent::trusting(&set.ca).set("agent.ssl_same_name_issuer", "off");
    assert_eq!(outcome(&agent, &set), Some(Code::SelfSigned));
}

/// Without partial chains the rule stands: a CA of the file is an anchor in any case.
#[test]
fn the_rule_does_not_need_partial_chains() {
    let set = Script::Documented.mint();
    let agent = Agent::trusting(&set.ca).set("agent.ssl_partial_chain", "off");
    assert_eq!(outcome(&agent, &set), None);
}

/// A CA in the system's store may have any name; only an explicit file is the user's word.
#[test]
fn the_rule_does_not_speak_for_the_systems_trust_store() {
    let documented = Script::Documented.mint();
    let files = documented.write();
    let server = h2_server(&files).listen();
    let agent = Agent::trusting_the_system();
    let relay = agent.relay(format!("localhost:{}", server.port()));
    let relay = relay.env("SSL_CERT_FILE", &files.ca).start();
    relay.line(&Code::SelfSigned.id());

    // The store itself is in use: it is the rule that is not.
    let files = pki::proper().write();
    let server = h2_server(&files).listen();
    let relay = agent.relay(format!("localhost:{}", server.port()));
    let _relay = relay.env("SSL_CERT_FILE", &files.ca).start();
    server.process.line("CIPHER is ");
}

/// The rule lives in the context: whoever takes the `SslConnector` itself has it too.
#[test]
fn the_plain_ssl_connector_follows_the_rule_too() {
    let connect = |set: &Set| {
        let server = serve(set);
        let generation = Agent::trusting(&set.ca).generation();
        let stream = TcpStream::connect(server.address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("it can be set");
        let connector = generation.connector().expect("it can be made");
        let configuration = connector.configure().expect("it can be configured");
        let ssl = configuration.into_ssl("localhost").expect("it is a name");
        assert!(ssl.security_level() >= 2, "the twins are weak at the usual level only");
        match ssl.connect(stream) {
            Ok(stream) => Ok(stream.ssl().version_str()),
            Err(HandshakeError::Failure(failed)) => Err(failed.ssl().verify_result().as_raw()),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(connect(&Script::Documented.mint()), Ok("TLSv1.3"));
    for script in Script::ALL.into_iter().filter(|script| *script != Script::Documented) {
        let number = match script {
            Script::AnotherName => 62, // hostname mismatch
            Script::LeafWeakKey => 66, // EE certificate key too weak: looked at before the chain
            _ => 18,                   // self-signed certificate
        };
        assert_eq!(connect(&script.mint()), Err(number), "{script:?}");
    }
}

/// So does a connector that only passes it on.
#[test]
fn a_foreign_use_of_the_ssl_connector_dials_too() {
    let connect = |set: &Set| {
        let server = serve(set);
        let generation = Agent::trusting(&set.ca).generation();
        let connector = generation.connector().expect("it can be made");
        dial(Connector::new(connector), "localhost", server.port())
    };
    connect(&Script::Documented.mint()).expect("it is accepted");
    // Without our witness OpenSSL's own verdict has to do.
    assert_eq!(refused(connect(&Script::LeafOfAnotherKey.mint())), Code::SelfSigned);
    assert_eq!(refused(connect(&Script::AnotherName.mint())), Code::NameMismatch);
}

/// A backend that is seen again and again is warned about once.
#[test]
fn the_rule_is_warned_about_once_with_the_remedy() {
    let set = Script::Documented.mint();
    let tls = CollectorTls {
        identity: skytls::config::IdentitySource {
            chain: memory(&set.server),
            key: memory(&set.server_key),
            passphrase: None,
        },
        client_ca: None,
    };
    let settings = CollectorSettings { tls: Some(tls), ..CollectorSettings::default() };
    let collector = runtime().block_on(Collector::start(settings)).expect("it starts");
    let backend = format!("localhost:{}", collector.address().port());
    let agent = Agent::trusting(&set.ca);
    let relay = agent.relay(backend).start();
    for round in 1..=3 {
        relay.lines("connected to ", round);
        collector.disconnect();
    }
    relay.terminate();
    let finished = relay.finish().expect_code(0);
    let warnings: Vec<&str> =
        finished.stderr.lines().filter(|line| line.contains("same subject")).collect();
    assert_eq!(warnings.len(), 1, "{}", finished.stderr);
    assert!(warnings[0].contains("WARN") && warnings[0].contains("do: "), "{}", warnings[0]);
}

fn memory(pem: &str) -> skytls::config::Source {
    skytls::config::Source::Bytes(skytls::config::Secret::new(pem.as_bytes().to_vec()))
}
