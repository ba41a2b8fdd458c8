//! A distribution's own FIPS set-up is taken as it is: a provider that needs no fipsmodule.cnf, named in
//! `openssl.cnf` or not, with `default` listed beside it.
//!
//! RHEL's provider is imitated by upstream's behind a module that tells it its checksum.

mod fips_provider;
mod support;
mod tls_client;

use std::path::Path;

use support::pki;
use support::process::Finished;
use tls_client::Agent;

/// As RHEL lays it out, without and with the provider's own section.
const WITHOUT: &str = "openssl_conf = openssl_init\n[openssl_init]\nproviders = provider_sect\nssl_conf = \
    ssl_module\n[provider_sect]\ndefault = default_sect\n[default_sect]\nactivate = 1\n[ssl_module]\n\
    system_default = crypto_policy\n[crypto_policy]\nCipherString = @SECLEVEL=2:kEECDH:kEDH\n\
    TLS.MinProtocol = TLSv1.2\n";
const WITH: &str = "openssl_conf = openssl_init\n[openssl_init]\nproviders = provider_sect\nalg_section = \
    evp_properties\n[provider_sect]\ndefault = default_sect\nfips = fips_sect\nbase = base_sect\n\
    [default_sect]\nactivate = 1\n[fips_sect]\nactivate = 1\n[base_sect]\nactivate = 1\n[evp_properties]\n\
    default_properties = fips=yes\n";

fn check(modules: &Path, cnf: &str) -> Finished {
    let agent = Agent::trusting(pki::proper().ca).set("agent.ssl_fips", "required");
    agent.folder.replace("openssl.cnf", cnf, 0o644);
    let check = agent.check("127.0.0.1:1").arg("--tls-only");
    check
        .env("OPENSSL_CONF", agent.folder.join("openssl.cnf"))
        .env("OPENSSL_MODULES", modules)
        .run()
}

#[test]
fn a_provider_that_brings_its_checksum_along_is_proven() {
    let own = fips_provider::without_configuration();
    for cnf in [WITHOUT, WITH] {
        // The port is closed, which is the network's fault: everything before it holds.
        let told = check(own.path(), cnf).expect_code(3).stdout;
        assert!(told.contains("OpenSSL FIPS Provider") && told.contains("8 of 8 proofs"), "{told}");
    }
}

#[test]
fn one_that_does_not_is_refused() {
    let bare = tempfile::tempdir().expect("there is room");
    let module = fips_provider::folder().join("fips.so");
    std::fs::copy(module, bare.path().join("fips.so")).expect("there is room");
    for (cnf, id) in [(WITHOUT, "SKT-310"), (WITH, "SKT-311")] {
        let told = check(bare.path(), cnf).expect_code(2).stdout;
        assert!(told.contains(id), "{told}");
    }
}
