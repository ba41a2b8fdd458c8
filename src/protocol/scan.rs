//! Reads the top-level fields of an encoded protobuf message without decoding it.
//!
//! It knows nothing of schemas: sub-messages, strings and packed lists are bytes to it, and it does
//! not check that they are well-formed.

use std::fmt;

/// How deep groups may nest, as in the protobuf libraries.
const MAX_DEPTH: usize = 100;

/// The largest field number there is.
const MAX_NUMBER: u64 = (1 << 29) - 1;

/// How a field is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireType {
    /// A number of one to ten bytes.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length, then so many bytes: strings, bytes, sub-messages, packed lists.
    Len,
    /// Fields between a start and an end tag; nothing in this protocol uses it.
    Group,
    /// Four bytes.
    Fixed32,
}

/// One field, as a view into the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number.
    pub number: u32,
    /// How it is encoded.
    pub wire: WireType,
    /// The whole field with its tag, ready to be copied into another message.
    pub raw: &'a [u8],
    /// What it holds: the content of a [`WireType::Len`] field (without the length) or of a group
    /// (without the end tag), else the encoded number.
    pub value: &'a [u8],
}

/// The fields of a message in order of appearance; ends after the first error.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanError {
    /// A field number of 0, or one beyond 2^29 - 1.
    BadNumber,
    /// An encoding that does not exist.
    BadWireType(u8),
    /// Groups are not closed in the order in which they were opened, or nest too deep.
    BadGroup,
    /// A number that does not fit into 64 bits.
    Overflow,
    /// The message ends within a field.
    Truncated,
}

/// The top-level fields of an encoded message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// The encoding of just the fields with these numbers, in order of appearance.
///
/// Meant to be put in front of another message, whose own fields then override them, since a later
/// field wins in protobuf. Of a number that occurs more than once only the last one is taken, for the
/// same reason (so this is not for repeated fields); one that is empty or zero is left out, as it
/// says no more than its absence.
///
/// # Errors
///
/// When `message` is not well-formed at its top level, even behind the last field asked for.
pub fn pick(message: &[u8], numbers: &[u32]) -> Result<Vec<u8>, ScanError> {
    let mut found: Vec<Field<'_>> = Vec::with_capacity(numbers.len());
    for field in fields(message) {
        let field = field?;
        if numbers.contains(&field.number) {
            found.retain(|earlier| earlier.number != field.number);
            found.push(field);
        }
    }
    found.retain(|field| !field.is_default());
    let mut out = Vec::with_capacity(found.iter().map(|field| field.raw.len()).sum());
    for field in found {
        out.extend_from_slice(field.raw);
    }
    Ok(out)
}

// === impl Field ===

impl Field<'_> {
    /// Whether a reader would find the same without this field.
    fn is_default(&self) -> bool {
        match self.wire {
            WireType::Varint => self.value.iter().all(|byte| byte & 0x7f == 0),
            WireType::Fixed32 | WireType::Fixed64 => self.value.iter().all(|byte| *byte == 0),
            WireType::Len | WireType::Group => self.value.is_empty(),
        }
    }
}

// === impl Fields ===

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = read_field(self.rest);
        self.rest = match &field {
            Ok(field) => &self.rest[field.raw.len()..],
            Err(_) => &[],
        };
        Some(field)
    }
}

impl std::iter::FusedIterator for Fields<'_> {}

fn read_field(message: &[u8]) -> Result<Field<'_>, ScanError> {
    let mut rest = message;
    let (number, code) = read_tag(&mut rest)?;
    let (wire, value) = match code {
        START_GROUP => (WireType::Group, read_group(&mut rest, number)?),
        END_GROUP => return Err(ScanError::BadGroup),
        code => read_value(&mut rest, code)?,
    };
    let raw = &message[..message.len() - rest.len()];
    Ok(Field { number, wire, raw, value })
}

const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;

fn read_tag(rest: &mut &[u8]) -> Result<(u32, u8), ScanError> {
    let tag = read_varint(rest)?;
    match tag >> 3 {
        number @ 1..=MAX_NUMBER => Ok((number as u32, (tag & 7) as u8)),
        _ => Err(ScanError::BadNumber),
    }
}

/// The value of a field that is not a group.
fn read_value<'a>(rest: &mut &'a [u8], code: u8) -> Result<(WireType, &'a [u8]), ScanError> {
    match code {
        0 => {
            let start = *rest;
            read_varint(rest)?;
            Ok((WireType::Varint, &start[..start.len() - rest.len()]))
        }
        1 => Ok((WireType::Fixed64, take(rest, 8)?)),
        2 => {
            let len = read_varint(rest)?;
            Ok((WireType::Len, take(rest, len)?))
        }
        5 => Ok((WireType::Fixed32, take(rest, 4)?)),
        other => Err(ScanError::BadWireType(other)),
    }
}

