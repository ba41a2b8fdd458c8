//! What is said about a span.

use std::borrow::Cow;
use std::ffi::{c_char, c_int};

use skytls::trace::{Layer, RefKind, Segment, Span};

use crate::ffi::guard_void;
use crate::segment::{SKYTLS_NTS, carrier, lossy, skytls_segment, told};

/// Nothing in particular.
pub const SKYTLS_LAYER_UNKNOWN: c_int = 0;
/// A database.
pub const SKYTLS_LAYER_DATABASE: c_int = 1;
/// Calls of procedures.
pub const SKYTLS_LAYER_RPC: c_int = 2;
/// HTTP.
pub const SKYTLS_LAYER_HTTP: c_int = 3;
/// A message queue.
pub const SKYTLS_LAYER_MQ: c_int = 4;
/// A cache.
pub const SKYTLS_LAYER_CACHE: c_int = 5;
/// Functions as a service.
pub const SKYTLS_LAYER_FAAS: c_int = 6;
/// A language model.
pub const SKYTLS_LAYER_GENAI: c_int = 7;

/// Gives the span another name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_operation(
    segment: *mut skytls_segment,
    span: i32,
    operation: *const c_char,
    operation_len: usize,
) {
    // SAFETY: by the caller's contract, as is the text below.
    unsafe {
        change(segment, span, |segment, span| {
            segment.rename(span, &lossy(operation, operation_len));
        });
    }
}

/// Names the other side: a host and port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_peer(
    segment: *mut skytls_segment,
    span: i32,
    peer: *const c_char,
    peer_len: usize,
) {
    // SAFETY: by the caller's contract, as is the text below.
    unsafe { change(segment, span, |segment, span| segment.peer(span, &lossy(peer, peer_len))) }
}

/// Says which framework the span is about, by SkyWalking's number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_component(
    segment: *mut skytls_segment,
    span: i32,
    component: i32,
) {
    // SAFETY: by the caller's contract.
    unsafe { change(segment, span, |segment, span| segment.component(span, component)) }
}

/// Says what kind of system the span is about, a SKYTLS_LAYER_…; other numbers are ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_layer(segment: *mut skytls_segment, span: i32, layer: c_int) {
    let layer = match layer {
        SKYTLS_LAYER_UNKNOWN => Layer::Unknown,
        SKYTLS_LAYER_DATABASE => Layer::Database,
        SKYTLS_LAYER_RPC => Layer::RpcFramework,
        SKYTLS_LAYER_HTTP => Layer::Http,
        SKYTLS_LAYER_MQ => Layer::Mq,
        SKYTLS_LAYER_CACHE => Layer::Cache,
        SKYTLS_LAYER_FAAS => Layer::Faas,
        SKYTLS_LAYER_GENAI => Layer::GenAi,
        _ => return,
    };
    // SAFETY: by the caller's contract.
    unsafe { change(segment, span, |segment, span| segment.layer(span, layer)) }
}

/// Marks the span as failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_error(segment: *mut skytls_segment, span: i32) {
    // SAFETY: by the caller's contract.
    unsafe { change(segment, span, Segment::error) }
}

/// Keeps the span out of the backend's metrics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_skip_analysis(segment: *mut skytls_segment, span: i32) {
    // SAFETY: by the caller's contract.
    unsafe { change(segment, span, Segment::skip_analysis) }
}

/// Adds a tag; `key` ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_tag(
    segment: *mut skytls_segment,
    span: i32,
    key: *const c_char,
    value: *const c_char,
    value_len: usize,
) {
    // SAFETY: by the caller's contract, as are the texts below.
    unsafe {
        change(segment, span, |segment, span| {
            segment.tag(span, &lossy(key, SKYTLS_NTS), &lossy(value, value_len));
        });
    }
}

