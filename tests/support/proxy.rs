//! A proxy for CONNECT over real sockets, and what it was asked for.
//!
//! It resolves only the names that it was told, and judges nothing else; proxies that do wrong are
//! `peers`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::DEADLINE;

/// A listening proxy. Stops, with everything that goes through it, when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// `host:port` as they are asked for, and where they lead.
    ways: Vec<(String, SocketAddr)>,
    /// `user:password`, in base64.
    credentials: Option<String>,
    /// The backend's first words go with the answer in one piece.
    eager: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    requests: Vec<String>,
    open: Vec<TcpStream>,
}

// === impl Proxy ===

impl Proxy {
    /// Leads from `host:port` to an address; everything else is answered with 502.
    pub(crate) fn to(way: impl Into<String>, address: SocketAddr) -> Self {
        Self::start(way, address, None, false)
    }

    /// The same for those who know user and password.
    pub(crate) fn demanding(
        credentials: &str,
        way: impl Into<String>,
        address: SocketAddr,
    ) -> Self {
        let encoded = openssl::base64::encode_block(credentials.as_bytes());
        Self::start(way, address, Some(encoded), false)
    }

    /// The same for all, with a backend that speaks first: its words come right behind the answer.
    pub(crate) fn eager(way: impl Into<String>, address: SocketAddr) -> Self {
        Self::start(way, address, None, true)
    }

    /// The URL of the setting.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL with user and password.
    pub(crate) fn url_as(&self, credentials: &str) -> String {
        format!("http://{credentials}@{}", self.address)
    }

    /// The heads of all requests.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    fn start(
        way: impl Into<String>,
        address: SocketAddr,
        credentials: Option<String>,
        eager: bool,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let ways = vec![(way.into(), address)];
        let shared = Arc::new(Shared { ways, credentials, eager, state: Mutex::default() });
        let address = listener.local_addr().expect("a bound listener has an address");
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.state().stopped {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                // A peer may be gone at any step, and nobody would mind.
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        state.open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        drop(state);
        // Wakes the thread from its accept.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        self.state().open.push(client.try_clone()?);
        let head = head(&mut client)?;
        self.state().requests.push(head.clone());
        let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        if let Some(credentials) = &self.credentials {
            let shown = line("Proxy-Authorization: Basic ");
            if shown != Some(credentials) {
                return client.write_all(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n\
                      Proxy-Authenticate: Basic realm=\"test\"\r\n\r\n",
                );
            }
        }
        let asked = line("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let way = self.ways.iter().find(|(way, _)| asked == Some(way));
        let Some(Ok(mut backend)) = way.map(|(_, address)| TcpStream::connect(address)) else {
            return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
        };
        self.state().open.push(backend.try_clone()?);
        let mut answer = b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec();
        if self.eager {
            let mut words = [0; 1024];
            let length = backend.read(&mut words)?;
            answer.extend_from_slice(&words[..length]);
        }
        client.write_all(&answer)?;
        let (from, to) = (client.try_clone()?, backend.try_clone()?);
        thread::spawn(move || pump(from, to));
        pump(backend, client);
        Ok(())
    }
}

/// Up to the empty line, and not a byte more.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
