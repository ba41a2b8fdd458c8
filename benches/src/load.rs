//! Plays the local agents of a relay: plaintext HTTP/2, frames made beforehand, as much as the relay takes.
//!
//! It keeps to windows and to the number of streams that the relay allows, and reads no headers: what has arrived is
//! the sink's to say. What it costs is not measured.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::Result;
use crate::segment::{self, PATH};

/// What the agents do.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// The port of the relay, on 127.0.0.1.
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long, default_value_t = 682)]
    pub(crate) size: usize,
    /// Segments of all agents together.
    #[arg(long)]
    pub(crate) count: u64,
    #[arg(long, default_value_t = 1)]
    pub(crate) agents: u64,
    #[arg(long, default_value = "batched")]
    pub(crate) shape: Shape,
    /// Stay connected for so many seconds afterwards, without a word.
    #[arg(long, default_value_t = 0)]
    pub(crate) linger: u64,
}

/// How segments become streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// 10,000 per stream, in full DATA frames.
    Batched,
    /// 10,000 per stream, each in a DATA frame of its own, as grpc-java writes them.
    Framed,
    /// Each is a stream.
    Single,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) streams: u64,
    pub(crate) wall_us: f64,
}

const FRAME: usize = 9;
const LARGEST: usize = 16_384;
const PER_STREAM: u64 = 10_000;
/// What is put together before it is written.
const OUT: usize = 64 * 1024;
/// What is not answered for so long never will be.
const PATIENCE: Duration = Duration::from_secs(60);

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// A stream that is being sent, or waits for its answer.
struct Stream {
    window: i64,
    /// Bytes that are still to be sent.
    left: usize,
    /// Where in the tile it goes on.
    at: usize,
}

struct Agent {
    shape: Shape,
    /// Framed segments, one after the other.
    tile: Vec<u8>,
    /// Bytes of one framed segment.
    unit: usize,
    /// The HEADERS of every stream, without their frame.
    head: Vec<u8>,
    window: i64,
    initial: i64,
    /// How many streams may be open.
    allowed: usize,
    streams: HashMap<u32, Stream>,
    /// The one that is being sent.
    current: Option<u32>,
    next: u32,
    /// Segments that belong to no stream yet.
    left: u64,
    answered: u64,
    out: Vec<u8>,
    input: Vec<u8>,
}

pub(crate) fn run(load: &Load) -> Result<Done> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let mut agents = tokio::task::JoinSet::new();
        let mut kept = Vec::new();
        for number in 0..load.agents {
            let count = load.count / load.agents + u64::from(number < load.count % load.agents);
            let socket = TcpStream::connect(("127.0.0.1", load.port)).await?;
            socket.set_nodelay(true)?;
            let agent = Agent::new(load.shape, load.size, count);
            agents.spawn(agent.run(socket));
        }
        let mut streams = 0;
        while let Some(agent) = agents.join_next().await {
            let (answered, socket) = agent??;
            streams += answered;
            kept.push(socket);
        }
        let done = Done { streams, wall_us: begun.elapsed().as_secs_f64() * 1e6 };
        if load.linger > 0 {
            println!("{}", serde_json::to_string(&done)?);
            tokio::time::sleep(Duration::from_secs(load.linger)).await;
        }
        Ok(done)
    })
}

// === impl Agent ===

