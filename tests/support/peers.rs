//! Plain TCP peers on ports of their own that do what a TLS client does not expect.
//!
//! None of them speaks TLS; for servers that do see `openssl`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::DEADLINE;

/// A listener with a thread that treats every connection alike. Stops when dropped.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Sends these bytes at once and closes after the client's first ones.
    Says(&'static [u8]),
    /// Sends these bytes after the client's first ones, and closes.
    Answers(&'static [u8]),
    /// Accepts and neither reads, writes nor closes.
    Silent,
    /// Closes as soon as it has accepted.
    Closes,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    accepted: usize,
    stopped: bool,
    /// Every connection, so that stopping ends those that are still being read from.
    open: Vec<TcpStream>,
}

// === impl Peer ===

impl Peer {
    /// Greets in plaintext as a mail server does.
    pub(crate) fn garbage() -> Self {
        Self::start(Manner::Says(b"220 this is not TLS\r\n"))
    }

    /// Answers whatever it gets with an HTTP/1.1 error, as a web server does on its plaintext port.
    pub(crate) fn http() -> Self {
        Self::start(Manner::Answers(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ))
    }

    /// Answers whatever it gets with these bytes, and closes.
    pub(crate) fn answering(bytes: &'static [u8]) -> Self {
        Self::start(Manner::Answers(bytes))
    }

    /// Begins TLS 1.2 as servers did before RFC 5746: a ServerHello without any extension.
    pub(crate) fn legacy_renegotiation() -> Self {
        // Record and message heads, version, 32 bytes of random, no session, the suite
        // ECDHE-RSA-AES128-GCM-SHA256, no compression.
        Self::start(Manner::Answers(
            b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26\x03\x03\
              0123456789abcdef0123456789abcdef\x00\xc0\x2f\x00",
        ))
    }

    /// Accepts and stays silent.
    pub(crate) fn silent() -> Self {
        Self::start(Manner::Silent)
    }

    /// Accepts and closes at once.
    pub(crate) fn closing() -> Self {
        Self::start(Manner::Closes)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits until so many connections have been accepted.
    pub(crate) fn accepted(&self, count: usize) {
        let until = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock().expect("the thread does not panic");
        while state.accepted < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} connections accepted", state.accepted);
            state = self.shared.changed.wait_timeout(state, left).expect("no panic there").0;
        }
    }

    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::<Shared>::default();
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || serve(&listener, manner, &for_thread));
        Self { address, shared, thread: Some(thread) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.stopped = true;
            state.open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        // Wakes the thread from its accept.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, manner: Manner, shared: &Shared) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut state = shared.state.lock().expect("nobody panics with it");
        if state.stopped {
            return;
        }
        state.accepted += 1;
        shared.changed.notify_all();
        if manner == Manner::Closes {
            continue;
        }
        if let (Manner::Says(_) | Manner::Answers(_), Ok(stream)) = (manner, stream.try_clone()) {
            // One thread each: a connection that says nothing must not hold up the next.
            thread::spawn(move || talk(stream, manner));
        }
        state.open.push(stream);
    }
}

fn talk(mut stream: TcpStream, manner: Manner) {
    let mut heard = [0; 4096];
    // The peer may be gone at any of these steps, and nobody would mind.
    let _ = match manner {
        Manner::Says(text) => stream.write_all(text).and_then(|()| stream.read(&mut heard)),
        Manner::Answers(text) => {
            stream.read(&mut heard).and_then(|_| stream.write_all(text)).map(|()| 0)
        }
        Manner::Silent | Manner::Closes => return,
    };
    // Half first, then what is still on its way: closing over unread bytes would send a reset, which
    // may overtake the text.
    let _ = stream.shutdown(Shutdown::Write);
    while stream.read(&mut heard).is_ok_and(|length| length > 0) {}
}
