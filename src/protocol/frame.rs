//! Length-prefixed messages, as gRPC puts them into the data of an HTTP/2 stream.
//!
//! It does not compress, decompress or decode: a payload leaves as it came.

use std::collections::VecDeque;
use std::fmt;

use bytes::{Buf, Bytes};

/// Bytes in front of each message: a flag, then the length as a big-endian 32-bit number.
pub const HEADER: usize = 5;

/// The largest message that OAP accepts with its shipped settings, 50 MiB.
pub const MAX_MESSAGE: usize = 52_428_800;

/// One message as it travelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whether the payload is compressed, by the `grpc-encoding` of its stream.
    pub compressed: bool,
    /// The payload, untouched. It shares memory with the chunk that it came in, so a small message
    /// that is kept for long keeps the whole chunk.
    pub data: Bytes,
}

/// Cuts the data of one direction of a stream into messages, however the data is chunked.
///
/// A payload that lies within one chunk is not copied. One that spans chunks is put together in a
/// buffer that grows with what has arrived, never with what was announced: a peer that promises
/// 50 MiB and sends nothing costs nothing.
#[derive(Debug)]
pub struct Splitter {
    limit: usize,
    /// Pushed and not yet looked at; none of them empty.
    chunks: VecDeque<Bytes>,
    state: State,
}

/// Why data is not a sequence of messages. The stream is of no use from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A message is announced that is longer than allowed.
    TooLarge {
        /// The announced length.
        found: usize,
        /// The allowed length.
        limit: usize,
    },
    /// The first byte of a message is neither 0 nor 1: this is not gRPC, or data went missing.
    BadFlag(u8),
    /// The data ends within a message.
    Truncated {
        /// How many bytes are missing, or, if it ends within a header, missing of the header.
        missing: usize,
    },
}

/// The header of a message of `len` bytes, which is at most [`MAX_MESSAGE`] in practice and
/// `u32::MAX` by what the format can say.
pub fn header(compressed: bool, len: usize) -> [u8; HEADER] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [u8::from(compressed), a, b, c, d]
}

/// The length that the frame at the beginning of `frames` says; `None` where there is no header.
pub(crate) fn length(frames: &[u8]) -> Option<usize> {
    let [_, a, b, c, d] = *frames.first_chunk::<HEADER>()?;
    usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HEADER], have: usize },
    Payload { compressed: bool, len: usize, have: Vec<u8> },
    Failed(FrameError),
}

// === impl Splitter ===

impl Splitter {
    /// A splitter that refuses messages of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Splitter { limit, chunks: VecDeque::new(), state: State::START }
    }

    /// Adds the next chunk of data.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole message. `None` means "not yet": push more, or [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// The same one again and again, once the data has turned out to be broken.
    #[allow(clippy::should_implement_trait)] // an iterator would end at `None`
    pub fn next(&mut self) -> Result<Option<Message>, FrameError> {
        match self.advance() {
            Err(error) => {
                self.state = State::Failed(error);
                self.chunks.clear();
                Err(error)
            }
            message => message,
        }
    }

    /// The whole messages that lie ahead in one chunk, with their headers, and how many they are; `limit`
    /// bounds their length. They are not looked into. `None`: ask [`next`](Self::next), which also
    /// knows what is wrong.
    pub fn run(&mut self, limit: usize) -> Option<(Bytes, u64)> {
        let State::Header { have: 0, .. } = self.state else { return None };
        let chunk = front(&mut self.chunks)?;
        let (mut end, mut messages) = (0, 0);
        while let Some(header) = chunk.get(end..).and_then(<[u8]>::first_chunk::<HEADER>)
            && let Ok((_, length)) = parse(*header, self.limit)
            && end + HEADER + length <= chunk.len().min(limit)
        {
            end += HEADER + length;
            messages += 1;
        }
        (messages > 0).then(|| (chunk.split_to(end), messages))
    }

    /// Bytes of a message that has begun and not ended, asked after [`next`](Self::next) has returned
    /// `None`.
    pub fn unfinished(&self) -> usize {
        match &self.state {
            State::Payload { have, .. } => have.len(),
            _ => 0,
        }
    }

    /// Whether the data may end here, asked after [`next`](Self::next) has returned `None`.
    ///
    /// # Errors
    ///
    /// [`FrameError::Truncated`] if part of a message is still to come.
    pub fn finish(&self) -> Result<(), FrameError> {
        match &self.state {
            State::Header { have: 0, .. } => Ok(()),
            State::Header { have, .. } => Err(FrameError::Truncated { missing: HEADER - have }),
            State::Payload { len, have, .. } => {
                Err(FrameError::Truncated { missing: len - have.len() })
            }
            State::Failed(error) => Err(*error),
        }
    }

    fn advance(&mut self) -> Result<Option<Message>, FrameError> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Header { bytes, have } => {
                    while *have < HEADER {
                        let Some(chunk) = front(&mut self.chunks) else { return Ok(None) };
                        let n = chunk.len().min(HEADER - *have);
                        chunk.copy_to_slice(&mut bytes[*have..*have + n]);
                        *have += n;
                    }
                    let (compressed, len) = parse(*bytes, self.limit)?;
                    self.state = State::Payload { compressed, len, have: Vec::new() };
                }
                State::Payload { compressed, len, have } => {
                    let Some(data) = payload(&mut self.chunks, *len, have) else {
                        return Ok(None);
                    };
                    let compressed = *compressed;
                    self.state = State::START;
                    return Ok(Some(Message { compressed, data }));
                }
            }
        }
    }
}

