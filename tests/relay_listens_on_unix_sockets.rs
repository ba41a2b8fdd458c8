//! The relay listens on Unix sockets: with the permissions asked for, in the place of stale ones only,
//! and gone at its end. Another skytls sends through one of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;
mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use grpc_client::{Client, KEEP_ALIVE, SEGMENTS, framed, request};
use relay_fixture::Fixture;
use skytls::config::Loader;
use skytls::engine::{Engine, Purpose};
use skytls::error::Code;
use skytls::relay::Relay;
use support::folder::Folder;
use support::process::{Process, Skytls};
use tokio::net::UnixStream;

fn run(folder: &Folder, lines: &str) -> Process {
    folder.replace(
        "config/agent.config",
        format!("collector.backend_service=127.0.0.1:1\n{lines}"),
        0o644,
    );
    Skytls::new(["run"]).arg("--config").arg(folder.config()).start()
}

fn listen(path: &Path) -> String {
    format!("relay.listen=unix:{}\n", path.display())
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn reports_and_calls_arrive_through_a_socket_and_through_tcp_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let address = format!("127.0.0.1:0,unix:{}", path.display());
    let fixture = Fixture::with(&[("relay.listen", &address)], |_| {});
    fixture.runtime.block_on(async {
        let mut clients = [
            Client::over(UnixStream::connect(&path).await.unwrap()).await,
            Client::plain(fixture.address()).await,
        ];
        for client in &mut clients {
            assert_eq!(client.report(SEGMENTS, 100).await.status, Some(0));
            let reply = client.call(request(KEEP_ALIVE, &[]), [framed(b"")]).await.unwrap();
            assert_eq!(reply.status, Some(0), "{:?}", reply.message);
        }
        fixture.settled().await;
        assert_eq!(fixture.seen(SEGMENTS).len(), 200);
    });
    assert_eq!(fixture.relay.as_ref().unwrap().sockets(), std::slice::from_ref(&path));
    fixture.stop(relay_fixture::DEADLINE);
    assert!(files(folder.path()).is_empty(), "removed at the end");
}

#[test]
fn a_relay_sends_to_another_one_through_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let address = format!("unix:{}", path.display());
    let far = Fixture::with(&[("relay.listen", &address)], |_| {});
    // No TLS here: it ends at the relay behind the socket. A token may travel.
    let near = Loader::new()
        .environment([])
        .relay(true)
        .directory(folder.path())
        .set("relay.listen", "127.0.0.1:0")
        .set("collector.backend_service", &address)
        .set("agent.authentication", "s3cret");
    let loaded = near.load().unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let engine = Engine::start(&loaded.settings, Purpose::Relay).unwrap();
    let handle = engine.handle().unwrap().clone();
    let (uplink, transport) = (engine.uplink().clone(), engine.transport().clone());
    let relay = Relay::start(&loaded.settings, uplink, transport, &handle).unwrap();
    far.runtime.block_on(async {
        let mut client = Client::plain(relay.addresses()[0]).await;
        assert_eq!(client.report(SEGMENTS, 100).await.status, Some(0));
        assert_eq!(engine.uplink().flush(relay_fixture::DEADLINE).await, 0);
        far.settled().await;
        let seen = far.seen(SEGMENTS);
        assert_eq!(seen.len(), 100);
        assert_eq!(seen[0].metadata["authentication"], "s3cret");
    });
    handle.block_on(relay.drain(relay_fixture::DEADLINE));
    engine.stop(relay_fixture::DEADLINE);
}

