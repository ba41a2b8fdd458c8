//! Segments for hosts without an encoder of Protocol Buffers: built span by span, then reported.
//!
//! The builder itself is the library's `trace`; this file gives it to C. It never fails: what is wrong is left
//! out, since a host has better things to do than to mind its telemetry.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use skytls::trace::{Carrier, Segment, Span, Tracer};

use crate::agent::skytls_agent;
use crate::error::skytls_error;
use crate::ffi::{c_string, give, guard, guard_on, guard_value, guard_void, null, object};

/// In place of a length: the text ends in NUL. The header has it from `cbindgen.toml`.
pub(crate) const SKYTLS_NTS: usize = usize::MAX;
/// No span. As a parent: the last span that is open, else the first one. Whatever is done to it is done to
/// nothing.
pub const SKYTLS_NO_SPAN: i32 = -1;

/// What one thread, or one request, contributes to a trace. Made by skytls_segment_new(); ended by
/// skytls_segment_report(), or given up by skytls_segment_free(). It belongs to one thread at a time.
///
/// The functions of segments and spans do nothing with NULL as the segment. Texts come with their length, or
/// SKYTLS_NTS; those that are not UTF-8 are repaired, and those that are too long are cut.
pub struct skytls_segment {
    pub(crate) segment: Segment,
}

/// Begins a segment of the agent's instance, and with it a trace, until it is told of an earlier one. In a child,
/// starts the engine as skytls_agent_report() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_new(
    agent: *mut skytls_agent,
    segment: *mut *mut skytls_segment,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |agent: &skytls_agent| {
        if segment.is_null() {
            return Err(null("segment"));
        }
        let begun = match agent.engine()? {
            Some(running) => running.segment(),
            None => Tracer::new("", "").segment(),
        };
        let begun = Box::into_raw(Box::new(skytls_segment { segment: begun }));
        // SAFETY: not NULL, so writable by the caller's contract.
        unsafe { give(segment, "segment", begun) }
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(agent, "agent", err, body) }
}

/// Ends what is still open, hands the segment over and frees it, whether or not there was room for it. Its
/// failures are those of skytls_agent_report().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_report(
    segment: *mut skytls_segment,
    agent: *mut skytls_agent,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = || {
        if segment.is_null() {
            return Err(null("segment"));
        }
        // SAFETY: handed out as a box, and by contract ended once.
        let skytls_segment { segment } = *unsafe { Box::from_raw(segment) };
        // SAFETY: by the caller's contract.
        let agent = unsafe { object(agent, "agent") }?;
        match agent.engine()? {
            Some(running) => running.report_segment(segment),
            None => Ok(()),
        }
    };
    // SAFETY: `err` is NULL or writable by the caller's contract.
    unsafe { guard(err, body) }
}

/// Gives a segment up; NULL is nothing to give up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_free(segment: *mut skytls_segment) {
    guard_void(|| {
        if !segment.is_null() {
            // SAFETY: handed out as a box, and by contract ended once.
            drop(unsafe { Box::from_raw(segment) });
        }
    });
}

/// Begins a span for a request that came in. `sw8` and `correlation` are the headers of those names, which
/// the span then continues; NULL where there is none. A header that is none is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_entry(
    segment: *mut skytls_segment,
    operation: *const c_char,
    operation_len: usize,
    sw8: *const c_char,
    sw8_len: usize,
    correlation: *const c_char,
    correlation_len: usize,
) -> i32 {
    // SAFETY: by the caller's contract, as is each text below.
    unsafe {
        begun(segment, |segment| {
            let from = carrier(sw8, sw8_len, correlation, correlation_len);
            segment.entry(&lossy(operation, operation_len), from.as_ref())
        })
    }
}

/// Begins a span for a request that goes out to `peer`, a host and port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_exit(
    segment: *mut skytls_segment,
    operation: *const c_char,
    operation_len: usize,
    peer: *const c_char,
    peer_len: usize,
    parent: i32,
) -> i32 {
    // SAFETY: by the caller's contract, as is each text below.
    unsafe {
        begun(segment, |segment| {
            let peer = lossy(peer, peer_len);
            segment.exit(&lossy(operation, operation_len), parent_of(parent), &peer)
        })
    }
}

/// Begins a span for work within the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_local(
    segment: *mut skytls_segment,
    operation: *const c_char,
    operation_len: usize,
    parent: i32,
) -> i32 {
    // SAFETY: by the caller's contract, as is the text below.
    unsafe {
        begun(segment, |segment| segment.local(&lossy(operation, operation_len), parent_of(parent)))
    }
}

/// Copies the id of the trace; see skytls_span_sw8() for `buffer` and what is returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_trace_id(
    segment: *const skytls_segment,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: by the caller's contract.
    unsafe { told(segment, buffer, size, |segment| Some(segment.trace_id().to_owned())) }
}

/// Copies the id of the segment; see skytls_span_sw8() for `buffer` and what is returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_id(
    segment: *const skytls_segment,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: by the caller's contract.
    unsafe { told(segment, buffer, size, |segment| Some(segment.segment_id().to_owned())) }
}