impl State {
    const START: State = State::Header { bytes: [0; HEADER], have: 0 };
}

fn parse(header: [u8; HEADER], limit: usize) -> Result<(bool, usize), FrameError> {
    let [flag, a, b, c, d] = header;
    let compressed = match flag {
        0 => false,
        1 => true,
        other => return Err(FrameError::BadFlag(other)),
    };
    let found = u32::from_be_bytes([a, b, c, d]) as usize;
    if found > limit {
        return Err(FrameError::TooLarge { found, limit });
    }
    Ok((compressed, found))
}

/// The whole payload of `len` bytes, if it is there; else all there is of it goes to `have`.
fn payload(chunks: &mut VecDeque<Bytes>, len: usize, have: &mut Vec<u8>) -> Option<Bytes> {
    while have.len() < len {
        let missing = len - have.len();
        let chunk = front(chunks)?;
        if have.is_empty() && chunk.len() >= len {
            return Some(chunk.split_to(len));
        }
        let part = chunk.split_to(chunk.len().min(missing));
        grow(have, part.len(), len);
        have.extend_from_slice(&part);
    }
    Some(Bytes::from(std::mem::take(have)))
}

/// Makes room for `more` bytes: doubling, so that one-byte chunks cost linear time, but never beyond
/// `len`, so that a large message is not held in up to twice its size.
fn grow(have: &mut Vec<u8>, more: usize, len: usize) {
    let needed = have.len() + more;
    if needed > have.capacity() {
        let wanted = needed.max(have.capacity().saturating_mul(2)).min(len);
        have.reserve_exact(wanted - have.len());
    }
}

/// The first chunk that has something in it.
fn front(chunks: &mut VecDeque<Bytes>) -> Option<&mut Bytes> {
    while chunks.front().is_some_and(Bytes::is_empty) {
        chunks.pop_front();
    }
    chunks.front_mut()
}