/// Everything up to the end tag that closes the group `number`, with a stack instead of recursion:
/// how deep it nests is the sender's choice.
fn read_group<'a>(rest: &mut &'a [u8], number: u32) -> Result<&'a [u8], ScanError> {
    let start = *rest;
    let mut open = vec![number];
    loop {
        let before_tag = *rest;
        match read_tag(rest)? {
            (_, START_GROUP) if open.len() == MAX_DEPTH => return Err(ScanError::BadGroup),
            (inner, START_GROUP) => open.push(inner),
            (closed, END_GROUP) => {
                if open.pop() != Some(closed) {
                    return Err(ScanError::BadGroup);
                }
                if open.is_empty() {
                    return Ok(&start[..start.len() - before_tag.len()]);
                }
            }
            (_, code) => {
                read_value(rest, code)?;
            }
        }
    }
}

fn read_varint(rest: &mut &[u8]) -> Result<u64, ScanError> {
    let mut value = 0;
    for (i, byte) in rest.iter().enumerate() {
        // Nine bytes carry 63 bits, so the tenth can add but one.
        if i == 9 && *byte > 1 {
            return Err(ScanError::Overflow);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(ScanError::Truncated)
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], ScanError> {
    let len = usize::try_from(len).map_err(|_| ScanError::Truncated)?;
    let (taken, after) = rest.split_at_checked(len).ok_or(ScanError::Truncated)?;
    *rest = after;
    Ok(taken)
}

// === impl ScanError ===

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::BadNumber => f.write_str("a protobuf field number is out of range"),
            ScanError::BadWireType(code) => {
                write!(f, "a protobuf field has the unknown wire type {code}")
            }
            ScanError::BadGroup => {
                f.write_str("protobuf groups are closed out of order or nest too deep")
            }
            ScanError::Overflow => f.write_str("a protobuf number does not fit into 64 bits"),
            ScanError::Truncated => f.write_str("a protobuf message ends within a field"),
        }
    }
}

