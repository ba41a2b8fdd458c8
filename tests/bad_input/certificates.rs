//! CA file, client chain and client key: everything that can be in the place of a proper one.

use std::fs;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use super::row::{Row, fifo};
use crate::support::keys;
use crate::support::pki::{self, DAY, Set, ec_key, rsa_key};
use crate::support::script::{Recipe, Script, V3};

/// One of the three files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Ca,
    Chain,
    Key,
}

/// Mutual TLS. Not at the default place of the CA, which alone may be missing.
const LINES: &str = "\
collector.backend_service=127.0.0.1:1
agent.ssl_trusted_ca_path=tls/ca.crt
agent.ssl_cert_chain_path=tls/client.crt
agent.ssl_key_path=tls/client.pem
";

pub(crate) fn rows() -> Vec<Row> {
    let set = pki::proper();
    let mut rows = vec![mutual("all as it should be", &set)];
    for which in [Which::Ca, Which::Chain, Which::Key] {
        rows.extend(files(which, &set));
        rows.extend(contents(which, &set));
    }
    rows.extend(pairs(&set));
    rows
}

/// An agent's folder with proper files, to be spoilt.
pub(crate) fn mutual(name: impl Into<String>, set: &Set) -> Row {
    Row::new(name, LINES)
        .file("tls/ca.crt", &set.ca)
        .file("tls/client.crt", &set.client)
        .file("tls/client.pem", &set.client_key)
}

/// What may be wrong before a byte has been read, and files of which no byte makes sense.
fn files(which: Which, set: &Set) -> Vec<Row> {
    let row = |what: &str, id| {
        mutual(format!("{which:?}: {what}"), set).refused(id).says(which.key()).says(which.file())
    };
    let file = which.file();
    vec![
        row("missing", "SKT-201").prepare(|folder| folder.remove(file)).says("found nothing there"),
        row("below a file", "SKT-201")
            .set(&format!("{}={file}/{file}", which.key()))
            .says("found nothing there"),
        row("empty", "SKT-204").file(file, "").says("found no content"),
        row("nothing but white space", "SKT-204").file(file, "\r\n \n"),
        row("not to be read", "SKT-202").unreadable(file).says("os error"),
        // A regular file whose reading fails for root as well.
        mutual(format!("{which:?}: failing to be read"), set)
            .refused("SKT-202")
            .set(&format!("{}=/proc/self/mem", which.key()))
            .says(which.key())
            .says("file /proc/self/mem"),
        row("a directory", if which == Which::Ca { "SKT-217" } else { "SKT-203" })
            .prepare(|folder| {
                folder.remove(file);
                fs::create_dir(folder.join(file)).unwrap();
            })
            // A folder of CAs may be one that OpenSSL finds its way in.
            .says(if which == Which::Ca { "openssl rehash" } else { "found a directory" }),
        row("a FIFO", "SKT-203").prepare(|folder| fifo(&folder.join(file))).says("found a device"),
        row("too large", "SKT-205").file(file, vec![b'x'; 9 * 1024 * 1024]),
        row("binary noise", "SKT-206").file(file, keys::noise()).says("found binary"),
        row("some text", "SKT-206").file(file, "agent.force_tls=true\n"),
    ]
}

/// Files of the wrong kind, and files of the right kind of which a part is missing.
fn contents(which: Which, set: &Set) -> Vec<Row> {
    let key = PKey::private_key_from_pem_passphrase(set.client_key.as_bytes(), b"").unwrap();
    let row = |what: &str, id, content: Vec<u8>| {
        mutual(format!("{which:?}: {what}"), set)
            .file(which.file(), content)
            .refused(id)
            .says(which.key())
            .says(which.file())
            .says(which.expected())
    };
    let (pem, der) = proper(which, set, &key);
    let begin = pem.iter().position(|&byte| byte == b'\n').unwrap();
    let mut broken = pem.clone();
    // Within base64 that is otherwise as long as before.
    broken[begin + 100..begin + 132].fill(b'A');
    let mut rows = vec![
        row("truncated PEM", "SKT-208", keys::truncated(&pem)).says("found cut-off PEM"),
        row("PEM without its last line", "SKT-208", pem[..pem.len() - 20].to_vec()),
        row("truncated DER", "SKT-208", keys::truncated(&der)).says("found cut-off DER"),
        row("PEM with damaged content", "SKT-208", broken),
        row("PEM without content", "SKT-208", hollow(&pem)),
        row("a request", "SKT-207", keys::request_pem(&key)).says("found PEM CERTIFICATE REQUEST"),
        row("a request in DER", "SKT-207", request_der(&key)).says("found DER certificate request"),
        row("a public key", "SKT-207", keys::public_pem(&key)).says("found PEM PUBLIC KEY"),
        row("a public key in DER", "SKT-207", key.public_key_to_der().unwrap())
            .says("found DER public key"),
    ];
    if which == Which::Key {
        let certificate = set.client.clone().into_bytes();
        let der = X509::from_pem(&certificate).unwrap().to_der().unwrap();
        rows.push(row("a certificate", "SKT-207", certificate).says("found PEM CERTIFICATE"));
        rows.push(row("a certificate in DER", "SKT-207", der).says("found DER certificate"));
    } else {
        let two = [pem.clone(), keys::truncated(&pem)].concat();
        rows.push(row("a second certificate that is cut off", "SKT-208", two));
        rows.push(
            row("a key", "SKT-207", set.client_key.clone().into_bytes())
                .says("found PEM PRIVATE KEY"),
        );
        rows.push(row("a key in DER", "SKT-207", keys::pkcs8_der(&key)));
    }
    rows
}

