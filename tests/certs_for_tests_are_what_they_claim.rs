//! The certificates, keys and peers of `support` are what they are called, in the eyes of the `openssl`
//! command: a test that relies on an odd one would otherwise pass for the wrong reason.
//!
//! What skytls makes of them is not looked at here.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use openssl::pkey::PKey;
use support::openssl::{Peer, run};
use support::pki::{DAY, Script, Set};
use support::process::{Process, Skytls};
use support::{folder, keys, peers, pki};

/// The error number of `openssl verify`, 0 if it is satisfied, with these options more.
fn verify(set: &Set, options: &[&str]) -> u32 {
    let files = set.write();
    let path = |path: &Path| path.to_str().expect("temporary folders have plain names").to_owned();
    let (ca, server) = (path(&files.ca), path(&files.server));
    let mut arguments = vec!["verify", "-CAfile", &ca, "-untrusted", &server];
    arguments.extend(options);
    arguments.push(&server);
    let finished = run(&arguments);
    if finished.code == 0 {
        return 0;
    }
    // error 18 at 0 depth lookup: self-signed certificate
    let number = finished.stderr.split("error ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{finished:?}"))
}

#[test]
fn proper_chains_verify_and_the_others_fail_for_the_reason_in_their_name() {
    let host = ["-verify_hostname", "localhost"];
    assert_eq!(verify(&pki::proper(), &host), 0);
    assert_eq!(verify(&pki::proper(), &["-verify_ip", "127.0.0.1", "-x509_strict"]), 0);
    assert_eq!(verify(&pki::proper_for(["elsewhere"]), &host), 62);
    assert_eq!(verify(&pki::proper_between(-2 * DAY, -DAY), &host), 10);
    assert_eq!(verify(&pki::proper_between(DAY, 2 * DAY), &host), 9);
    assert_eq!(verify(&pki::expired_root(), &host), 10);
    assert_eq!(verify(&pki::unrelated_root(), &host), 20);
    assert_eq!(verify(&pki::with_intermediate(), &host), 0);
    assert_eq!(verify(&pki::intermediate_not_sent(), &host), 0);
    assert_eq!(verify(&pki::intermediate_alone_trusted(), &host), 2);
    assert_eq!(verify(&pki::intermediate_alone_trusted(), &["-partial_chain"]), 0);
    assert_ne!(verify(&pki::leaf_alone_trusted(), &host), 0);
    assert_eq!(verify(&pki::leaf_alone_trusted(), &["-partial_chain"]), 0);
}

#[test]
fn the_scripts_certificates_are_error_18_as_openssl_sees_it() {
    for script in Script::ALL {
        assert_eq!(verify(&script.mint(), &["-partial_chain"]), 18, "{script:?}");
    }
}

/// Signatures, versions, dates and extensions, looked at one by one.
#[test]
fn each_twin_of_the_script_differs_in_what_its_name_says() {
    for script in Script::ALL {
        let set = script.mint();
        let one = |pem: &str| openssl::x509::X509::from_pem(pem.as_bytes()).expect("it is PEM");
        let (ca, server, client) = (one(&set.ca), one(&set.server), one(&set.client));
        let now = openssl::asn1::Asn1Time::days_from_now(0).expect("it is now");
        let holds = |x: &openssl::x509::X509Ref| x.not_before() < now && x.not_after() > now;
        let ca_key = ca.public_key().expect("it has one");
        for leaf in [&server, &client] {
            let own_key = leaf.public_key().expect("it has one");
            let signed = leaf.verify(&ca_key).expect("it can be checked");
            let foreign = [Script::LeafSelfSigned, Script::LeafOfAnotherKey].contains(&script);
            assert_eq!(signed, !foreign, "{script:?}");
            let self_signed = leaf.verify(&own_key).expect("it can be checked");
            assert_eq!(self_signed, script == Script::LeafSelfSigned, "{script:?}");
            let dated = [Script::LeafExpired, Script::LeafNotYetValid].contains(&script);
            assert_eq!(holds(leaf), !dated, "{script:?}");
            let bits = if script == Script::LeafWeakKey { 1024 } else { 2048 };
            assert_eq!(own_key.bits(), bits, "{script:?}");
            assert_eq!(leaf.version(), 0, "{script:?}");
            let same = leaf.subject_name().try_cmp(ca.subject_name()).expect("names compare");
            assert!(same.is_eq(), "{script:?}");
            let algorithm = leaf.signature_algorithm().object().to_string();
            assert_eq!(algorithm.contains("sha1"), script == Script::LeafSha1, "{algorithm}");
        }
        let dated = [Script::CaExpired, Script::CaNotYetValid].contains(&script);
        assert_eq!(holds(&ca), !dated, "{script:?}");
        assert_eq!(ca.version(), if script == Script::CaVersion1 { 0 } else { 2 }, "{script:?}");
        assert_eq!(
            ca_key.bits(),
            if script == Script::CaWeakKey { 1024 } else { 2048 },
            "{script:?}"
        );
        let text = String::from_utf8(ca.to_text().expect("it prints")).expect("it is text");
        let no_ca = [Script::CaIsNone, Script::CaVersion1].contains(&script);
        assert_eq!(text.contains("CA:TRUE"), !no_ca, "{text}");
        assert_eq!(text.contains("Key Usage"), script == Script::CaMayNotSign, "{text}");
        assert!(!text.contains("Certificate Sign"), "{text}");
    }
}

