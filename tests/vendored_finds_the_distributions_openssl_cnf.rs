//! An OpenSSL that was built in reads the `openssl.cnf` of the distribution it runs on, as the
//! distribution's own does; `OPENSSL_CONF` wins.
//!
//! The machine's file is replaced in a mount namespace of the child's own. Where the kernel allows no
//! such namespace, the file is left as it is and only found.

#![cfg(feature = "vendored")]

mod support;

use std::process::{Command, Stdio};

use support::folder::Folder;
use support::process::{Process, Skytls, clean};

/// Stops a stock OpenSSL before it comes to `ssl_conf`; the distribution's own would go on.
const CONF: &str = "openssl_conf = init\n[init]\nalg_section = evp\nssl_conf = ssl\n\
     [evp]\nrh-allow-sha1-signatures = yes\n[ssl]\nsystem_default = policy\n\
     [policy]\nMinProtocol = TLSv1.3\n";

/// The places of `src/tls/openssl_cnf.rs`, in their order.
const PLACES: [&str; 3] =
    ["/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/usr/lib/ssl/openssl.cnf"];

fn place() -> Option<&'static str> {
    PLACES.into_iter().find(|place| std::fs::exists(place).unwrap_or(false))
}

#[test]
fn the_distributions_file_is_found() {
    let run = Skytls::new(["version"]).run().expect_code(0);
    match place() {
        Some(place) => assert!(
            run.stdout.contains(&format!("{place} (read; the distribution's)")),
            "{}",
            run.stdout
        ),
        None => assert!(run.stdout.contains("not there"), "{}", run.stdout),
    }
}

#[test]
fn its_policy_is_in_force_even_after_a_section_that_only_the_distributions_openssl_knows() {
    let Some(place) = place() else { return };
    let folder = Folder::empty().file("openssl.cnf", CONF, 0o644);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c"]).arg(format!(
        "mount --bind {} {place} || {{ echo no namespace; exit 0; }}; exec {} version",
        folder.join("openssl.cnf").display(),
        env!("CARGO_BIN_EXE_skytls")
    ));
    clean(&mut command);
    let run = Process::start(command, Stdio::null()).finish();
    if run.stdout.starts_with("no namespace") || run.stderr.starts_with("unshare:") {
        return;
    }
    let run = run.expect_code(0);
    for word in ["MinProtocol = TLSv1.3", "rh-allow-sha1-signatures", "Fedora and RHEL"] {
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
    }
    assert!(!run.stdout.contains("not in force;"), "{}", run.stdout);
    assert!(!run.stdout.contains("[policy] is not"), "{}", run.stdout);
}

#[test]
fn the_environment_wins() {
    let folder = Folder::empty().file("openssl.cnf", "", 0o644);
    let path = folder.join("openssl.cnf");
    let run = Skytls::new(["version"]).env("OPENSSL_CONF", &path).run().expect_code(0);
    let expected = format!("{} (read; named by OPENSSL_CONF)", path.display());
    assert!(run.stdout.contains(&expected), "{}", run.stdout);
    let run = Skytls::new(["version"]).env("OPENSSL_CONF", "").run().expect_code(0);
    assert!(run.stdout.contains("none: OPENSSL_CONF is empty"), "{}", run.stdout);
}
