//! Mutual TLS with a key that is only in a token, by OpenSSL's provider for PKCS#11; and what is said
//! when PIN, object or token are not as expected. `ci/hsm` sets the environment up.

mod support;
mod tls_client;
mod token_fixture;

use token_fixture::{KEY, PIN, Token};

#[test]
fn mutual_tls_with_a_key_that_is_only_in_the_token() {
    let token = Token::new();
    let server = token.serve();
    let finished = token.run(KEY, Some(PIN), server.port()).expect_code(0);
    assert!(finished.stdout.contains("tls.client_certificate"), "{}", finished.stdout);
    assert_eq!(token.logins(), ["CKR_OK"]);
    // The PIN in the URI; certificate and CA in the token too.
    let server = token.serve();
    let (_agent, check) = token.check(&format!("{KEY}?pin-value={PIN}"), server.port());
    let chain = "pkcs11:token=agent;object=client";
    let ca = "pkcs11:token=agent;object=ca";
    let check = check.arg("--set").arg(format!("agent.ssl_cert_chain_path={chain}"));
    check.arg("--set").arg(format!("agent.ssl_trusted_ca_path={ca}")).run().expect_code(0);
    // Certificates are there for everybody: only the key needs a login.
    assert_eq!(token.logins(), ["CKR_OK"]);
}

#[test]
fn a_wrong_pin_is_one_failed_login() {
    let token = Token::new();
    let server = token.serve();
    let finished = token.run(KEY, Some("9999"), server.port()).expect_code(2);
    assert!(finished.stdout.contains("SKT-226"), "{}", finished.stdout);
    assert_eq!(token.logins(), ["CKR_PIN_INCORRECT"]);
    // Without one nobody logs in, and nobody is asked.
    let finished = token.run(KEY, None, server.port()).expect_code(2);
    assert!(finished.stdout.contains("SKT-226"), "{}", finished.stdout);
    assert_eq!(token.logins(), [] as [&str; 0]);
    token.run(KEY, Some(PIN), server.port()).expect_code(0);
}

#[test]
fn what_is_not_there_is_told() {
    let token = Token::new();
    let nothing = "pkcs11:token=agent;object=nothing";
    let finished = token.run(nothing, Some(PIN), 1).expect_code(2);
    assert!(finished.stdout.contains("or there is no such object"), "{}", finished.stdout);
    // Pulled out.
    let finished = token.run("pkcs11:token=gone;object=client", Some(PIN), 1).expect_code(2);
    assert!(finished.stdout.contains("SKT-225"), "{}", finished.stdout);
    assert!(!token.logins().contains(&"CKR_PIN_INCORRECT".to_owned()));
    // The token's own module is missing.
    token.write_openssl_cnf("/nonexistent/module.so", "");
    let finished = token.run(KEY, Some(PIN), 1).expect_code(2);
    let told = ["SKT-225", "SKT-314"].iter().any(|id| finished.stdout.contains(id));
    assert!(told, "{}", finished.stdout);
}
