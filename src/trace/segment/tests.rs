//! A segment's bytes are those that prost makes of the same content, whatever the content.

use prost::Message;

use super::*;
use crate::trace::Limits;

fn key_value(key: &str, value: &str) -> v3::KeyStringValuePair {
    v3::KeyStringValuePair { key: key.to_owned(), value: value.to_owned() }
}

fn tracer() -> Tracer {
    Tracer::new("shop|ns|", "shop-1@10.0.0.1")
}

fn decoded(segment: Segment) -> v3::SegmentObject {
    v3::SegmentObject::decode(segment.finish()).unwrap()
}

fn carrier() -> Carrier {
    Carrier {
        trace_id: "trace".into(),
        segment_id: "segment".into(),
        span_id: 7,
        service: "front".into(),
        instance: "front-1".into(),
        endpoint: "/buy".into(),
        address: "shop:80".into(),
        ..Carrier::default()
    }
}

/// A text of random length: empty, short, over one and two bytes of length, and beyond ASCII.
fn text(random: &mut fastrand::Rng) -> String {
    let length = [0, 1, 5, 127, 128, 300, 20_000][random.usize(..7)];
    (0..length).map(|_| random.char(..)).collect()
}

#[test]
fn the_bytes_are_those_of_prost_whatever_the_content() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits { text: 1000, ..Limits::default() };
        let tracer = Tracer::with_limits("shop", text(&mut random), limits);
        let mut segment = tracer.segment();
        let mut expected = v3::SegmentObject {
            trace_id: segment.trace_id().to_owned(),
            trace_segment_id: segment.segment_id().to_owned(),
            service: "shop".to_owned(),
            service_instance: tracer.instance().to_owned(),
            ..v3::SegmentObject::default()
        };
        let cut = |text: &str, longest| text.chars().take(longest).collect::<String>();
        for id in 0..random.i32(0..6) {
            let (operation, peer) = (text(&mut random), text(&mut random));
            let kind = random.i32(0..3);
            let parent = if id == 0 { None } else { Some(Span(random.u32(0..id as u32))) };
            let span = match kind {
                1 => segment.exit(&operation, parent, &peer),
                _ => segment.local(&operation, parent),
            };
            let mut object = v3::SpanObject {
                span_id: id,
                parent_span_id: parent.map_or(-1, |parent| parent.0 as i32),
                start_time: random.i64(..),
                end_time: random.i64(..),
                operation_name: cut(&operation, 150),
                peer: if kind == 1 { cut(&peer, 1000) } else { String::new() },
                span_type: if kind == 1 { 1 } else { 2 },
                component_id: random.i32(..),
                is_error: random.bool(),
                skip_analysis: random.bool(),
                ..v3::SpanObject::default()
            };
            segment.started(span, object.start_time);
            segment.ended(span, object.end_time);
            segment.component(span, object.component_id);
            if object.is_error {
                segment.error(span);
            }
            if object.skip_analysis {
                segment.skip_analysis(span);
            }
            if random.bool() {
                segment.layer(span, Layer::Cache);
                object.span_layer = 5;
            }
            for _ in 0..random.usize(0..3) {
                let (key, value) = (text(&mut random), text(&mut random));
                segment.tag(span, &key, &value);
                object.tags.push(key_value(&cut(&key, 1000), &cut(&value, 1000)));
            }
            for _ in 0..random.usize(0..3) {
                let (time, key, value) = (random.i64(..), text(&mut random), text(&mut random));
                segment.log(span, Some(time), &[(&key, &value), ("", "")]);
                let data = vec![key_value(&cut(&key, 1000), &cut(&value, 1000)), key_value("", "")];
                object.logs.push(v3::Log { time, data });
            }
            for _ in 0..random.usize(0..3) {
                let from = Carrier {
                    trace_id: text(&mut random),
                    segment_id: text(&mut random),
                    span_id: random.i32(..),
                    endpoint: text(&mut random),
                    ..Carrier::default()
                };
                segment.reference(span, &from, RefKind::CrossThread);
                object.refs.push(v3::SegmentReference {
                    ref_type: 1,
                    trace_id: cut(&from.trace_id, 1000),
                    parent_trace_segment_id: cut(&from.segment_id, 1000),
                    parent_span_id: from.span_id,
                    parent_endpoint: cut(&from.endpoint, 1000),
                    ..v3::SegmentReference::default()
                });
            }
            expected.spans.push(object);
        }
        expected.trace_id = segment.trace_id().to_owned();
        assert!(segment.finish() == expected.encode_to_vec(), "seed {seed}");
    }
}

