//! `docs/configuration.md`, made from the table of keys.
//!
//! The prose around the tables stands here too, so that the page has one source.

use super::keys::{Family, Key, Status};
use super::value::Kind;

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the table in src/config/keys.rs; `UPDATE_DOCS=1 cargo test --test config_reference` writes it anew. -->

skytls reads the `agent.config` of the SkyWalking Java agent as it is. Every setting has a built-in
value of the form `${ENVIRONMENT_NAME:default}`:

1. `--set key=value`, or a call of the library, wins. The value is taken as it is.
2. Else a line in `agent.config`. A literal there wins over the environment, as in Java.
3. Else the environment variable of the setting.
4. Else the default.

Values are trimmed, and a blank one means the default. `skytls config` shows what is in force and where
it comes from, `skytls config --unused` the keys of the file that mean nothing here (`plugin.*`, …).

## The file

The first of these is read: `--config FILE`, `$SW_AGENT_CONFIG`, `./config/agent.config`,
`./agent.config`. Without any of them the built-in values hold. A file that is there but cannot be read is an error.

The grammar is that of `java.util.Properties`, in UTF-8: `#` and `!` start a comment, `=`, `:` or a
blank ends the key, a backslash at the end of a line continues it, `\\t \\n \\r \\f \\uXXXX` are escapes,
any other backslash disappears, and the last of several equal keys counts. The file may have 4 MiB, a
line 64 KiB.

`${NAME}` and `${NAME:default}` are replaced by the environment variable `NAME`, else by the value of
the key `NAME` in the same file, else by the default. Braces nest, and what is found is expanded again. A
name that is found nowhere and has no default stays as it is written. A variable that is set but empty
counts as found; a value that is blank in the end means the default of the table below.

## Paths

Relative paths, and those of the form `/ca/ca.crt`, are looked up in the *agent folder*: `$SW_AGENT_HOME`,
else the parent of the folder of `agent.config` if that folder is called `config`, else the folder of
`agent.config`, else the working directory. An absolute path that was set and does not exist in the agent
folder is taken as an absolute path of the system. A path that exists in neither place is an error.
`logging.dir` is an exception: an absolute folder is just that.

The default `/ca/ca.crt` exists only in the agent folder, and it is the only one that may be missing. A
line `agent.ssl_trusted_ca_path=${SW_AGENT_SSL_TRUSTED_CA_PATH:/ca/ca.crt}` that comes out as `/ca/ca.crt`
without the help of a variable counts as this default, because SkyWalking ships its `agent.config` with
it. A path from the environment or from `--set` counts as set, even if it says the same. A folder without
links by hash, a dangling link or an unreadable file at the default path is not *missing*: it is an error.

## When is TLS on?

| CA file | `agent.force_tls` | key and chain set | the link is |
|---|---|---|---|
| missing | `false` | no | plaintext; an error with `agent.require_tls` or with any other `agent.ssl_*` set |
| missing | `false` | yes | an error: an identity without TLS is a mistake |
| missing | `true` | no | TLS with the system's trust |
| missing | `true` | yes | mutual TLS with the system's trust |
| present | any | no | TLS with that CA |
| present | any | yes | mutual TLS with that CA |
| any | any | only one of them | an error |

Host names are always verified; no setting turns verification off. A token in `agent.authentication`
that would travel in plaintext to another machine is an error too, unless `agent.allow_plaintext_token`
is `true`.

## Who is trusted

| `agent.ssl_trust` | CA file | a chain may lead to |
|---|---|---|
| `auto` | missing | a root of the system's store |
| `auto`, `ca` | present | any certificate of the file, an intermediate or the leaf itself too |
| `ca`, `both` | missing | an error |
| `system` | any | a root of the system's store; the file is not read |
| `both` | present | either of the two above, never a mixture: an intermediate of the system's store is not trusted |

With `agent.ssl_partial_chain=off` only roots of the file are trusted. `agent.ssl_same_name_issuer` is a
rule for the certificates of SkyWalking's documented key script; it looks into a CA file, not into a
folder, and is off with `agent.ssl_strict`, `agent.ssl_crl_path` and `agent.ssl_ocsp`. Trust settings of a
`TRUSTED CERTIFICATE` hold: one that excludes servers is no anchor.

The CA file may be a folder with links by hash, as `openssl rehash` makes them, and so may
`agent.ssl_crl_path`. Both are read once, at the start. With `agent.ssl_crl_path` every certificate of the
chain below the trusted one must have a list of its issuer there. A list past its nextUpdate is an error at
the start; one that runs out later refuses connections. `agent.ssl_ocsp=staple` accepts a backend that
sends no OCSP answer, unless its certificate demands one (must-staple, RFC 7633), but none that sends a bad
one; skytls asks no OCSP responder itself.

## Certificates and keys

What a file holds is told by its content. Certificates: PEM with any text around, DER, PKCS#7. A PKCS#12 of
CA certificates, such as a Java trust store, is refused with the command that takes them out. The client's
chain may also be PKCS#12 and in any order: the certificate of the key is found, the others are sent in the
order of their issuers. Keys: PKCS#8, PKCS#1, SEC1 and PKCS#12, PEM or DER, encrypted or not; chain and key
may be one file, named twice. A PKCS#12 file of an old program may need OpenSSL's legacy provider: skytls
says so, with the command that converts it.

## Differences from the Java agent

- A flag is `true` or `false` in any case, trailing blanks do not matter, and anything else is an error. In Java
  everything but exactly `true` is false, so that a trailing blank turns TLS off.
- A path may also be an absolute path of the system.
- `agent.force_tls` with key and chain is mutual TLS. In Java the key is then silently not used.
- Half an identity, or an identity without TLS, is an error. Java goes on without.
- A misspelt key next to ours is a warning in a file, and any unknown key is an error in `--set`.
- JVM system properties do not exist.
- A bad number, a circle of placeholders or an unreadable file is an error, not a line in a log.
";

const JAVA: &str = "
## Settings of the Java agent

Name, environment variable and meaning are Java's.
";

const OURS: &str = "
## Settings of skytls

A setting marked *not built yet* is an error when it is set to anything but its default: nothing that
someone relies on for safety is silently ignored. Its default says what will hold once it is built.
";

/// The text of `docs/configuration.md`.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    for (family, heading) in [(Family::Java, JAVA), (Family::Ours, OURS)] {
        out.push_str(heading);
        out.push_str(
            "\n| key, environment variable | type | default | meaning |\n|---|---|---|---|\n",
        );
        for &key in Key::ALL.iter().filter(|key| key.family() == family) {
            out.push_str(&row(key));
        }
    }
    out
}

fn row(key: Key) -> String {
    let default = match key.default_text() {
        "" => "empty".to_owned(),
        text => format!("`{text}`"),
    };
    let status = match key.status() {
        Status::Built => "",
        Status::Later => "; *not built yet*",
        Status::NoEffect => "; *no effect in this version*",
    };
    format!(
        "| `{}`<br>`{}` | {} | {default} | {}{status} |\n",
        key.name(),
        key.environment(),
        kind(key.kind()),
        key.help()
    )
}

pub(super) fn kind(kind: Kind) -> String {
    match kind {
        Kind::OneOf(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Flag => "`true`, `false`".to_owned(),
        Kind::Bytes { .. } => "bytes".to_owned(),
        Kind::Seconds { .. } => "seconds".to_owned(),
        Kind::Whole { .. } => "number".to_owned(),
        other => other.to_string(),
    }
}
