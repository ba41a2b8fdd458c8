//! The segment that every row sends: a real one, of exactly the wanted size.

use prost::Message;
use skytls::protocol::v3::{KeyStringValuePair, SegmentObject, SpanObject};

/// The method that takes segments.
pub(crate) const PATH: &str = "/skywalking.v3.TraceSegmentReportService/collect";

/// The smallest size there is.
pub(crate) const LEAST: usize = 160;

/// A segment whose encoding has this size.
pub(crate) fn segment(size: usize) -> SegmentObject {
    assert!(size >= LEAST, "no segment is as small as {size} bytes");
    let mut segment = SegmentObject {
        trace_id: "7a61b5cf2b2c4c2f9d0e7d5d1a3c9f10.51.17325480000000001".to_owned(),
        trace_segment_id: "7a61b5cf2b2c4c2f9d0e7d5d1a3c9f10.51.17325480000000000".to_owned(),
        service: "shop".to_owned(),
        service_instance: "web-1".to_owned(),
        spans: Vec::new(),
        ..SegmentObject::default()
    };
    // Spans as a web server has them, as many as fit; the last one is filled up.
    while segment.encoded_len() + 220 < size && segment.spans.len() < 8 {
        segment.spans.push(span(segment.spans.len()));
    }
    if segment.spans.is_empty() {
        segment.spans.push(SpanObject { span_id: 0, parent_span_id: -1, ..SpanObject::default() });
    }
    let mut filling = 0;
    loop {
        let mut filled = segment.clone();
        if let Some(last) = filled.spans.last_mut() {
            last.operation_name.push_str(&"/orders".repeat(filling / 7 + 1)[..filling]);
        }
        match filled.encoded_len() {
            found if found == size => return filled,
            found if found < size => filling += (size - found).div_ceil(2),
            // A length that needs one byte more than the gap has: the gap goes elsewhere.
            found => {
                filling -= (found - size).min(filling);
                segment.service.push('s');
            }
        }
    }
}

/// Its encoding.
pub(crate) fn encoded(size: usize) -> Vec<u8> {
    segment(size).encode_to_vec()
}

fn span(number: usize) -> SpanObject {
    let tag = |key: &str, value: &str| KeyStringValuePair {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    SpanObject {
        span_id: i32::try_from(number).unwrap_or(0),
        parent_span_id: i32::try_from(number).unwrap_or(0) - 1,
        start_time: 1_732_548_000_000,
        end_time: 1_732_548_000_012,
        operation_name: "GET:/api/v1/orders".to_owned(),
        component_id: 6000,
        tags: vec![
            tag("http.method", "GET"),
            tag("url", "https://shop.example.com/api/v1/orders"),
            tag("http.status_code", "200"),
        ],
        ..SpanObject::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_the_size_that_was_asked_for() {
        for size in [160, 200, 682, 683, 684, 4096, 65_536].into_iter().chain(LEAST..1200) {
            assert_eq!(encoded(size).len(), size);
        }
    }
}
