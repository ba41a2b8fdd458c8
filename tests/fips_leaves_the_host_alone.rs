//! A host that uses OpenSSL itself, MD5 and a policy of its own included, notices nothing of skytls in
//! FIPS mode in the same process.

mod fips_provider;
mod support;
mod tls_client;

use std::io::{Read, Write};
use std::net::TcpStream;

use openssl::hash::{MessageDigest, hash};
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{Id, PKey};
use openssl::ssl::{SslConnector, SslContext, SslMethod, SslVerifyMode, SslVersion};
use support::pki::{self, Set};
use tls_client::{Agent, h2_server};

/// What a host does all day.
fn work(set: &Set) {
    let md5 = hash(MessageDigest::md5(), b"abc").expect("MD5 is there");
    assert_eq!(md5[..4], [0x90, 0x01, 0x50, 0x98]);
    assert_eq!(PKey::generate_ed25519().expect("Ed25519 is there").id(), Id::ED25519);
    let key =
        PKey::private_key_from_pem_passphrase(set.client_key.as_bytes(), b"").expect("its key");
    let archive = Pkcs12::builder().pkey(&key).build2("secret").expect("PKCS#12 is there");
    archive.parse2("secret").expect("PKCS#12 is read");
    assert!(ossl_ext::active_providers().contains(&"default".to_owned()));
    assert!(!ossl_ext::active_providers().contains(&"fips".to_owned()));
    assert!(!ossl_ext::default_properties_ask_for_fips());
}

/// Its own policy: TLS 1.2 with ChaCha20 over X25519, which FIPS does not approve.
fn connector() -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a context");
    builder.set_max_proto_version(Some(SslVersion::TLS1_2)).expect("TLS 1.2");
    builder.set_cipher_list("CHACHA20").expect("ChaCha20 is there");
    builder.set_groups_list("X25519:P-256").expect("X25519 is there");
    builder.set_verify(SslVerifyMode::NONE);
    builder.build()
}

fn talk(connector: &SslConnector, port: u16) {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let mut stream = connector.connect("localhost", stream).expect("its policy is in force");
    assert!(stream.ssl().current_cipher().is_some_and(|cipher| cipher.name().contains("CHACHA20")));
    stream.write_all(b"x\n").expect("it is up");
    stream.shutdown().expect("it ends");
    let _ = stream.read(&mut [0; 16]);
}

#[test]
fn md5_and_a_policy_of_its_own_work_before_beside_and_after() {
    let set = pki::proper();
    let files = set.write();
    let server = h2_server(&files).listen();
    let before = connector();
    work(&set);
    talk(&before, server.port());
    let defaults = || {
        let builder = SslContext::builder(SslMethod::tls_client()).expect("a context");
        (builder.options(), ossl_ext::security_level(&builder), ossl_ext::cipher_suites(&builder))
    };
    let policy = defaults();

    let agent = Agent::trusting(&set.ca)
        .showing(&set)
        .set("agent.ssl_fips", "required")
        .set("agent.ssl_fips_config", fips_provider::config());
    let io = agent.dial("localhost", server.port()).expect("FIPS is in force for skytls");
    work(&set);
    talk(&connector(), h2_server(&files).listen().port());
    talk(&before, h2_server(&files).listen().port());
    assert_eq!(policy, defaults());
    drop(io);
    drop(agent);
    work(&set);
    talk(&before, h2_server(&files).listen().port());
}
