//! With FIPS required, the own key may be in a token: the token uses it, and the FIPS provider does all the
//! rest, as it is proven to do.

mod fips_provider;
mod support;
mod tls_client;
mod token_fixture;

use support::process::Finished;
use token_fixture::{KEY, PIN, Token};

/// `skytls check`, with FIPS and more settings.
fn check(token: &Token, port: u16, more: &[&str]) -> Finished {
    let (_agent, check) = token.check(KEY, port);
    let check = check
        .env("SW_AGENT_SSL_KEY_PASSPHRASE", PIN)
        .env("SW_AGENT_SSL_FIPS", "required")
        .env("SW_AGENT_SSL_FIPS_CONFIG", fips_provider::config());
    more.iter().fold(check, |check, setting| check.arg("--set").arg(setting)).run()
}

#[test]
fn mutual_tls_with_a_key_in_the_token_and_all_else_in_the_fips_provider() {
    let token = Token::new();
    for options in [&["-tls1_3"][..], &["-tls1_2"]] {
        let server = token.serve_with(options);
        let finished = check(&token, server.port(), &[]).expect_code(0);
        let told = &finished.stdout;
        assert!(
            told.contains("8 of 8 proofs; the own private key is used outside of it, by pkcs11"),
            "{told}"
        );
        assert!(told.contains("tls.client_certificate"), "{told}");
        assert_eq!(token.logins(), ["CKR_OK"]);
    }
    // Its certificate and the CA from there too.
    let server = token.serve();
    let chain = format!("agent.ssl_cert_chain_path={KEY}");
    let more = [&*chain, "agent.ssl_trusted_ca_path=pkcs11:token=agent;object=ca"];
    check(&token, server.port(), &more).expect_code(0);
}

#[test]
fn the_rest_is_held_to_what_is_approved() {
    let token = Token::new();
    for options in [
        &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"][..],
        &["-tls1_3", "-groups", "X25519"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
    ] {
        let server = token.serve_with(options);
        let finished = check(&token, server.port(), &[]).expect_code(4);
        assert!(finished.stdout.contains("SKT-504"), "{options:?}: {}", finished.stdout);
    }
}

#[test]
fn what_a_token_is_not_needed_for_is_refused() {
    let token = Token::new();
    let path = token.path("client").display().to_string();
    let file = format!("agent.ssl_cert_chain_path=file:{path}");
    let none = "agent.ssl_provider=";
    for setting in [&*file, none] {
        let finished = check(&token, 1, &[setting]).expect_code(2);
        assert!(finished.stdout.contains("SKT-312"), "{setting}: {}", finished.stdout);
    }
}
