//! FIPS narrows the policy of `openssl.cnf` and never widens it: what the file refuses stays refused,
//! and its `ssl_conf` is in force once, although the provider comes from the same file.
//!
//! OpenSSL reads its file once per process: each handshake is `skytls check` in one of its own.

mod fips_provider;
mod support;
mod tls_client;

use serde_json::Value;
use support::openssl::Server;
use support::pki::{self, Set};
use tls_client::{Agent, h2_server};

/// The name of a policy, and the lines of its section.
const POLICIES: [(&str, &str); 12] = [
    ("nothing", ""),
    ("min 1.3", "MinProtocol = TLSv1.3"),
    ("max 1.2", "MaxProtocol = TLSv1.2"),
    ("prefixed, as RHEL writes it", "TLS.MinProtocol = TLSv1.3\nDTLS.MinProtocol = DTLSv1.2"),
    ("AES-256 only", "CipherString = AES256\nMaxProtocol = TLSv1.2"),
    ("AES-128 only", "CipherString = AES128\nMaxProtocol = TLSv1.2"),
    ("no forward secrecy", "CipherString = kRSA\nMaxProtocol = TLSv1.2"),
    ("one suite of 1.3", "Ciphersuites = TLS_CHACHA20_POLY1305_SHA256"),
    ("P-384 only", "Groups = P-384"),
    ("X25519 first", "Groups = X25519:P-521"),
    ("level 3", "CipherString = DEFAULT:@SECLEVEL=3"),
    ("level 1", "CipherString = DEFAULT:@SECLEVEL=1"),
];

/// The name of a server's settings, and the settings.
const SERVERS: [(&str, &[&str]); 4] = [
    ("any", &[]),
    ("1.2 with AES-128", &["-tls1_2", "-cipher", "ECDHE+AES128"]),
    ("1.3 with P-256", &["-tls1_3", "-groups", "P-256"]),
    ("P-384 before X25519", &["-groups", "P-384:X25519", "-serverpref"]),
];

/// Refused, or version, cipher and group.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused(i64),
    Agreed([String; 3]),
}

fn outcome(set: &Set, options: &[&str], policy: &str, fips: bool) -> Outcome {
    let files = set.write();
    let peer = h2_server(&files);
    let server: Server = options.iter().fold(peer, |peer, option| peer.flag(option)).listen();
    let agent = Agent::trusting(&set.ca);
    let agent = if fips { agent.set("agent.ssl_fips", "required") } else { agent };
    let module = fips_provider::folder().join("fipsmodule.cnf");
    agent.folder.replace("openssl.cnf", fips_provider::openssl_cnf(&module, policy, ""), 0o644);
    let cnf = agent.folder.join("openssl.cnf").display().to_string();
    // Without FIPS the file must not load the provider, which would be the only one then.
    let plain = format!(
        "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = policy\n[policy]\n{policy}\n"
    );
    if !fips {
        agent.folder.replace("openssl.cnf", plain, 0o644);
    }
    let check = agent.check(format!("localhost:{}", server.port()));
    let check = check.arg("--tls-only").arg("--json").env("OPENSSL_CONF", cnf);
    let finished = check.run();
    let report: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error} with {policy:?}: {finished:?}"));
    let exit = report["exit"].as_i64().expect("a code");
    if exit != 0 {
        return Outcome::Refused(exit);
    }
    let tls = &report["backends"][0]["tls"];
    let word = |name: &str| tls[name].as_str().unwrap_or_default().to_owned();
    Outcome::Agreed(["protocol", "cipher", "group"].map(word))
}

fn approved([_, cipher, group]: &[String; 3]) -> bool {
    cipher.contains("AES")
        && (cipher.starts_with("TLS_") || cipher.contains("DHE-"))
        && group.starts_with("secp")
}

#[test]
fn every_policy_holds_with_fips_too() {
    let set = pki::proper();
    let (mut agreed, mut narrowed) = (0, 0);
    for (policy, lines) in POLICIES {
        for (name, options) in SERVERS {
            let without = outcome(&set, options, lines, false);
            let with = outcome(&set, options, lines, true);
            let what = format!("{policy}, server {name}: {without:?} without, {with:?} with");
            match (&without, &with) {
                (_, Outcome::Agreed(seen)) => {
                    agreed += 1;
                    assert!(approved(seen), "{what}");
                    // What the file allows is all there is: the version is the same.
                    let Outcome::Agreed(before) = &without else { panic!("widened: {what}") };
                    assert_eq!(before[0], seen[0], "{what}");
                    if approved(before) {
                        assert_eq!(before, seen, "{what}");
                    }
                }
                (Outcome::Agreed(before), Outcome::Refused(exit)) => {
                    narrowed += 1;
                    let nothing_left = ["one suite of 1.3", "no forward secrecy"].contains(&policy);
                    assert!(nothing_left || !approved(before), "{what}");
                    assert!([2, 4].contains(exit), "{what}");
                }
                (Outcome::Refused(_), Outcome::Refused(_)) => {}
            }
        }
    }
    assert!(agreed >= 20 && narrowed >= 2, "{agreed} agreed, {narrowed} narrowed");
}