#[test]
fn permissions_are_those_of_the_setting() {
    for (lines, mode) in
        [("", 0o660), ("relay.unix_mode=0600\n", 0o600), ("relay.unix_mode=777\n", 0o777)]
    {
        let folder = Folder::empty();
        let path = folder.join("relay.sock");
        let relay = run(&folder, &format!("{}{lines}", listen(&path)));
        assert_eq!(relay.line("listening on"), format!("listening on unix:{}", path.display()));
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        assert_eq!(files(folder.path()), ["config", "relay.sock"], "nothing is left beside it");
        relay.terminate();
        relay.finish().expect_code(0);
        assert_eq!(files(folder.path()), ["config"]);
    }
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::empty();
    let path = folder.join("relay.sock");
    let first = run(&folder, &listen(&path));
    first.line("listening on unix:");
    let error = run(&folder, &listen(&path)).finish().expect_code(2).stderr;
    assert!(error.contains("SKT-701") && error.contains("relay.sock"), "{error}");
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    first.signal("KILL");
    first.finish().expect_code(128 + 9);
    assert!(path.exists(), "nobody could remove it");
    let second = run(&folder, &listen(&path));
    second.line("listening on unix:");
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    second.terminate();
    second.finish().expect_code(0);
    assert_eq!(files(folder.path()), ["config"]);
}

#[test]
fn whatever_else_is_in_the_place_stays_there() {
    let folder = Folder::empty().file("file", "precious", 0o600);
    fs::create_dir(folder.join("folder")).unwrap();
    std::os::unix::fs::symlink("/no/such", folder.join("link")).unwrap();
    for name in ["file", "folder", "link"] {
        let error = run(&folder, &listen(&folder.join(name))).finish().expect_code(2).stderr;
        assert!(error.contains("SKT-702") && error.contains("no socket"), "{error}");
    }
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "precious");
    assert_eq!(files(folder.path()), ["config", "file", "folder", "link"]);
    let error = run(&folder, &listen(&folder.join("none/relay.sock"))).finish().expect_code(2);
    assert!(error.stderr.contains("SKT-702"), "{}", error.stderr);
}

#[test]
fn a_socket_that_somebody_else_put_there_is_not_removed() {
    let folder = Folder::empty();
    let path = folder.join("relay.sock");
    let relay = run(&folder, &listen(&path));
    relay.line("listening on unix:");
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    relay.terminate();
    relay.finish().expect_code(0);
    assert!(path.exists());
}

#[test]
fn check_goes_through_a_socket_too() {
    let folder = Folder::empty();
    let path = folder.join("relay.sock");
    let backend = format!("collector.backend_service=unix:{}", path.display());
    let check = || Skytls::new(["check", "--set", &backend]).in_folder(folder.path()).run();
    let absent = check().expect_code(3).stdout;
    assert!(absent.contains("unix.connect") && absent.contains("SKT-404"), "{absent}");
    let address = format!("unix:{}", path.display());
    let _fixture = Fixture::with(&[("relay.listen", &address)], |_| {});
    let present = check().expect_code(0).stdout;
    assert!(present.contains("unix.connect") && present.contains("relay.sock"), "{present}");
}

#[test]
fn a_socket_as_backend_and_tls_do_not_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let load = |settings: &[(&str, &str)]| {
        let mut loader = Loader::new().environment([]).relay(true).directory(folder.path());
        for (key, value) in settings {
            loader = loader.set(*key, *value);
        }
        loader.load().map(|loaded| loaded.settings).map_err(|error| error.code())
    };
    let socket = ("collector.backend_service", "unix:/run/relay.sock");
    assert!(load(&[socket]).is_ok());
    let both = ("collector.backend_service", "127.0.0.1:1,unix:/run/relay.sock");
    for backend in [socket, both] {
        let code = load(&[backend, ("agent.force_tls", "true")]).unwrap_err();
        assert_eq!(code, Code::SocketBackendWithTls);
    }
    let code = load(&[socket, ("agent.require_tls", "true")]).unwrap_err();
    assert_eq!(code, Code::TlsRequired);
    let code = load(&[socket, ("relay.listen", "unix:/run/relay.sock")]).unwrap_err();
    assert_eq!(code, Code::BackendIsListener);
}
