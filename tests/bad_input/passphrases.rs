//! Encrypted keys: without a passphrase, with a wrong one, and nobody is ever asked for one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use openssl::pkey::PKey;

use super::certificates::mutual;
use super::row::{Row, fifo};
use crate::support::keys::{self, PASSPHRASE};
use crate::support::pki::{self, Set, rsa_key};
use crate::support::script::Script;

const WRONG: &str = "battery staple";

pub(crate) fn rows() -> Vec<Row> {
    let set = pki::proper();
    // The traditional form is RSA's.
    let rsa = Script::Documented.mint();
    let key = PKey::private_key_from_pem_passphrase(set.client_key.as_bytes(), b"").unwrap();
    let forms = [
        ("PKCS#8", &set, keys::encrypted_pkcs8_pem(&key)),
        ("PKCS#8 in DER", &set, keys::encrypted_pkcs8_der(&key)),
        ("PKCS#1", &rsa, keys::encrypted_pkcs1_pem(&rsa_key(2))),
    ];
    let mut rows = Vec::new();
    for (form, set, content) in &forms {
        rows.extend(encrypted(form, set, content));
    }
    rows.extend(checks(&forms[0].2, &set));
    rows.extend(passphrase_files(&set, &forms[0].2));
    rows
}

fn encrypted(form: &str, set: &Set, content: &[u8]) -> Vec<Row> {
    let row = |what: &str| {
        mutual(format!("{form}: {what}"), set)
            .file("tls/client.pem", content)
            .secret(PASSPHRASE)
            .secret(WRONG)
            .says("tls/client.pem")
    };
    let needed = |what: &str| row(what).refused("SKT-209").says("agent.ssl_key_passphrase_path");
    let wrong = |what: &str| row(what).refused("SKT-210").says("key agent.ssl_key_path");
    let given = format!("agent.ssl_key_passphrase={PASSPHRASE}");
    let other = format!("agent.ssl_key_passphrase={WRONG}");
    vec![
        mutual(format!("{form}: decrypted"), set)
            .file("tls/client.pem", content)
            .set(&given)
            .secret(PASSPHRASE),
        needed("no passphrase"),
        needed("no passphrase, no stdin").without_stdin(),
        needed("no passphrase, on a terminal").on_a_terminal(),
        needed("a blank passphrase").env("SW_AGENT_SSL_KEY_PASSPHRASE", " "),
        wrong("wrong passphrase").set(&other),
        wrong("wrong passphrase, on a terminal").set(&other).on_a_terminal(),
        wrong("wrong passphrase of the environment").env("SW_AGENT_SSL_KEY_PASSPHRASE", WRONG),
        row("right passphrase, cut off")
            .file("tls/client.pem", keys::truncated(content))
            .set(&given)
            .refused("SKT-208"),
    ]
}

/// `check` asks for no passphrase either, whoever might answer, and shows none.
fn checks(content: &[u8], set: &Set) -> Vec<Row> {
    let row = |what: &str| {
        mutual(format!("check: {what}"), set)
            .file("tls/client.pem", content)
            .arg("-vvv")
            .env("RUST_LOG", "trace")
            // A terminal would get colours.
            .env("NO_COLOR", "1")
            .secret(PASSPHRASE)
            .secret(WRONG)
    };
    let wrong = format!("agent.ssl_key_passphrase={WRONG}");
    let right = format!("agent.ssl_key_passphrase={PASSPHRASE}");
    let mut rows = Vec::new();
    for json in [false, true] {
        let form = if json { "JSON" } else { "text" };
        let row = |what: &str| match json {
            true => row(&format!("{what}, {form}")).arg("--json"),
            false => row(&format!("{what}, {form}")),
        };
        let needed = |what: &str| row(what).checked("SKT-209", 2);
        rows.extend([
            needed("no passphrase"),
            needed("no passphrase, no stdin").without_stdin(),
            needed("no passphrase, on a terminal").on_a_terminal(),
            row("wrong passphrase").set(&wrong).checked("SKT-210", 2),
            row("wrong passphrase, on a terminal")
                .set(&wrong)
                .on_a_terminal()
                .checked("SKT-210", 2),
            // Nobody listens there: the key was read.
            row("decrypted").set(&right).checked("SKT-402", 3),
            row("decrypted, on a terminal").set(&right).on_a_terminal().checked("SKT-402", 3),
        ]);
    }
    rows
}

/// `agent.ssl_key_passphrase_path`.
fn passphrase_files(set: &Set, content: &[u8]) -> Vec<Row> {
    let row = |what: &str| {
        mutual(format!("passphrase file: {what}"), set)
            .file("tls/client.pem", content)
            .set("agent.ssl_key_passphrase_path=tls/passphrase")
            .secret(PASSPHRASE)
            .secret(WRONG)
    };
    let bad = |what: &str, id| {
        row(what).refused(id).says("key agent.ssl_key_passphrase_path").says("tls/passphrase")
    };
    let file = "tls/passphrase";
    vec![
        row("right").file(file, format!("{PASSPHRASE}\r\nmore\n")),
        bad("missing", "SKT-201"),
        bad("empty", "SKT-204").file(file, ""),
        bad("blank first line", "SKT-204").file(file, "\nx"),
        bad("not to be read", "SKT-202").unreadable(file),
        bad("a FIFO", "SKT-203").prepare(|folder| fifo(&folder.join(file))),
        bad("too long", "SKT-205").file(file, vec![b'x'; 10_000]),
        bad("not UTF-8", "SKT-110").file(file, [0xff, 0xfe, b'\n']),
        row("wrong").file(file, WRONG).refused("SKT-210").says("key agent.ssl_key_path"),
        row("besides the passphrase itself")
            .file(file, PASSPHRASE)
            .set(&format!("agent.ssl_key_passphrase={PASSPHRASE}"))
            .refused("SKT-110")
            .says("only one of agent.ssl_key_passphrase and"),
        mutual("passphrase of the environment that is not UTF-8", set)
            .file("tls/client.pem", content)
            .env("SW_AGENT_SSL_KEY_PASSPHRASE", OsString::from_vec(vec![b'p', 0xff]))
            .refused("SKT-110")
            .says("key agent.ssl_key_passphrase"),
    ]
}
