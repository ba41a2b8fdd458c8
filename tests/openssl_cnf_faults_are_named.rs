//! What OpenSSL passes over in silence is named: an `openssl.cnf` that is missing, unreadable or broken,
//! and lines of it that have no effect.
//!
//! A file that `OPENSSL_CONF` names must be right; the one of the machine may have lines for others.

mod support;

use std::process::{Command, Stdio};

use support::folder::Folder;
use support::pki::{self, Files};
use support::process::{Finished, Process, Skytls, clean};

const HEAD: &str = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = policy\n";

struct Bed {
    files: Files,
    folder: Folder,
}

// === impl Bed ===

impl Bed {
    fn new() -> Self {
        Self { files: pki::proper().write(), folder: Folder::empty() }
    }

    fn path(&self) -> String {
        self.folder.join("openssl.cnf").display().to_string()
    }

    /// `skytls run` with this value of `OPENSSL_CONF`, to its end.
    fn run(&self, conf: &str) -> Finished {
        self.skytls().env("OPENSSL_CONF", conf).run()
    }

    /// Runs until it is ready, and gives back what it said.
    fn ready(&self, conf: &str) -> String {
        let process = self.skytls().env("OPENSSL_CONF", conf).start();
        process.line("listening on ");
        process.terminate();
        process.finish().expect_code(0).stderr
    }

    fn skytls(&self) -> Skytls {
        Skytls::new(["run"])
            .arg("--set=collector.backend_service=127.0.0.1:1")
            .arg("--set=relay.listen=127.0.0.1:0")
            .arg("--set=relay.drain_timeout=0")
            .env("SW_AGENT_SSL_TRUSTED_CA_PATH", &self.files.ca)
    }
}

fn version(conf: &str) -> String {
    Skytls::new(["version"]).env("OPENSSL_CONF", conf).run().expect_code(0).stdout
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let bed = Bed::new();
    let path = bed.path();
    let run = bed.run(&path).expect_code(2);
    assert!(run.stderr.contains("SKT-303") && run.stderr.contains(&path), "{}", run.stderr);
    assert!(version(&path).contains(&format!("{path} (missing; named by OPENSSL_CONF)")));
    // Its twin.
    bed.folder.replace("openssl.cnf", "", 0o644);
    bed.ready(&path);
    assert!(version(&path).contains(&format!("{path} (read; named by OPENSSL_CONF)")));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let bed = Bed::new();
    let folder = bed.folder.path().display().to_string();
    let run = bed.run(&folder).expect_code(2);
    assert!(run.stderr.contains("SKT-303") && run.stderr.contains("directory"), "{}", run.stderr);
    assert!(version(&folder).contains("(unreadable; named by OPENSSL_CONF)"));

    // Without the privilege of root to read everything, if the tests run as root.
    bed.folder.replace("openssl.cnf", "", 0o000);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_skytls")]);
    command.arg("version");
    clean(&mut command);
    command.env("OPENSSL_CONF", bed.path());
    let text = Process::start(command, Stdio::null()).finish().expect_code(0).stdout;
    assert!(text.contains("(unreadable; named") && text.contains("ermission denied"), "{text}");
}

