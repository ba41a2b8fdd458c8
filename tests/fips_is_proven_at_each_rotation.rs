//! With `agent.ssl_fips=required` renewed files are used only if the proofs hold once more; if not, what was
//! proven stays in force.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fips_provider;
mod rotation_fixture;
mod support;

use std::error::Error as _;

use fips_provider::Copy;
use rotation_fixture::{Bed, server};
use skytls::error::{Code, Error};
use support::process::{Process, Skytls};

#[tokio::test]
async fn a_provider_that_was_changed_keeps_renewed_files_out() {
    let copy = Copy::new();
    let config = copy.config();
    let fips = [("agent.ssl_fips", "required"), ("agent.ssl_fips_config", &*config)];
    let mut bed = Bed::set(&fips, |_, _| {}, |_| {}).await;
    assert!(bed.report().await.contains("agent 1"));
    bed.renew(&bed.ca, "agent 2");
    let proofs = bed.in_use(2).await.material.fips.as_ref().map(|fips| fips.proofs.len());
    assert_eq!(proofs, Some(8));
    assert!(bed.report().await.contains("agent 2"));
    let copy = copy.with_a_wrong_configuration();
    bed.renew(&bed.ca, "agent 3");
    let not_proven = |error: &Error| {
        let cause = error.source().and_then(|source| source.downcast_ref::<Error>());
        cause.is_some_and(|cause| cause.code() == Code::FipsNotProven)
    };
    bed.until(|status| status.failure.as_ref().is_some_and(|failure| not_proven(&failure.error)))
        .await;
    assert!(bed.report().await.contains("agent 2"));
    assert_eq!(bed.status().generation, 2);
    drop(copy);
}

/// An openssl.cnf that knows nothing of FIPS.
const PLAIN: &str = "openssl_conf = init\n[init]\n";

/// A relay with the bed's certificates; its OpenSSL looks for modules in this folder.
fn relay(bed: &Bed, modules: Option<&std::path::Path>, config: Option<&str>) -> Process {
    let path = |name: &str| bed.folder.join(name).display().to_string();
    bed.folder.replace("openssl.cnf", PLAIN, 0o644);
    let mut relay = Skytls::new(["run"])
        .in_folder(bed.folder.path())
        .env("OPENSSL_CONF", path("openssl.cnf"))
        .arg("--set=agent.ssl_fips=required")
        .arg("--set=agent.ssl_reload_interval=0")
        .arg("--set=relay.listen=127.0.0.1:0")
        .arg(format!("--set=agent.ssl_trusted_ca_path={}", path("ca.crt")))
        .arg(format!("--set=agent.ssl_cert_chain_path={}", path("client.crt")))
        .arg(format!("--set=agent.ssl_key_path={}", path("client.pem")))
        .arg(format!(
            "--set=collector.backend_service={}",
            bed.collector.as_ref().unwrap().address()
        ));
    if let Some(modules) = modules {
        relay = relay.env("OPENSSL_MODULES", modules);
    }
    if let Some(config) = config {
        relay = relay.arg(format!("--set=agent.ssl_fips_config={config}"));
    }
    let relay = relay.start();
    relay.line("connected to ");
    relay
}

/// The self-test of the loaded module would read the new file, and put the module out of service.
async fn a_new_module_does_no_harm(copy: Copy, modules: Option<&std::path::Path>, config: bool) {
    let mut bed = Bed::with(|_, _| {}, |settings| settings.tls.reload_interval = None).await;
    let file = copy.config();
    let relay = relay(&bed, modules, config.then_some(&*file));
    relay.hang_up();
    relay.line("link: generation 2 is in force");
    relay.lines("connected to ", 2);
    let copy = copy.with_a_flipped_bit();
    relay.hang_up();
    let refused = relay.line("link: SKT-230");
    assert!(refused.contains("SKT-311") && refused.contains("changed after"), "{refused}");
    // The provider still works: another connection is made.
    bed.replace_collector(&server(&bed.ca)).await;
    relay.lines("connected to ", 3);
    relay.terminate();
    relay.finish().expect_code(0);
    drop(copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_module_where_the_configuration_says() {
    a_new_module_does_no_harm(Copy::new(), None, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_module_in_openssls_folder_by_a_relative_name() {
    let copy = Copy::new().with_module_line("module = fips.so");
    let modules = copy.path("");
    a_new_module_does_no_harm(copy, Some(&modules), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_module_in_openssls_folder_without_a_name() {
    let copy = Copy::new().with_module_line("");
    let modules = copy.path("");
    a_new_module_does_no_harm(copy, Some(&modules), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_module_of_a_distribution_that_needs_no_configuration() {
    let copy = Copy::new();
    let modules = copy.without_configuration();
    a_new_module_does_no_harm(copy, Some(modules.path()), false).await;
}
