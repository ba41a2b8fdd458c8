//! DER by hand: certificates have to be wrong in ways that no library mints.
//!
//! It writes what it is given and checks nothing.

pub(crate) type Der = Vec<u8>;

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const T61: u8 = 0x14;
pub(crate) const IA5: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const BMP: u8 = 0x1e;

/// One value: tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Der {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// One value whose length takes a byte more than it must: BER, and not DER.
pub(crate) fn padded(tag: u8, content: &[u8]) -> Der {
    let length = content.len();
    [&[tag, 0x83, 0, (length >> 8) as u8, length as u8], content].concat()
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Der {
    tlv(SEQUENCE, &parts.concat())
}

pub(crate) fn integer(content: &[u8]) -> Der {
    tlv(2, content)
}

pub(crate) fn boolean(value: bool) -> Der {
    tlv(1, &[if value { 0xff } else { 0 }])
}

pub(crate) fn octets(content: &[u8]) -> Der {
    tlv(4, content)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bits(content: &[u8]) -> Der {
    tlv(3, &[&[0], content].concat())
}

/// A BIT STRING in which these bits are set, as named bits are written.
pub(crate) fn named_bits(set: &[u8]) -> Der {
    let mut bytes = vec![0; set.iter().max().map_or(0, |most| usize::from(most / 8) + 1)];
    for bit in set {
        bytes[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    let unused = bytes.last().map_or(0, |last: &u8| last.trailing_zeros() as u8);
    tlv(3, &[&[unused], &bytes[..]].concat())
}

/// `[number]` around a value.
pub(crate) fn explicit(number: u8, content: &[u8]) -> Der {
    tlv(0xa0 | number, content)
}

/// `[number]` in place of a primitive value's own tag.
pub(crate) fn implicit(number: u8, content: &[u8]) -> Der {
    tlv(0x80 | number, content)
}

/// From `2.5.29.17`.
pub(crate) fn oid(dotted: &str) -> Der {
    let arcs: Vec<u32> = dotted.split('.').map(|arc| arc.parse().expect("a number")).collect();
    let mut content = Vec::new();
    for arc in std::iter::once(arcs[0] * 40 + arcs[1]).chain(arcs[2..].iter().copied()) {
        let groups = (0..5).rev().map(|group| (arc >> (7 * group)) as u8 & 0x7f);
        let mut groups: Vec<u8> = groups.skip_while(|group| *group == 0).collect();
        if groups.is_empty() {
            groups.push(0);
        }
        let last = groups.len() - 1;
        groups[..last].iter_mut().for_each(|group| *group |= 0x80);
        content.extend(groups);
    }
    tlv(6, &content)
}

/// `CN=…`.
pub(crate) fn common_name(text: &str) -> Der {
    name(&[("2.5.4.3", UTF8, text.as_bytes())])
}

/// A distinguished name of these attributes, each in an RDN of its own.
pub(crate) fn name(attributes: &[(&str, u8, &[u8])]) -> Der {
    let rdn = |(kind, tag, text): &(&str, u8, &[u8])| {
        tlv(0x31, &sequence(&[&oid(kind), &tlv(*tag, text)]))
    };
    tlv(SEQUENCE, &attributes.iter().map(rdn).collect::<Vec<_>>().concat())
}