impl Agent {
    fn new(shape: Shape, size: usize, count: u64) -> Self {
        let payload = segment::encoded(size);
        let mut framed = vec![0];
        framed.extend(u32::try_from(payload.len()).unwrap_or(0).to_be_bytes());
        framed.extend(payload);
        let mut head = vec![0x83, 0x86];
        // Literals that no table has to remember: names of the static table, and two of our own.
        let mut literal = |name: &[u8], value: &str| {
            head.extend(name);
            head.push(u8::try_from(value.len()).unwrap_or(0));
            head.extend(value.bytes());
        };
        literal(&[0x04], PATH);
        literal(&[0x01], "localhost");
        literal(&[0x0f, 0x10], "application/grpc");
        literal(b"\x00\x02te", "trailers");
        let mut agent = Self {
            shape,
            unit: framed.len(),
            tile: framed.repeat(LARGEST / framed.len() + 2),
            head,
            window: 65_535,
            initial: 65_535,
            allowed: 100,
            streams: HashMap::new(),
            current: None,
            next: 1,
            left: count,
            answered: 0,
            out: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            input: Vec::new(),
        };
        agent.frame(SETTINGS, 0, 0, &[]);
        // The answers together may be longer than the first window.
        agent.frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes());
        agent
    }

    /// Sends everything; gives the number of answers, and the socket, which is open.
    async fn run(mut self, socket: TcpStream) -> Result<(u64, TcpStream)> {
        let mut chunk = vec![0; 64 * 1024];
        while self.left > 0 || !self.streams.is_empty() || !self.out.is_empty() {
            self.fill();
            let ready = async {
                if self.out.is_empty() { socket.readable().await } else { socket.writable().await }
            };
            tokio::time::timeout(PATIENCE, ready)
                .await
                .map_err(|_| "the relay does not answer")??;
            loop {
                match socket.try_read(&mut chunk) {
                    Ok(0) => return Err("the relay has closed the connection".into()),
                    Ok(read) => self.input.extend(&chunk[..read]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            self.receive()?;
            match socket.try_write(&self.out) {
                Ok(written) => {
                    self.out.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((self.answered, socket))
    }

    /// Makes frames while windows allow it.
    fn fill(&mut self) {
        while self.out.len() < OUT && self.window > 0 {
            let Some(id) = self.current.or_else(|| self.open()) else { return };
            let Some(stream) = self.streams.get_mut(&id) else {
                self.current = None;
                continue;
            };
            let room = usize::try_from(stream.window.min(self.window)).unwrap_or(0);
            let wanted = match self.shape {
                Shape::Batched => LARGEST,
                Shape::Framed | Shape::Single => self.unit - stream.at,
            };
            let length = wanted.min(stream.left).min(LARGEST).min(room);
            if length == 0 {
                return;
            }
            stream.window -= length as i64;
            self.window -= length as i64;
            stream.left -= length;
            let at = stream.at;
            stream.at = (at + length) % self.unit;
            let last = stream.left == 0;
            let [_, size @ ..] = u32::try_from(length).unwrap_or(0).to_be_bytes();
            self.out.extend(size);
            self.out.extend([0, u8::from(last)]);
            self.out.extend(id.to_be_bytes());
            self.out.extend(&self.tile[at..at + length]);
            if last {
                self.current = None;
            }
        }
    }

    /// Opens a stream, if there is something to send and the relay allows it.
    fn open(&mut self) -> Option<u32> {
        if self.left == 0 || self.streams.len() >= self.allowed {
            return None;
        }
        let count = if self.shape == Shape::Single { 1 } else { self.left.min(PER_STREAM) };
        self.left -= count;
        let id = self.next;
        self.next += 2;
        let head = std::mem::take(&mut self.head);
        self.frame(HEADERS, 4, id, &head);
        self.head = head;
        let left = usize::try_from(count).unwrap_or(0) * self.unit;
        self.streams.insert(id, Stream { window: self.initial, left, at: 0 });
        self.current = Some(id);
        Some(id)
    }

    fn receive(&mut self) -> Result<()> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while rest.len() >= FRAME {
            let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
            if rest.len() < FRAME + length {
                break;
            }
            let id = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]);
            let (kind, flags) = (rest[3], rest[4]);
            let payload = &rest[FRAME..FRAME + length];
            rest = &rest[FRAME + length..];
            match kind {
                SETTINGS if flags & 1 == 0 => {
                    for setting in payload.chunks_exact(6) {
                        let value =
                            u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                        match setting[1] {
                            3 => self.allowed = value as usize,
                            4 => {
                                let more = i64::from(value) - self.initial;
                                self.streams.values_mut().for_each(|stream| stream.window += more);
                                self.initial = i64::from(value);
                            }
                            _ => {}
                        }
                    }
                    self.frame(SETTINGS, 1, 0, &[]);
                }
                WINDOW_UPDATE => {
                    let more = i64::from(u32::from_be_bytes([
                        payload[0], payload[1], payload[2], payload[3],
                    ]));
                    match self.streams.get_mut(&id) {
                        _ if id == 0 => self.window += more,
                        Some(stream) => stream.window += more,
                        None => {}
                    }
                }
                PING if flags & 1 == 0 => self.frame(PING, 1, 0, payload),
                GOAWAY => return Err(format!("GOAWAY {payload:?}").into()),
                RESET if self.streams.get(&id).is_some_and(|stream| stream.left > 0) => {
                    return Err(format!("a stream was reset: {payload:?}").into());
                }
                // The end of an answer.
                _ if kind <= HEADERS && flags & 1 != 0 => {
                    if self.streams.remove(&id).is_some_and(|stream| stream.left > 0) {
                        return Err("an answer before the end of its stream".into());
                    }
                    self.answered += 1;
                }
                _ => {}
            }
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        self.out.extend(length);
        self.out.extend([kind, flags]);
        self.out.extend(id.to_be_bytes());
        self.out.extend(payload);
    }
}