/// The commands of SkyWalking's script, with the options that newer versions of `openssl` need for the
/// same result, make what [`Script::Documented`] imitates.
#[test]
fn the_imitation_of_the_script_has_the_form_of_the_original() {
    let home = folder::Folder::empty();
    let path = |name: &str| home.join(name).to_str().expect("plain names").to_owned();
    let (ca_key, ca, key, csr, leaf) = (
        path("ca.key"),
        path("ca.crt"),
        path("server.key"),
        path("server.csr"),
        path("server.crt"),
    );
    let subject = ["-subj", "/CN=localhost"];
    for arguments in [
        vec!["genrsa", "-out", &ca_key, "2048"],
        [&["req", "-new", "-x509", "-days", "365", "-key", &ca_key, "-out", &ca][..], &subject]
            .concat(),
        vec!["genrsa", "-out", &key, "2048"],
        [&["req", "-new", "-key", &key, "-out", &csr][..], &subject].concat(),
        vec![
            "x509",
            "-req",
            "-days",
            "365",
            "-in",
            &csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-set_serial",
            "01",
            "-out",
            &leaf,
        ],
    ] {
        run(&arguments).expect_code(0);
    }
    let read = |path: &str| {
        let pem = std::fs::read(path).expect("it was written");
        openssl::x509::X509::from_pem(&pem).expect("it is PEM")
    };
    let imitation = Script::Documented.mint();
    let pairs = [(read(&ca), &imitation.ca, true), (read(&leaf), &imitation.server, false)];
    for (original, imitation, is_ca) in pairs {
        let imitation = openssl::x509::X509::from_pem(imitation.as_bytes()).expect("it is PEM");
        // OpenSSL 3.2 and later write v3 leaves with key identifiers where 3.0 wrote v1.
        if is_ca || original.version() == 0 {
            assert_eq!(original.version(), imitation.version());
        }
        let names =
            |x: &openssl::x509::X509Ref| format!("{:?}{:?}", x.subject_name(), x.issuer_name());
        assert_eq!(names(&original), names(&imitation));
        let identified = |x: &openssl::x509::X509Ref| x.subject_key_id().is_some();
        if is_ca {
            assert_eq!(identified(&original), identified(&imitation));
        }
    }
}

#[test]
fn every_form_of_key_file_is_what_it_is_called() {
    let (rsa, ec) = (pki::rsa_key(1), pki::ec_key());
    for (file, label) in [
        (keys::pkcs8_pem(&rsa), "PRIVATE KEY"),
        (keys::pkcs8_pem(&ec), "PRIVATE KEY"),
        (keys::pkcs1_pem(&rsa), "RSA PRIVATE KEY"),
        (keys::sec1_pem(&ec), "EC PRIVATE KEY"),
        (keys::encrypted_pkcs8_pem(&rsa), "ENCRYPTED PRIVATE KEY"),
        (keys::encrypted_pkcs1_pem(&rsa), "RSA PRIVATE KEY"),
        (keys::public_pem(&rsa), "PUBLIC KEY"),
        (keys::request_pem(&rsa), "CERTIFICATE REQUEST"),
    ] {
        let text = String::from_utf8(file).expect("PEM is text");
        assert!(text.starts_with(&format!("-----BEGIN {label}-----\n")), "{label}");
    }
    let pem = |file: &[u8], passphrase: &str| {
        PKey::private_key_from_pem_passphrase(file, passphrase.as_bytes()).ok()
    };
    let is =
        |key: Option<PKey<_>>, expected: &PKey<_>| key.is_some_and(|key| key.public_eq(expected));
    for file in [keys::encrypted_pkcs8_pem(&rsa), keys::encrypted_pkcs1_pem(&rsa)] {
        assert!(is(pem(&file, keys::PASSPHRASE), &rsa));
        assert!(pem(&file, "wrong").is_none());
    }
    for file in [
        keys::crlf(&keys::pkcs1_pem(&rsa)),
        keys::with_text_around(&keys::pkcs1_pem(&rsa)),
        keys::with_byte_order_mark(&keys::pkcs8_pem(&rsa)),
    ] {
        assert!(is(pem(&file, ""), &rsa));
    }
    for (file, key) in [
        (keys::pkcs1_der(&rsa), &rsa),
        (keys::pkcs8_der(&rsa), &rsa),
        (keys::sec1_der(&ec), &ec),
        (keys::pkcs8_der(&ec), &ec),
    ] {
        assert!(is(PKey::private_key_from_der(&file).ok(), key));
    }
    let encrypted = keys::encrypted_pkcs8_der(&ec);
    let passphrase = keys::PASSPHRASE.as_bytes();
    assert!(is(PKey::private_key_from_pkcs8_passphrase(&encrypted, passphrase).ok(), &ec));
    for file in [
        keys::noise(),
        keys::truncated(&keys::pkcs8_pem(&rsa)),
        keys::truncated(&keys::pkcs1_der(&rsa)),
        keys::public_pem(&rsa),
        keys::request_pem(&rsa),
    ] {
        assert!(pem(&file, "").is_none() && PKey::private_key_from_der(&file).is_err());
    }
}

