//! Records as bytes of the spool: what a frame holds.
//!
//! A frame is a moment, then items one behind the other. Passports are written once for each file
//! and named by a number afterwards. Everything is little-endian. Files and checksums are not
//! known here.
//!
//! ```text
//! frame    = time:u64 item*
//! item     = 0 passport | 1 record | 2 end | 3 gap
//! passport = number:u32 path:str16 encoding:str16 count:u16 (name:str16 value:str32)*
//! record   = passport:u32 flags:u8 stream:u64 head:str32 prefix:str32 data:str32
//! end      = stream:u64
//! gap      = records:u32
//! ```

use bytes::{Buf, BufMut, Bytes, TryGetError};
use http::{HeaderName, HeaderValue};

use crate::protocol;
use crate::protocol::frame::Message;
use crate::uplink::envelope::{Metadata, Passport};
use crate::uplink::sticky::Company;

/// One item of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// Records of this number have this passport; `None`: of a method unknown here.
    Passport(u32, Option<Box<Passport>>),
    /// The number of its passport, and the record.
    Record(u32, Stored),
    /// No more records of this stream.
    End(u64),
    /// So many records stood here, and need not be sent any more. Since version 2.
    Gap(u32),
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) stream: u64,
    pub(super) company: Company,
    pub(super) prefix: Bytes,
    pub(super) message: Message,
}

/// The bytes do not mean what they should although their checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled;

const PASSPORT: u8 = 0;
const RECORD: u8 = 1;
const END: u8 = 2;
const GAP: u8 = 3;

const COMPRESSED: u8 = 1;
const OWN: u8 = 2;

// === writing ===

pub(super) fn put_time(out: &mut Vec<u8>, time: u64) {
    out.put_u64_le(time);
}

pub(super) fn put_passport(out: &mut Vec<u8>, number: u32, passport: &Passport) {
    out.put_u8(PASSPORT);
    out.put_u32_le(number);
    put_short(out, passport.method.path.as_bytes());
    put_short(out, passport.encoding().map_or(&[], HeaderValue::as_bytes));
    let metadata: Vec<_> = passport.metadata.iter().collect();
    out.put_u16_le(u16::try_from(metadata.len()).unwrap_or(u16::MAX));
    for (name, value) in metadata.into_iter().take(usize::from(u16::MAX)) {
        put_short(out, name.as_str().as_bytes());
        put_long(out, value.as_bytes());
    }
}

pub(super) fn put_record(out: &mut Vec<u8>, passport: u32, record: &Stored) {
    let Stored { stream, company, prefix, message } = record;
    let (own, head) = match company {
        Company::Own => (OWN, Bytes::new()),
        Company::Head(head) => (0, head.clone()),
    };
    out.put_u8(RECORD);
    out.put_u32_le(passport);
    out.put_u8(own | if message.compressed { COMPRESSED } else { 0 });
    out.put_u64_le(*stream);
    put_long(out, &head);
    put_long(out, prefix);
    put_long(out, &message.data);
}

pub(super) fn put_end(out: &mut Vec<u8>, stream: u64) {
    out.put_u8(END);
    out.put_u64_le(stream);
}

pub(super) fn put_gap(out: &mut Vec<u8>, records: u32) {
    out.put_u8(GAP);
    out.put_u32_le(records);
}

/// Longer texts than this do not come in a path or the name of a header.
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16_le(len);
    out.put_slice(&bytes[..usize::from(len)]);
}

/// Messages are shorter than 4 GiB: 50 MiB is the most that is accepted.
fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.put_u32_le(len);
    out.put_slice(&bytes[..len as usize]);
}

// === reading ===

/// The moment a frame was written.
pub(super) fn time(frame: &mut Bytes) -> Result<u64, Garbled> {
    Ok(frame.try_get_u64_le()?)
}

/// The next item; `None` at the end of the frame. What it holds shares the frame's memory.
pub(super) fn next(frame: &mut Bytes) -> Result<Option<Item>, Garbled> {
    if frame.is_empty() {
        return Ok(None);
    }
    Ok(Some(match frame.try_get_u8()? {
        PASSPORT => passport(frame)?,
        RECORD => {
            let passport = frame.try_get_u32_le()?;
            Item::Record(passport, record(frame)?)
        }
        END => Item::End(frame.try_get_u64_le()?),
        GAP => Item::Gap(frame.try_get_u32_le()?),
        _ => return Err(Garbled),
    }))
}

