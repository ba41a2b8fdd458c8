//! The machine's `openssl` command as a peer: `s_server` on a port of its own, `s_client`, and single runs.
//!
//! `s_server` speaks no HTTP/2 and serves one connection at a time: a second one waits in the backlog.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::process::{Finished, Process, clean};

/// An `openssl s_server` or `s_client` to be started.
pub(crate) struct Peer(Command);

/// A listening `openssl s_server`. Killed when dropped.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// Runs `openssl` to its end, in a clean environment and with empty stdin.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Finished {
    let mut command = Command::new(super::command::openssl());
    command.args(arguments);
    clean(&mut command);
    Process::start(command, Stdio::null()).finish()
}

// === impl Peer ===

impl Peer {
    /// A server with this certificate and key. It offers no ALPN unless told to.
    pub(crate) fn server(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        Self::new("s_server")
            .option("-accept", "127.0.0.1:0")
            .option("-cert", certificate.as_ref())
            // Whatever follows the leaf in the same file is sent with it, as every real server does.
            .option("-cert_chain", certificate.as_ref())
            .option("-key", key.as_ref())
    }

    /// A client of this address. It verifies nothing unless told to.
    pub(crate) fn client(address: SocketAddr) -> Self {
        Self::new("s_client").option("-connect", address.to_string())
    }

    /// A server then demands a client certificate of this CA; a client verifies the server against it.
    pub(crate) fn verify(self, ca: impl AsRef<Path>) -> Self {
        let server = self.0.get_args().next() == Some(OsStr::new("s_server"));
        let peer = self.option("-CAfile", ca.as_ref()).flag("-verify_return_error");
        if server { peer.option("-Verify", "4") } else { peer.option("-verify", "4") }
    }

    /// A client then shows this certificate.
    pub(crate) fn identity(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.option("-cert", certificate.as_ref())
            .option("-cert_chain", certificate.as_ref())
            .option("-key", key.as_ref())
    }

    /// Offers `h2`.
    pub(crate) fn h2(self) -> Self {
        self.option("-alpn", "h2")
    }

    /// Speaks TLS 1.1 and nothing newer, which needs security level 0 nowadays.
    pub(crate) fn tls_1_1(self) -> Self {
        self.flag("-tls1_1").option("-cipher", "ALL:@SECLEVEL=0")
    }

    /// Anything else without a value, `-www` or `-tls1_2`.
    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.0.arg(name);
        self
    }

    /// Anything else with a value. The last one of a name counts: `-accept` may be given again.
    pub(crate) fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.arg(name).arg(value);
        self
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn listen(self) -> Server {
        let process = self.start();
        let line = process.line("ACCEPT ");
        let address = line.trim_start_matches("ACCEPT ").trim();
        let address = address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        Server { process, address }
    }

    /// Starts a server at an address that was another's before.
    pub(crate) fn listen_at(self, address: SocketAddr) -> Server {
        let process = self.option("-accept", address.to_string()).start();
        process.line("ACCEPT");
        Server { process, address }
    }

    /// Starts a client. Its stdin stays open, for either one ends the connection when it closes.
    pub(crate) fn start(self) -> Process {
        Process::start(self.0, Stdio::piped())
    }

    fn new(which: &str) -> Self {
        let mut command = Command::new(super::command::openssl());
        command.arg(which);
        clean(&mut command);
        Self(command)
    }
}

// === impl Server ===

impl Server {
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}