#[test]
fn plain_peers_do_what_they_are_called() {
    let greet = |peer: &peers::Peer| {
        let mut stream = TcpStream::connect(peer.address).expect("it listens");
        stream.set_read_timeout(Some(support::DEADLINE)).expect("it can be set");
        let _ = stream.write_all(b"\x16\x03\x01");
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        heard
    };
    assert!(greet(&peers::Peer::garbage()).starts_with(b"220 "));
    assert!(greet(&peers::Peer::http()).starts_with(b"HTTP/1.1 400 "));
    assert_eq!(greet(&peers::Peer::closing()), b"");

    let silent = peers::Peer::silent();
    let mut stream = TcpStream::connect(silent.address).expect("it listens");
    silent.accepted(1);
    let patience = std::time::Duration::from_millis(50);
    stream.set_read_timeout(Some(patience)).expect("it can be set");
    assert!(stream.read(&mut [0]).is_err(), "it said something or closed");
}

#[test]
fn servers_of_another_tls_version_or_without_alpn_can_be_had() {
    let files = pki::proper().write();
    let old = Peer::server(&files.server, &files.server_key).tls_1_1().listen();
    let client = Peer::client(old.address).flag("-tls1_2").start().finish();
    assert_ne!(client.code, 0, "{client:?}");
    let mut client = Peer::client(old.address).tls_1_1().start();
    client.line("TLSv1.1");
    client.close_stdin();
    client.finish().expect_code(0);

    for (server, answer) in [
        (Peer::server(&files.server, &files.server_key), "No ALPN negotiated"),
        (Peer::server(&files.server, &files.server_key).h2(), "ALPN protocol: h2"),
    ] {
        let server = server.listen();
        Peer::client(server.address).h2().start().line(answer);
    }
}

#[test]
fn a_folder_is_laid_out_as_an_agents() {
    use std::os::unix::fs::PermissionsExt as _;
    let agent = folder::Folder::new("a=b\n").file("ca/ca.crt", "x", 0o400);
    assert_eq!(std::fs::read_to_string(agent.config()).expect("it is there"), "a=b\n");
    let mode =
        std::fs::metadata(agent.join("ca/ca.crt")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o400);
    agent.replace("ca/ca.crt", "y", 0o600);
    assert_eq!(std::fs::read_to_string(agent.join("ca/ca.crt")).expect("it is there"), "y");
    agent.remove("ca/ca.crt");
    assert!(!agent.join("ca/ca.crt").exists());
}

#[test]
fn processes_are_observed_signalled_and_waited_for() {
    let shell = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, Stdio::piped())
    };
    let finished = shell("echo out; echo err >&2; exit 3").finish().expect_code(3);
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));

    let mut echo = shell("trap 'echo told; exit 7' TERM; while read -r line; do echo $line; done");
    echo.send("one\ntwo one\n");
    assert_eq!(echo.lines("one", 2), ["one", "two one"]);
    echo.terminate();
    echo.send("\n");
    echo.line("told");
    echo.finish().expect_code(7);

    let killed = shell("echo ready; read -r line");
    killed.line("ready");
    killed.signal("KILL");
    killed.finish().expect_code(137);

    // The binary itself is other tests' business; here only that it can be found and started.
    drop(Skytls::new(["--help"]).env("X", "y").in_folder("/").start());
}