#[test]
fn a_request_that_comes_in_continues_the_trace_and_passes_it_on() {
    let mut segment = tracer().segment();
    let own = segment.trace_id().to_owned();
    let upstream = carrier().with_correlation("dGVuYW50:Ymx1ZQ==");
    let server = segment.entry("GET:/cart", Some(&upstream));
    assert_eq!(segment.trace_id(), "trace");
    assert_ne!(segment.trace_id(), own);
    let client = segment.exit("GET:/price", None, "prices:80");
    let sent = segment.inject(client);
    assert_eq!(
        sent,
        Carrier::parse(&sent.format().unwrap()).unwrap().with_correlation("dGVuYW50:Ymx1ZQ==")
    );
    assert_eq!((&*sent.trace_id, sent.span_id, &*sent.address), ("trace", 1, "prices:80"));
    assert_eq!((&*sent.service, &*sent.instance), ("shop|ns|", "shop-1@10.0.0.1"));
    assert_eq!((&*sent.endpoint, sent.segment_id.as_str()), ("GET:/cart", segment.segment_id()));
    segment.end(client);
    segment.end(server);
    let object = decoded(segment);
    assert_eq!((object.spans[0].span_type, object.spans[1].span_type), (0, 1));
    assert_eq!((object.spans[0].parent_span_id, object.spans[1].parent_span_id), (-1, 0));
    let reference = &object.spans[0].refs[0];
    assert_eq!((&*reference.parent_trace_segment_id, reference.parent_span_id), ("segment", 7));
    assert_eq!((&*reference.parent_service, &*reference.parent_endpoint), ("front", "/buy"));
    assert_eq!((reference.ref_type, &*reference.network_address_used_at_peer), (0, "shop:80"));
}

#[test]
fn another_thread_goes_on_with_a_segment_of_its_own() {
    let tracer = tracer();
    let mut first = tracer.segment();
    let root = first.entry("GET:/", None);
    let mut second = tracer.segment();
    let work = second.local("Thread/run", None);
    second.reference(work, &first.capture(root), RefKind::CrossThread);
    // The first reference decides, later ones only point.
    second.reference(work, &carrier(), RefKind::CrossThread);
    assert_eq!(second.trace_id(), first.trace_id());
    assert_ne!(second.segment_id(), first.segment_id());
    let context = second.context(work);
    assert_eq!((&*context.trace_id, context.span_id), (first.trace_id(), 0));
    let references = decoded(second).spans.remove(0).refs;
    assert_eq!((references.len(), references[0].ref_type), (2, 1));
    assert!(references[0].network_address_used_at_peer.is_empty());
}

#[test]
fn a_span_without_a_parent_hangs_below_the_last_open_one() {
    let mut segment = tracer().segment();
    let root = segment.entry("root", None);
    let open = segment.local("open", None);
    let done = segment.local("done", None);
    segment.end(done);
    segment.local("a", None);
    segment.local("b", Some(root));
    segment.end(open);
    let parents: Vec<i32> = decoded(segment).spans.iter().map(|s| s.parent_span_id).collect();
    assert_eq!(parents, [-1, 0, 1, 1, 0]);
}

#[test]
fn what_is_still_open_ends_with_the_segment() {
    let mut segment = tracer().segment();
    let before = now();
    segment.entry("root", None);
    let span = decoded(segment).spans.remove(0);
    assert!(
        before <= span.start_time && span.start_time <= span.end_time && span.end_time <= now()
    );
}

#[test]
fn what_is_beyond_the_limits_is_left_out_and_the_segment_says_so() {
    let limits = Limits { spans: 2, references: 1, logs: 1, tags: 1, ..Limits::default() };
    let tracer = Tracer::with_limits("s", "i", limits);
    let within = |segment: &mut Segment| {
        let root = segment.entry("root", Some(&carrier()));
        segment.tag(root, "a", "b");
        segment.log(root, None, &[("a", "b")]);
        (root, segment.local("second", None))
    };
    let mut segment = tracer.segment();
    within(&mut segment);
    assert!(!decoded(segment).is_size_limited);

    type Excess = fn(&mut Segment, Span);
    let excess: [Excess; 4] = [
        |segment, _| {
            let third = segment.local("third", None);
            segment.tag(third, "a", "b");
            segment.end(third);
            assert_eq!(segment.inject(third).span_id, 1);
        },
        |segment, root| segment.reference(root, &carrier(), RefKind::CrossProcess),
        |segment, root| segment.tag(root, "c", "d"),
        |segment, root| segment.log(root, None, &[("c", "d")]),
    ];
    for exceed in excess {
        let mut segment = tracer.segment();
        let (root, _) = within(&mut segment);
        exceed(&mut segment, root);
        let object = decoded(segment);
        assert!(object.is_size_limited);
        let root = &object.spans[0];
        assert_eq!((root.refs.len(), root.tags.len(), root.logs.len()), (1, 1, 1));
        assert_eq!(object.spans.len(), 2);
    }
}

#[test]
fn a_segment_is_bounded_in_bytes() {
    let mut segment = tracer().segment();
    let root = segment.entry("root", None);
    let long = "x".repeat(1 << 20);
    for span in 0..20 {
        let span = segment.local(&format!("span {span}"), Some(root));
        for _ in 0..15 {
            segment.tag(span, &long, &long);
        }
    }
    let encoded = segment.finish();
    assert!(encoded.len() < (4 << 20) + 64 * 1024, "{}", encoded.len());
    assert!(v3::SegmentObject::decode(encoded).unwrap().is_size_limited);
}
