//! Files that are renewed while the process runs are put in force: the backend sees the new certificate,
//! the old connection goes, and no record is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rotation_fixture;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use openssl::pkey::PKeyRef;
use openssl::symm::Cipher;
use rotation_fixture::*;
use skytls::error::Code;
use skytls::pki::{Identity, Leaf, Validity};
use support::crl::List;

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn key_and_chain() {
    let mut bed = Bed::new().await;
    assert!(bed.report().await.contains("agent 1"));
    let own = bed.renew(&bed.ca, "agent 2");
    let status = bed.until(|status| status.generation == 2).await;
    let serial = own.certificate().serial_number().to_bn().unwrap().to_hex_str().unwrap();
    assert_eq!(status.material.chain[0].serial, serial.to_string());
    within(bed.engine.transport().retired_before(2)).await;
    assert!(bed.report().await.contains("agent 2"));
    assert_eq!(bed.engine.transport().connections(), BTreeMap::from([(2, 1)]));
    assert_eq!((bed.connections(), bed.status().failure.is_none()), (2, true));
}

#[tokio::test]
async fn files_that_are_written_again_as_they_were_change_nothing() {
    let mut bed = Bed::new().await;
    bed.report().await;
    for name in ["ca.crt", "client.crt", "client.pem"] {
        let content = fs::read(bed.folder.join(name)).unwrap();
        bed.folder.replace(name, content, 0o600);
    }
    // Proven by what comes after: there was no generation between.
    bed.renew(&bed.ca, "agent 2");
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
    assert_eq!((bed.status().generation, bed.connections()), (2, 2));
}

#[tokio::test]
async fn the_ca_by_way_of_both() {
    let mut bed = Bed::new().await;
    bed.report().await;
    let next = authority("ca 2");
    let both = format!("{}{}", bed.ca.certificate_pem(), next.certificate_pem());
    bed.folder.replace("ca.crt", both, 0o644);
    assert_eq!(bed.in_use(2).await.material.ca.len(), 2);
    bed.report().await;
    bed.replace_collector(&server(&next)).await;
    bed.report().await;
    bed.folder.replace("ca.crt", next.certificate_pem(), 0o644);
    assert_eq!(bed.in_use(3).await.material.ca.len(), 1);
    bed.report().await;
    let total = bed.settled().await.total;
    assert_eq!((total.accepted, total.possibly_duplicated), (4, 0));
}

#[tokio::test]
async fn a_ca_that_refuses_the_backend_ends_the_link_within_the_drain_bound() {
    let mut bed = Bed::with(|_, _| {}, |settings| settings.tls.drain_timeout = SHORT).await;
    bed.report().await;
    let begun = Instant::now();
    bed.folder.replace("ca.crt", authority("ca 2").certificate_pem(), 0o644);
    bed.until(|status| status.generation == 2).await;
    let reason = bed.misconfigured().await;
    assert_eq!(reason.code(), Code::CertificateUntrusted, "{reason:?}");
    within(bed.engine.transport().retired_before(2)).await;
    assert!(begun.elapsed() >= SHORT, "it was given no time: {:?}", begun.elapsed());
    // What was accepted meanwhile waits, and travels once the CA is right again.
    bed.accept(3).await;
    bed.folder.replace("ca.crt", bed.ca.certificate_pem(), 0o644);
    bed.in_use(3).await;
    bed.report().await;
}

#[tokio::test]
async fn a_list_that_revokes_the_backend_ends_the_link_and_sessions_do_not_help() {
    let mut bed = Bed::set(
        &[("agent.ssl_crl_path", "FOLDER/ca.crl")],
        |folder, ca| folder.replace("ca.crl", List::of(ca).pem(), 0o644),
        |settings| settings.tls.drain_timeout = SHORT,
    )
    .await;
    bed.report().await;
    let good = server(&bed.ca);
    bed.replace_collector(&good).await;
    bed.report().await;
    bed.folder.replace("ca.crl", List::of(&bed.ca).revoke(good.certificate()).pem(), 0o644);
    bed.until(|status| status.material.crls[0].revoked == 1).await;
    let reason = bed.misconfigured().await;
    assert_eq!(reason.code(), Code::CertificateRevoked, "{reason:?}");
    within(bed.engine.transport().retired_before(2)).await;
    bed.accept(1).await;
    let another = server(&bed.ca);
    bed.replace_collector(&another).await;
    // Whoever has mended it need not wait for the pause to end.
    assert_eq!(bed.engine.reload().unwrap().unwrap().generation, 3);
    bed.report().await;
}

