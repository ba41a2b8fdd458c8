//! What `skytls certs` writes is fit for OAP and its agents: judged by the `openssl` command, file by file
//! and in a mutual handshake.
//!
//! Java is not asked here.

// In its helpers too a failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skytls::cli::certs::{self, DEFAULT_DAYS, Options, Report};
use skytls::error::{Code, Fact};
use skytls::pki::Algorithm;
use support::openssl::{Peer, run};
use tempfile::TempDir;

const NAMES: [&str; 6] =
    ["ca.crt", "ca.key", "client.crt", "client.pem", "server.crt", "server.pem"];

fn options(out: impl Into<PathBuf>) -> Options {
    Options {
        out: out.into(),
        hosts: Vec::new(),
        days: DEFAULT_DAYS,
        algorithm: Algorithm::default(),
        force: false,
    }
}

fn written() -> (TempDir, PathBuf, Report) {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("new/certs");
    let report = certs::write(&options(&out)).unwrap();
    (home, out, report)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn text(certificate: &Path) -> String {
    let path = certificate.to_str().unwrap();
    run(["x509", "-noout", "-text", "-in", path]).expect_code(0).stdout
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn six_files_are_written_and_only_their_owner_reads_the_keys() {
    let (_home, out, report) = written();
    assert_eq!(listing(&out), NAMES);
    assert_eq!(mode(&out), 0o700);
    for name in NAMES {
        let private = !name.ends_with(".crt");
        let found = mode(&out.join(name));
        assert_eq!(found == 0o600, private, "{name}: {found:o}");
        assert_eq!(found & 0o022, 0, "{name}: {found:o}");
        let content = fs::read_to_string(out.join(name)).unwrap();
        let label = if private { "PRIVATE KEY" } else { "CERTIFICATE" };
        assert!(content.starts_with(&format!("-----BEGIN {label}-----\n")), "{name}");
        assert!(content.ends_with('\n') && !content.contains('\r'), "{name}");
    }
    let reported: Vec<_> = report.files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(reported, NAMES.map(|name| out.join(name)));
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn each_chain_verifies_strictly_for_its_own_purpose_and_no_other() {
    let (_home, out, _) = written();
    let path = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let ca = path("ca.crt");
    for (name, purpose, other) in
        [("server.crt", "sslserver", "sslclient"), ("client.crt", "sslclient", "sslserver")]
    {
        let certificate = path(name);
        let verify = |purpose: &str| {
            run(["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &ca, &certificate])
        };
        verify(purpose).expect_code(0);
        let refused = verify(other).expect_code(2);
        assert!(refused.stderr.contains("error 26"), "{}", refused.stderr); // unsupported purpose
    }
    for host in ["localhost", "127.0.0.1", "::1"] {
        let option = if host == "localhost" { "-verify_hostname" } else { "-verify_ip" };
        run(["verify", option, host, "-CAfile", &ca, &path("server.crt")]).expect_code(0);
    }
    run(["verify", "-verify_hostname", "other", "-CAfile", &ca, &path("server.crt")])
        .expect_code(2);
    for (certificate, key) in
        [("ca.crt", "ca.key"), ("server.crt", "server.pem"), ("client.crt", "client.pem")]
    {
        let of_key = run(["pkey", "-pubout", "-in", &path(key)]).expect_code(0).stdout;
        let of_certificate = run(["x509", "-noout", "-pubkey", "-in", &path(certificate)]);
        assert_eq!(of_key, of_certificate.expect_code(0).stdout, "{certificate}");
    }
}

#[test]
fn extensions_are_those_of_rfc_5280() {
    let (_home, out, _) = written();
    let (ca, server, client) =
        (text(&out.join("ca.crt")), text(&out.join("server.crt")), text(&out.join("client.crt")));
    let holds = |text: &str, expected: &[&str]| {
        let text: Vec<&str> = text.split_whitespace().collect();
        let text = text.join(" ");
        for part in expected {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    };
    holds(
        &ca,
        &[
            "Version: 3 (0x2)",
            "Basic Constraints: critical CA:TRUE, pathlen:0",
            "Key Usage: critical Certificate Sign, CRL Sign",
            "Subject Key Identifier:",
        ],
    );
    for (text, purpose) in
        [(&server, "TLS Web Server Authentication"), (&client, "TLS Web Client Authentication")]
    {
        holds(
            text,
            &[
                "Version: 3 (0x2)",
                "Basic Constraints: critical CA:FALSE",
                "Key Usage: critical Digital Signature X509v3",
                &format!("Extended Key Usage: {purpose} X509v3"),
                "Subject Key Identifier:",
                "Authority Key Identifier:",
            ],
        );
    }
    holds(
        &server,
        &[
            "Subject Alternative Name: DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1",
        ],
    );
    assert!(server.replace(" = ", "=").contains("Subject: CN=localhost"), "{server}");
    assert!(!client.contains("Alternative Name"), "{client}");
}

/// The very thing that makes OpenSSL refuse what SkyWalking's own script writes.
#[test]
fn no_two_of_the_three_have_the_same_subject() {
    let (_home, _out, report) = written();
    let mut subjects: Vec<_> = report.files.iter().map(|file| file.subject.as_str()).collect();
    subjects.dedup();
    assert_eq!(subjects.len(), 3, "{subjects:?}");
}

#[test]
fn a_mutual_handshake_succeeds_with_the_files_and_carries_data() {
    for &algorithm in Algorithm::ALL {
        let home = tempfile::tempdir().unwrap();
        certs::write(&Options { algorithm, ..options(home.path()) }).unwrap();
        let file = |name: &str| home.path().join(name);
        let server = Peer::server(file("server.crt"), file("server.pem"))
            .verify(file("ca.crt"))
            .h2()
            .listen();
        let mut client = Peer::client(server.address)
            .verify(file("ca.crt"))
            .identity(file("client.crt"), file("client.pem"))
            .option("-verify_hostname", "localhost")
            .h2()
            .start();
        client.line("Verify return code: 0 (ok)");
        client.line("ALPN protocol: h2");
        // In TLS 1.3 a client may believe in a handshake that the server refuses: only this proves it.
        client.send("a line for the server\n");
        server.process.line("a line for the server");
    }
}

#[test]
fn a_client_without_its_certificate_is_refused() {
    let (_home, out, _) = written();
    let file = |name: &str| out.join(name);
    let server =
        Peer::server(file("server.crt"), file("server.pem")).verify(file("ca.crt")).listen();
    let client = Peer::client(server.address).verify(file("ca.crt")).start();
    server.process.line("peer did not return a certificate");
    let finished = client.finish();
    assert_ne!(finished.code, 0, "{finished:?}");
}

#[test]
fn existing_files_are_replaced_only_with_force_and_otherwise_nothing_is_written() {
    for name in NAMES {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(name);
        fs::write(&path, "precious").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = certs::write(&options(home.path())).unwrap_err();
        assert_eq!(error.code(), Code::CannotWrite);
        assert_eq!(error.get(Fact::File), path.to_str());
        assert!(error.remedy().contains("--force"), "{}", error.remedy());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(listing(home.path()), [name]);

        certs::write(&Options { force: true, ..options(home.path()) }).unwrap();
        assert_eq!(listing(home.path()), NAMES);
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN "));
        // A key does not inherit the mode of what it replaces.
        assert_eq!(mode(&home.path().join("client.pem")), 0o600);
    }
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let (out, elsewhere) = (home.path().join("out"), home.path().join("elsewhere"));
    fs::create_dir(&out).unwrap();
    fs::write(&elsewhere, "precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("ca.key")).unwrap();
    assert_eq!(certs::write(&options(&out)).unwrap_err().code(), Code::CannotWrite);
    certs::write(&Options { force: true, ..options(&out) }).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
    assert!(fs::symlink_metadata(out.join("ca.key")).unwrap().is_file());
}

#[test]
fn what_cannot_be_written_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let error = certs::write(&options(&file)).unwrap_err();
    assert_eq!((error.code(), error.get(Fact::File)), (Code::CannotWrite, file.to_str()));

    let folder = home.path().join("server.pem");
    fs::create_dir(&folder).unwrap();
    let error = certs::write(&Options { force: true, ..options(home.path()) }).unwrap_err();
    assert_eq!((error.code(), error.get(Fact::File)), (Code::CannotWrite, folder.to_str()));
    assert_eq!(listing(home.path()), ["file", "server.pem"]);
}

#[test]
fn wrong_names_and_days_are_refused_before_anything_is_made() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out");
    let wrong = Options { hosts: vec!["https://oap:11800".into()], ..options(&out) };
    assert_eq!(certs::write(&wrong).unwrap_err().code(), Code::BadHostName);
    for days in [0, 40_000] {
        let error = certs::write(&Options { days, ..options(&out) }).unwrap_err();
        assert_eq!(error.code(), Code::OutOfRange, "{days}");
    }
    assert!(!out.exists());
}

#[test]
fn a_folder_that_others_may_write_to_and_a_key_that_java_cannot_read_are_pointed_out() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let algorithm = Algorithm::Ed25519;
    let report = certs::write(&Options { algorithm, ..options(home.path()) }).unwrap();
    assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
    assert!(report.notes[0].contains("Java") && report.notes[1].contains("other users"));
}

#[test]
fn the_report_tells_subjects_hosts_and_dates_in_text_and_json_and_no_secret() {
    let home = tempfile::tempdir().unwrap();
    let hosts = vec!["oap.example.com".into(), "10.0.0.1".into(), "OAP.example.com".into()];
    let report = certs::write(&Options { hosts, days: 30, ..options(home.path()) }).unwrap();

    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["hosts"], serde_json::json!(["oap.example.com", "10.0.0.1"]));
    assert_eq!(json["algorithm"], "p256");
    assert_eq!(json["files"].as_array().unwrap().len(), 6);
    let server = &json["files"][4];
    assert_eq!(server["path"], home.path().join("server.crt").to_str().unwrap());
    assert_eq!(server["subject"], "CN=oap.example.com");
    assert_eq!(server["private"], false);
    // Both ends tell the same second.
    let path = home.path().join("server.crt");
    let path = path.to_str().unwrap();
    let end = run(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", path]);
    let end = end.expect_code(0).stdout.trim().replace("notAfter=", "").replace(' ', "T");
    assert_eq!(server["not_after"], end);
    let (leaf, ca) = (&report.files[4], &report.files[0]);
    assert!(ca.not_after - leaf.not_after > 9 * 365 * 86_400);

    let printed = report.to_text();
    for name in NAMES {
        assert!(printed.contains(name), "{printed}");
        let content = fs::read_to_string(home.path().join(name)).unwrap();
        let secret = content.lines().nth(1).unwrap();
        assert!(!printed.contains(secret) && !report.to_json().contains(secret));
    }
    assert!(printed.contains("oap.example.com, 10.0.0.1"), "{printed}");
}

#[test]
fn the_command_line_understands_what_is_documented() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }
    let parse = |line: &str| <Line as clap::Parser>::try_parse_from(line.split(' '));
    let line = parse("certs --out d --host a b --host ::1 --days 7 --algorithm rsa3072 --force");
    let found = line.map(|line| line.options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.hosts, ["a", "b", "::1"]);
    assert_eq!((found.days, found.algorithm, found.force), (7, Algorithm::Rsa3072, true));
    assert_eq!(found.out, Path::new("d"));
    let found = parse("certs --out d").map(|line| line.options).unwrap_or_else(|e| panic!("{e}"));
    assert!(found.hosts.is_empty() && !found.force);
    assert_eq!((found.days, found.algorithm), (DEFAULT_DAYS, Algorithm::P256));
    assert!(parse("certs").is_err());
    let error = parse("certs --out d --algorithm md5").err().map(|error| error.to_string());
    assert!(error.is_some_and(|text| text.contains("p256") && text.contains("ed25519")));
}
