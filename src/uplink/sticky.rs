//! What earlier messages of a stream mean for later ones.
//!
//! Some streams say only once what holds for all their messages. When such a stream is cut, the
//! first message of the new one needs these fields in front of it; protobuf lets encodings be put
//! one behind the other. Messages that cannot be read (a compression unknown here, a broken
//! encoding) pass as they are: they are the backend's to judge.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use http::HeaderValue;

use crate::protocol::Sticky;
use crate::protocol::frame::{MAX_MESSAGE, Message};
use crate::protocol::scan;

/// The sticky fields in force at one point of a stream.
#[derive(Debug, Clone)]
pub(super) struct Context {
    sticky: Sticky,
    /// By field number, as encoded.
    fields: Vec<(u32, Bytes)>,
    /// All of them, one behind the other.
    joined: Bytes,
    /// Whether the first message has passed.
    begun: bool,
}

/// What the stream so far means for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearing {
    /// What the message needs in front as the first of a stream.
    pub(super) prefix: Bytes,
    /// Whom it may share a stream with.
    pub(super) company: Company,
}

/// Whom a message may share a stream with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Company {
    /// Any message of the same head.
    Head(Bytes),
    /// Messages of its own stream only.
    Own,
}

/// Longer fields than this are no names of services; they are not carried along.
const LONGEST_FIELD: usize = 64 * 1024;

// === impl Context ===

impl Context {
    pub(super) fn new(sticky: Sticky) -> Self {
        Self { sticky, fields: Vec::new(), joined: Bytes::new(), begun: false }
    }

    /// Takes note of a message and says what the stream so far means for it.
    pub(super) fn pass(&mut self, message: &Message, encoding: Option<&HeaderValue>) -> Bearing {
        let (numbers, latest, shared) = match self.sticky {
            Sticky::None => return Bearing::free(),
            Sticky::Whole => return Bearing::own(),
            Sticky::Head(numbers) => (numbers, false, true),
            Sticky::Unit(numbers) => (numbers, false, false),
            Sticky::Latest(numbers) => (numbers, true, false),
        };
        let first = !std::mem::replace(&mut self.begun, true);
        // What cannot be read, or read to its end, keeps to its own stream.
        let Some(own) = plain(message, encoding).and_then(|plain| pick(&plain, numbers)) else {
            return Bearing::own();
        };
        let prefix = self.missing_in(&own);
        let company = match (shared, numbers.first()) {
            (true, Some(service)) => self.company(&own, *service),
            _ => Company::Own,
        };
        if first || latest {
            self.remember(own);
        }
        Bearing { prefix, company }
    }

    /// Those who have the same fields, by their own words or by their stream's. The first field
    /// decides whose a message is: without it, a message would be taken for somebody else's.
    fn company(&self, own: &[(u32, Bytes)], decisive: u32) -> Company {
        let inherited = self.fields.iter().filter(|(number, _)| !has(own, *number));
        let mut head: Vec<&(u32, Bytes)> = own.iter().chain(inherited).collect();
        if !head.iter().any(|(number, _)| *number == decisive) {
            return Company::Own;
        }
        head.sort_by_key(|(number, _)| *number);
        if head.len() == self.fields.len() && own.is_empty() {
            return Company::Head(self.joined.clone());
        }
        Company::Head(head.iter().flat_map(|(_, raw)| raw.iter().copied()).collect())
    }

    fn remember(&mut self, own: Vec<(u32, Bytes)>) {
        if own.is_empty() {
            return;
        }
        self.fields.retain(|(number, _)| !has(&own, *number));
        self.fields.extend(own);
        self.fields.sort_by_key(|(number, _)| *number);
        self.joined = self.fields.iter().flat_map(|(_, raw)| raw.iter().copied()).collect();
    }

    /// The fields in force that the message does not carry itself. Most carry none, and share what
    /// is there already.
    fn missing_in(&self, own: &[(u32, Bytes)]) -> Bytes {
        if !self.fields.iter().any(|(number, _)| has(own, *number)) {
            return self.joined.clone();
        }
        let missing = self.fields.iter().filter(|(number, _)| !has(own, *number));
        missing.flat_map(|(_, raw)| raw.iter().copied()).collect()
    }
}

// === impl Bearing ===

impl Bearing {
    fn free() -> Self {
        Self { prefix: Bytes::new(), company: Company::Head(Bytes::new()) }
    }

    fn own() -> Self {
        Self { prefix: Bytes::new(), company: Company::Own }
    }
}

fn has(fields: &[(u32, Bytes)], number: u32) -> bool {
    fields.iter().any(|(other, _)| *other == number)
}

