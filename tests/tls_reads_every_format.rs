//! Everything that a key, a client's chain or a CA file may look like, read and used.
//!
//! Files have no telling names: what they hold is found out from their content. Keys and chains are
//! used in handshakes with an `s_server` that demands a client certificate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ::openssl::pkcs12::Pkcs12;
use ::openssl::pkey::{PKey, Private};
use ::openssl::stack::Stack;
use ::openssl::x509::X509;
use skytls::error::Error;
use skytls::pki::{Authority, Leaf, Profile};
use skytls::tls::{Description, Generation};
use support::keys::{self, PASSPHRASE};
use support::openssl::{self, Peer, Server};
use support::pki::{self, MINTED, rsa_key};
use support::script::Script;
use support::verdict::{self, Pair};
use tempfile::TempDir;

/// Root, two intermediates, server and client; a server that demands the client's certificate and
/// knows the root only.
struct World {
    folder: TempDir,
    root: Authority,
    upper: Authority,
    lower: Authority,
    client: skytls::pki::Identity,
    server: Server,
}

#[test]
fn keys_of_every_kind_and_form() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for (algorithm, options) in [
        ("RSA", vec!["-pkeyopt", "rsa_keygen_bits:2048"]),
        ("RSA-PSS", vec!["-pkeyopt", "rsa_keygen_bits:2048"]),
        ("EC", vec!["-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("ED25519", vec![]),
        ("ED448", vec![]),
    ] {
        run(&[&["genpkey", "-algorithm", algorithm, "-out", &at("pkcs8")], &*options].concat());
        run(&[
            "req",
            "-new",
            "-x509",
            "-key",
            &at("pkcs8"),
            "-subj",
            "/CN=agent",
            "-out",
            &at("chain"),
        ]);
        let key =
            PKey::private_key_from_pem_passphrase(&fs::read(at("pkcs8")).unwrap(), b"").unwrap();
        let mut forms = vec![
            ("PKCS#8", keys::pkcs8_pem(&key)),
            ("PKCS#8 in DER", keys::pkcs8_der(&key)),
            ("encrypted PKCS#8", keys::encrypted_pkcs8_pem(&key)),
            ("encrypted PKCS#8 in DER", keys::encrypted_pkcs8_der(&key)),
        ];
        match algorithm {
            "RSA" => forms.extend([
                ("PKCS#1", keys::pkcs1_pem(&key)),
                ("PKCS#1 in DER", keys::pkcs1_der(&key)),
                ("PKCS#1 with DEK-Info", keys::encrypted_pkcs1_pem(&key)),
            ]),
            "EC" => {
                run(&["ec", "-in", &at("pkcs8"), "-out", &at("params"), "-param_out"]);
                let params = fs::read(at("params")).unwrap();
                forms.extend([
                    ("SEC1", keys::sec1_pem(&key)),
                    ("SEC1 in DER", keys::sec1_der(&key)),
                    ("SEC1 after its parameters", [params, keys::sec1_pem(&key)].concat()),
                ]);
            }
            _ => {}
        }
        let pem = keys::pkcs8_pem(&key);
        forms.extend([
            ("CRLF", keys::crlf(&pem)),
            ("text around", keys::with_text_around(&pem)),
            ("byte order mark", keys::with_byte_order_mark(&pem)),
            ("behind the chain", [fs::read(at("chain")).unwrap(), pem.clone()].concat()),
            ("before the chain", [pem.clone(), fs::read(at("chain")).unwrap()].concat()),
        ]);
        for (form, content) in forms {
            fs::write(at("key"), content).unwrap();
            let pairs = [
                ("agent.force_tls", "true".to_owned()),
                ("agent.ssl_trust", "system".to_owned()),
                ("agent.ssl_cert_chain_path", at("chain")),
                ("agent.ssl_key_path", at("key")),
                ("agent.ssl_key_passphrase", PASSPHRASE.to_owned()),
            ];
            load(&pairs).unwrap_or_else(|error| panic!("{algorithm} as {form}: {error:?}"));
        }
    }
}

#[test]
fn chains_of_every_form_are_sent_in_order() {
    let world = World::new();
    let (leaf, lower, upper) = world.chain();
    let pem = |of: &[&X509]| of.iter().flat_map(|x| x.to_pem().unwrap()).collect::<Vec<u8>>();
    let root = world.root.certificate().to_owned();
    let proper = pem(&[&leaf, &lower, &upper]);
    fs::write(world.at("pem"), &proper).unwrap();
    run(&["crl2pkcs7", "-nocrl", "-certfile", &world.at("pem"), "-out", &world.at("p7")]);
    run(&["pkcs7", "-in", &world.at("p7"), "-outform", "DER", "-out", &world.at("p7der")]);
    let read = |name: &str| fs::read(world.at(name)).unwrap();
    let told = "order of their issuers";
    for (form, content, note) in [
        ("in order", proper.clone(), None),
        ("with its root", pem(&[&leaf, &lower, &upper, &root]), None),
        ("leaf last", pem(&[&upper, &lower, &leaf]), Some(told)),
        ("leaf in the middle", pem(&[&lower, &leaf, &upper]), Some("in place 2")),
        ("intermediates exchanged", pem(&[&leaf, &upper, &lower]), Some(told)),
        ("twice the leaf", pem(&[&leaf, &leaf, &lower, &upper]), None),
        ("CRLF", keys::crlf(&proper), None),
        ("text around", keys::with_text_around(&proper), None),
        ("byte order mark", keys::with_byte_order_mark(&proper), None),
        ("PKCS#7", read("p7"), None),
        ("PKCS#7 in DER", read("p7der"), None),
        ("with the key", [proper.clone(), world.client.key_pem().into()].concat(), None),
    ] {
        fs::write(world.at("chain"), content).unwrap();
        fs::write(world.at("key"), world.client.key_pem()).unwrap();
        let pairs = world.identity("chain", "key", None);
        let description = load(&pairs).unwrap_or_else(|error| panic!("{form}: {error:?}"));
        let subjects: Vec<&str> =
            description.chain.iter().take(3).map(|info| info.subject.as_str()).collect();
        assert_eq!(subjects, ["CN=test agent", "CN=lower", "CN=upper"], "{form}");
        let warnings = description.warnings.join("\n");
        match note {
            Some(note) => assert!(warnings.contains(note), "{form}: {warnings}"),
            None => assert_eq!(warnings, "", "{form}"),
        }
        assert_eq!(verdict::of(&world.server, &pairs), "connected", "{form}");
    }
}

#[test]
fn certificates_that_belong_to_nobody_come_last_and_are_told() {
    let world = World::new();
    let (leaf, lower, upper) = world.chain();
    let stranger = Authority::new(&Profile::new("stranger").expect(MINTED)).unwrap();
    let all = [stranger.certificate().to_owned(), leaf, upper, lower];
    let content: Vec<u8> = all.iter().flat_map(|x| x.to_pem().unwrap()).collect();
    fs::write(world.at("chain"), content).unwrap();
    fs::write(world.at("key"), world.client.key_pem()).unwrap();
    let description = load(&world.identity("chain", "key", None)).unwrap();
    let subjects: Vec<&str> = description.chain.iter().map(|info| info.subject.as_str()).collect();
    assert_eq!(subjects, ["CN=test agent", "CN=lower", "CN=upper", "CN=stranger"]);
    assert_eq!(description.warnings.len(), 3, "{:?}", description.warnings);
}

#[test]
fn pkcs12_is_key_and_chain() {
    let world = World::new();
    for (what, password, given) in
        [("with a passphrase", PASSPHRASE, Some(PASSPHRASE)), ("with an empty one", "", None)]
    {
        fs::write(world.at("p12"), world.archive(password)).unwrap();
        let pairs = world.identity("p12", "p12", given);
        let description = load(&pairs).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(description.chain.len(), 3, "{what}");
        assert_eq!(verdict::of(&world.server, &pairs), "connected", "{what}");
    }
    // In BER, without its outer length, as Java and NSS write it.
    let der = world.archive(PASSPHRASE);
    assert_eq!(der[..2], [0x30, 0x82]);
    fs::write(world.at("p12"), [&[0x30, 0x80], &der[4..], &[0, 0]].concat()).unwrap();
    load(&world.identity("p12", "p12", Some(PASSPHRASE))).unwrap();
    // One of the two, beside PEM.
    fs::write(world.at("p12"), world.archive(PASSPHRASE)).unwrap();
    fs::write(world.at("key"), world.client.key_pem()).unwrap();
    load(&world.identity("p12", "key", Some(PASSPHRASE))).unwrap();
    fs::write(world.at("chain"), world.client.chain_pem()).unwrap();
    load(&world.identity("chain", "p12", Some(PASSPHRASE))).unwrap();
}

#[test]
fn pkcs12_that_cannot_be_opened_says_why() {
    let world = World::new();
    let id = |given| {
        let error = load(&world.identity("p12", "p12", given)).unwrap_err();
        assert!(!format!("{error:?}").contains(PASSPHRASE), "{error:?}");
        (error.id(), error)
    };
    fs::write(world.at("p12"), world.archive(PASSPHRASE)).unwrap();
    assert_eq!(id(None).0, "SKT-209");
    assert_eq!(id(Some("battery staple")).0, "SKT-210");
    fs::write(world.at("p12"), keys::truncated(&world.archive(PASSPHRASE))).unwrap();
    assert_eq!(id(Some(PASSPHRASE)).0, "SKT-208");
    // As programs of the last decade wrote it: RC2 for the certificates.
    fs::write(world.at("pem"), world.client.chain_pem()).unwrap();
    fs::write(world.at("key"), world.client.key_pem()).unwrap();
    let password = format!("pass:{PASSPHRASE}");
    run(&[
        "pkcs12",
        "-export",
        "-legacy",
        "-in",
        &world.at("pem"),
        "-inkey",
        &world.at("key"),
        "-passout",
        &password,
        "-out",
        &world.at("p12"),
    ]);
    let (legacy, error) = id(Some(PASSPHRASE));
    assert_eq!(legacy, "SKT-218", "{error:?}");
    assert!(error.remedy().contains("openssl pkcs12 -legacy -in FILE"), "{error:?}");
    assert_eq!(id(Some("battery staple")).0, "SKT-210");
    // The remedy is one.
    let passin = format!("pass:{PASSPHRASE}");
    run(&[
        "pkcs12",
        "-legacy",
        "-in",
        &world.at("p12"),
        "-nodes",
        "-passin",
        &passin,
        "-out",
        &world.at("converted"),
    ]);
    load(&world.identity("converted", "converted", None)).unwrap();
}

#[test]
fn a_key_that_needs_the_legacy_provider_says_so() {
    let world = World::new();
    fs::write(world.at("plain"), keys::pkcs1_pem(&rsa_key(2))).unwrap();
    fs::write(world.at("chain"), Script::Documented.mint().client).unwrap();
    let password = format!("pass:{PASSPHRASE}");
    run(&[
        "pkcs8",
        "-topk8",
        "-v1",
        "PBE-MD5-DES",
        "-provider",
        "legacy",
        "-provider",
        "default",
        "-in",
        &world.at("plain"),
        "-out",
        &world.at("key"),
        "-passout",
        &password,
    ]);
    let error = load(&world.identity("chain", "key", Some(PASSPHRASE))).unwrap_err();
    assert_eq!(error.id(), "SKT-218", "{error:?}");
    assert!(error.remedy().contains("-provider legacy"), "{error:?}");
}

#[test]
fn archives_without_what_is_asked_for_are_of_the_wrong_type() {
    let world = World::new();
    let leaf = world.client.certificate();
    let mut builder = Pkcs12::builder();
    builder.cert(leaf);
    fs::write(world.at("p12"), builder.build2(PASSPHRASE).unwrap().to_der().unwrap()).unwrap();
    let error = load(&world.identity("p12", "p12", Some(PASSPHRASE))).unwrap_err();
    assert_eq!(error.id(), "SKT-207");
    assert!(error.remedy().contains("holds no private key"), "{error:?}");
    // A CA file has no passphrase: an archive of CAs has to be converted.
    fs::write(world.at("ca.p12"), world.archive("")).unwrap();
    let error = load(&[("agent.ssl_trusted_ca_path", world.at("ca.p12"))]).unwrap_err();
    assert_eq!(error.id(), "SKT-207");
    assert!(error.remedy().contains("openssl pkcs12"), "{error:?}");
}

#[test]
fn ca_files_of_every_form() {
    let world = World::new();
    let root = world.root.certificate().to_owned();
    let pem = root.to_pem().unwrap();
    let stranger = Authority::new(&Profile::new("stranger").expect(MINTED)).unwrap();
    let many = [stranger.certificate_pem().as_bytes(), &pem].concat();
    fs::write(world.at("pem"), &pem).unwrap();
    run(&[
        "x509",
        "-in",
        &world.at("pem"),
        "-trustout",
        "-setalias",
        "x",
        "-out",
        &world.at("aux"),
    ]);
    run(&["crl2pkcs7", "-nocrl", "-certfile", &world.at("pem"), "-out", &world.at("p7")]);
    let one_line = String::from_utf8(pem.clone()).unwrap();
    let mut lines = one_line.lines();
    let (first, last) = (lines.next().unwrap(), lines.next_back().unwrap());
    let one_line = format!("{first}\n{}\n{last}\n", lines.collect::<String>());
    let indented = one_line.replace('\n', "\n    ");
    for (form, content) in [
        ("PEM", pem.clone()),
        ("DER", root.to_der().unwrap()),
        ("many", many),
        ("TRUSTED CERTIFICATE", fs::read(world.at("aux")).unwrap()),
        ("X509 CERTIFICATE", one_line.replace("CERTIFICATE", "X509 CERTIFICATE").into_bytes()),
        ("PKCS#7", fs::read(world.at("p7")).unwrap()),
        ("CRLF", keys::crlf(&pem)),
        ("text around", keys::with_text_around(&pem)),
        ("byte order mark", keys::with_byte_order_mark(&pem)),
        ("one line", one_line.into_bytes()),
        ("indented", indented.into_bytes()),
    ] {
        fs::write(world.at("ca"), content).unwrap();
        fs::write(world.at("chain"), world.client.chain_pem()).unwrap();
        fs::write(world.at("key"), world.client.key_pem()).unwrap();
        let mut pairs = world.identity("chain", "key", None);
        pairs[0].1 = world.at("ca");
        assert_eq!(verdict::of(&world.server, &pairs), "connected", "{form}");
    }
}

#[test]
fn an_encrypted_certificate_is_damage_and_never_a_prompt() {
    let world = World::new();
    let text = world.root.certificate_pem().replace(
        "CERTIFICATE-----\nM",
        "CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nM",
    );
    assert!(text.contains("DEK-Info"));
    fs::write(world.at("ca"), text).unwrap();
    let error = load(&[("agent.ssl_trusted_ca_path", world.at("ca"))]).unwrap_err();
    assert_eq!(error.id(), "SKT-208", "{error:?}");
}

/// Kubernetes puts secrets behind two links and exchanges one of them.
#[test]
fn secrets_of_kubernetes_are_followed_through_their_links() {
    let world = World::new();
    let volume = world.folder.path().join("volume");
    let write = |version: &str, set: &pki::Set| {
        fs::create_dir_all(volume.join(version)).unwrap();
        set.write_to(&volume.join(version));
    };
    let (old, new) = (pki::proper(), pki::proper());
    write("..2026_01", &old);
    write("..2026_02", &new);
    symlink("..2026_01", volume.join("..data")).unwrap();
    for name in ["ca.crt", "client.crt", "client.pem"] {
        symlink(format!("..data/{name}"), volume.join(name)).unwrap();
    }
    let at = |name: &str| volume.join(name).display().to_string();
    let pairs = [
        ("agent.ssl_trusted_ca_path", at("ca.crt")),
        ("agent.ssl_cert_chain_path", at("client.crt")),
        ("agent.ssl_key_path", at("client.pem")),
    ];
    let serial = |pairs: &[Pair]| load(pairs).unwrap().chain[0].serial.clone();
    let first = serial(&pairs);
    symlink("..2026_02", volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    assert_ne!(serial(&pairs), first);
    assert!(Path::new(&pairs[0].1).is_file());
}

// === impl World ===

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Authority::new(&Profile::new("root").expect(MINTED)).unwrap();
        let upper = root.intermediate(&Profile::new("upper").expect(MINTED)).unwrap();
        let lower = upper.intermediate(&Profile::new("lower").expect(MINTED)).unwrap();
        let server = root.issue(&Leaf::server(["localhost"]).expect(MINTED)).unwrap();
        let client = lower.issue(&Leaf::client("test agent").expect(MINTED)).unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("root.crt"), root.certificate_pem()).unwrap();
        fs::write(at("server.crt"), server.chain_pem()).unwrap();
        fs::write(at("server.pem"), server.key_pem()).unwrap();
        // TLS 1.2, so that the client is refused within the handshake.
        let peer = Peer::server(at("server.crt"), at("server.pem")).h2().flag("-tls1_2");
        let server = peer.verify(at("root.crt")).listen();
        Self { folder, root, upper, lower, client, server }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Leaf, lower, upper.
    fn chain(&self) -> (X509, X509, X509) {
        let own = |x: &::openssl::x509::X509Ref| x.to_owned();
        (
            own(self.client.certificate()),
            own(self.lower.certificate()),
            own(self.upper.certificate()),
        )
    }

    fn archive(&self, password: &str) -> Vec<u8> {
        let (leaf, lower, upper) = self.chain();
        let key: PKey<Private> = self.client.key().to_owned();
        let mut above = Stack::new().unwrap();
        above.push(upper).unwrap();
        above.push(lower).unwrap();
        let mut builder = Pkcs12::builder();
        builder.name("agent").pkey(&key).cert(&leaf).ca(above);
        builder.build2(password).unwrap().to_der().unwrap()
    }

    fn identity(&self, chain: &str, key: &str, passphrase: Option<&str>) -> Vec<Pair> {
        let mut pairs = vec![
            ("agent.ssl_trusted_ca_path", self.at("root.crt")),
            ("agent.ssl_cert_chain_path", self.at(chain)),
            ("agent.ssl_key_path", self.at(key)),
        ];
        pairs.extend(passphrase.map(|text| ("agent.ssl_key_passphrase", text.to_owned())));
        pairs
    }
}

fn load(pairs: &[Pair]) -> Result<Description, Error> {
    let settings = verdict::settings(pairs.iter().cloned())?;
    Generation::load(&settings).map(|generation| generation.description().clone())
}

fn run(line: &[&str]) {
    let done = openssl::run(line);
    assert_eq!(done.code, 0, "{line:?}: {done:?}");
}
