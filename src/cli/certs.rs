//! `skytls certs`: a CA, a server's and a client's certificate as files for OAP and its agents.
//!
//! It prints nothing, renews nothing and never reads a CA from disk: every run makes a new one.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use openssl::x509::X509NameRef;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::error::{Code, Error, Result};
use crate::pki::{Algorithm, Authority, Host, Leaf, Profile, Validity, rfc3339};

/// What `skytls certs` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Folder to write to; made with mode 0700 if there is none
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// DNS names and IP addresses that agents dial [default: localhost 127.0.0.1 ::1]
    #[arg(long = "host", value_name = "NAME", num_args = 1..)]
    pub hosts: Vec<String>,

    /// Days that server and client certificate are valid; the CA lasts ten years or as long as they do
    #[arg(long, value_name = "N", default_value_t = DEFAULT_DAYS)]
    pub days: u32,

    /// Kind of key
    #[arg(long, default_value_t, value_parser = algorithms())]
    pub algorithm: Algorithm,

    /// Replace files that are there already
    #[arg(long)]
    pub force: bool,
}

/// What was written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The folder, as it was given.
    pub folder: PathBuf,
    /// The kind of every key.
    pub algorithm: Algorithm,
    /// The names the server's certificate holds for.
    pub hosts: Vec<Host>,
    /// The files, by name.
    pub files: Vec<Written>,
    /// What whoever uses the files should know.
    pub notes: Vec<String>,
}

/// A file of the report.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Written {
    /// Folder and name.
    pub path: PathBuf,
    /// Whether it holds a private key (mode 0600) or a certificate.
    pub private: bool,
    /// The subject of the certificate, or of the certificate that the key belongs to.
    pub subject: String,
    /// The last second of that certificate, since 1970.
    pub not_after: i64,
    /// Who needs the file, and as which setting.
    pub used_as: &'static str,
}

/// A file before it is written.
struct Draft<'a> {
    name: &'static str,
    content: &'a str,
    private: bool,
    subject: &'a str,
    not_after: i64,
    used_as: &'static str,
}

/// What a server answers to unless told otherwise.
pub const DEFAULT_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long server and client certificate last unless told otherwise.
pub const DEFAULT_DAYS: u32 = 365;

const MOST_DAYS: u32 = 36_500;

/// A CA that outlives its certificates can sign the next ones by hand (`openssl x509 -req -CA ca.crt`).
const CA_DAYS: u32 = 3_650;

/// Makes the certificates and writes them.
///
/// All is decided and staged before the first file gets its name, and each file appears whole. Without
/// `force` nothing is replaced, and after a failure nothing is left behind; with it a failure in the
/// middle of the six renames may leave old and new files side by side.
pub fn write(options: &Options) -> Result<Report> {
    if !(1..=MOST_DAYS).contains(&options.days) {
        return Err(Error::new(Code::OutOfRange)
            .key("--days")
            .found(options.days)
            .expected(format!("1 to {MOST_DAYS}")));
    }
    let leaf_dates = Validity::days(options.days);
    let ca_dates = Validity::days(options.days.max(CA_DAYS));
    let server = if options.hosts.is_empty() {
        Leaf::server(DEFAULT_HOSTS)?
    } else {
        Leaf::server(&options.hosts)?
    };
    let hosts = server.hosts().to_vec();
    let client = Leaf::client("skytls agent")?;
    let profile = Profile::new(ca_name()?)?.path_length(0);

    let ca = Authority::new(&profile.algorithm(options.algorithm).valid(ca_dates))?;
    let server = ca.issue(&server.algorithm(options.algorithm).valid(leaf_dates))?;
    let client = ca.issue(&client.algorithm(options.algorithm).valid(leaf_dates))?;

    let ca_is = (subject(ca.certificate().subject_name()), ca_dates.not_after());
    let server_is = (subject(server.certificate().subject_name()), leaf_dates.not_after());
    let client_is = (subject(client.certificate().subject_name()), leaf_dates.not_after());
    // Keys first: whoever watches a certificate for changes then finds its key in place.
    let drafts = [
        Draft::key("ca.key", ca.key_pem(), &ca_is, "nobody's: keep it off servers and agents"),
        Draft::key(
            "server.pem",
            server.key_pem(),
            &server_is,
            "SW_RECEIVER_GRPC_SSL_KEY_PATH of OAP",
        ),
        Draft::key("client.pem", client.key_pem(), &client_is, "agent.ssl_key_path"),
        Draft::certificate(
            "ca.crt",
            ca.certificate_pem(),
            &ca_is,
            "agent.ssl_trusted_ca_path; SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH of OAP",
        ),
        Draft::certificate(
            "server.crt",
            server.chain_pem(),
            &server_is,
            "SW_RECEIVER_GRPC_SSL_CERT_CHAIN_PATH of OAP",
        ),
        Draft::certificate(
            "client.crt",
            client.chain_pem(),
            &client_is,
            "agent.ssl_cert_chain_path",
        ),
    ];
    make_folder(&options.out)?;
    put(&options.out, &drafts, options.force)?;

    let mut notes = Vec::new();
    if options.algorithm == Algorithm::Ed25519 {
        notes.push("neither Java agents nor OAP read Ed25519 keys; skytls does".to_owned());
    }
    if others_can_write(&options.out) {
        notes.push(format!(
            "other users may write to {}: they could replace the files",
            options.out.display()
        ));
    }
    let mut files: Vec<Written> = drafts.iter().map(|draft| draft.written(&options.out)).collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Report { folder: options.out.clone(), algorithm: options.algorithm, hosts, files, notes })
}

