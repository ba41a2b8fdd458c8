//! Connections that are made one after the other with one `Connector`, each long enough to receive what
//! the server gives for resuming.
//!
//! It judges nothing: whether a visit should have been resumed is said in the tests.

#![allow(dead_code, reason = "each test file uses a part")]

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::ssl::{AlpnError, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslRef};
use skytls::error::Result;
use skytls::transport::{Connector, Io};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::DEADLINE;
use crate::support::openssl::{Peer, Server};
use crate::support::pki::Files;
use crate::tls_client::{dial, runtime};

/// An `s_server`, and how often it has been visited.
pub(crate) struct Host {
    pub(crate) server: Server,
    visits: usize,
}

/// How a visit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By `close_notify`.
    Orderly,
    /// Without a word.
    Abrupt,
    /// Without a word, and without having read any.
    Unread,
}

// === impl Host ===

impl Host {
    /// A server that chooses `h2`, with these options besides.
    pub(crate) fn new(files: &Files, options: &[&str]) -> Self {
        Self::of(Peer::server(&files.server, &files.server_key).h2(), options)
    }

    pub(crate) fn of(peer: Peer, options: &[&str]) -> Self {
        let server = options.iter().fold(peer, |peer, option| peer.flag(option)).listen();
        Self { server, visits: 0 }
    }

    /// In the place of a server that is gone.
    pub(crate) fn at(address: SocketAddr, files: &Files, options: &[&str]) -> Self {
        let peer = Peer::server(&files.server, &files.server_key).h2();
        let peer = options.iter().fold(peer, |peer, option| peer.flag(option));
        let process = peer.option("-accept", address.to_string()).start();
        process.line("ACCEPT");
        Self { server: Server { process, address }, visits: 0 }
    }

    /// Visits `localhost`; whether the session was resumed, which both ends agree about.
    pub(crate) fn visit(&mut self, connector: &Connector, end: End) -> Result<bool> {
        self.visit_as(connector, "localhost", end)
    }

    pub(crate) fn visit_as(&mut self, connector: &Connector, host: &str, end: End) -> Result<bool> {
        let io = dial(connector.clone(), host, self.server.port())?;
        let resumed = io.negotiated().expect("it is TLS").resumed;
        self.visits += 1;
        // The last line about a connection.
        self.server.process.lines("Secure Renegotiation IS", self.visits);
        let said = self.server.process.stdout();
        let mut lines = said.lines().rev();
        let reused = lines
            .find(|line| line.contains("CIPHER is ") || line.contains("Reused "))
            .is_some_and(|line| line.contains("Reused "));
        assert_eq!(reused, resumed, "{said}");
        if end != End::Unread {
            self.server.process.send("hello\n");
            let io = hear(io).expect("it says hello");
            if end == End::Orderly {
                runtime().block_on(async { TokioIo::new(io).shutdown().await }).expect("it ends");
            }
        }
        Ok(resumed)
    }
}

/// Reads a line, and with it what comes before; `None` if the peer ends the connection instead.
pub(crate) fn hear(io: Io) -> Option<Io> {
    runtime().block_on(async {
        let mut io = TokioIo::new(io);
        let reading = async {
            loop {
                match io.read_u8().await {
                    Ok(b'\n') => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        };
        let heard = tokio::time::timeout(DEADLINE, reading).await.expect("it speaks or ends");
        heard.then(|| io.into_inner())
    })
}

/// A server in this process, for what `s_server` would not do.
pub(crate) struct Odd {
    pub(crate) port: u16,
    /// Of each connection: whether it was resumed; `None` if the handshake failed.
    outcomes: JoinHandle<Vec<Option<bool>>>,
}

impl Odd {
    /// Takes so many connections. To those that `greets` it says a line, the others it leaves without.
    pub(crate) fn start(
        files: &Files,
        connections: usize,
        prepare: impl FnOnce(&mut SslContextBuilder) -> std::result::Result<(), ErrorStack>,
        greets: impl Fn(&SslRef) -> bool + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let context = context(files, prepare).expect("the server's context can be made");
        let outcomes = thread::spawn(move || {
            let each = listener.incoming().take(connections);
            each.map(|stream| one(&context, stream.expect("it is accepted"), &greets)).collect()
        });
        Self { port, outcomes }
    }

    /// Waits until it has had all its connections.
    pub(crate) fn outcomes(self) -> Vec<Option<bool>> {
        self.outcomes.join().expect("the server does not panic")
    }
}

fn one(
    context: &SslContext,
    stream: std::net::TcpStream,
    greets: &impl Fn(&SslRef) -> bool,
) -> Option<bool> {
    let ssl = Ssl::new(context).expect("there is memory");
    let mut stream = ssl.accept(stream).ok()?;
    if greets(stream.ssl()) {
        use std::io::Write;
        stream.write_all(b"hello\n").expect("the client waits for it");
        // Until the client has gone: an early end could sweep the line away.
        let _ = std::io::Read::read(&mut stream, &mut [0; 1]);
    }
    Some(stream.ssl().session_reused())
}

fn context(
    files: &Files,
    prepare: impl FnOnce(&mut SslContextBuilder) -> std::result::Result<(), ErrorStack>,
) -> std::result::Result<SslContext, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_server())?;
    context.set_certificate_chain_file(&files.server)?;
    context.set_private_key_file(&files.server_key, SslFiletype::PEM)?;
    context.set_alpn_select_callback(|_, offered| {
        openssl::ssl::select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
    prepare(&mut context)?;
    Ok(context.build())
}