// === impl FrameError ===

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLarge { found, limit } => {
                write!(f, "a message of {found} bytes is larger than the {limit} allowed")
            }
            FrameError::BadFlag(flag) => {
                write!(f, "a gRPC message starts with 0 or 1, not with {flag}")
            }
            FrameError::Truncated { missing } => {
                write!(f, "the stream ended {missing} bytes before the end of a message")
            }
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(messages: &[Message]) -> Bytes {
        let mut out = Vec::new();
        for m in messages {
            out.extend_from_slice(&header(m.compressed, m.data.len()));
            out.extend_from_slice(&m.data);
        }
        out.into()
    }

    fn message(compressed: bool, data: &'static [u8]) -> Message {
        Message { compressed, data: Bytes::from_static(data) }
    }

    fn sample() -> Vec<Message> {
        vec![
            message(false, b"one"),
            message(true, b""),
            message(false, b"a somewhat longer message"),
            message(true, b"x"),
        ]
    }

    fn drain(splitter: &mut Splitter) -> Vec<Message> {
        let mut out = Vec::new();
        while let Some(m) = splitter.next().unwrap() {
            out.push(m);
        }
        out
    }

    #[test]
    fn header_is_flag_and_big_endian_length() {
        assert_eq!(header(false, 0), [0, 0, 0, 0, 0]);
        assert_eq!(header(true, 0x0102_0304), [1, 1, 2, 3, 4]);
    }

    #[test]
    fn any_chunking_gives_the_same_messages() {
        let wire = encode(&sample());
        for size in 1..=wire.len() {
            let mut splitter = Splitter::new(MAX_MESSAGE);
            let mut out = Vec::new();
            for chunk in wire.chunks(size) {
                splitter.push(Bytes::copy_from_slice(chunk));
                out.extend(drain(&mut splitter));
            }
            assert_eq!(out, sample(), "chunks of {size}");
            assert_eq!(splitter.finish(), Ok(()));
        }
    }

    #[test]
    fn chunks_may_be_pushed_ahead_and_empty_ones_do_no_harm() {
        let wire = encode(&sample());
        let mut splitter = Splitter::new(MAX_MESSAGE);
        for chunk in wire.chunks(2) {
            splitter.push(Bytes::new());
            splitter.push(Bytes::copy_from_slice(chunk));
        }
        assert_eq!(drain(&mut splitter), sample());
        assert_eq!(splitter.finish(), Ok(()));
    }

    #[test]
    fn a_payload_within_a_chunk_is_not_copied() {
        let wire = encode(&sample());
        let range = wire.as_ptr_range();
        let mut splitter = Splitter::new(MAX_MESSAGE);
        splitter.push(wire.clone());
        for m in drain(&mut splitter).iter().filter(|m| !m.data.is_empty()) {
            assert!(range.contains(&m.data.as_ptr()));
        }
        // The header in one chunk, the payload whole in the next.
        let payload = Bytes::from(vec![7; 100]);
        splitter.push(Bytes::copy_from_slice(&header(false, 100)));
        splitter.push(payload.clone());
        assert_eq!(splitter.next().unwrap().unwrap().data.as_ptr(), payload.as_ptr());
    }

    #[test]
    fn whole_messages_are_had_together_and_the_rest_one_by_one() {
        let wire = encode(&sample());
        for cut in 1..wire.len() {
            let mut splitter = Splitter::new(MAX_MESSAGE);
            let (mut frames, mut count) = (Vec::new(), 0);
            for part in [wire.slice(..cut), wire.slice(cut..)] {
                splitter.push(part);
                loop {
                    if let Some((run, messages)) = splitter.run(usize::MAX) {
                        frames.extend_from_slice(&run);
                        count += messages;
                    } else if let Some(m) = splitter.next().unwrap() {
                        frames.extend_from_slice(&encode(&[m]));
                        count += 1;
                    } else {
                        break;
                    }
                }
            }
            assert_eq!((&frames[..], count), (&wire[..], 4), "cut at {cut}");
        }
    }

    #[test]
    fn a_run_ends_before_what_is_wrong_and_where_it_gets_too_long() {
        let mut wire = encode(&sample()[..2]).to_vec();
        wire.extend_from_slice(&[7; 20]);
        let mut splitter = Splitter::new(MAX_MESSAGE);
        splitter.push(wire.into());
        assert_eq!(splitter.run(12), Some((encode(&sample()[..1]), 1)));
        assert_eq!(splitter.run(100), Some((encode(&sample()[1..2]), 1)));
        assert_eq!(splitter.run(100), None);
        assert_eq!(splitter.next(), Err(FrameError::BadFlag(7)));
        assert_eq!(splitter.run(100), None);
        let mut splitter = Splitter::new(2);
        splitter.push(encode(&sample()[..1]));
        assert_eq!(splitter.run(100), None, "longer than allowed");
    }

    #[test]
    fn an_announced_length_is_not_allocated() {
        let mut splitter = Splitter::new(MAX_MESSAGE);
        splitter.push(Bytes::copy_from_slice(&header(false, MAX_MESSAGE)));
        splitter.push(Bytes::from_static(b"abc"));
        assert_eq!(splitter.next(), Ok(None));
        let State::Payload { have, .. } = &splitter.state else { panic!() };
        assert!(have.capacity() <= 6, "{}", have.capacity());
        assert_eq!(splitter.finish(), Err(FrameError::Truncated { missing: MAX_MESSAGE - 3 }));
    }

    #[test]
    fn a_large_message_in_single_bytes_is_copied_few_times_and_not_held_twice() {
        let len = 1_000_000;
        let mut splitter = Splitter::new(len);
        splitter.push(Bytes::copy_from_slice(&header(false, len)));
        let mut moves = 0;
        let mut capacity = 0;
        for _ in 0..len - 1 {
            splitter.push(Bytes::from_static(b"z"));
            assert_eq!(splitter.next(), Ok(None));
            let State::Payload { have, .. } = &splitter.state else { panic!() };
            moves += usize::from(have.capacity() != capacity);
            capacity = have.capacity();
        }
        assert!(moves < 30, "{moves}");
        assert_eq!(capacity, len);
        splitter.push(Bytes::from_static(b"z"));
        assert_eq!(splitter.next().unwrap().unwrap().data.len(), len);
    }

    #[test]
    fn the_limit_is_inclusive() {
        let mut splitter = Splitter::new(3);
        splitter.push(encode(&[message(false, b"abc"), message(false, b"abcd")]));
        assert_eq!(splitter.next(), Ok(Some(message(false, b"abc"))));
        let error = FrameError::TooLarge { found: 4, limit: 3 };
        assert_eq!(splitter.next(), Err(error));
        assert_eq!(error.to_string(), "a message of 4 bytes is larger than the 3 allowed");
    }

    #[test]
    fn an_error_stays() {
        let mut splitter = Splitter::new(MAX_MESSAGE);
        splitter.push(Bytes::from_static(b"HTTP/1.1 400"));
        assert_eq!(splitter.next(), Err(FrameError::BadFlag(b'H')));
        splitter.push(encode(&sample()));
        assert_eq!(splitter.next(), Err(FrameError::BadFlag(b'H')));
        assert_eq!(splitter.finish(), Err(FrameError::BadFlag(b'H')));
    }

    #[test]
    fn a_stream_that_ends_early_is_noticed() {
        let wire = encode(&[message(false, b"abc")]);
        for (given, missing) in [(0, 0), (1, 4), (4, 1), (5, 3), (7, 1), (8, 0)] {
            let mut splitter = Splitter::new(MAX_MESSAGE);
            splitter.push(wire.slice(..given));
            drain(&mut splitter);
            let expected = match missing {
                0 => Ok(()),
                missing => Err(FrameError::Truncated { missing }),
            };
            assert_eq!(splitter.finish(), expected, "{given}");
        }
    }
}
