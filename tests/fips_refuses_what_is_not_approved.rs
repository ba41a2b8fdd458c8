//! What a FIPS provider alone would let through, and FIPS does not approve: each is refused for the
//! right reason, and has a twin that is accepted. Without FIPS most of them would be accepted too.

mod fips_provider;
mod support;
mod tls_client;

use std::io::Read;
use std::net::TcpListener;

use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslMethod, SslOptions, SslVersion, select_next_proto,
};
use openssl::x509::X509;
use skytls::config::Loader;
use skytls::error::{Code, Error};
use skytls::tls::Generation;
use support::openssl::{Peer, Server};
use support::pki::{self, DAY, HOUR, Pair, Recipe, Set, V3, rsa_key, weak_key};
use tls_client::{Agent, h2_server};

/// A root and a server's certificate with this key and digest.
fn set(key: PKey<Private>, digest: MessageDigest) -> Set {
    of(rsa_key(0), rsa_key(0), key, digest)
}

/// The same with an intermediate of this key between.
fn of(
    root: PKey<Private>,
    middle: PKey<Private>,
    key: PKey<Private>,
    digest: MessageDigest,
) -> Set {
    let recipe = |common_name, key, digest, ca| Recipe {
        common_name,
        key,
        serial: 7,
        from: -HOUR,
        until: DAY,
        digest,
        v3: Some(V3 { ca, may_sign: ca.then_some(true) }),
    };
    let sha256 = MessageDigest::sha256;
    let root = recipe("root", root, sha256(), true).mint(None);
    let middle = recipe("middle", middle, sha256(), true).mint(Some(&root));
    let server: Pair = recipe("localhost", key, digest, false).mint(Some(&middle));
    let client = recipe("agent", rsa_key(2), sha256(), false).mint(Some(&root));
    Set {
        ca: root.certificate_pem(),
        server: server.certificate_pem() + &middle.certificate_pem(),
        server_key: server.key_pem(),
        client: client.certificate_pem(),
        client_key: client.key_pem(),
    }
}

fn rsa() -> Set {
    set(rsa_key(1), MessageDigest::sha256())
}

/// A server that takes everything the machine's OpenSSL has.
fn serve(set: &Set, options: &[&str]) -> Server {
    let files = set.write();
    let peer = h2_server(&files).option("-cipher", "ALL:@SECLEVEL=0").verify(&files.ca);
    options.iter().fold(peer, |peer, option| peer.flag(option)).listen()
}

/// TLS 1.2 without the extended master secret, for one client; `s_server` 3.0 has no option for that.
fn serve_without_ems(set: &Set) -> u16 {
    /// SSL_OP_NO_EXTENDED_MASTER_SECRET, which the openssl crate does not name.
    const NO_EMS: SslOptions = SslOptions::from_bits_retain(1);
    let mut builder = SslContext::builder(SslMethod::tls_server()).expect("a context");
    builder.set_max_proto_version(Some(SslVersion::TLS1_2)).expect("TLS 1.2");
    builder.set_options(NO_EMS);
    let certificate = X509::stack_from_pem(set.server.as_bytes()).expect("certificates");
    builder.set_certificate(&certificate[0]).expect("the leaf");
    for above in &certificate[1..] {
        builder.add_extra_chain_cert(above.clone()).expect("its issuer");
    }
    let key = PKey::private_key_from_pem_passphrase(set.server_key.as_bytes(), b"").expect("a key");
    builder.set_private_key(&key).expect("its key");
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
    let context = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else { return };
        let Ok(ssl) = Ssl::new(&context) else { return };
        if let Ok(mut stream) = ssl.accept(stream) {
            // Until the client ends it.
            let _ = stream.read(&mut [0; 64]);
        }
    });
    port
}

fn agent(set: &Set, fips: bool) -> Agent {
    let agent = Agent::trusting(&set.ca).showing(set);
    if fips {
        agent
            .set("agent.ssl_fips", "required")
            .set("agent.ssl_fips_config", fips_provider::config())
    } else {
        // To see that it is FIPS that refuses, and not the level.
        agent.set("agent.ssl_ciphers", "ALL:@SECLEVEL=0")
    }
}

