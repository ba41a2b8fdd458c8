//! Segments built from C arrive as any encoder of Protocol Buffers would have made them.

mod support;

use prost::Message;
use skytls::protocol::v3::{RefType, SegmentObject, SpanLayer, SpanType};

use support::{Backend, Program, count};

#[test]
fn what_c_has_built_is_what_arrives() {
    let rounds = count("SKYTLS_TEST_SEGMENTS", 300);
    let backend = Backend::start();
    let program = Program::compile("tests/c/segments.c", &[]);
    assert_eq!(program.run(&backend, &["1", &rounds.to_string()]), "");
    let arrived = backend.segments();
    let decoded: Vec<SegmentObject> = arrived
        .iter()
        .map(|(bytes, times)| {
            assert_eq!(*times, 1);
            // Decoding fails for texts that are not UTF-8.
            let segment = SegmentObject::decode(&bytes[..]).expect("the bytes are a SegmentObject");
            assert!(segment.encode_to_vec() == *bytes, "prost encodes otherwise: {segment:?}");
            segment
        })
        .collect();
    assert_eq!(decoded.len() as u32, rounds + 1);
    assert!(decoded.iter().all(|segment| segment.service == "c-test"));
    let texts = decoded.iter().flat_map(|segment| &segment.spans).map(|span| &span.operation_name);
    assert!(texts.clone().any(|text| text.contains('\u{fffd}')), "nothing was repaired");
    assert!(texts.clone().all(|text| text.chars().count() <= 150), "a text was not cut");

    let fixed = decoded.iter().find(|segment| segment.trace_id == "1").expect("the fixed one");
    let [server, client, local] = &fixed.spans[..] else { panic!("{fixed:?}") };
    assert_eq!((server.span_type(), client.span_type()), (SpanType::Entry, SpanType::Exit));
    assert_eq!((server.span_id, server.parent_span_id, server.start_time), (0, -1, 1000));
    assert_eq!((server.component_id, server.span_layer()), (49, SpanLayer::Http));
    assert_eq!(server.tags[0].value, "http://localhost/cart");
    let [from] = &server.refs[..] else { panic!("{server:?}") };
    assert_eq!((from.ref_type(), &*from.parent_trace_segment_id), (RefType::CrossProcess, "2"));
    assert_eq!((from.parent_span_id, &*from.parent_service), (3, "shop"));
    assert_eq!((client.parent_span_id, &*client.peer, client.end_time), (0, "prices:80", 2000));
    assert!(client.is_error && !server.is_error);
    assert_eq!((client.logs[0].time, &*client.logs[0].data[1].value), (1500, "no such price"));
    assert_eq!((&*local.operation_name, local.refs.len()), ("Render.page", 1));
    assert!(local.skip_analysis && local.end_time >= local.start_time);
}
