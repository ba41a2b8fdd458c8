//! The policy of `openssl.cnf` has the effect it has on `openssl s_client`: the same servers refused,
//! and with the others the same version, cipher, signature algorithms and groups.
//!
//! OpenSSL reads its file once per process, so each of our handshakes is made by a process of its
//! own: this very program, told to run [`handshake`] only. The few cases where skytls decides
//! otherwise on purpose are in `DIFFERENT`, with the reason.

mod support;

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use http::Uri;
use skytls::Connector;
use skytls::config::Loader;
use skytls::error::Chain;
use skytls::tls::Generation;
use skytls::transport::Negotiated;
use tower::Service;

use support::folder::Folder;
use support::openssl::{Peer, Server};
use support::pki::{self, Files};
use support::process::{Finished, Process, Skytls, clean};

/// The name of a policy, and the lines of its `[system_default_sect]`.
type Policy = (&'static str, &'static str);

const POLICIES: [Policy; 20] = [
    ("nothing", ""),
    ("min 1.3", "MinProtocol = TLSv1.3"),
    ("max 1.2", "MaxProtocol = TLSv1.2"),
    ("only 1.2", "MinProtocol = TLSv1.2\nMaxProtocol = TLSv1.2"),
    ("1.3 off by Protocol", "Protocol = -TLSv1.3"),
    ("prefixed, as RHEL writes it", "TLS.MinProtocol = TLSv1.3\nDTLS.MinProtocol = DTLSv1.2"),
    ("AES-256 only", "CipherString = AES256\nMaxProtocol = TLSv1.2"),
    ("AES-128 only", "CipherString = AES128\nMaxProtocol = TLSv1.2"),
    ("no forward secrecy", "CipherString = kRSA\nMaxProtocol = TLSv1.2"),
    ("one suite of 1.3", "Ciphersuites = TLS_CHACHA20_POLY1305_SHA256"),
    ("two suites of 1.3", "Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"),
    ("P-384 only", "Groups = P-384"),
    ("Curves, the old name", "Curves = P-521:X25519"),
    ("RSA-PSS with SHA-512 only", "SignatureAlgorithms = rsa_pss_rsae_sha512"),
    ("ECDSA signatures only", "SignatureAlgorithms = ECDSA+SHA256"),
    ("level 3", "CipherString = DEFAULT:@SECLEVEL=3"),
    ("level 1", "CipherString = DEFAULT:@SECLEVEL=1"),
    ("level 5", "CipherString = ALL:@SECLEVEL=5"),
    ("options", "Options = ServerPreference,-SessionTicket\nMaxProtocol = TLSv1.2"),
    ("min 1.0", "MinProtocol = TLSv1\nCipherString = DEFAULT:@SECLEVEL=0"),
];

/// The name of a server's settings, and the settings.
const SERVERS: [(&str, &[&str]); 4] = [
    ("any", &[]),
    ("1.2 with AES-128", &["-tls1_2", "-cipher", "AES128"]),
    ("1.3 with P-256", &["-tls1_3", "-groups", "P-256"]),
    ("P-384 before X25519", &["-groups", "P-384:X25519", "-serverpref"]),
];

/// Policy and server, and why skytls decides otherwise there.
const DIFFERENT: [(&str, &str, &str); 1] = [("min 1.0", "1.1", "skytls never goes below TLS 1.2")];

/// What a client got, and what the server saw of its offer.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    /// Version, cipher and group as the client names them, and the server's lines about the client's offer.
    Agreed {
        version: String,
        cipher: String,
        group: String,
        offer: Vec<String>,
    },
}

// === the process of its own ===

/// One handshake with the address and settings in the environment. Run by the other tests.
#[test]
#[ignore = "is run by the other tests, in a process of its own"]
fn handshake() {
    let address = std::env::var("HANDSHAKE_WITH").unwrap();
    let answer = connect(&address)
        .unwrap_or_else(|error| format!("refused, exit {}: {}", error.exit_code(), Chain(&error)));
    // The stream itself: what `println` writes is captured in tests.
    use std::io::Write;
    writeln!(std::io::stderr(), "\nANSWER {answer}").unwrap();
}

fn connect(address: &str) -> skytls::Result<String> {
    let settings = Loader::new().load()?.settings;
    let generation = Generation::load(&settings.tls)?;
    let mut answer = String::new();
    let connector = Connector::from_generation(&generation);
    let mut connector = connector.server_name("localhost")?;
    let uri = Uri::try_from(format!("https://{address}")).expect("an address is a URI");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let io = runtime.block_on(async { connector.call(uri).await })?;
    let Negotiated { protocol, cipher, group, .. } = io.negotiated().expect("it is TLS");
    write!(answer, "agreed {protocol} {cipher} {group}").expect("a String");
    for warning in &generation.description().warnings {
        write!(answer, " | {warning}").expect("a String");
    }
    Ok(answer)
}

