//! A server whose certificate is below an intermediate one, and what is said about it: revocation lists, and
//! OCSP answers that it staples.
//!
//! What they lead to is said in the tests.

#![allow(dead_code, clippy::unwrap_used, reason = "every test file uses a part of it")]

use std::fs;

use ::openssl::pkey::{PKey, Private};
use skytls::pki::{Authority, Identity, Leaf, Profile};
use tempfile::TempDir;

use crate::support::crl::List;
use crate::support::openssl::{self, Peer, Server};
use crate::support::pki::MINTED;
use crate::support::verdict::{self, Pair};

/// Root, intermediate, leaf; the server sends the latter two.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) root: Authority,
    pub(crate) middle: Authority,
    pub(crate) identity: Identity,
    pub(crate) server: Server,
}

// === impl World ===

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Authority::new(&Profile::new("test root").expect(MINTED)).unwrap();
        let middle = root.intermediate(&Profile::new("test intermediate").expect(MINTED)).unwrap();
        let identity = middle.issue(&Leaf::server(["localhost"]).expect(MINTED)).unwrap();
        let stranger = Authority::new(&Profile::new("stranger").expect(MINTED)).unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("root.crt", root.certificate_pem());
        put("middle.crt", middle.certificate_pem());
        put("stranger.crt", stranger.certificate_pem());
        put("server.crt", identity.chain_pem());
        put("leaf.crt", identity.certificate_pem());
        put("server.pem", identity.key_pem());
        let at = |name: &str| folder.path().join(name);
        let server = Peer::server(at("server.crt"), at("server.pem")).h2().listen();
        Self { folder, root, middle, identity, server }
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::server(self.at("server.crt"), self.at("server.pem")).h2()
    }

    pub(crate) fn ca(&self, name: &str) -> Pair {
        ("agent.ssl_trusted_ca_path", self.at(name))
    }

    pub(crate) fn crl(&self, name: &str) -> Pair {
        ("agent.ssl_crl_path", self.at(name))
    }

    pub(crate) fn root_list(&self) -> List<'_> {
        List::of(&self.root)
    }

    pub(crate) fn middle_list(&self) -> List<'_> {
        List::of(&self.middle)
    }

    pub(crate) fn connect(&self, ca: &str, lists: Option<&str>) -> String {
        let Some(lists) = lists else { return self.connect_with(ca, &[]) };
        fs::write(self.at("lists"), lists).unwrap();
        self.connect_with(ca, &[self.crl("lists")])
    }

    pub(crate) fn connect_with(&self, ca: &str, pairs: &[Pair]) -> String {
        let pairs = [&[self.ca(ca)], pairs].concat();
        verdict::of(&self.server, &pairs)
    }

    /// An answer about the leaf, made by `openssl ocsp`: `V`, `R`, or nothing in its index.
    pub(crate) fn answer(&self, name: &str, status: &str, signer: &Authority) -> String {
        self.answer_by(name, status, (signer.certificate_pem(), signer.key_pem()), "sha256")
    }

    /// A certificate of the intermediate with this extendedKeyUsage, and its key.
    pub(crate) fn delegate(&self, usage: &str) -> (String, String) {
        self.delegate_with(usage, &crate::support::pki::ec_key())
    }

    pub(crate) fn delegate_with(&self, usage: &str, key: &PKey<Private>) -> (String, String) {
        fs::write(self.at("request"), crate::support::keys::request_pem(key)).unwrap();
        fs::write(self.at("extensions"), format!("extendedKeyUsage={usage}\n")).unwrap();
        fs::write(self.at("middle.pem"), self.middle.key_pem()).unwrap();
        let done = openssl::run([
            "x509",
            "-req",
            "-in",
            &self.at("request"),
            "-CA",
            &self.at("middle.crt"),
            "-CAkey",
            &self.at("middle.pem"),
            "-set_serial",
            "99",
            "-days",
            "2",
            "-extfile",
            &self.at("extensions"),
            "-out",
            &self.at("delegate.crt"),
        ]);
        assert_eq!(done.code, 0, "{done:?}");
        let key = String::from_utf8(crate::support::keys::pkcs8_pem(key)).unwrap();
        (fs::read_to_string(self.at("delegate.crt")).unwrap(), key)
    }

    /// The same by whoever signs, certificate and key, with this digest.
    pub(crate) fn answer_by(
        &self,
        name: &str,
        status: &str,
        (signer, key): (&str, &str),
        digest: &str,
    ) -> String {
        let serial = self.identity.certificate().serial_number().to_bn().unwrap();
        let serial = serial.to_hex_str().unwrap();
        let revoked = if status == "R" { "250101000000Z" } else { "" };
        let line =
            format!("{status}\t401231000000Z\t{revoked}\t{serial}\tunknown\t/CN=localhost\n");
        let line = if status.is_empty() { String::new() } else { line };
        fs::write(self.at("index"), line).unwrap();
        fs::write(self.at("signer.crt"), signer).unwrap();
        fs::write(self.at("signer.pem"), key).unwrap();
        let done = openssl::run([
            "ocsp",
            "-index",
            &self.at("index"),
            "-CA",
            &self.at("middle.crt"),
            "-issuer",
            &self.at("middle.crt"),
            "-cert",
            &self.at("leaf.crt"),
            "-rsigner",
            &self.at("signer.crt"),
            "-rkey",
            &self.at("signer.pem"),
            "-rmd",
            digest,
            "-ndays",
            "1",
            "-respout",
            &self.at(name),
            "-noverify",
        ]);
        assert_eq!(done.code, 0, "{done:?}");
        self.at(name)
    }
}