/// The last occurrence of each of these fields, as encoded; `None` if the message is malformed.
fn pick(message: &[u8], numbers: &[u32]) -> Option<Vec<(u32, Bytes)>> {
    let mut found: Vec<(u32, Bytes)> = Vec::new();
    for number in numbers {
        let raw = scan::pick(message, &[*number]).ok()?;
        if !raw.is_empty() && raw.len() <= LONGEST_FIELD {
            found.push((*number, raw.into()));
        }
    }
    Some(found)
}

/// A message with the fields of its stream in front, to be sent uncompressed; `None` if it cannot
/// be read.
pub(super) fn prefixed(
    message: &Message,
    encoding: Option<&HeaderValue>,
    prefix: &Bytes,
) -> Option<Message> {
    let data = plain(message, encoding)?;
    let mut joined = Vec::with_capacity(prefix.len() + data.len());
    joined.extend_from_slice(prefix);
    joined.extend_from_slice(&data);
    Some(Message { compressed: false, data: joined.into() })
}

/// The message without its compression, bounded in size.
fn plain(message: &Message, encoding: Option<&HeaderValue>) -> Option<Bytes> {
    if !message.compressed {
        return Some(message.data.clone());
    }
    let mut out = Vec::new();
    let limit = MAX_MESSAGE as u64;
    match encoding?.as_bytes() {
        b"gzip" => GzDecoder::new(&message.data[..]).take(limit + 1).read_to_end(&mut out),
        b"deflate" => ZlibDecoder::new(&message.data[..]).take(limit + 1).read_to_end(&mut out),
        _ => return None,
    }
    .ok()?;
    (out.len() <= MAX_MESSAGE).then(|| out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use prost::Message as _;
    use std::io::Write;

    use crate::protocol::v3::LogData;

    fn log(service: &str, instance: &str, endpoint: &str) -> Message {
        let log = LogData {
            service: service.into(),
            service_instance: instance.into(),
            endpoint: endpoint.into(),
            ..LogData::default()
        };
        Message { compressed: false, data: log.encode_to_vec().into() }
    }

    fn gzip(message: &Message) -> Message {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&message.data).unwrap();
        Message { compressed: true, data: encoder.finish().unwrap().into() }
    }

    #[test]
    fn the_head_of_the_first_message_is_put_in_front_of_later_ones() {
        for encoding in [None, Some(HeaderValue::from_static("gzip"))] {
            let encode =
                |message: Message| if encoding.is_some() { gzip(&message) } else { message };
            let mut context = Context::new(Sticky::Head(&[2, 3]));
            let first = context.pass(&encode(log("svc", "one", "/a")), encoding.as_ref());
            assert!(first.prefix.is_empty());
            let second = encode(log("", "two", "/b"));
            let Bearing { prefix, .. } = context.pass(&second, encoding.as_ref());
            let joined = prefixed(&second, encoding.as_ref(), &prefix).unwrap();
            let joined = LogData::decode(joined.data).unwrap();
            assert_eq!(
                (&*joined.service, &*joined.service_instance, &*joined.endpoint),
                ("svc", "two", "/b")
            );
        }
    }

    #[test]
    fn company_is_those_of_the_same_service_by_whatever_words() {
        let company = |messages: &[Message]| {
            let mut context = Context::new(Sticky::Head(&[2, 3]));
            let all = messages.iter().map(|message| context.pass(message, None).company);
            all.last().unwrap()
        };
        let a = company(&[log("a", "", "/1")]);
        assert!(matches!(a, Company::Head(_)));
        assert_eq!(a, company(&[log("a", "", "/1"), log("", "", "/2")]));
        assert_eq!(a, company(&[log("b", "", "/1"), log("a", "", "/2")]));
        assert_ne!(a, company(&[log("b", "", "/1"), log("", "", "/2")]));
        assert_ne!(a, company(&[log("a", "i", "/1")]));
        assert_eq!(company(&[log("", "", "/1")]), Company::Own);
        let broken = Message { compressed: false, data: Bytes::from_static(b"\xff") };
        assert_eq!(company(&[broken]), Company::Own);
    }

    #[test]
    fn fields_that_are_no_names_are_not_carried_along() {
        let mut context = Context::new(Sticky::Head(&[2, 3]));
        context.pass(&log(&"x".repeat(LONGEST_FIELD), "i", "/1"), None);
        let prefix = context.pass(&log("", "", "/2"), None).prefix;
        assert!(prefix.len() < 10, "{}", prefix.len());
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = gzip(&Message { compressed: false, data: vec![0; MAX_MESSAGE + 1].into() });
        assert!(plain(&bomb, Some(&HeaderValue::from_static("gzip"))).is_none());
    }
}