// === impl Report ===

impl Report {
    /// For people: a line per file, then the notes. Ends with a line break.
    pub fn to_text(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        let mut text =
            format!("certificates for {} in {}\n", hosts.join(", "), self.folder.display());
        for file in &self.files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            let what = if file.private { "key of " } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {name:<11} {what}{}, until {}: {}",
                file.subject,
                rfc3339(file.not_after),
                file.used_as
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    /// For programs: one JSON document, without a line break.
    pub fn to_json(&self) -> String {
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|file| {
                json!({
                    "path": file.path.display().to_string(),
                    "private": file.private,
                    "subject": file.subject,
                    "not_after": rfc3339(file.not_after),
                    "used_as": file.used_as,
                })
            })
            .collect();
        json!({
            "folder": self.folder.display().to_string(),
            "algorithm": self.algorithm.name(),
            "hosts": self.hosts.iter().map(Host::to_string).collect::<Vec<_>>(),
            "files": files,
            "notes": self.notes,
        })
        .to_string()
    }
}

// === impl Draft ===

impl<'a> Draft<'a> {
    fn key(
        name: &'static str,
        content: &'a str,
        (subject, not_after): &'a (String, i64),
        used_as: &'static str,
    ) -> Self {
        Self { name, content, private: true, subject, not_after: *not_after, used_as }
    }

    fn certificate(
        name: &'static str,
        content: &'a str,
        belongs: &'a (String, i64),
        used_as: &'static str,
    ) -> Self {
        Self { private: false, ..Self::key(name, content, belongs, used_as) }
    }

    fn written(&self, folder: &Path) -> Written {
        Written {
            path: folder.join(self.name),
            private: self.private,
            subject: self.subject.to_owned(),
            not_after: self.not_after,
            used_as: self.used_as,
        }
    }

    /// The whole content on disk, under a temporary name in the same folder.
    fn stage(&self, folder: &Path) -> Result<NamedTempFile> {
        let staged = (|| {
            let mut file = create(folder, self.name, if self.private { 0o600 } else { 0o644 })?;
            file.write_all(self.content.as_bytes())?;
            // Without it a crash after the rename may leave an empty file under the final name.
            file.as_file().sync_all()?;
            Ok::<_, io::Error>(file)
        })();
        staged.map_err(|error| cannot_write(&folder.join(self.name)).because(error))
    }
}

/// Stages every file, then gives each its name.
fn put(folder: &Path, drafts: &[Draft<'_>], force: bool) -> Result<()> {
    for draft in drafts {
        let path = folder.join(draft.name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => return Err(cannot_write(&path).found("a folder")),
            Ok(_) if !force => return Err(in_the_way(&path)),
            _ => {}
        }
    }
    let mut staged = Vec::new();
    for draft in drafts {
        staged.push((folder.join(draft.name), draft.stage(folder)?));
    }
    let mut written = Vec::new();
    for (path, file) in staged {
        let outcome = if force {
            file.persist(&path).map_err(|error| cannot_write(&path).because(error.error))
        } else {
            // Somebody else may have been faster since the look above: this does not replace either.
            file.persist_noclobber(&path).map_err(|error| match error.error.kind() {
                io::ErrorKind::AlreadyExists => in_the_way(&path),
                _ => cannot_write(&path).because(error.error),
            })
        };
        if let Err(error) = outcome {
            if !force {
                // They are ours, and half a set is of no use. The first error says what went wrong.
                written.iter().for_each(|path| drop(fs::remove_file(path)));
            }
            return Err(error);
        }
        written.push(path);
    }
    Ok(())
}

/// A new file that never has wider permissions than `mode`, not even before it is written.
fn create(folder: &Path, name: &str, mode: u32) -> io::Result<NamedTempFile> {
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder.tempfile_in(folder)
}

fn make_folder(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| cannot_write(folder).because(error))
}

#[cfg(unix)]
fn others_can_write(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    const STICKY: u32 = 0o1000;
    const GROUP_OR_OTHERS: u32 = 0o022;
    fs::metadata(folder)
        .map(|found| found.permissions().mode())
        .is_ok_and(|mode| mode & GROUP_OR_OTHERS != 0 && mode & STICKY == 0)
}

#[cfg(not(unix))]
fn others_can_write(_: &Path) -> bool {
    false
}

fn cannot_write(path: &Path) -> Error {
    Error::new(Code::CannotWrite).file(path)
}

fn in_the_way(path: &Path) -> Error {
    cannot_write(path)
        .found("an existing file")
        .hint("choose another folder, or replace the files with --force")
}

/// Every run's CA has a name of its own, so that two of them can be told apart wherever they meet.
fn ca_name() -> Result<String> {
    let mut random = [0; 4];
    openssl::rand::rand_bytes(&mut random)
        .map_err(|error| Error::new(Code::OpenSslFailed).because(error))?;
    Ok(format!("skytls CA {:08x}", u32::from_be_bytes(random)))
}

/// A name of one line, `CN=localhost`.
fn subject(name: &X509NameRef) -> String {
    let parts: Vec<String> = name
        .entries()
        .map(|entry| {
            let field = entry.object().nid().short_name().unwrap_or("?");
            format!("{field}={}", String::from_utf8_lossy(entry.data().as_slice()))
        })
        .collect();
    parts.join(", ")
}

fn algorithms() -> impl clap::builder::TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::ALL.iter().map(|algorithm| algorithm.name()))
        .try_map(|name| name.parse::<Algorithm>())
}