impl std::error::Error for ScanError {}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Shaped like the head of a meter message.
    #[derive(Clone, PartialEq, Message)]
    struct Probe {
        #[prost(bytes = "vec", tag = "1")]
        body: Vec<u8>,
        #[prost(string, tag = "3")]
        service: String,
        #[prost(string, tag = "4")]
        instance: String,
        #[prost(int64, tag = "5")]
        time: i64,
        #[prost(fixed64, tag = "6")]
        wide: u64,
        #[prost(float, tag = "7")]
        narrow: f32,
        #[prost(int32, tag = "536870911")]
        last: i32,
    }

    fn probe() -> Probe {
        Probe {
            body: vec![0xff; 300],
            service: "shop".into(),
            instance: "shop-1".into(),
            time: 1_700_000_000_000,
            wide: 1,
            narrow: 0.5,
            last: -1,
        }
    }

    fn only_error(message: &[u8]) -> ScanError {
        let mut fields = fields(message);
        let error = fields.next().unwrap().unwrap_err();
        assert_eq!(fields.next(), None);
        assert_eq!(pick(message, &[1]), Err(error));
        error
    }

    #[test]
    fn all_wire_types_are_seen() {
        let bytes = probe().encode_to_vec();
        let found: Vec<_> = fields(&bytes).map(|f| f.unwrap()).collect();
        let shape: Vec<_> = found.iter().map(|f| (f.number, f.wire, f.value.len())).collect();
        assert_eq!(
            shape,
            [
                (1, WireType::Len, 300),
                (3, WireType::Len, 4),
                (4, WireType::Len, 6),
                (5, WireType::Varint, 6),
                (6, WireType::Fixed64, 8),
                (7, WireType::Fixed32, 4),
                (536_870_911, WireType::Varint, 10),
            ]
        );
        assert_eq!(found[1].value, b"shop");
        assert_eq!(found[1].raw, b"\x1a\x04shop");
        assert_eq!(found.iter().map(|f| f.raw).collect::<Vec<_>>().concat(), bytes);
    }

    #[test]
    fn picked_fields_fill_gaps_and_are_overridden() {
        let head = pick(&probe().encode_to_vec(), &[3, 4, 5]).unwrap();
        let later = Probe { body: vec![1], time: 42, ..Probe::default() };
        let joined = [head, later.encode_to_vec()].concat();
        let expected = Probe { service: "shop".into(), instance: "shop-1".into(), ..later };
        assert_eq!(Probe::decode(&joined[..]), Ok(expected));
    }

    #[test]
    fn the_last_occurrence_counts_and_an_empty_one_is_left_out() {
        assert_eq!(pick(b"\x12\x01a\x1a\x01x\x12\x01b", &[2, 3]).unwrap(), b"\x1a\x01x\x12\x01b");
        assert_eq!(pick(b"\x12\x01a\x12\x00", &[2]).unwrap(), b"");
        assert_eq!(pick(b"\x28\x00\x28\x80\x00", &[5]).unwrap(), b"");
        assert_eq!(pick(b"\x3d\x00\x00\x00\x00", &[7]).unwrap(), b"");
        assert_eq!(pick(b"\x12\x01a", &[]).unwrap(), b"");
        assert_eq!(pick(b"", &[2]).unwrap(), b"");
    }

    #[test]
    fn groups_are_opaque() {
        // Group 1 { 2: "a", group 3 { 4: 5 } }, then 2: "b".
        let bytes = b"\x0b\x12\x01a\x1b\x20\x05\x1c\x0c\x12\x01b";
        let found: Vec<_> = fields(bytes).map(|f| f.unwrap()).collect();
        assert_eq!((found[0].number, found[0].wire, found[0].raw.len()), (1, WireType::Group, 9));
        assert_eq!(found[0].value, b"\x12\x01a\x1b\x20\x05\x1c");
        assert_eq!(pick(bytes, &[2]).unwrap(), b"\x12\x01b");

        assert_eq!(only_error(b"\x0c"), ScanError::BadGroup);
        assert_eq!(only_error(b"\x0b\x14"), ScanError::BadGroup);
        assert_eq!(only_error(b"\x0b"), ScanError::Truncated);
        let nested = |depth| [vec![0x0b; depth], vec![0x0c; depth]].concat();
        assert_eq!(fields(&nested(MAX_DEPTH)).filter(Result::is_ok).count(), 1);
        assert_eq!(only_error(&nested(MAX_DEPTH + 1)), ScanError::BadGroup);
    }

    #[test]
    fn broken_messages_are_errors() {
        assert_eq!(only_error(b"\x00"), ScanError::BadNumber);
        assert_eq!(only_error(b"\x80\x80\x80\x80\x10\x00"), ScanError::BadNumber);
        assert_eq!(only_error(b"\x0e"), ScanError::BadWireType(6));
        assert_eq!(only_error(b"\x0f"), ScanError::BadWireType(7));
        assert_eq!(only_error(b"\x08"), ScanError::Truncated);
        assert_eq!(only_error(b"\x08\xff"), ScanError::Truncated);
        assert_eq!(only_error(b"\x09\x00\x00\x00\x00\x00\x00\x00"), ScanError::Truncated);
        assert_eq!(only_error(b"\x0d\x00\x00\x00"), ScanError::Truncated);
        assert_eq!(only_error(b"\x0a\x02a"), ScanError::Truncated);
        let most = [&b"\x0a"[..], &[0xff; 9], b"\x01"].concat();
        assert_eq!(only_error(&most), ScanError::Truncated);
        for over in [&b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"[..], &[0x88; 11]] {
            assert_eq!(only_error(over), ScanError::Overflow);
        }
    }

    #[test]
    fn every_prefix_of_a_message_is_read_without_panic() {
        let bytes = probe().encode_to_vec();
        let ends: Vec<_> = fields(&bytes)
            .scan(0, |at, f| {
                *at += f.unwrap().raw.len();
                Some(*at)
            })
            .collect();
        for cut in 0..bytes.len() {
            let whole = cut == 0 || ends.contains(&cut);
            assert_eq!(pick(&bytes[..cut], &[3]).is_ok(), whole, "{cut}");
        }
    }

    #[test]
    fn garbage_is_read_without_panic() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..200_000 {
            // Few different bytes make for many valid tags, short lengths and nested groups.
            let mask = [0xff, 0x0f, 0x1b, 0x8b][(random() % 4) as usize];
            let bytes: Vec<u8> = (0..random() % 40).map(|_| random() as u8 & mask).collect();
            let mut read = 0;
            for field in fields(&bytes) {
                let Ok(field) = field else { break };
                assert_eq!(field.raw, &bytes[read..read + field.raw.len()]);
                read += field.raw.len();
            }
            if let Ok(picked) = pick(&bytes, &[1, 2, 3]) {
                assert_eq!(read, bytes.len());
                assert_eq!(pick(&picked, &[1, 2, 3]).unwrap(), picked);
            }
        }
    }
}
