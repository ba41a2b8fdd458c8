//! With `agent.ssl_fips=required` renewed files are used only if the proofs hold once more; if not, what was
//! proven stays in force.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fips_provider;
mod rotation_fixture;
mod support;

use std::error::Error as _;

use fips_provider::Copy;
use rotation_fixture::Bed;
use skytls::error::{Code, Error};

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