/// Puts a pair into the correlation context, which travels with the trace: three pairs, values of 128
/// characters. An empty value takes the key out. Gives 1, or 0 if there is no room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_correlate(
    segment: *mut skytls_segment,
    key: *const c_char,
    value: *const c_char,
    value_len: usize,
) -> c_int {
    guard_value(0, || {
        // SAFETY: by the caller's contract.
        let Some(segment) = (unsafe { segment.as_mut() }) else { return 0 };
        // SAFETY: as above, for both.
        let (key, value) = unsafe { (lossy(key, SKYTLS_NTS), lossy(value, value_len)) };
        segment.segment.correlation_mut().put(key, value).into()
    })
}

/// Copies a value of the correlation context; see skytls_span_sw8() for `buffer` and what is returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_correlation(
    segment: *const skytls_segment,
    key: *const c_char,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: by the caller's contract, as is the key.
    unsafe {
        told(segment, buffer, size, |segment| {
            let key = lossy(key, SKYTLS_NTS);
            segment.correlation().get(&key).map(str::to_owned)
        })
    }
}

/// Copies the segment, encoded as a SegmentObject, for hosts that bring it there themselves: as many of the bytes
/// as `size` allows. Gives how many there are. What is still open is taken to end now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_segment_encode(
    segment: *const skytls_segment,
    buffer: *mut u8,
    size: usize,
) -> usize {
    guard_value(0, || {
        // SAFETY: by the caller's contract.
        let Some(segment) = (unsafe { segment.as_ref() }) else { return 0 };
        let encoded = segment.segment.clone().finish();
        if !buffer.is_null() {
            // SAFETY: the buffer has `size` bytes by the caller's contract, and is nothing of ours.
            unsafe { ptr::copy_nonoverlapping(encoded.as_ptr(), buffer, size.min(encoded.len())) };
        }
        encoded.len()
    })
}

/// A text of the host's; NULL is the empty one.
///
/// # Safety
///
/// `text` is NULL, or has `len` bytes, or ends in NUL if `len` is [`SKYTLS_NTS`], that do not change for `'a`.
pub(crate) unsafe fn lossy<'a>(text: *const c_char, len: usize) -> Cow<'a, str> {
    if text.is_null() || (len != SKYTLS_NTS && len > isize::MAX as usize) {
        return Cow::Borrowed("");
    }
    let bytes = match len {
        // SAFETY: not NULL, and ends in NUL by this function's own contract.
        SKYTLS_NTS => unsafe { CStr::from_ptr(text) }.to_bytes(),
        // SAFETY: not NULL, and so long by this function's own contract.
        len => unsafe { std::slice::from_raw_parts(text.cast(), len) },
    };
    String::from_utf8_lossy(bytes)
}

/// What the headers of a request say of where it comes from.
///
/// # Safety
///
/// As [`lossy`], for both texts.
pub(crate) unsafe fn carrier(
    sw8: *const c_char,
    sw8_len: usize,
    correlation: *const c_char,
    correlation_len: usize,
) -> Option<Carrier> {
    // SAFETY: by this function's own contract.
    let (sw8, correlation) = unsafe { (lossy(sw8, sw8_len), lossy(correlation, correlation_len)) };
    let carrier = Carrier::parse(&sw8)?;
    Some(if correlation.is_empty() { carrier } else { carrier.with_correlation(&correlation) })
}

/// Copies a text into a buffer of the host's, as snprintf does.
///
/// # Safety
///
/// `segment` is NULL or a segment of this thread; `buffer` is NULL or has `size` bytes.
pub(crate) unsafe fn told(
    segment: *const skytls_segment,
    buffer: *mut c_char,
    size: usize,
    choose: impl FnOnce(&Segment) -> Option<String>,
) -> usize {
    guard_value(0, || {
        // SAFETY: by this function's own contract.
        let text = unsafe { segment.as_ref() }.and_then(|segment| choose(&segment.segment));
        let text = c_string(&text.unwrap_or_default());
        if !buffer.is_null() && size > 0 {
            let fits = text.as_bytes().len().min(size - 1);
            // SAFETY: the buffer has room for `fits` bytes and the NUL, and is nothing of ours.
            unsafe {
                ptr::copy_nonoverlapping(text.as_ptr(), buffer, fits);
                buffer.add(fits).write(0);
            }
        }
        text.as_bytes().len()
    })
}

/// The number of a span that was begun.
///
/// # Safety
///
/// `segment` is NULL or a segment of this thread.
unsafe fn begun(segment: *mut skytls_segment, begin: impl FnOnce(&mut Segment) -> Span) -> i32 {
    guard_value(SKYTLS_NO_SPAN, || {
        // SAFETY: by this function's own contract.
        let segment = unsafe { segment.as_mut() };
        let span = segment.map(|segment| begin(&mut segment.segment));
        span.and_then(|span| i32::try_from(span.index()).ok()).unwrap_or(SKYTLS_NO_SPAN)
    })
}

fn parent_of(number: i32) -> Option<Span> {
    u32::try_from(number).ok().map(Span::from_index)
}