#[test]
fn a_file_that_cannot_be_parsed_is_named_with_its_line() {
    let bed = Bed::new();
    bed.folder.replace("openssl.cnf", format!("{HEAD}[policy]\nMinProtocol TLSv1.3\n"), 0o644);
    let run = bed.run(&bed.path()).expect_code(2);
    for word in ["SKT-304", "OPENSSL_CONF", "line 7", "equal sign"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    let text = version(&bed.path());
    assert!(text.contains("(broken; named") && text.contains("equal sign"), "{text}");
}

#[test]
fn nothing_and_an_empty_device_mean_no_file() {
    let bed = Bed::new();
    for conf in ["", "/dev/null"] {
        let said = bed.ready(conf);
        assert!(!said.contains("SKT-30"), "{said}");
    }
    assert!(version("").contains("none: OPENSSL_CONF is empty"));
}

#[test]
fn sections_and_lines_without_effect_are_named() {
    let bed = Bed::new();
    for (text, id, words) in [
        ("openssl_conf = nowhere\n".to_owned(), "SKT-304", ["openssl_conf = nowhere", "[nowhere]"]),
        (
            "openssl_conf = init\n[init]\nssl_conf = nowhere\n".to_owned(),
            "SKT-304",
            ["ssl_conf = nowhere", "[nowhere]"],
        ),
        (HEAD.to_owned(), "SKT-304", ["system_default = policy", "[policy]"]),
        (
            format!("{HEAD}[policy]\nMinProtocol = TLSv9\n"),
            "SKT-305",
            ["MinProtocol = TLSv9 in [policy]", "bad value"],
        ),
        (
            format!("{HEAD}[policy]\nMinProtocol = TLSv1.2\nMinProtocoll = TLSv1.3\n"),
            "SKT-305",
            ["MinProtocoll = TLSv1.3 in [policy]", "a command this OpenSSL knows"],
        ),
        (
            format!("{HEAD}[policy]\nCipherString = NOPE\n"),
            "SKT-305",
            ["CipherString = NOPE", "no cipher match"],
        ),
        (
            format!("{HEAD}[policy]\nGroups = X25519:nope\n"),
            "SKT-305",
            ["Groups = X25519:nope", "bad value"],
        ),
        // A section before ssl_conf that cannot be set up keeps OpenSSL from coming to it.
        (
            format!("{HEAD}[policy]\nMinProtocol = TLSv1.3\n")
                .replace("[init]\n", "[init]\nno_such_module = nowhere\n"),
            "SKT-305",
            ["[policy] is not in force", "put ssl_conf first"],
        ),
    ] {
        bed.folder.replace("openssl.cnf", &text, 0o644);
        let run = bed.run(&bed.path()).expect_code(2);
        let listed = version(&bed.path());
        for word in words.into_iter().chain([id]) {
            assert!(run.stderr.contains(word), "{word} after\n{text}{}", run.stderr);
            assert!(listed.contains(word), "{word} after\n{text}{listed}");
        }
    }
}

#[test]
fn lines_for_servers_and_for_dtls_are_no_fault() {
    let bed = Bed::new();
    let lines = "Options = ServerPreference,PrioritizeChaCha\nDTLS.MinProtocol = DTLSv1.2\nNumTickets = 1\nTLS.MaxProtocol = TLSv1.3\n";
    bed.folder.replace("openssl.cnf", format!("{HEAD}[policy]\n{lines}"), 0o644);
    let said = bed.ready(&bed.path());
    assert!(!said.contains("SKT-30"), "{said}");
    let text = version(&bed.path());
    assert!(text.contains("system_default TLS.MaxProtocol = TLSv1.3"), "{text}");
}

#[test]
fn what_only_a_distributions_own_openssl_knows_is_a_warning_with_the_remedy() {
    let bed = Bed::new();
    bed.folder.replace(
        "openssl.cnf",
        format!("{HEAD}[policy]\nCipherString = PROFILE=SYSTEM\nMinProtocol = TLSv1.2\n"),
        0o644,
    );
    let said = bed.ready(&bed.path());
    for word in ["SKT-305", "PROFILE=SYSTEM", "Fedora and RHEL", "agent.ssl_ciphers"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // As RHEL has it, after ssl_conf: the policy is in force all the same.
    let after = "openssl_conf = init\n[init]\nssl_conf = ssl\nalg_section = evp\n\
         [ssl]\nsystem_default = policy\n[evp]\nrh-allow-sha1-signatures = yes\n\
         [policy]\nMinProtocol = TLSv1.2\n";
    bed.folder.replace("openssl.cnf", after, 0o644);
    let said = bed.ready(&bed.path());
    for word in ["SKT-305", "rh-allow-sha1-signatures = yes in [evp]", "Fedora and RHEL"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // Before it, OpenSSL never comes to the policy.
    let before =
        after.replace("ssl_conf = ssl\nalg_section = evp", "alg_section = evp\nssl_conf = ssl");
    bed.folder.replace("openssl.cnf", before, 0o644);
    let run = bed.run(&bed.path()).expect_code(2);
    for word in ["SKT-305", "[policy] is not in force", "rh-allow-sha1-signatures = yes in [evp]"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
}

#[test]
fn an_include_that_is_not_there_is_a_warning() {
    let bed = Bed::new();
    let text =
        format!("{HEAD}[policy]\n.include = /nonexistent/policy.config\nMinProtocol = TLSv1.2\n");
    bed.folder.replace("openssl.cnf", text, 0o644);
    let said = bed.ready(&bed.path());
    assert!(said.contains("SKT-305") && said.contains("/nonexistent/policy.config"), "{said}");
}

#[test]
fn plaintext_asks_nothing_of_openssl() {
    let bed = Bed::new();
    let process = Skytls::new(["run", "--set=collector.backend_service=127.0.0.1:1"])
        .arg("--set=relay.listen=127.0.0.1:0")
        .arg("--set=relay.drain_timeout=0")
        .in_folder(bed.folder.path())
        .env("OPENSSL_CONF", "/nonexistent")
        .start();
    process.line("listening on ");
    process.terminate();
    process.finish().expect_code(0);
}

#[test]
fn the_version_is_also_told_as_json() {
    let bed = Bed::new();
    bed.folder.replace("openssl.cnf", format!("{HEAD}[policy]\nMinProtocol = TLSv1.3\n"), 0o644);
    let run = Skytls::new(["version", "--json"]).env("OPENSSL_CONF", bed.path()).run();
    let document: serde_json::Value = serde_json::from_str(&run.expect_code(0).stdout).unwrap();
    let openssl = &document["openssl"];
    assert_eq!(openssl["configuration_state"], "read");
    assert_eq!(openssl["configuration_named_by"], "OPENSSL_CONF");
    assert_eq!(openssl["system_default"], serde_json::json!([["MinProtocol", "TLSv1.3"]]));
    assert_eq!(openssl["configuration_findings"], serde_json::json!([]));
}

#[test]
fn a_refused_line_is_named_with_config_diagnostics_too() {
    let bed = Bed::new();
    let text = format!("config_diagnostics = 1\n{HEAD}[policy]\nCipherString = NOPE\n");
    bed.folder.replace("openssl.cnf", text, 0o644);
    let run = bed.run(&bed.path()).expect_code(2);
    let listed = version(&bed.path());
    for word in ["SKT-305", "[policy]", "no cipher match"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
        assert!(listed.contains(word), "{word}: {listed}");
    }
}
