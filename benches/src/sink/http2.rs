//! Just enough of HTTP/2 to take streams of gRPC messages and to say OK to each.
//!
//! Headers are not decoded, since every call gets the same answer: an empty message and status 0.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::Ordering::Relaxed;

use super::Books;
use super::frames::Messages;
use crate::Result;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME: usize = 9;
/// What a peer may send of one frame, unless told otherwise.
const LARGEST: usize = 16_384;
/// The largest window there is: nobody shall wait for one.
const WINDOW: u32 = 0x7fff_ffff;
/// After so many bytes the window is opened again.
const OPEN_AGAIN: u32 = 64 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// A stream that is being sent.
#[derive(Default)]
struct Stream {
    messages: Messages,
    /// Received since its window was last opened.
    received: u32,
}

/// A connection, once the preface has gone by.
struct Connection<'a> {
    expected: &'a [u8],
    books: &'a Books,
    streams: HashMap<u32, Stream>,
    received: u32,
    /// To be written.
    out: Vec<u8>,
}

/// Serves a connection, of which `first` has been read already.
pub(super) fn serve(
    stream: &mut (impl Read + Write),
    first: &[u8],
    expected: &[u8],
    books: &Books,
) -> Result<()> {
    let mut connection =
        Connection { expected, books, streams: HashMap::new(), received: 0, out: Vec::new() };
    // INITIAL_WINDOW_SIZE, and as much for the connection.
    let mut settings = vec![0, 4];
    settings.extend(WINDOW.to_be_bytes());
    connection.frame(SETTINGS, 0, 0, &settings);
    connection.frame(WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes());
    stream.write_all(&connection.out)?;
    connection.out.clear();

    let mut buffer = vec![0; 8 * (LARGEST + FRAME)];
    buffer[..first.len()].copy_from_slice(first);
    let (mut begin, mut end) = (0, first.len());
    let mut fresh = !first.is_empty();
    let mut greeted = false;
    loop {
        if buffer.len() - end < LARGEST + FRAME {
            buffer.copy_within(begin..end, 0);
            (begin, end) = (0, end - begin);
        }
        // What has been read already comes before what has not.
        if !std::mem::take(&mut fresh) {
            match stream.read(&mut buffer[end..]) {
                Ok(0) | Err(_) => break,
                Ok(read) => end += read,
            }
        }
        if !greeted && end - begin >= PREFACE.len() {
            if &buffer[begin..begin + PREFACE.len()] != PREFACE {
                return Err("not HTTP/2".into());
            }
            begin += PREFACE.len();
            greeted = true;
        }
        while greeted && end - begin >= FRAME {
            let head = &buffer[begin..begin + FRAME];
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if length > LARGEST {
                return Err("a frame that is too large".into());
            }
            if end - begin < FRAME + length {
                break;
            }
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let payload = &buffer[begin + FRAME..begin + FRAME + length];
            connection.take(kind, flags, id, payload)?;
            begin += FRAME + length;
        }
        if begin == end {
            (begin, end) = (0, 0);
        }
        if !connection.out.is_empty() {
            stream.write_all(&connection.out)?;
            connection.out.clear();
        }
    }
    for stream in connection.streams.values_mut() {
        books.enter(&mut stream.messages);
    }
    Ok(())
}

// === impl Connection ===

impl Connection<'_> {
    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        self.out.extend(&length[1..]);
        self.out.extend([kind, flags]);
        self.out.extend(id.to_be_bytes());
        self.out.extend(payload);
    }

    fn take(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Result<()> {
        match kind {
            DATA => {
                if flags & PADDED != 0 {
                    return Err("padding is not understood".into());
                }
                self.data(id, payload);
                if flags & END_STREAM != 0 {
                    self.answer(id);
                }
            }
            HEADERS => {
                // Trailers of a client end the stream, too.
                if self.streams.entry(id).or_default().messages.seen() == 0 {
                    self.books.streams.fetch_add(1, Relaxed);
                }
                if flags & END_STREAM != 0 {
                    self.answer(id);
                }
            }
            RESET => {
                if let Some(mut stream) = self.streams.remove(&id) {
                    self.books.enter(&mut stream.messages);
                }
            }
            SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, payload),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, id: u32, payload: &[u8]) {
        let size = u32::try_from(payload.len()).unwrap_or(0);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.messages.push(payload, self.expected);
        stream.received += size;
        self.received += size;
        if stream.received >= OPEN_AGAIN {
            let received = std::mem::take(&mut stream.received);
            self.frame(WINDOW_UPDATE, 0, id, &received.to_be_bytes());
        }
        if self.received >= OPEN_AGAIN {
            let received = std::mem::take(&mut self.received);
            self.frame(WINDOW_UPDATE, 0, 0, &received.to_be_bytes());
        }
    }

    fn answer(&mut self, id: u32) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        // First: whoever has the answer may ask for the counts.
        self.books.enter(&mut stream.messages);
        // :status 200, content-type: application/grpc
        self.frame(HEADERS, END_HEADERS, id, b"\x88\x0f\x10\x10application/grpc");
        self.frame(DATA, 0, id, &[0; 5]);
        self.frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x00\x0bgrpc-status\x010");
    }
}
