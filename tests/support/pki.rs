//! Certificates to be tested with, minted relative to now: proper ones, and odd ones of every kind.
//!
//! What a verifier makes of each is checked in `tests/certs_for_tests_are_what_they_claim.rs`; the odd
//! ones are minted in `script`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use skytls::pki::{Authority, Identity, Leaf, Profile, Validity};
use tempfile::TempDir;

pub(crate) use super::script::{Pair, Recipe, Script, V3};

/// The PEM texts of a server, its clients, and what both trust.
#[derive(Clone)]
pub(crate) struct Set {
    /// What is trusted.
    pub(crate) ca: String,
    /// What the server sends, leaf first.
    pub(crate) server: String,
    /// PKCS#8.
    pub(crate) server_key: String,
    /// What the client sends, leaf first.
    pub(crate) client: String,
    /// PKCS#8.
    pub(crate) client_key: String,
}

/// A [`Set`] as files, named as in SkyWalking's documentation; keys have mode 0600.
pub(crate) struct Files {
    pub(crate) ca: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) server_key: PathBuf,
    pub(crate) client: PathBuf,
    pub(crate) client_key: PathBuf,
    /// Removed when dropped; `None` if the folder is somebody else's.
    folder: Option<TempDir>,
}

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) const MINTED: &str = "the certificate can be minted";

// === proper ones ===

/// A root and what it issued; the server is `localhost`, `127.0.0.1` and `::1`.
pub(crate) fn proper() -> Set {
    proper_for(["localhost", "127.0.0.1", "::1"])
}

/// A root and what it issued; the server has these names.
pub(crate) fn proper_for<H: AsRef<str>>(hosts: impl IntoIterator<Item = H>) -> Set {
    let ca = root("test root");
    let server = ca.issue(&Leaf::server(hosts).expect(MINTED)).expect(MINTED);
    Set::of(ca.certificate_pem(), &server, &client_of(&ca))
}

/// Proper, but the server's certificate holds only from and until so many seconds from now.
pub(crate) fn proper_between(from: i64, until: i64) -> Set {
    let ca = root("test root");
    let leaf = server_leaf().valid(Validity::relative(from, until));
    Set::of(ca.certificate_pem(), &ca.issue(&leaf).expect(MINTED), &client_of(&ca))
}

/// Proper, but the root is over.
pub(crate) fn expired_root() -> Set {
    let profile = Profile::new("test root").expect(MINTED);
    let ca = Authority::new(&profile.valid(Validity::relative(-2 * DAY, -DAY))).expect(MINTED);
    Set::of(ca.certificate_pem(), &server_of(&ca), &client_of(&ca))
}

/// Proper, but what is trusted is another root (with another name).
pub(crate) fn unrelated_root() -> Set {
    Set { ca: root("another root").certificate_pem().to_owned(), ..proper() }
}

/// Root, intermediate, leaf. The root is trusted, the other two are sent.
pub(crate) fn with_intermediate() -> Set {
    let (root, middle) = root_and_intermediate();
    Set::of(root.certificate_pem(), &server_of(&middle), &client_of(&middle))
}

/// Root, intermediate, leaf. Root and intermediate are trusted, the leaf alone is sent.
pub(crate) fn intermediate_not_sent() -> Set {
    let (root, middle) = root_and_intermediate();
    let trusted = format!("{}{}", root.certificate_pem(), middle.certificate_pem());
    let (server, client) = (server_of(&middle), client_of(&middle));
    Set {
        server: server.certificate_pem().to_owned(),
        client: client.certificate_pem().to_owned(),
        ..Set::of(&trusted, &server, &client)
    }
}

/// Root, intermediate, leaf. Only the intermediate is trusted; it is sent with the leaf.
pub(crate) fn intermediate_alone_trusted() -> Set {
    let (_, middle) = root_and_intermediate();
    Set::of(middle.certificate_pem(), &server_of(&middle), &client_of(&middle))
}

