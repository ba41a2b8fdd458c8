//! One segment: its spans while they grow, and their encoding.
//!
//! References, tags and logs are encoded when they are added, the rest at the end, into the bytes of a
//! `SegmentObject` as any other encoder makes them.

use bytes::Bytes;

use super::span::{Growing, LOGS, List, REFERENCES, TAGS};
use super::wire::{nested, number, pair, text};
use super::{Carrier, Correlation, Layer, RefKind, Span, Tracer, now};
use crate::protocol::v3;

/// A segment that grows. Finish it, or it is lost.
#[derive(Debug, Clone)]
pub struct Segment {
    tracer: Tracer,
    trace_id: String,
    segment_id: String,
    spans: Vec<Growing>,
    correlation: Correlation,
    /// The trace id came from elsewhere; later references do not change it.
    joined: bool,
    /// Something was left out.
    limited: bool,
    /// Bytes of all references, tags and logs.
    bytes: usize,
}

// === impl Segment ===

impl Segment {
    pub(super) fn new(tracer: Tracer) -> Self {
        let ids = &tracer.0.ids;
        Self {
            trace_id: ids.next(),
            segment_id: ids.next(),
            tracer,
            spans: Vec::new(),
            correlation: Correlation::default(),
            joined: false,
            limited: false,
            bytes: 0,
        }
    }

    /// The trace, which the first reference may still change.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// This segment.
    pub fn segment_id(&self) -> &str {
        &self.segment_id
    }

    /// What the host sends along with the trace.
    pub fn correlation(&self) -> &Correlation {
        &self.correlation
    }

    /// What the host sends along with the trace, to be added to.
    pub fn correlation_mut(&mut self) -> &mut Correlation {
        &mut self.correlation
    }

    /// Begins a span for a request that came in; it continues the trace of `from`.
    pub fn entry(&mut self, operation: &str, from: Option<&Carrier>) -> Span {
        let span = self.begin(v3::SpanType::Entry, operation, None, "");
        if let Some(from) = from {
            self.reference(span, from, RefKind::CrossProcess);
            if self.correlation == Correlation::default() {
                self.correlation = from.correlation.clone();
            }
        }
        span
    }

    /// Begins a span for a request that goes out to `peer`, below `parent` or the last span that is
    /// open.
    pub fn exit(&mut self, operation: &str, parent: Option<Span>, peer: &str) -> Span {
        self.begin(v3::SpanType::Exit, operation, parent, peer)
    }

    /// Begins a span for work within the process, below `parent` or the last span that is open.
    pub fn local(&mut self, operation: &str, parent: Option<Span>) -> Span {
        self.begin(v3::SpanType::Local, operation, parent, "")
    }

    /// Says where the span comes from. The first reference of a segment decides its trace; a span may
    /// have several, when it works off a batch.
    pub fn reference(&mut self, span: Span, from: &Carrier, kind: RefKind) {
        if self.spans.get(span.0 as usize).is_none() {
            return;
        }
        if !self.joined && !from.trace_id.is_empty() {
            self.joined = true;
            self.trace_id.clone_from(&from.trace_id);
        }
        let most = self.tracer.0.limits.references;
        let longest = self.tracer.0.limits.text;
        self.add(
            span,
            most,
            |span| &mut span.references,
            |out| {
                nested(out, REFERENCES, |out| {
                    number(out, 1, kind as i64);
                    text(out, 2, cut(&from.trace_id, longest));
                    text(out, 3, cut(&from.segment_id, longest));
                    number(out, 4, from.span_id.into());
                    text(out, 5, cut(&from.service, longest));
                    text(out, 6, cut(&from.instance, longest));
                    text(out, 7, cut(&from.endpoint, longest));
                    text(out, 8, cut(&from.address, longest));
                });
            },
        );
    }

    /// What the request of an exit span is to carry.
    pub fn inject(&self, span: Span) -> Carrier {
        let peer = self.spans.get(span.0 as usize).map_or("", |span| &span.peer);
        Carrier { address: peer.to_owned(), ..self.capture(span) }
    }

    /// What another thread needs to go on from here; see [`reference`](Self::reference).
    pub fn capture(&self, span: Span) -> Carrier {
        Carrier {
            trace_id: self.trace_id.clone(),
            segment_id: self.segment_id.clone(),
            // A span beyond the limit is not reported: its nearest ancestor stands for it.
            span_id: self.nearest(span),
            service: self.tracer.service().to_owned(),
            instance: self.tracer.instance().to_owned(),
            endpoint: self.endpoint().to_owned(),
            address: String::new(),
            correlation: self.correlation.clone(),
        }
    }

    /// What joins a log line to the span.
    pub fn context(&self, span: Span) -> v3::TraceContext {
        v3::TraceContext {
            trace_id: self.trace_id.clone(),
            trace_segment_id: self.segment_id.clone(),
            span_id: self.nearest(span),
        }
    }

    /// Gives the span another name.
    pub fn rename(&mut self, span: Span, operation: &str) {
        let longest = self.tracer.0.limits.operation;
        self.change(span, |span| cut(operation, longest).clone_into(&mut span.operation));
    }

    /// Names the other side.
    pub fn peer(&mut self, span: Span, peer: &str) {
        let longest = self.tracer.0.limits.text;
        self.change(span, |span| cut(peer, longest).clone_into(&mut span.peer));
    }

    /// Says which framework the span is about, by SkyWalking's number.
    pub fn component(&mut self, span: Span, component: i32) {
        self.change(span, |span| span.component = component);
    }

    /// Says what kind of system the span is about.
    pub fn layer(&mut self, span: Span, layer: Layer) {
        self.change(span, |span| span.layer = layer);
    }