fn passport(frame: &mut Bytes) -> Result<Item, Garbled> {
    let number = frame.try_get_u32_le()?;
    let path = short(frame)?;
    let encoding = short(frame)?;
    let mut metadata = Metadata::default();
    for _ in 0..frame.try_get_u16_le()? {
        let name = HeaderName::from_bytes(&short(frame)?).map_err(|_| Garbled)?;
        let value = HeaderValue::from_maybe_shared(long(frame)?).map_err(|_| Garbled)?;
        metadata.push(name, value);
    }
    let encoding = match encoding.is_empty() {
        true => None,
        false => Some(HeaderValue::from_maybe_shared(encoding).map_err(|_| Garbled)?),
    };
    let path = std::str::from_utf8(&path).map_err(|_| Garbled)?;
    let passport = protocol::find(path).map(|method| {
        Box::new(Passport::new(method).with_metadata(metadata).with_encoding(encoding))
    });
    Ok(Item::Passport(number, passport))
}

fn record(frame: &mut Bytes) -> Result<Stored, Garbled> {
    let flags = frame.try_get_u8()?;
    let stream = frame.try_get_u64_le()?;
    let head = long(frame)?;
    let company = if flags & OWN == 0 { Company::Head(head) } else { Company::Own };
    let prefix = long(frame)?;
    let message = Message { compressed: flags & COMPRESSED != 0, data: long(frame)? };
    Ok(Stored { stream, company, prefix, message })
}

fn short(frame: &mut Bytes) -> Result<Bytes, Garbled> {
    let len = usize::from(frame.try_get_u16_le()?);
    cut(frame, len)
}

fn long(frame: &mut Bytes) -> Result<Bytes, Garbled> {
    let len = frame.try_get_u32_le()? as usize;
    cut(frame, len)
}

fn cut(frame: &mut Bytes, len: usize) -> Result<Bytes, Garbled> {
    if frame.len() < len { Err(Garbled) } else { Ok(frame.split_to(len)) }
}

impl From<TryGetError> for Garbled {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Vec<Item>) {
        let method = protocol::find("/skywalking.v3.LogReportService/collect").unwrap();
        let mut metadata = Metadata::default();
        metadata
            .push(HeaderName::from_static("authentication"), HeaderValue::from_static("secret"));
        let passport = Passport::new(method)
            .with_metadata(metadata)
            .with_encoding(Some(HeaderValue::from_static("gzip")));
        let record = |company, compressed| Stored {
            stream: 42,
            company,
            prefix: Bytes::from_static(b"prefix"),
            message: Message { compressed, data: Bytes::from_static(b"data") },
        };
        let items = vec![
            Item::Passport(7, Some(Box::new(passport.clone()))),
            Item::Record(7, record(Company::Own, true)),
            Item::Record(7, record(Company::Head(Bytes::from_static(b"head")), false)),
            Item::Gap(1000),
            Item::End(42),
        ];
        let mut out = Vec::new();
        put_time(&mut out, 5);
        for item in &items {
            match item {
                Item::Passport(number, _) => put_passport(&mut out, *number, &passport),
                Item::Record(number, record) => put_record(&mut out, *number, record),
                Item::Gap(records) => put_gap(&mut out, *records),
                Item::End(stream) => put_end(&mut out, *stream),
            }
        }
        (out, items)
    }

    fn all(mut frame: Bytes) -> Result<Vec<Item>, Garbled> {
        assert_eq!(time(&mut frame)?, 5);
        let mut items = Vec::new();
        while let Some(item) = next(&mut frame)? {
            items.push(item);
        }
        Ok(items)
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, items) = sample();
        assert_eq!(all(bytes.into()), Ok(items));
    }

    #[test]
    fn what_is_cut_off_is_garbled_or_ends_between_items() {
        let (bytes, items) = sample();
        for len in 8..bytes.len() {
            if let Ok(read) = all(Bytes::copy_from_slice(&bytes[..len])) {
                assert!(items.starts_with(&read), "{len}");
            }
        }
    }

    #[test]
    fn a_method_unknown_here_is_told_apart_from_garbage() {
        let (bytes, _) = sample();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let at = text.find("collect").unwrap();
        let mut other = bytes;
        other[at] = b'k';
        assert_eq!(all(other.into()).unwrap()[0], Item::Passport(7, None));
    }
}
