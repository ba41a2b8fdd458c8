//! `agent.config` itself.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use super::row::{Row, fifo};
use crate::support::folder::Folder;

const MEBIBYTE: usize = 1024 * 1024;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = files();
    rows.extend(contents());
    rows
}

fn files() -> Vec<Row> {
    let row = |what: &str, id| {
        Row::new(format!("configuration: {what}"), "").refused(id).says("config/agent.config")
    };
    let directory = |folder: &Folder| {
        folder.remove("config/agent.config");
        fs::create_dir(folder.config()).unwrap();
    };
    vec![
        row("a directory", "SKT-102").prepare(directory).says("found a directory"),
        row("a directory at the usual place", "SKT-102").prepare(directory).command(["run"]),
        row("missing", "SKT-101")
            .prepare(|folder| folder.remove("config/agent.config"))
            .says("No such file"),
        row("missing, by the environment", "SKT-101")
            .prepare(|folder| folder.remove("config/agent.config"))
            .command(["run"])
            .env("SW_AGENT_CONFIG", "config/agent.config"),
        row("a dangling link at the usual place", "SKT-101")
            .prepare(|folder| {
                folder.remove("config/agent.config");
                std::os::unix::fs::symlink("/no/such", folder.config()).unwrap();
            })
            .command(["run"]),
        row("not to be read", "SKT-101").unreadable("config/agent.config").says("os error"),
        row("a FIFO", "SKT-102").prepare(|folder| fifo(&folder.config())).says("found a device"),
        row("a FIFO, shown", "SKT-102")
            .prepare(|folder| fifo(&folder.config()))
            .command(["config"]),
        Row::new("configuration: a device without end", "")
            .command(["run", "--config", "/dev/zero"])
            .refused("SKT-102")
            .says("file /dev/zero"),
        Row::new("configuration: a file whose reading fails", "")
            .command(["run", "--config", "/proc/self/mem"])
            .refused("SKT-101")
            .says("file /proc/self/mem"),
        Row::new("configuration: below a file", "")
            .command(["run", "--config", "config/agent.config/agent.config"])
            .refused("SKT-101"),
    ]
}

fn contents() -> Vec<Row> {
    let row = |what: &str, content: &[u8], id| {
        Row::bare(format!("configuration: {what}"), content).refused(id).says("config/agent.config")
    };
    let line = |text: &str| format!("# first\n{text}\n").into_bytes();
    let escape =
        |what: &str, text: &str| row(what, &line(text), "SKT-105").says("line 2").secret("s3cret");
    let long = |length: usize| [b"agent.namespace=".as_slice(), &vec![b'x'; length]].concat();
    let doubling: String =
        (0..30).map(|n| format!("x{n}=${{x{}}}${{x{}}}\n", n + 1, n + 1)).collect();
    vec![
        escape("an escape that is cut off", "agent.authentication=s3cret\\u12"),
        escape("an escape of no number", "agent.authentication=s3cret\\uWXYZ"),
        escape("an escape in a key", "agent\\u00zz=s3cret"),
        escape("half a surrogate pair", "agent.namespace=s3cret\\ud83d"),
        row("invalid UTF-8", b"# ok\nagent.namespace=caf\xe9\n", "SKT-103")
            .says("line 2")
            .says("0xe9"),
        row("UTF-16", b"\xff\xfea\0=\0b\0", "SKT-103").says("line 1"),
        row("binary noise", &crate::support::keys::noise(), "SKT-103"),
        row("a line of 10 MB", &long(10 * MEBIBYTE), "SKT-104").says("bytes"),
        row("10 MB of lines", &b"a=b\n".repeat(10 * MEBIBYTE / 4), "SKT-104"),
        row("a line of 1 MB", &[b"a=b\n".as_slice(), &long(MEBIBYTE)].concat(), "SKT-104")
            .says("line 2"),
        row("a line of 1 MB in many pieces", &b"a\\\n".repeat(MEBIBYTE / 3), "SKT-104"),
        row("a circle", &line("agent.namespace=${a}\na=${b}\nb=x${a}"), "SKT-106")
            .says("key agent.namespace")
            .says("found a -> b -> a")
            .says("line 2"),
        row("a name in itself", &line("agent.namespace=${agent.namespace}"), "SKT-106")
            .says("found agent.namespace -> agent.namespace"),
        row(
            "a circle with secrets",
            &line("agent.namespace=${a:s3cret}\na=${a:s3cret}"),
            "SKT-106",
        )
        .secret("s3cret"),
        row("a circle through the environment", &line("agent.namespace=${A}"), "SKT-106")
            .env("A", "${B}")
            .env("B", "${A}")
            .says("found A -> B -> A"),
        row(
            "a value that doubles thirty times",
            &line(&format!("{doubling}x30=xxxxxxxx\nagent.namespace=${{x0}}")),
            "SKT-107",
        )
        .says("key agent.namespace"),
        row("a variable that is not UTF-8", &line("agent.force_tls=${V:true}"), "SKT-110")
            .env("V", OsString::from_vec(vec![0xff]))
            .says("key agent.force_tls")
            .says("expected UTF-8 text"),
    ]
}