    /// Marks the span as failed.
    pub fn error(&mut self, span: Span) {
        self.change(span, |span| span.error = true);
    }

    /// Keeps the span out of the backend's metrics.
    pub fn skip_analysis(&mut self, span: Span) {
        self.change(span, |span| span.skip_analysis = true);
    }

    /// Adds a tag.
    pub fn tag(&mut self, span: Span, key: &str, value: &str) {
        let (most, longest) = (self.tracer.0.limits.tags, self.tracer.0.limits.text);
        self.add(
            span,
            most,
            |span| &mut span.tags,
            |out| {
                pair(out, TAGS, cut(key, longest), cut(value, longest));
            },
        );
    }

    /// Adds a log line of pairs, at a time in milliseconds since the epoch, or now.
    pub fn log(&mut self, span: Span, time: Option<i64>, pairs: &[(&str, &str)]) {
        let (most, longest) = (self.tracer.0.limits.logs, self.tracer.0.limits.text);
        let time = time.unwrap_or_else(now);
        self.add(
            span,
            most,
            |span| &mut span.logs,
            |out| {
                nested(out, LOGS, |out| {
                    number(out, 1, time);
                    for (key, value) in pairs {
                        pair(out, 2, cut(key, longest), cut(value, longest));
                    }
                });
            },
        );
    }

    /// Sets the start, in milliseconds since the epoch.
    pub fn started(&mut self, span: Span, time: i64) {
        self.change(span, |span| span.start = time);
    }

    /// Ends the span at a time in milliseconds since the epoch.
    pub fn ended(&mut self, span: Span, time: i64) {
        self.change(span, |span| span.end = Some(time));
    }

    /// Ends the span.
    pub fn end(&mut self, span: Span) {
        self.ended(span, now());
    }

    /// Ends what is still open and gives the encoded `SegmentObject`.
    pub fn finish(self) -> Bytes {
        let end = now();
        let texts: usize =
            self.spans.iter().map(|span| span.operation.len() + span.peer.len()).sum();
        let names = self.trace_id.len() + self.segment_id.len();
        let mut out = Vec::with_capacity(self.bytes + texts + names + 64 * self.spans.len() + 160);
        text(&mut out, 1, &self.trace_id);
        text(&mut out, 2, &self.segment_id);
        for (id, span) in self.spans.iter().enumerate() {
            // There are at most as many as `begin` could give an id.
            nested(&mut out, 3, |out| span.encode(id as i64, end, out));
        }
        text(&mut out, 4, self.tracer.service());
        text(&mut out, 5, self.tracer.instance());
        number(&mut out, 6, self.limited.into());
        out.into()
    }

    fn begin(
        &mut self,
        kind: v3::SpanType,
        operation: &str,
        parent: Option<Span>,
        peer: &str,
    ) -> Span {
        let limits = &self.tracer.0.limits;
        let parent = match parent {
            Some(parent) => self.nearest(parent),
            None => self.spans.iter().rposition(|span| span.end.is_none()).map_or(
                // Nothing is open: the first is the root, and later ones hang below it.
                if self.spans.is_empty() { -1 } else { 0 },
                |open| i32::try_from(open).unwrap_or_default(),
            ),
        };
        let id = u32::try_from(self.spans.len()).ok().filter(|id| *id < u32::MAX >> 1);
        let Some(id) = id.filter(|_| self.spans.len() < limits.spans) else {
            self.limited = true;
            return Span(u32::MAX);
        };
        self.spans.push(Growing {
            kind,
            parent,
            start: now(),
            end: None,
            operation: cut(operation, limits.operation).to_owned(),
            peer: cut(peer, limits.text).to_owned(),
            layer: Layer::Unknown,
            component: 0,
            error: false,
            skip_analysis: false,
            references: List::default(),
            tags: List::default(),
            logs: List::default(),
        });
        Span(id)
    }

    /// The id of the span, or of one that stands for it.
    fn nearest(&self, span: Span) -> i32 {
        let known = (span.0 as usize) < self.spans.len();
        let open = || self.spans.iter().rposition(|span| span.end.is_none()).unwrap_or_default();
        let id = if known { span.0 as usize } else { open() };
        i32::try_from(id).unwrap_or_default()
    }

    /// The endpoint of this segment: its first entry, else its first span.
    fn endpoint(&self) -> &str {
        let entry = self.spans.iter().find(|span| span.kind == v3::SpanType::Entry);
        entry.or(self.spans.first()).map_or("", |span| &span.operation)
    }

    fn change(&mut self, span: Span, change: impl FnOnce(&mut Growing)) {
        if let Some(span) = self.spans.get_mut(span.0 as usize) {
            change(span);
        }
    }

    /// Adds an element to one of the span's lists, within the bounds.
    fn add(
        &mut self,
        span: Span,
        most: usize,
        list: impl FnOnce(&mut Growing) -> &mut List,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(span) = self.spans.get_mut(span.0 as usize) else { return };
        let list = list(span);
        if list.count >= most {
            self.limited = true;
            return;
        }
        let before = list.encoded.len();
        encode(&mut list.encoded);
        let added = list.encoded.len() - before;
        if self.bytes + added > self.tracer.0.limits.bytes {
            list.encoded.truncate(before);
            self.limited = true;
            return;
        }
        list.count += 1;
        self.bytes += added;
    }
}

/// The first characters of a text.
fn cut(text: &str, longest: usize) -> &str {
    // Most are shorter in bytes already.
    if text.len() <= longest {
        return text;
    }
    text.char_indices().nth(longest).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests;