/// Runs it with these variables on top of a clean environment.
fn ours(server: &Server, bed: &Bed, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["handshake", "--exact", "--ignored", "--nocapture", "--quiet"]);
    clean(&mut command);
    command.env("HANDSHAKE_WITH", server.address.to_string());
    command.env("SW_AGENT_SSL_TRUSTED_CA_PATH", &bed.files.ca);
    command.envs(variables.iter().copied());
    let Finished { stderr, .. } = Process::start(command, Stdio::null()).finish().expect_code(0);
    let answer = stderr.lines().find_map(|line| line.strip_prefix("ANSWER "));
    answer.unwrap_or_else(|| panic!("no answer in {stderr}")).to_owned()
}

/// `openssl s_client` with the same file.
fn theirs(server: &Server, bed: &Bed, conf: &str) -> Finished {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-servername", "localhost", "-alpn", "h2", "-brief"]);
    command.args(["-verify_return_error", "-verify_hostname", "localhost", "-partial_chain"]);
    command.arg("-connect").arg(server.address.to_string()).arg("-CAfile").arg(&bed.files.ca);
    clean(&mut command);
    command.env("OPENSSL_CONF", conf);
    Process::start(command, Stdio::null()).finish()
}

// === what they share ===

struct Bed {
    files: Files,
    folder: Folder,
}

impl Bed {
    fn new() -> Self {
        Self { files: pki::proper().write(), folder: Folder::empty() }
    }

    /// An `openssl.cnf` with these lines in its `[system_default_sect]`.
    fn conf(&self, lines: &str) -> String {
        self.file(&format!(
            "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = policy\n[policy]\n{lines}\n"
        ))
    }

    fn file(&self, text: &str) -> String {
        self.folder.replace("openssl.cnf", text, 0o644);
        self.folder.join("openssl.cnf").display().to_string()
    }

    fn serve(&self, options: &[&str]) -> Server {
        let peer = Peer::server(&self.files.server, &self.files.server_key).h2();
        options.iter().fold(peer, |peer, option| peer.flag(option)).listen()
    }
}

/// What the server prints about a client it agrees with, down to `CIPHER is`.
fn offer(server: &Server) -> Vec<String> {
    let cipher = server.process.line("CIPHER is ");
    let printed = server.process.stdout();
    let seen = printed.lines().filter(|line| {
        ["Shared ciphers:", "Signature Algorithms:", "Supported groups:", "Shared groups:"]
            .iter()
            .any(|start| line.starts_with(start))
    });
    seen.map(str::to_owned).chain([cipher]).collect()
}

fn outcome_of_ours(bed: &Bed, options: &[&str], variables: &[(&str, &str)]) -> (Outcome, String) {
    let server = bed.serve(options);
    let answer = ours(&server, bed, variables);
    let outcome = match answer.strip_prefix("agreed ") {
        None => Outcome::Refused,
        Some(words) => {
            let mut words = words.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            Outcome::Agreed {
                version: word(),
                cipher: word(),
                group: word(),
                offer: offer(&server),
            }
        }
    };
    (outcome, answer)
}

fn outcome_of_theirs(bed: &Bed, options: &[&str], conf: &str) -> (Outcome, String) {
    let server = bed.serve(options);
    let finished = theirs(&server, bed, conf);
    let printed = format!("{}{}", finished.stdout, finished.stderr);
    let after = |start: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_default().trim().to_owned()
    };
    let outcome = match printed.contains("CONNECTION ESTABLISHED") && finished.code == 0 {
        false => Outcome::Refused,
        true => Outcome::Agreed {
            version: after("Protocol version:"),
            cipher: after("Ciphersuite:"),
            group: group_of(&printed),
            offer: offer(&server),
        },
    };
    (outcome, printed)
}

/// The group in `Server Temp Key: ECDH, prime256v1, 256 bits`, as TLS names it.
fn group_of(printed: &str) -> String {
    let key = printed.lines().find_map(|line| line.split_once(" Temp Key: "));
    let key = key.map(|(_, key)| key.trim_start_matches("ECDH, ")).unwrap_or_default();
    let group = key.split(',').next().unwrap_or_default().to_lowercase();
    group.replace("prime256v1", "secp256r1")
}