#[tokio::test]
async fn a_key_with_its_passphrase_file() {
    let mut bed = Bed::set(
        &[("agent.ssl_key_passphrase_path", "FOLDER/passphrase")],
        |folder, ca| encrypted(folder, &client(ca, "agent 1"), "one"),
        |_| {},
    )
    .await;
    assert!(bed.report().await.contains("agent 1"));
    encrypted(&bed.folder, &client(&bed.ca, "agent 2"), "two");
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
}

#[tokio::test]
async fn a_secret_of_kubernetes_that_is_swapped_by_one_link() {
    let versions = |folder: &support::folder::Folder, version: &str, own: &Identity, ca: &str| {
        folder.replace(&format!("..{version}/ca.crt"), ca, 0o644);
        folder.replace(&format!("..{version}/client.crt"), own.chain_pem(), 0o644);
        folder.replace(&format!("..{version}/client.pem"), own.key_pem(), 0o600);
    };
    let mut bed = Bed::with(
        |folder, ca| {
            versions(folder, "v1", &client(ca, "agent 1"), ca.certificate_pem());
            symlink("..v1", folder.join("..data")).unwrap();
            for name in ["ca.crt", "client.crt", "client.pem"] {
                folder.remove(name);
                symlink(format!("..data/{name}"), folder.join(name)).unwrap();
            }
        },
        |_| {},
    )
    .await;
    assert!(bed.report().await.contains("agent 1"));
    versions(&bed.folder, "v2", &client(&bed.ca, "agent 2"), bed.ca.certificate_pem());
    symlink("..v2", bed.folder.join("..data_tmp")).unwrap();
    fs::rename(bed.folder.join("..data_tmp"), bed.folder.join("..data")).unwrap();
    // As the kubelet does.
    fs::remove_dir_all(bed.folder.join("..v1")).unwrap();
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
    assert_eq!(bed.status().refused, 0, "{:?}", bed.status());
}

#[tokio::test]
async fn a_certificate_that_had_expired_at_the_start() {
    let expired = Leaf::client("agent 1").unwrap().valid(Validity::relative(-7200, -3600));
    let mut bed = Bed::with(
        |folder, ca| {
            let own = ca.issue(&expired).unwrap();
            folder.replace("client.crt", own.chain_pem(), 0o644);
            folder.replace("client.pem", own.key_pem(), 0o600);
        },
        |_| {},
    )
    .await;
    assert!(bed.status().material.warnings[0].contains("SKT-212"), "{:?}", bed.status());
    // It runs and accepts.
    bed.accept(5).await;
    assert_eq!(bed.misconfigured().await.code(), Code::ClientCertificateRefused);
    bed.renew(&bed.ca, "agent 2");
    bed.in_use(2).await;
    assert!(bed.report().await.contains("agent 2"));
    assert_eq!(bed.settled().await.total.accepted, 6);
}

#[tokio::test]
async fn at_once_when_it_is_asked_for() {
    let mut bed = Bed::with(|_, _| {}, |settings| settings.tls.reload_interval = None).await;
    bed.report().await;
    bed.renew(&bed.ca, "agent 2");
    assert_eq!(bed.rotator().reload().await.unwrap().generation, 2);
    within(bed.engine.transport().retired_before(2)).await;
    assert!(bed.report().await.contains("agent 2"));
    // Also without a change: the system's store, a token, a provider may have one.
    assert_eq!(bed.engine.reload().unwrap().unwrap().generation, 3);
    bed.in_use(3).await;
    bed.report().await;
}

fn encrypted(folder: &support::folder::Folder, own: &Identity, passphrase: &str) {
    let key: &PKeyRef<_> = own.key();
    let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), passphrase.as_bytes());
    folder.replace("client.crt", own.chain_pem(), 0o644);
    folder.replace("client.pem", pem.unwrap(), 0o600);
    folder.replace("passphrase", passphrase, 0o600);
}
