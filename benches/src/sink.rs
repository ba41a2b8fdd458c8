//! The server that everything is sent to: one thread per connection, just enough HTTP/2 to count gRPC messages.
//!
//! It shall never be what is waited for, so it decodes no headers, keeps no bodies and copies nothing: it compares
//! each message with the one that is expected, in place. The policy is TLS 1.3 with AES-256-GCM, for everyone.
//!
//! A client without ALPN may send bare gRPC frames: the floor. Orders come by the standard input: `expect SIZE`,
//! `look` and `take`, each of which is answered by one line on the standard output.

mod frames;
mod http2;

use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::thread;

use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions,
    SslSessionCacheMode, SslStream, SslVersion,
};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::segment;
use frames::Messages;

/// The one cipher suite.
pub(crate) const CIPHER: &str = "TLS_AES_256_GCM_SHA384";

/// What has come in since the last time somebody asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Messages that are what was expected, to the last byte.
    pub(crate) good: u64,
    /// Other messages: heartbeats and the like.
    pub(crate) other: u64,
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
    /// Those that resumed a session.
    pub(crate) resumed: u64,
    pub(crate) streams: u64,
}

/// What all connections share.
#[derive(Default)]
struct Books {
    expected: RwLock<Arc<[u8]>>,
    good: AtomicU64,
    other: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    resumed: AtomicU64,
    streams: AtomicU64,
}

/// Serves until the standard input ends. The first line says two ports: at the second one there are no tickets, so
/// that nobody can resume a session.
pub(crate) fn run(material: &Path) -> Result<()> {
    let books = Arc::new(Books::default());
    let port = listen(context(material, 2)?, &books)?;
    let without_tickets = listen(context(material, 0)?, &books)?;
    println!("{port} {without_tickets}");
    for line in std::io::stdin().lock().lines() {
        match line?.split_whitespace().collect::<Vec<_>>()[..] {
            ["expect", size] => {
                *books.expected.write().map_err(|_| "a thread has panicked")? =
                    segment::encoded(size.parse()?).into();
                println!("ok");
            }
            ["look"] => println!("{}", serde_json::to_string(&books.look())?),
            ["take"] => println!("{}", serde_json::to_string(&books.take())?),
            _ => return Err("not a command of the sink".into()),
        }
    }
    Ok(())
}

fn listen(context: SslContext, books: &Arc<Books>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let books = books.clone();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (context, books) = (context.clone(), books.clone());
            thread::spawn(move || {
                let ended = serve(socket, &context, &books);
                // A client that breaks off shows in the counts.
                if let Some(error) = ended.err().filter(|error| !error.is::<std::io::Error>()) {
                    eprintln!("sink: {error}");
                }
            });
        }
    });
    Ok(port)
}

fn context(material: &Path, tickets: usize) -> Result<SslContext> {
    let mut context = SslContextBuilder::new(SslMethod::tls_server())?;
    context.set_certificate_chain_file(material.join("server.crt"))?;
    context.set_private_key_file(material.join("server.pem"), SslFiletype::PEM)?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_ciphersuites(CIPHER)?;
    context.set_num_tickets(tickets)?;
    context.set_session_id_context(b"sink")?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    context.set_read_ahead(true);
    context.set_alpn_select_callback(|_, offered| {
        openssl::ssl::select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
    Ok(context.build())
}

fn serve(socket: TcpStream, context: &SslContext, books: &Books) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = SslStream::new(Ssl::new(context)?, socket)?;
    if stream.accept().is_err() {
        // Somebody only looked whether the port is open.
        return Ok(());
    }
    books.connections.fetch_add(1, Relaxed);
    books.resumed.fetch_add(u64::from(stream.ssl().session_reused()), Relaxed);
    let expected = books.expected.read().map_err(|_| "a thread has panicked")?.clone();
    if stream.ssl().selected_alpn_protocol() == Some(b"h2") {
        return http2::serve(&mut stream, &[], &expected, books);
    }
    // Without ALPN it is what it begins with.
    let mut first = vec![0; 64 * 1024];
    let read = stream.read(&mut first)?;
    first.truncate(read);
    match first.first() {
        Some(b'P') => http2::serve(&mut stream, &first, &expected, books),
        Some(_) => bare(&mut stream, first, &expected, books),
        None => Ok(()),
    }
}

/// Counts bare gRPC frames to the end, and answers with their number.
fn bare(
    stream: &mut (impl Read + Write),
    mut buffer: Vec<u8>,
    expected: &[u8],
    books: &Books,
) -> Result<()> {
    let mut messages = Messages::default();
    messages.push(&buffer, expected);
    buffer.resize(64 * 1024, 0);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        messages.push(&buffer[..read], expected);
    }
    books.enter(&mut messages);
    stream.write_all(&messages.seen().to_be_bytes())?;
    Ok(())
}

// === impl Books ===

impl Books {
    fn enter(&self, messages: &mut Messages) {
        let (good, other, bytes) = messages.take();
        self.good.fetch_add(good, Relaxed);
        self.other.fetch_add(other, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn look(&self) -> Counts {
        Counts {
            good: self.good.load(Relaxed),
            other: self.other.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            connections: self.connections.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            streams: self.streams.load(Relaxed),
        }
    }

    fn take(&self) -> Counts {
        Counts {
            good: self.good.swap(0, Relaxed),
            other: self.other.swap(0, Relaxed),
            bytes: self.bytes.swap(0, Relaxed),
            connections: self.connections.swap(0, Relaxed),
            resumed: self.resumed.swap(0, Relaxed),
            streams: self.streams.swap(0, Relaxed),
        }
    }
}
