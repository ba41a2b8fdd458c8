//! The files of the relay's link, which are renewed, and spoilt, while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skytls::pki::{Authority, Identity, Leaf, Profile, Validity};

use crate::spool_fixture::World;

pub struct Certificates {
    ca: Authority,
    folder: PathBuf,
    /// The number of the client's certificate in force.
    number: u64,
}

/// A file that is not as it should be, and what was in it.
pub struct Spoilt(Vec<(PathBuf, Vec<u8>)>);

impl Certificates {
    /// In the place of those that the world has.
    pub fn mint(world: &World) -> Self {
        let ca = Authority::new(&Profile::new("ca of chaos").unwrap()).unwrap();
        let folder = world.folder.path().join("ca");
        let server = ca.issue(&Leaf::server(["localhost", "127.0.0.1"]).unwrap()).unwrap();
        // The collector has its own, which nobody spoils: it starts again at any moment.
        let theirs = world.folder.path().join("backend");
        fs::create_dir(&theirs).unwrap();
        for (path, content) in [
            (folder.join("ca.crt"), ca.certificate_pem()),
            (theirs.join("ca.crt"), ca.certificate_pem()),
            (theirs.join("server.crt"), server.chain_pem()),
            (theirs.join("server.pem"), server.key_pem()),
        ] {
            replace(&path, content.as_bytes());
        }
        let mut certificates = Self { ca, folder, number: 0 };
        certificates.renew(false);
        certificates
    }

    /// A new client certificate; with `more_trust` a CA more or less as well.
    pub fn renew(&mut self, more_trust: bool) {
        self.number += 1;
        let own = self.issue(&Leaf::client(self.name()).unwrap());
        if more_trust {
            let path = self.folder.join("ca.crt");
            let mut trusted = self.ca.certificate_pem().to_owned();
            if fs::read(&path).unwrap().len() == trusted.len() {
                let other = Authority::new(&Profile::new("another ca").unwrap()).unwrap();
                trusted += other.certificate_pem();
            }
            replace(&path, trusted.as_bytes());
        }
        replace(&self.folder.join("client.crt"), own.chain_pem().as_bytes());
        replace(&self.folder.join("client.pem"), own.key_pem().as_bytes());
    }

    /// The common name of the client's certificate in force.
    pub fn name(&self) -> String {
        format!("agent {}", self.number)
    }

    /// Puts a fault into the files, one of five.
    pub fn spoil(&self, which: u32) -> Spoilt {
        let (chain, key) = (self.folder.join("client.crt"), self.folder.join("client.pem"));
        let keep = |path: &PathBuf| (path.clone(), fs::read(path).unwrap());
        let spoilt = match which {
            0 => Spoilt(vec![keep(&self.folder.join("ca.crt"))]),
            1 | 2 => Spoilt(vec![keep(&chain)]),
            _ => Spoilt(vec![keep(&chain), keep(&key)]),
        };
        match which {
            0 => replace(&self.folder.join("ca.crt"), b"garbage"),
            1 => fs::remove_file(&chain).unwrap(),
            // Of another key.
            2 => {
                let other = self.issue(&Leaf::client("a stranger").unwrap());
                replace(&chain, other.chain_pem().as_bytes());
            }
            3 => {
                let past = Validity::relative(-7200, -3600);
                let expired = self.issue(&Leaf::client("of yesterday").unwrap().valid(past));
                replace(&chain, expired.chain_pem().as_bytes());
                replace(&key, expired.key_pem().as_bytes());
            }
            // Half written.
            _ => {
                let half = fs::read(&key).unwrap();
                replace(&key, &half[..half.len() / 2]);
            }
        }
        spoilt
    }

    fn issue(&self, leaf: &Leaf) -> Identity {
        self.ca.issue(leaf).unwrap()
    }
}

impl Spoilt {
    pub fn mend(self) {
        for (path, content) in self.0 {
            replace(&path, &content);
        }
    }
}

/// By a rename: no reader sees half of it.
fn replace(path: &Path, content: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}