/// Root, leaf. Only the server's leaf itself is trusted.
pub(crate) fn leaf_alone_trusted() -> Set {
    let set = proper();
    Set { ca: set.server.clone(), ..set }
}

fn root(name: &str) -> Authority {
    Authority::new(&Profile::new(name).expect(MINTED)).expect(MINTED)
}

fn root_and_intermediate() -> (Authority, Authority) {
    let root = root("test root");
    let middle = root.intermediate(&Profile::new("test intermediate").expect(MINTED));
    (root, middle.expect(MINTED))
}

fn server_leaf() -> Leaf {
    Leaf::server(["localhost", "127.0.0.1", "::1"]).expect(MINTED)
}

fn server_of(ca: &Authority) -> Identity {
    ca.issue(&server_leaf()).expect(MINTED)
}

fn client_of(ca: &Authority) -> Identity {
    ca.issue(&Leaf::client("test agent").expect(MINTED)).expect(MINTED)
}

// === impl Set ===

impl Set {
    /// As files in a temporary folder.
    pub(crate) fn write(&self) -> Files {
        let folder = tempfile::tempdir().expect("there is room for a temporary folder");
        let files = self.write_to(folder.path());
        Files { folder: Some(folder), ..files }
    }

    /// As files in this folder, which has to be there; each replaced by a rename.
    pub(crate) fn write_to(&self, folder: &Path) -> Files {
        let put = |name: &str, content: &str, mode| {
            let (path, draft) = (folder.join(name), folder.join(format!(".{name}.new")));
            let mut file = fs::OpenOptions::new();
            let file = file.write(true).create_new(true).mode(mode).open(&draft);
            file.and_then(|mut file| file.write_all(content.as_bytes()))
                .and_then(|()| fs::rename(&draft, &path))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            path
        };
        Files {
            ca: put("ca.crt", &self.ca, 0o644),
            server: put("server.crt", &self.server, 0o644),
            server_key: put("server.pem", &self.server_key, 0o600),
            client: put("client.crt", &self.client, 0o644),
            client_key: put("client.pem", &self.client_key, 0o600),
            folder: None,
        }
    }

    fn of(ca: &str, server: &Identity, client: &Identity) -> Self {
        Self {
            ca: ca.to_owned(),
            server: server.chain_pem().to_owned(),
            server_key: server.key_pem().to_owned(),
            client: client.chain_pem().to_owned(),
            client_key: client.key_pem().to_owned(),
        }
    }
}

// === impl Files ===

impl Files {
    /// The folder they are in.
    pub(crate) fn folder(&self) -> &Path {
        self.ca.parent().expect("they are in a folder")
    }
}

/// RSA-2048 keys, made once per process: the CA's (0), the server's (1), the client's (2), a stranger's (3).
pub(crate) fn rsa_key(number: usize) -> PKey<Private> {
    static KEYS: [OnceLock<PKey<Private>>; 4] = [const { OnceLock::new() }; 4];
    KEYS[number].get_or_init(|| new_rsa_key(2048)).clone()
}

/// RSA-1024 keys, made once per process: the server's (0), the client's (1), the CA's (2).
pub(crate) fn weak_key(number: usize) -> PKey<Private> {
    static KEYS: [OnceLock<PKey<Private>>; 3] = [const { OnceLock::new() }; 3];
    KEYS[number].get_or_init(|| new_rsa_key(1024)).clone()
}

/// A new P-256 key.
pub(crate) fn ec_key() -> PKey<Private> {
    PKey::ec_gen("prime256v1").expect("OpenSSL knows P-256")
}

fn new_rsa_key(bits: u32) -> PKey<Private> {
    Rsa::generate(bits).and_then(PKey::from_rsa).expect("OpenSSL makes RSA keys")
}

pub(crate) fn text(pem: Result<Vec<u8>, ErrorStack>) -> String {
    String::from_utf8(pem.expect(MINTED)).expect("PEM is ASCII")
}