/// Adds a log of `pairs` keys and values, all of which end in NUL, at a time in milliseconds since 1970, or now
/// for 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_log(
    segment: *mut skytls_segment,
    span: i32,
    time_ms: i64,
    pairs: usize,
    keys: *const *const c_char,
    values: *const *const c_char,
) {
    // As many as a log may sensibly have; a wrong count must not run through memory.
    const MOST: usize = 64;
    if keys.is_null() || values.is_null() {
        return;
    }
    // SAFETY: by the caller's contract, as are the texts below; both arrays have `pairs` elements.
    unsafe {
        change(segment, span, |segment, span| {
            let pair = |at| {
                let (key, value) = (*keys.add(at), *values.add(at));
                (lossy(key, SKYTLS_NTS), lossy(value, SKYTLS_NTS))
            };
            let texts: Vec<(Cow<'_, str>, Cow<'_, str>)> = (0..pairs.min(MOST)).map(pair).collect();
            let pairs: Vec<(&str, &str)> =
                texts.iter().map(|(key, value)| (&**key, &**value)).collect();
            segment.log(span, Some(time_ms).filter(|time| *time > 0), &pairs);
        });
    }
}

/// Says that the span also continues what another request came from, as in a batch of messages. The first
/// reference of a segment decides its trace.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_reference(
    segment: *mut skytls_segment,
    span: i32,
    sw8: *const c_char,
    sw8_len: usize,
) {
    // SAFETY: by the caller's contract, as is the header.
    unsafe {
        change(segment, span, |segment, span| {
            if let Some(from) = carrier(sw8, sw8_len, std::ptr::null(), 0) {
                segment.reference(span, &from, RefKind::CrossProcess);
            }
        });
    }
}

/// Says that the span continues a span of another thread's segment of this process. Nobody may change that
/// segment meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_follow(
    segment: *mut skytls_segment,
    span: i32,
    other: *const skytls_segment,
    other_span: i32,
) {
    if std::ptr::eq(segment, other) {
        return;
    }
    // SAFETY: by the caller's contract, as is the other segment, which is not the same.
    unsafe {
        change(segment, span, |segment, span| {
            if let Some(other) = other.as_ref() {
                let from = other.segment.capture(span_of(other_span));
                segment.reference(span, &from, RefKind::CrossThread);
            }
        });
    }
}

/// Sets the start, in milliseconds since 1970.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_started(
    segment: *mut skytls_segment,
    span: i32,
    time_ms: i64,
) {
    // SAFETY: by the caller's contract.
    unsafe { change(segment, span, |segment, span| segment.started(span, time_ms)) }
}

/// Ends the span at a time in milliseconds since 1970, or now for 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_end(segment: *mut skytls_segment, span: i32, time_ms: i64) {
    // SAFETY: by the caller's contract.
    unsafe {
        change(segment, span, |segment, span| match time_ms {
            0 => segment.end(span),
            time => segment.ended(span, time),
        });
    }
}

/// Copies the header `sw8` that the request of this exit span is to carry: as much as fits, ended by NUL. Gives
/// its length without the NUL, as snprintf does, so that 0 means that there is none, and a length of `size` or
/// more that it was cut. 1024 bytes are enough for usual names.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_sw8(
    segment: *const skytls_segment,
    span: i32,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: by the caller's contract.
    unsafe { told(segment, buffer, size, |segment| segment.inject(span_of(span)).format()) }
}

/// Copies the header `sw8-correlation` that the request of this exit span is to carry, likewise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_span_sw8_correlation(
    segment: *const skytls_segment,
    span: i32,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: by the caller's contract.
    unsafe {
        told(segment, buffer, size, |segment| segment.inject(span_of(span)).correlation.format())
    }
}

/// Does something to a span.
///
/// # Safety
///
/// `segment` is NULL or a segment of this thread.
unsafe fn change(segment: *mut skytls_segment, span: i32, change: impl FnOnce(&mut Segment, Span)) {
    guard_void(|| {
        // SAFETY: by this function's own contract.
        if let Some(segment) = unsafe { segment.as_mut() } {
            change(&mut segment.segment, span_of(span));
        }
    });
}

/// A number that is no span's becomes that of the span beyond the limit, which keeps nothing.
fn span_of(number: i32) -> Span {
    Span::from_index(u32::try_from(number).unwrap_or(u32::MAX))
}