fn dial(set: &Set, options: &[&str], fips: bool) -> Result<(), Error> {
    let server = serve(set, options);
    agent(set, fips).dial("localhost", server.port()).map(drop)
}

#[track_caller]
fn accepted(set: &Set, options: &[&str]) {
    dial(set, options, true).unwrap_or_else(|error| panic!("{options:?}: {error:?}"));
}

/// Refused with FIPS, accepted without.
#[track_caller]
fn refused(set: &Set, options: &[&str], code: Code) {
    let error = dial(set, options, true).expect_err("FIPS does not approve it");
    assert_eq!((error.code(), error.exit_code()), (code, 4), "{options:?}: {error:?}");
    dial(set, options, false)
        .unwrap_or_else(|error| panic!("without FIPS, {options:?}: {error:?}"));
}

#[test]
fn mutual_tls_with_rsa_and_with_nist_curves() {
    accepted(&rsa(), &[]);
    accepted(&rsa(), &["-tls1_2"]);
    accepted(&set(pki::ec_key(), MessageDigest::sha256()), &[]);
    let p384 = PKey::ec_gen("secp384r1").expect("OpenSSL knows P-384");
    accepted(&set(p384, MessageDigest::sha384()), &["-groups", "P-384"]);
}

#[test]
fn suites_are_those_of_aes_with_forward_secrecy() {
    let chacha = ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"];
    refused(&rsa(), &chacha, Code::NoCommonCipher);
    accepted(&rsa(), &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"]);
    for list in ["ECDHE-RSA-CHACHA20-POLY1305", "AES128-GCM-SHA256"] {
        refused(&rsa(), &["-tls1_2", "-cipher", list], Code::NoCommonCipher);
    }
    accepted(&rsa(), &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]);
}

#[test]
fn groups_are_those_of_nist() {
    // With TLS 1.2 the curve is part of the suite: without it, finite fields would do.
    for version in [&["-tls1_3"][..], &["-tls1_2", "-cipher", "ECDHE"]] {
        let with = |group| [version, &["-groups", group]].concat();
        refused(&rsa(), &with("X25519"), Code::NoCommonCipher);
        accepted(&rsa(), &with("P-521"));
    }
}

#[test]
fn tls_1_2_needs_the_extended_master_secret() {
    let set = rsa();
    let without = |fips| agent(&set, fips).dial("localhost", serve_without_ems(&set)).map(drop);
    let error = without(true).expect_err("FIPS demands it");
    assert_eq!(error.code(), Code::FipsConnection, "{error:?}");
    without(false).expect("others do not");
    accepted(&set, &["-tls1_2"]);
}

#[test]
fn weak_keys_and_signatures_are_refused_all_along_the_chain() {
    let sha256 = MessageDigest::sha256;
    refused(&set(rsa_key(1), MessageDigest::sha1()), &[], Code::CertificateWeak);
    refused(&set(rsa_key(1), MessageDigest::md5()), &[], Code::CertificateWeak);
    refused(&set(weak_key(0), sha256()), &[], Code::CertificateWeak);
    refused(&of(rsa_key(0), weak_key(2), rsa_key(1), sha256()), &[], Code::CertificateWeak);
    accepted(&of(rsa_key(0), rsa_key(3), rsa_key(1), sha256()), &[]);
}

#[test]
fn keys_that_the_provider_does_not_have_are_refused() {
    let edwards = PKey::generate_ed25519().expect("OpenSSL knows Ed25519");
    let edwards = set(edwards, MessageDigest::sha256());
    assert!(dial(&edwards, &[], true).is_err());
    let brainpool =
        set(PKey::ec_gen("secp256k1").expect("OpenSSL knows it"), MessageDigest::sha256());
    assert!(dial(&brainpool, &[], true).is_err());
}

