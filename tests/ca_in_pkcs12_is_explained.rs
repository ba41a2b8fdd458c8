//! CA certificates in a PKCS#12, such as a Java trust store, are refused with the command that takes them
//! out; what the command makes is accepted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;

use openssl::pkcs12::Pkcs12;
use openssl::stack::Stack;
use openssl::x509::X509;
use skytls::tls::Generation;
use support::openssl::{Peer, run};
use support::{pki, verdict};

#[test]
fn the_command_of_the_remedy_makes_a_file_that_is_accepted() {
    let set = pki::proper();
    let files = set.write();
    let store = files.folder().join("truststore");
    let mut certificates = Stack::new().unwrap();
    certificates.push(X509::from_pem(set.ca.as_bytes()).unwrap()).unwrap();
    let archive = Pkcs12::builder().ca(certificates).build2("changeit").unwrap();
    fs::write(&store, archive.to_der().unwrap()).unwrap();

    let ca = |path: &str| ("agent.ssl_trusted_ca_path", path.to_owned());
    let path = store.display().to_string();
    let error = Generation::load(&verdict::settings([ca(&path)]).unwrap()).unwrap_err();
    assert_eq!((error.id(), error.exit_code()), ("SKT-207".into(), 2), "{error:?}");
    assert!(error.to_string().contains("found DER PKCS#12"), "{error}");

    let (_, command) = error.remedy().split_once("openssl ").unwrap();
    let command = command.replace("FILE", &path);
    let done = run(command.split(' ').chain(["-passin", "pass:changeit"]));
    assert_eq!(done.code, 0, "{done:?}");
    let server = Peer::server(&files.server, &files.server_key).h2().listen();
    assert_eq!(verdict::of(&server, &[ca(&format!("{path}.crt"))]), "connected");
}