/// Chain and key that are proper by themselves.
fn pairs(set: &Set) -> Vec<Row> {
    let row = |what: &str| {
        mutual(what, set)
            .refused("SKT-211")
            .says("key agent.ssl_key_path")
            .says("file ")
            .says("tls/client.pem")
            .says("tls/client.crt")
    };
    let rsa = rsa_key(3);
    vec![
        row("key of another certificate").file("tls/client.pem", &set.server_key),
        row("key of another certificate, in DER")
            .file("tls/client.pem", keys::pkcs8_der(&ec_key())),
        row("key of another algorithm").file("tls/client.pem", keys::pkcs1_pem(&rsa)),
        row("certificate of another key").file("tls/client.crt", &set.server),
    ]
}

/// Own certificates and CAs before and after their time: `run` starts, and says so.
pub(crate) fn dates() -> Vec<Row> {
    let names_it = |row: Row, file: &str| row.says(file).says("; do: ");
    let mut rows = Vec::new();
    for (what, id, from, until) in
        [("expired", "SKT-212", -2 * DAY, -DAY), ("not yet valid", "SKT-213", DAY, 2 * DAY)]
    {
        let set = own_between(from, until);
        let row = mutual(format!("own certificate {what}"), &set).says(format!("{id} the own"));
        rows.push(names_it(row, "tls/client.crt"));
    }
    for (what, set) in
        [("expired CA", pki::expired_root()), ("expired script CA", Script::CaExpired.mint())]
    {
        rows.push(names_it(mutual(what, &set).says("SKT-214 a CA certificate"), "tls/ca.crt"));
    }
    rows
}

fn own_between(from: i64, until: i64) -> Set {
    let recipe = |common_name, v3, from, until| Recipe {
        common_name,
        key: ec_key(),
        serial: 7,
        from,
        until,
        digest: openssl::hash::MessageDigest::sha256(),
        v3,
    };
    let ca = recipe("root", Some(V3 { ca: true, may_sign: Some(true) }), -3 * DAY, 3 * DAY);
    let ca = ca.mint(None);
    let own = recipe("agent", Some(V3 { ca: false, may_sign: None }), from, until).mint(Some(&ca));
    Set {
        ca: ca.certificate_pem(),
        client: own.certificate_pem(),
        client_key: own.key_pem(),
        ..pki::proper()
    }
}

/// What should be there, as PEM and DER.
fn proper(which: Which, set: &Set, key: &PKey<Private>) -> (Vec<u8>, Vec<u8>) {
    let pem = match which {
        Which::Ca => set.ca.clone().into_bytes(),
        Which::Chain => set.client.clone().into_bytes(),
        // Long enough to be damaged in the middle.
        Which::Key => keys::pkcs8_pem(&rsa_key(0)),
    };
    let der = match which {
        Which::Key => keys::pkcs8_der(key),
        _ => X509::from_pem(&pem).unwrap().to_der().unwrap(),
    };
    (pem, der)
}

/// The first and the last line only.
fn hollow(pem: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(pem);
    text.lines()
        .filter(|line| line.starts_with("---"))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .into_bytes()
}

fn request_der(key: &PKey<Private>) -> Vec<u8> {
    openssl::x509::X509Req::from_pem(&keys::request_pem(key)).unwrap().to_der().unwrap()
}

// === impl Which ===

impl Which {
    fn key(self) -> &'static str {
        match self {
            Self::Ca => "agent.ssl_trusted_ca_path",
            Self::Chain => "agent.ssl_cert_chain_path",
            Self::Key => "agent.ssl_key_path",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Ca => "tls/ca.crt",
            Self::Chain => "tls/client.crt",
            Self::Key => "tls/client.pem",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Ca | Self::Chain => "expected certificates in PEM or DER",
            Self::Key => "expected a private key in PEM or DER",
        }
    }
}
