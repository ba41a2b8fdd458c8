//! Unix sockets to listen on: never reachable with wider permissions than asked for, and only ever in
//! the place of a socket that nobody listens on any more.
//!
//! The umask belongs to the whole process and is left alone. A socket is therefore made in a folder
//! that nobody else can enter, gets its permissions there, and is then linked into its place, which
//! fails when something is there already.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::error::{Code, Error, Result};

/// The file of a socket that is listened on; removed when dropped, if it is still the same.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device and inode: the same file under whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

/// Opens a socket.
pub(super) fn bind(
    path: &Path,
    mode: u32,
    backlog: i32,
    key: &'static str,
) -> Result<(UnixListener, SocketFile)> {
    let failed = |error: io::Error| {
        refusal(Code::ListenFailed, path, key)
            .expected("a folder in which a socket can be made")
            .because(error)
    };
    let beside = path.parent().unwrap_or(Path::new("/"));
    let folder = tempfile::Builder::new()
        .prefix(".")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(beside)
        .map_err(failed)?;
    let draft = folder.path().join("s");
    let make = || -> io::Result<(UnixListener, Identity)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&draft)?)?;
        fs::set_permissions(&draft, Permissions::from_mode(mode))?;
        // Before it is in its place: one that does not listen would be taken for a stale one.
        socket.listen(backlog)?;
        let identity = Identity::of(&draft)?;
        Ok((UnixListener::from_std(socket.into())?, identity))
    };
    let (listener, identity) = make().map_err(failed)?;
    // Twice: what is in the way is taken away at the first try.
    for last in [false, true] {
        match fs::hard_link(&draft, path) {
            Ok(()) => return Ok((listener, SocketFile { path: path.to_owned(), identity })),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !last => {
                clear(path, &folder.path().join("old"), key)?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => break,
            Err(error) => return Err(failed(error)),
        }
    }
    Err(refusal(Code::PortTaken, path, key).expected("a path that nobody else listens on"))
}

/// Takes a socket away on which nobody listens; anything else stays.
fn clear(path: &Path, aside: &Path, key: &'static str) -> Result<()> {
    let failed = |error: io::Error| refusal(Code::ListenFailed, path, key).because(error);
    let taken =
        || refusal(Code::PortTaken, path, key).expected("a path that nobody else listens on");
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // It has gone meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::new(Code::ListenFailed)
            .key(key)
            .file(path)
            .found("something that is no socket")
            .expected("a free path, or a socket that nobody listens on")
            .hint("remove it, or choose another path: the relay replaces nothing but sockets"));
    }
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A full backlog must not hold the start up.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match probe() {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(()) => return Err(taken()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(taken()),
        Err(error) => return Err(failed(error)),
    }
    match fs::rename(path, aside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    // Another relay may have done the same in between; then this is its new socket.
    if Identity::of(aside).map_err(failed)? != Identity(metadata.dev(), metadata.ino()) {
        fs::hard_link(aside, path).map_err(failed)?;
        return Err(taken());
    }
    log::info!("replaced {}, a socket that nobody listened on", path.display());
    Ok(())
}

fn refusal(code: Code, path: &Path, key: &'static str) -> Error {
    Error::new(code).key(key).found(format_args!("unix:{}", path.display()))
}

// === impl SocketFile ===

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a path, followed through links, leads here.
    pub(super) fn is(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| Identity(found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Identity::of(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

// === impl Identity ===

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self(metadata.dev(), metadata.ino()))
    }
}
