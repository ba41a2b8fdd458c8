//! Key, chain and CA may be URIs of OpenSSL's store; `file:` needs no provider and works everywhere.
//! A passphrase is given once, and one that was refused is not tried again.

mod support;
mod tls_client;

use skytls::error::{Chain, Code, Error};
use skytls::tls::Generation;
use support::keys::{self, PASSPHRASE};
use support::pki::{self, Set};
use tls_client::{Agent, h2_server};

/// An agent with everything from URIs, and a key encrypted with a passphrase.
fn agent(set: &Set, passphrase: &str) -> Agent {
    let agent = Agent::trusting(&set.ca);
    let key = openssl::pkey::PKey::private_key_from_pem_passphrase(set.client_key.as_bytes(), b"");
    let key = keys::encrypted_pkcs8_pem(&key.expect("it is a key"));
    agent.folder.replace("ca/client.crt", &set.client, 0o644);
    agent.folder.replace("ca/client.pem", key, 0o600);
    let uri = |name: &str| format!("file:{}", agent.folder.join(name).display());
    let (ca, chain, key) = (uri("ca/ca.crt"), uri("ca/client.crt"), uri("ca/client.pem"));
    let agent = agent.set("agent.ssl_trusted_ca_path", ca);
    let agent = agent.set("agent.ssl_cert_chain_path", chain).set("agent.ssl_key_path", key);
    if passphrase.is_empty() { agent } else { agent.set("agent.ssl_key_passphrase", passphrase) }
}

fn fails(agent: &Agent) -> Error {
    let error = Generation::load(&agent.settings().tls).expect_err("it is refused");
    assert_eq!(error.exit_code(), 2, "{error:?}");
    let shown = format!("{error:?} {}", Chain(&error));
    assert!(!shown.contains("s3cret") && !shown.contains(PASSPHRASE), "{shown}");
    error
}

#[test]
fn mutual_tls_with_everything_from_uris() {
    let set = pki::proper();
    let files = set.write();
    let server = h2_server(&files).verify(&files.ca).listen();
    let agent = agent(&set, PASSPHRASE);
    let description = agent.generation().description().clone();
    assert_eq!((description.ca.len(), description.chain.len()), (1, 1));
    agent.dial("localhost", server.port()).expect("both are accepted");
}

#[test]
fn a_missing_or_wrong_passphrase_is_told_and_never_asked_for() {
    let set = pki::proper();
    assert_eq!(fails(&agent(&set, "")).code(), Code::UriSecretRefused);
    assert_eq!(fails(&agent(&set, "wrong")).code(), Code::UriSecretRefused);
}

#[test]
fn a_passphrase_that_was_refused_is_not_tried_again() {
    let set = pki::proper();
    let agent = agent(&set, "wrong");
    assert_eq!(fails(&agent).code(), Code::UriSecretRefused);
    // It would fit now, and nobody looks.
    let key = openssl::pkey::PKey::private_key_from_pem_passphrase(set.client_key.as_bytes(), b"");
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let key = key.and_then(|key| key.private_key_to_pem_pkcs8_passphrase(cipher, b"wrong"));
    agent.folder.replace("ca/client.pem", key.expect("it is written"), 0o600);
    let error = fails(&agent);
    assert!(error.to_string().contains("not tried again"), "{error}");
}

#[test]
fn what_is_not_there_is_told_by_its_scheme_alone() {
    let set = pki::proper();
    for uri in ["file:/nonexistent/s3cret", "pkcs11:object=x;pin-value=s3cret", "handle:0x81000001"]
    {
        let agent = agent(&set, "").set("agent.ssl_key_path", uri);
        let error = fails(&agent);
        assert_eq!(error.code(), Code::UriFailed, "{error}");
    }
    // A file of the other kind.
    let agent = agent(&set, "");
    let chain = format!("file:{}", agent.folder.join("ca/client.crt").display());
    let error = fails(&agent.set("agent.ssl_key_path", chain));
    assert!(error.to_string().contains("no private key"), "{error}");
}
