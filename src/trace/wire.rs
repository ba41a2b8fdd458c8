//! The few pieces of protobuf's encoding that segments are made of.
//!
//! Fields with their default value are left out, as in every proto3 encoder.

use bytes::BufMut;

const VARINT: u32 = 0;
const LENGTH: u32 = 2;

/// A text.
pub(super) fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        key(out, field, LENGTH);
        varint(out, text.len() as u64);
        out.put_slice(text.as_bytes());
    }
}

/// An `int32`, `int64`, enum or `bool`. Negative ones take ten bytes: that is protobuf's way.
pub(super) fn number(out: &mut Vec<u8>, field: u32, number: i64) {
    if number != 0 {
        key(out, field, VARINT);
        varint(out, number.cast_unsigned());
    }
}

/// A message within a message, also if it is empty.
pub(super) fn nested(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    fill(out);
    let length = out.len() - start;
    // The length is known only now; what was written moves to make room for it.
    let end = out.len();
    key(out, field, LENGTH);
    varint(out, length as u64);
    let head = out.len() - end;
    out[start..].rotate_right(head);
}

/// A `KeyStringValuePair`.
pub(super) fn pair(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    nested(out, field, |out| {
        text(out, 1, key);
        text(out, 2, value);
    });
}

fn key(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