/// Whether this program uses an OpenSSL of the version that the `openssl` command has.
fn is_of_one_version() -> bool {
    static TOLD: LazyLock<String> = LazyLock::new(|| support::openssl::run(["version"]).stdout);
    let words = |text: &str| text.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
    words(&TOLD) == words(openssl::version::version())
}

/// What has to be the same. An OpenSSL that was built in may be of another version than the command:
/// where a policy leaves ciphers, signature algorithms and groups to OpenSSL, it may offer others.
fn comparable(policy: &str, outcome: &Outcome) -> Outcome {
    let Outcome::Agreed { version, cipher, group, offer } = outcome else {
        return Outcome::Refused;
    };
    let says = |names: &[&str]| names.iter().any(|name| policy.contains(name));
    let counts = |line: &&String| {
        is_of_one_version()
            || line.starts_with("CIPHER is")
            || (line.starts_with("Supported groups") && says(&["Groups", "Curves"]))
            || (line.starts_with("Signature Algorithms") && says(&["SignatureAlgorithms"]))
    };
    Outcome::Agreed {
        version: version.clone(),
        cipher: cipher.clone(),
        group: group.clone(),
        offer: offer.iter().filter(counts).cloned().collect(),
    }
}

// === the matrix ===

#[test]
fn every_policy_has_the_effect_it_has_on_s_client() {
    let bed = Bed::new();
    let (mut agreed, mut refused, mut failures) = (0, 0, String::new());
    for (policy, lines) in POLICIES {
        let conf = bed.conf(lines);
        for (name, options) in SERVERS {
            let (theirs, printed) = outcome_of_theirs(&bed, options, &conf);
            let (ours, answer) = outcome_of_ours(&bed, options, &[("OPENSSL_CONF", &conf)]);
            match theirs {
                Outcome::Refused => refused += 1,
                Outcome::Agreed { .. } => agreed += 1,
            }
            if comparable(lines, &ours) != comparable(lines, &theirs) {
                writeln!(
                    failures,
                    "{policy}, server {name}:\nours {ours:#?}\n{answer}\ntheirs {theirs:#?}\n{printed}"
                )
                .unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
    // Neither a server that refuses everything nor one that takes everything proves anything.
    assert!(agreed >= 30 && refused >= 15, "{agreed} agreed, {refused} refused");
}

#[test]
fn the_deliberate_differences_are_there() {
    let bed = Bed::new();
    let level_0 = ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"];
    for (policy, server, reason) in DIFFERENT {
        let (_, lines) = POLICIES.into_iter().find(|(name, _)| *name == policy).unwrap();
        let conf = bed.conf(lines);
        assert_eq!(server, "1.1", "{reason}");
        let (theirs, printed) = outcome_of_theirs(&bed, &level_0, &conf);
        assert!(matches!(theirs, Outcome::Agreed { .. }), "{printed}");
        let (ours, answer) = outcome_of_ours(&bed, &level_0, &[("OPENSSL_CONF", &conf)]);
        assert_eq!(ours, Outcome::Refused, "{reason}");
        assert!(answer.contains("SKT-503"), "{answer}");
    }
    let conf = bed.conf("MaxProtocol = TLSv1.1\nCipherString = DEFAULT:@SECLEVEL=0");
    let (theirs, printed) = outcome_of_theirs(&bed, &level_0, &conf);
    assert!(matches!(theirs, Outcome::Agreed { .. }), "{printed}");
    let (_, answer) = outcome_of_ours(&bed, &level_0, &[("OPENSSL_CONF", &conf)]);
    assert!(answer.starts_with("refused, exit 2: SKT-306") && answer.contains(&conf), "{answer}");
}

// === agent.ssl_* ===

/// Key, a good value, what the server then sees; a bad value.
#[test]
fn every_policy_setting_takes_effect_on_top_of_the_file_and_refuses_nonsense() {
    let bed = Bed::new();
    // What the file says stays in force where a setting says nothing.
    let conf = bed.conf(
        "Groups = P-521:P-384:P-256\nCiphersuites = TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
    );
    let kept = "Supported groups: secp521r1:secp384r1:secp256r1";
    let rows = [
        ("MIN_PROTOCOL", "TLSv1.3", "CIPHER is TLS_AES_256_GCM_SHA384", "TLSv9"),
        ("MAX_PROTOCOL", "TLSv1.2", "CIPHER is ECDHE-ECDSA-AES256-GCM-SHA384", "1.2"),
        ("CIPHERS", "ECDHE-ECDSA-AES128-GCM-SHA256", ":ECDHE-ECDSA-AES128-GCM-SHA256", "NOPE"),
        ("CIPHERSUITES", "TLS_AES_128_GCM_SHA256", "CIPHER is TLS_AES_128_GCM_SHA256", "NOPE"),
        ("GROUPS", "X25519:P-256", "Supported groups: x25519:secp256r1", "P-256:NOPE"),
        (
            "SIGNATURE_ALGORITHMS",
            "rsa_pss_rsae_sha512:ECDSA+SHA256",
            "Signature Algorithms: RSA-PSS+SHA512:ECDSA+SHA256",
            "NOPE+SHA1",
        ),
        // Level 3 leaves out what has no forward secrecy, see below.
        ("SECURITY_LEVEL", "3", kept, "9"),
    ];
    let (plain, answer) = outcome_of_ours(&bed, &[], &[("OPENSSL_CONF", &conf)]);
    let Outcome::Agreed { offer: before, .. } = plain else { panic!("{answer}") };
    assert!(before.contains(&kept.to_owned()), "{before:#?}");
    for (name, good, seen, bad) in rows {
        let variable = format!("SW_AGENT_SSL_{name}");
        let key = format!("agent.ssl_{}", name.to_lowercase());
        let server = bed.serve(&[]);
        let answer = ours(&server, &bed, &[("OPENSSL_CONF", &conf), (&variable, good)]);
        assert!(answer.starts_with("agreed"), "{key}={good}: {answer}");
        let offer = offer(&server);
        assert!(offer.iter().any(|line| line.contains(seen)), "{key}={good}: {offer:#?}");
        let ciphers = offer.iter().find(|line| line.starts_with("Shared ciphers:")).unwrap();
        match name {
            "CIPHERS" => assert!(!ciphers.contains("ECDHE-ECDSA-AES256"), "{ciphers}"),
            "SECURITY_LEVEL" => assert!(!ciphers.contains(":AES256-GCM"), "{ciphers}"),
            "MAX_PROTOCOL" => assert!(ciphers.contains(":AES256-GCM"), "{ciphers}"),
            _ => {}
        }
        if name != "GROUPS" {
            assert!(offer.contains(&kept.to_owned()), "{key}: the file's groups: {offer:#?}");
        }
        let run = Skytls::new(["run", "--set", &format!("{key}={bad}")])
            .arg("--set=collector.backend_service=127.0.0.1:1")
            .arg("--set=relay.listen=127.0.0.1:0")
            .env("SW_AGENT_SSL_TRUSTED_CA_PATH", &bed.files.ca)
            .run()
            .expect_code(2);
        let expected = if name == "SECURITY_LEVEL" { "SKT-111" } else { "SKT-110" };
        for word in [expected, &key, bad] {
            assert!(run.stderr.contains(word), "{word} in {}", run.stderr);
        }
    }
}

#[test]
fn the_security_level_of_the_file_is_replaced_by_the_setting() {
    let bed = Bed::new();
    let conf = bed.conf("CipherString = DEFAULT:@SECLEVEL=5");
    let (outcome, answer) = outcome_of_ours(&bed, &[], &[("OPENSSL_CONF", &conf)]);
    assert_eq!(outcome, Outcome::Refused, "{answer}");
    let relaxed = [("OPENSSL_CONF", conf.as_str()), ("SW_AGENT_SSL_SECURITY_LEVEL", "1")];
    let (outcome, answer) = outcome_of_ours(&bed, &[], &relaxed);
    assert!(matches!(outcome, Outcome::Agreed { .. }), "{answer}");
}

#[test]
fn below_tls_1_2_is_refused_even_when_asked() {
    let bed = Bed::new();
    for (key, value) in [("min", "TLSv1.1"), ("min", "TLSv1"), ("max", "TLSv1.1"), ("min", "SSLv3")]
    {
        let run = Skytls::new(["run", "--set", &format!("agent.ssl_{key}_protocol={value}")])
            .arg("--set=collector.backend_service=127.0.0.1:1")
            .arg("--set=relay.listen=127.0.0.1:0")
            .env("SW_AGENT_SSL_TRUSTED_CA_PATH", &bed.files.ca)
            .run()
            .expect_code(2);
        // OpenSSL 4 has forgotten SSLv3, even its name.
        let forgotten = value == "SSLv3" && run.stderr.contains("SKT-110");
        assert!(forgotten || run.stderr.contains("SKT-111"), "{}", run.stderr);
    }
}
