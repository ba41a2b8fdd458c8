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
    /// Whether the first message has passed.
    begun: bool,
}

// === impl Context ===

impl Context {
    pub(super) fn new(sticky: Sticky) -> Self {
        Self { sticky, fields: Vec::new(), begun: false }
    }

    /// The sticky fields of a stream's first message, which decide whom the stream may join.
    pub(super) fn head_of(&self, first: &Message, encoding: Option<&HeaderValue>) -> Vec<u8> {
        match self.sticky {
            Sticky::Head(numbers) => plain(first, encoding)
                .and_then(|message| scan::pick(&message, numbers).ok())
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Takes note of a message; gives back what it would need in front as the first of a stream.
    pub(super) fn pass(&mut self, message: &Message, encoding: Option<&HeaderValue>) -> Bytes {
        let (numbers, latest) = match self.sticky {
            Sticky::Head(numbers) | Sticky::Unit(numbers) => (numbers, false),
            Sticky::Latest(numbers) => (numbers, true),
            Sticky::None | Sticky::Whole => return Bytes::new(),
        };
        let first = !std::mem::replace(&mut self.begun, true);
        if !first && !latest && self.fields.is_empty() {
            return Bytes::new();
        }
        let Some(message) = plain(message, encoding) else { return Bytes::new() };
        let own: Vec<(u32, Bytes)> = scan::fields(&message)
            .map_while(|field| field.ok())
            .filter(|field| numbers.contains(&field.number))
            .map(|field| (field.number, Bytes::copy_from_slice(field.raw)))
            .collect();
        let prefix = self.missing_in(&own);
        if first || latest {
            for (number, raw) in own {
                self.fields.retain(|(other, _)| *other != number);
                self.fields.push((number, raw));
            }
        }
        prefix
    }

    /// The fields in force that the message does not carry itself.
    fn missing_in(&self, own: &[(u32, Bytes)]) -> Bytes {
        let mut prefix = Vec::new();
        for (number, raw) in &self.fields {
            if !own.iter().any(|(other, _)| other == number) {
                prefix.extend_from_slice(raw);
            }
        }
        prefix.into()
    }
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
            assert!(context.pass(&encode(log("svc", "one", "/a")), encoding.as_ref()).is_empty());
            let second = encode(log("", "two", "/b"));
            let prefix = context.pass(&second, encoding.as_ref());
            let joined = prefixed(&second, encoding.as_ref(), &prefix).unwrap();
            let joined = LogData::decode(joined.data).unwrap();
            assert_eq!(
                (&*joined.service, &*joined.service_instance, &*joined.endpoint),
                ("svc", "two", "/b")
            );
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = gzip(&Message { compressed: false, data: vec![0; MAX_MESSAGE + 1].into() });
        assert!(plain(&bomb, Some(&HeaderValue::from_static("gzip"))).is_none());
    }
}
