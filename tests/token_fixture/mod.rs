//! A SoftHSM token, and `skytls check` with its key.
//!
//! Every call of the token goes through OpenSC's spy, which writes down the logins. What has to come out is said
//! in the tests. `ci/hsm` sets the environment up.

#![allow(dead_code)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::openssl::Server;
use crate::support::pki::{self, Files, Set};
use crate::support::process::{Finished, Process, Skytls, clean};
use crate::tls_client::{Agent, h2_server};

pub(crate) const KEY: &str = "pkcs11:token=agent;object=client";
pub(crate) const PIN: &str = "1234";

/// A SoftHSM token with the client's key, certificate and CA; the files of both are gone.
pub(crate) struct Token {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) set: Set,
    pub(crate) files: Files,
}

pub(crate) fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ci/hsm"))
}

// === impl Token ===

impl Token {
    pub(crate) fn new() -> Self {
        let set = pki::proper();
        let token =
            Self { folder: tempfile::tempdir().expect("there is room"), files: set.write(), set };
        fs::create_dir(token.path("tokens")).expect("there is room");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            token.path("tokens").display()
        );
        fs::write(token.path("softhsm2.conf"), text).expect("there is room");
        token.write_openssl_cnf(&environment("SKYTLS_PKCS11_SPY"), "");
        token.tool(
            "softhsm2-util",
            &["--init-token", "--free", "--label", "agent", "--pin", PIN, "--so-pin", "567890"],
        );
        let key = token.files.client_key.display().to_string();
        let import = ["--import", &key, "--token", "agent", "--label", "client", "--id", "01"];
        token.tool("softhsm2-util", &[&import[..], &["--pin", PIN]].concat());
        for (label, pem, id) in [("client", &token.set.client, "01"), ("ca", &token.set.ca, "02")] {
            let certificate = openssl::x509::X509::from_pem(pem.as_bytes()).expect("it is one");
            let der = token.path(label);
            fs::write(&der, certificate.to_der().expect("it is one")).expect("there is room");
            let (module, der) = (environment("SKYTLS_PKCS11_MODULE"), der.display().to_string());
            let write = ["--module", &module, "--login", "--pin", PIN, "--write-object", &der];
            let what = ["--type", "cert", "--label", label, "--id", id, "--token-label", "agent"];
            token.tool("pkcs11-tool", &[&write[..], &what].concat());
        }
        fs::remove_file(&token.files.client_key).expect("it is there");
        token
    }

    /// With this module behind OpenSSL's provider, and more lines for it.
    pub(crate) fn write_openssl_cnf(&self, module: &str, more: &str) {
        let text = format!(
            "openssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = default_sect\n\
             pkcs11 = pkcs11_sect\n[default_sect]\nactivate = 1\n[pkcs11_sect]\nmodule = {}\n\
             pkcs11-module-path = {module}\n{more}\n",
            environment("SKYTLS_PKCS11_PROVIDER")
        );
        fs::write(self.path("openssl.cnf"), text).expect("there is room");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments);
        clean(&mut command);
        command.env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        Process::start(command, Stdio::null()).finish().expect_code(0);
    }

    pub(crate) fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    pub(crate) fn serve_with(&self, options: &[&str]) -> Server {
        let peer = h2_server(&self.files).verify(&self.files.ca);
        options.iter().fold(peer, |peer, option| peer.flag(option)).listen()
    }

    /// `skytls check` with a URI as the key, in the environment of the token.
    pub(crate) fn check(&self, key: &str, port: u16) -> (Agent, Skytls) {
        let agent = Agent::trusting(&self.set.ca)
            .set("agent.ssl_provider", "pkcs11")
            .set("agent.ssl_key_path", key)
            .set("agent.ssl_cert_chain_path", "/ca/client.crt");
        agent.folder.replace("ca/client.crt", &self.set.client, 0o644);
        let check = agent.check(format!("localhost:{port}")).arg("--tls-only");
        let check = self.around(check).env("PKCS11SPY", environment("SKYTLS_PKCS11_MODULE"));
        (agent, check)
    }

    /// A command in the environment of the token.
    fn around(&self, command: Skytls) -> Skytls {
        command
            .env("OPENSSL_CONF", self.path("openssl.cnf"))
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .env("PKCS11SPY_OUTPUT", self.path("spy.log"))
    }

    /// The same with [`fault`](Self::fault) in force.
    pub(crate) fn faulty(&self, command: Skytls) -> Skytls {
        self.around(command)
            .env("PKCS11SPY", self.path("faulty.so"))
            .env("FAULTY_TOKEN", self.path("fault"))
            .env("SKYTLS_PKCS11_MODULE", environment("SKYTLS_PKCS11_MODULE"))
    }

    /// What is wrong with the token from now on: `removed`, `sessions`, `pin`, or nothing.
    pub(crate) fn fault(&self, what: &str) {
        let module = self.path("faulty.so");
        if !module.exists() {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/token_fixture/faulty.c");
            let module = module.display().to_string();
            self.tool("cc", &["-shared", "-fPIC", "-o", &module, source, "-ldl"]);
        }
        let draft = self.path("fault.new");
        fs::write(&draft, what).expect("there is room");
        fs::rename(draft, self.path("fault")).expect("it is ours");
    }

    pub(crate) fn run(&self, key: &str, pin: Option<&str>, port: u16) -> Finished {
        let (_agent, check) = self.check(key, port);
        let finished = match pin {
            Some(pin) => check.env("SW_AGENT_SSL_KEY_PASSPHRASE", pin).run(),
            None => check.run(),
        };
        let shown = format!("{}{}", finished.stdout, finished.stderr);
        assert!(!shown.contains(PIN) && !shown.contains("Enter"), "{shown}");
        finished
    }

    /// The results of all logins since the last question.
    pub(crate) fn logins(&self) -> Vec<String> {
        let path = self.path("spy.log");
        let log = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let calls = log.split("\n\n").filter(|call| call.contains("C_Login\n"));
        let result = |call: &str| {
            let line = call.lines().find(|line| line.starts_with("Returned:"));
            line.and_then(|line| line.split(' ').next_back()).unwrap_or_default().to_owned()
        };
        calls.map(result).collect()
    }
}
