//! `skytls check` with FIPS names every file that FIPS cannot take, what is wrong with it, and the
//! `openssl` command that converts it, without decrypting anything first.

mod fips_provider;
mod support;
mod tls_client;

use openssl::hash::MessageDigest;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::symm::Cipher;
use support::keys::{self, PASSPHRASE};
use support::pki::{self, DAY, HOUR, Pair, Recipe, V3, rsa_key, weak_key};
use support::process::Finished;
use tls_client::Agent;

fn client(key: PKey<Private>, digest: MessageDigest) -> Pair {
    let v3 = |ca| Some(V3 { ca, may_sign: ca.then_some(true) });
    let recipe = |common_name, key, digest, ca| Recipe {
        common_name,
        key,
        serial: 7,
        from: -HOUR,
        until: DAY,
        digest,
        v3: v3(ca),
    };
    let root = recipe("root", rsa_key(0), MessageDigest::sha256(), true).mint(None);
    recipe("agent", key, digest, false).mint(Some(&root))
}

/// What `check` says of this key and chain. The port is closed: files that are fine end there.
fn check(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>, ca: &str) -> Finished {
    let agent = Agent::trusting(ca)
        .set("agent.ssl_fips", "required")
        .set("agent.ssl_fips_config", fips_provider::config())
        .set("agent.ssl_cert_chain_path", "/ca/client.crt")
        .set("agent.ssl_key_path", "/ca/client.pem")
        .set("agent.ssl_key_passphrase", PASSPHRASE);
    agent.folder.replace("ca/client.crt", chain, 0o644);
    agent.folder.replace("ca/client.pem", key, 0o600);
    agent.check("127.0.0.1:1").arg("--tls-only").run()
}

#[track_caller]
fn refused(finished: Finished, all: &[&str]) {
    let finished = finished.expect_code(2);
    for words in all {
        assert!(finished.stdout.contains(words), "{words}: {}", finished.stdout);
    }
    assert!(!finished.stdout.contains(PASSPHRASE));
}

#[test]
fn approved_forms_pass() {
    let good = client(rsa_key(2), MessageDigest::sha256());
    let ca = pki::proper().ca;
    for key in [
        keys::pkcs8_pem(&good.key),
        keys::pkcs8_der(&good.key),
        keys::pkcs1_pem(&good.key),
        keys::pkcs1_der(&good.key),
        keys::encrypted_pkcs8_pem(&good.key),
        keys::encrypted_pkcs8_der(&good.key),
    ] {
        let finished = check(good.certificate_pem(), key, &ca).expect_code(3);
        assert!(finished.stdout.contains("files.fips"), "{}", finished.stdout);
    }
}

#[test]
fn forms_that_need_other_algorithms_are_named() {
    let good = client(rsa_key(2), MessageDigest::sha256());
    let (chain, ca) = (good.certificate_pem(), pki::proper().ca);
    let convert = "openssl pkcs8 -topk8 -in";
    refused(
        check(&chain, keys::encrypted_pkcs1_pem(&good.key), &ca),
        &["SKT-227", "DEK-Info", convert],
    );
    let des = good.key.private_key_to_pem_pkcs8_passphrase(Cipher::des_ede3_cbc(), b"x");
    refused(check(&chain, des.expect("it is written"), &ca), &["SKT-227", "AES", convert]);
    let scrypt = with_openssl(&good, &["-scrypt"]);
    refused(check(&chain, scrypt, &ca), &["SKT-227", "scrypt", convert]);
    let old = with_openssl(&good, &["-v1", "PBE-SHA1-3DES"]);
    refused(check(&chain, old, &ca), &["SKT-227", "PKCS#5 version 1", convert]);
    let mut archive = Pkcs12::builder();
    archive.pkey(&good.key).cert(&good.certificate).ca(Stack::new().expect("a stack"));
    let archive = archive.build2(PASSPHRASE).and_then(|archive| archive.to_der());
    let archive = archive.expect("it is written");
    refused(check(&chain, &archive, &ca), &["SKT-227", "PKCS#12", "openssl pkcs12 -in"]);
    refused(check(&archive, &archive, &ca), &["SKT-227", "agent.ssl_cert_chain_path"]);
}

#[test]
fn keys_and_signatures_are_named_all_at_once() {
    let weak = client(weak_key(1), MessageDigest::sha1());
    let root = Recipe {
        common_name: "weak root",
        key: weak_key(2),
        serial: 1,
        from: -HOUR,
        until: DAY,
        digest: MessageDigest::sha256(),
        v3: Some(V3 { ca: true, may_sign: Some(true) }),
    };
    let ca = root.mint(None).certificate_pem();
    refused(
        check(weak.certificate_pem(), weak.key_pem(), &ca),
        &["SKT-228", "CN=weak root", "CN=agent", "RSA of 1024 bits", "openssl req -new"],
    );
    let old = client(rsa_key(2), MessageDigest::sha1());
    refused(
        check(old.certificate_pem(), old.key_pem(), &pki::proper().ca),
        &["SKT-228", "sha1WithRSAEncryption", "-sha256"],
    );
    let curve =
        client(PKey::ec_gen("secp256k1").expect("OpenSSL knows it"), MessageDigest::sha256());
    refused(
        check(curve.certificate_pem(), curve.key_pem(), &pki::proper().ca),
        &["SKT-228", "secp256k1"],
    );
}

/// The key, encrypted by the `openssl` command in its own way.
fn with_openssl(pair: &Pair, options: &[&str]) -> Vec<u8> {
    let folder = support::folder::Folder::empty().file("key.pem", pair.key_pem(), 0o600);
    let (from, to) = (folder.join("key.pem"), folder.join("new.pem"));
    let mut arguments: Vec<String> = ["pkcs8", "-topk8", "-passout"].map(str::to_owned).to_vec();
    arguments.push(format!("pass:{PASSPHRASE}"));
    arguments.extend(options.iter().map(|&option| option.to_owned()));
    arguments.extend(["-in".to_owned(), from.display().to_string()]);
    arguments.extend(["-out".to_owned(), to.display().to_string()]);
    support::openssl::run(arguments).expect_code(0);
    std::fs::read(to).expect("it was written")
}