#[test]
fn an_own_key_that_is_not_approved_is_refused_at_the_start() {
    let weak = PKey::from_rsa(Rsa::generate(1024).expect("OpenSSL makes it")).expect("a key");
    for (key, words) in [
        (weak, "RSA of 1024 bits"),
        (PKey::ec_gen("secp256k1").expect("OpenSSL knows it"), "secp256k1"),
    ] {
        let set = set(rsa_key(1), MessageDigest::sha256());
        let own = self::set(key, MessageDigest::sha256());
        let shown = Set { client: own.server, client_key: own.server_key, ..set };
        let agent = Agent::trusting(&shown.ca)
            .showing(&shown)
            .set("agent.ssl_fips", "required")
            .set("agent.ssl_fips_config", fips_provider::config());
        let error = Generation::load(&agent.settings().tls).expect_err("it is not approved");
        assert_eq!((error.code(), error.exit_code()), (Code::FipsWeak, 2), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.remedy().contains("openssl req -new"), "{}", error.remedy());
    }
}

/// What the relay listens with is of the same library context, and held to the same.
#[test]
fn the_relays_own_listener_is_held_to_the_same() {
    let set = rsa();
    let files = set.write();
    let agent = agent(&set, true);
    let relay = agent
        .relay("127.0.0.1:1")
        .env("SW_RELAY_SSL_CERT_CHAIN_PATH", &files.server)
        .env("SW_RELAY_SSL_KEY_PATH", &files.server_key);
    let relay = relay.start();
    let line = relay.line("listening on ");
    let address = line.split(' ').find_map(|word| word.trim().parse().ok()).expect("an address");
    let client = |options: &[&str]| {
        let peer = Peer::client(address).h2().flag("-brief").option("-CAfile", &files.ca);
        let mut client = options.iter().fold(peer, |peer, option| peer.flag(option)).start();
        client.close_stdin();
        client.finish()
    };
    for options in [
        &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"][..],
        &["-tls1_3", "-groups", "X25519"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
    ] {
        let finished = client(options);
        assert_ne!(finished.code, 0, "{options:?}: {finished:?}");
    }
    for options in [&["-tls1_3"][..], &["-tls1_2", "-groups", "P-384"]] {
        client(options).expect_code(0);
    }
}

#[test]
fn settings_that_ask_for_less_are_refused() {
    let load = |settings: &[(&str, &str)]| {
        let agent = Agent::trusting(rsa().ca)
            .set("agent.ssl_fips", "required")
            .set("agent.ssl_fips_config", fips_provider::config());
        agent.settings();
        let nothing: [(std::ffi::OsString, std::ffi::OsString); 0] = [];
        let loader = Loader::new().environment(nothing).file(agent.folder.config());
        let loader = settings.iter().fold(loader, |loader, (key, value)| loader.set(*key, *value));
        loader.load().and_then(|loaded| Generation::load(&loaded.settings.tls)).map(drop)
    };
    for setting in [
        ("agent.ssl_groups", "P-256:X25519"),
        ("agent.ssl_ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
        ("agent.ssl_signature_algorithms", "ECDSA+SHA1"),
        ("agent.ssl_security_level", "1"),
        ("agent.ssl_provider", "pkcs11"),
        ("agent.ssl_trusted_ca_path", "pkcs11:object=ca"),
    ] {
        let error = load(&[setting]).expect_err("it asks for less");
        assert_eq!((error.code(), error.exit_code()), (Code::FipsConflict, 2), "{error}");
        assert!(error.to_string().contains(setting.0), "{error}");
    }
    let error = load(&[("agent.ssl_ciphers", "CHACHA20"), ("agent.ssl_max_protocol", "TLSv1.2")]);
    let error = error.expect_err("nothing is left");
    assert!([Code::BadValue, Code::FipsNothingLeft].contains(&error.code()), "{error}");
    for setting in [
        ("agent.ssl_groups", "P-384"),
        ("agent.ssl_ciphersuites", "TLS_AES_128_GCM_SHA256"),
        ("agent.ssl_signature_algorithms", "ECDSA+SHA256:rsa_pss_rsae_sha256"),
        ("agent.ssl_security_level", "3"),
        ("agent.ssl_max_protocol", "TLSv1.2"),
        ("agent.ssl_min_protocol", "TLSv1.3"),
        ("agent.ssl_ocsp", "require"),
    ] {
        load(&[setting]).unwrap_or_else(|error| panic!("{setting:?}: {error:?}"));
    }
}
