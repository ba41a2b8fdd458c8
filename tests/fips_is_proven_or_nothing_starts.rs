//! With `agent.ssl_fips=required` skytls starts only when it is proven that a FIPS provider does the
//! work; anything less ends with exit code 2 and says which proof failed.

mod fips_provider;
mod support;
mod tls_client;

use fips_provider::Copy;
use skytls::Connector;
use skytls::error::{Code, Error, Fact};
use skytls::tls::Generation;
use support::pki;
use support::process::Finished;
use tls_client::{Agent, dial, h2_server};

/// What `skytls check` says of an agent in a folder of its own; no backend is needed.
fn check(agent: &Agent, variables: &[(&str, &str)]) -> Finished {
    let check = agent.check("127.0.0.1:1").arg("--tls-only");
    variables.iter().fold(check, |check, (name, value)| check.env(name, value)).run()
}

fn agent() -> Agent {
    Agent::trusting(pki::proper().ca).set("agent.ssl_fips", "required")
}

/// Refused, by `check` as by `run`, with this proof.
#[track_caller]
fn refused(agent: &Agent, variables: &[(&str, &str)], id: &str, words: &str) {
    let checked = check(agent, variables).expect_code(2);
    assert!(checked.stdout.contains(id) && checked.stdout.contains(words), "{}", checked.stdout);
    let relay = agent.relay("127.0.0.1:1");
    let relay = variables.iter().fold(relay, |relay, (name, value)| relay.env(name, value));
    let run = relay.run().expect_code(2);
    assert!(run.stderr.contains(id) && run.stderr.contains(words), "{}", run.stderr);
}

/// Whatever comes after the proof, it holds: the port is closed, which is the network's fault.
#[track_caller]
fn proven(agent: &Agent, variables: &[(&str, &str)]) -> String {
    let checked = check(agent, variables).expect_code(3).stdout;
    assert!(checked.contains("8 of 8 proofs"), "{checked}");
    checked
}

#[test]
fn the_provider_is_found_where_it_may_be() {
    let configured = agent().set("agent.ssl_fips_config", fips_provider::config());
    assert!(proven(&configured, &[]).contains("OpenSSL FIPS Provider 3."));
    // The file of `openssl fipsinstall` alone.
    let module = fips_provider::folder().join("fipsmodule.cnf");
    proven(&agent().set("agent.ssl_fips_config", module.display().to_string()), &[]);
    // The provider sections of the system's openssl.cnf.
    let agent = agent();
    agent.folder.replace("openssl.cnf", fips_provider::openssl_cnf(&module, "", ""), 0o644);
    let cnf = agent.folder.join("openssl.cnf").display().to_string();
    proven(&agent, &[("OPENSSL_CONF", &cnf)]);
    // OPENSSL_MODULES, where the module has its configuration beside it.
    proven(&agent, &[("OPENSSL_MODULES", &fips_provider::folder().display().to_string())]);
}

#[test]
fn without_a_provider_nothing_starts() {
    refused(&agent(), &[("OPENSSL_MODULES", "/nonexistent")], "SKT-310", "no provider fips");
    let empty = Agent::trusting(pki::proper().ca).set("agent.ssl_fips", "required");
    empty.folder.replace("empty.cnf", "x = y\n", 0o644);
    refused(&empty.set("agent.ssl_fips_config", "empty.cnf"), &[], "SKT-310", "[fips_sect]");
}

#[test]
fn a_provider_that_was_tampered_with_is_refused_by_the_proof_that_fails() {
    let with = |copy: &Copy| agent().set("agent.ssl_fips_config", copy.config());
    proven(&with(&Copy::new()), &[]);
    for copy in [
        Copy::new().with_a_flipped_bit(),
        Copy::new().with_a_wrong_configuration(),
        Copy::new().with_a_failing_self_test(),
    ] {
        refused(&with(&copy), &[], "SKT-311", "proof 3 of 8: its self-test passes");
    }
    let missing = Copy::new();
    missing.remove("fips.so");
    refused(&with(&missing), &[], "SKT-311", "proof 2 of 8: the provider fips is active");
}

#[test]
fn an_openssl_cnf_that_says_no_is_believed() {
    let agent = agent();
    let module = fips_provider::folder().join("fipsmodule.cnf");
    for no in ["fips=no", "provider=default,-fips"] {
        let text = fips_provider::openssl_cnf(&module, "", &format!("default_properties = {no}"));
        agent.folder.replace("openssl.cnf", text, 0o644);
        let cnf = agent.folder.join("openssl.cnf").display().to_string();
        refused(&agent, &[("OPENSSL_CONF", &cnf)], "SKT-311", "proof 1 of 8: fips=yes");
    }
    let yes = fips_provider::openssl_cnf(&module, "", "default_properties = fips=yes");
    agent.folder.replace("openssl.cnf", yes, 0o644);
    let cnf = agent.folder.join("openssl.cnf").display().to_string();
    proven(&agent, &[("OPENSSL_CONF", &cnf)]);
}

/// A module cannot be exchanged in a running process: what is loaded stays, and what came is refused,
/// before it could put the good one out of service.
#[test]
fn at_a_reload_the_last_good_one_is_kept() {
    let set = pki::proper();
    let server = h2_server(&set.write()).listen();
    let copy = Copy::new();
    let module = std::fs::read(copy.path("fips.so")).expect("it is there");
    let agent = Agent::trusting(&set.ca)
        .set("agent.ssl_fips", "required")
        .set("agent.ssl_fips_config", copy.config());
    let first = agent.generation();
    assert_eq!(first.description().fips.as_ref().map(|fips| fips.proofs.len()), Some(8));
    agent.generation();

    let settings = agent.settings().tls;
    let refused = || -> Error {
        let error = Generation::load(&settings).expect_err("it is refused");
        let proof = error.get(Fact::Expected).unwrap_or_default();
        assert!(error.code() == Code::FipsNotProven && proof.starts_with("proof 3"), "{error}");
        error
    };
    let copy = copy.with_a_flipped_bit();
    assert!(refused().remedy().contains("start the process again"));
    let copy = copy.with_a_wrong_configuration();
    refused();
    copy.remove("fips.so");
    refused();
    copy.put("fips.so", &module);
    refused();
    dial(Connector::from_generation(&first), "localhost", server.port()).expect("it works on");
}

#[test]
fn version_tells_the_provider_and_the_proofs() {
    let with = |name: &str, value: &str| {
        let version = support::process::Skytls::new(["version"]).env("SW_AGENT_FORCE_TLS", "true");
        let version = version.env("SW_AGENT_SSL_FIPS", "required").env(name, value);
        version.run().expect_code(0).stdout
    };
    let told = with("SW_AGENT_SSL_FIPS_CONFIG", &fips_provider::config());
    assert!(told.contains("required, and proven: OpenSSL FIPS Provider 3."), "{told}");
    assert_eq!(told.lines().filter(|line| line.trim().starts_with("proof ")).count(), 8, "{told}");
    let told = with("OPENSSL_MODULES", "/nonexistent");
    assert!(told.contains("required, not proven: SKT-310"), "{told}");
    assert!(!told.to_lowercase().contains("validated"), "{told}");
}
