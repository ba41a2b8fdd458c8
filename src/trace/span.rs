//! One span: what it is about, while it grows, and its encoding.

use super::wire::{number, text};
use crate::protocol::v3;

/// A span of the segment that made it. One beyond the limit takes everything and keeps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span(pub(super) u32);

/// What kind of system a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Layer {
    /// Nothing in particular.
    #[default]
    Unknown = 0,
    /// A database.
    Database = 1,
    /// Calls of procedures.
    RpcFramework = 2,
    /// HTTP.
    Http = 3,
    /// A message queue.
    Mq = 4,
    /// A cache.
    Cache = 5,
    /// Functions as a service.
    Faas = 6,
    /// A language model.
    GenAi = 7,
}

/// How a segment hangs together with an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefKind {
    /// By a call from another process.
    CrossProcess = 0,
    /// By work handed to another thread.
    CrossThread = 1,
}

#[derive(Debug, Clone)]
pub(super) struct Growing {
    pub(super) kind: v3::SpanType,
    pub(super) parent: i32,
    pub(super) start: i64,
    /// `None` while the span is open.
    pub(super) end: Option<i64>,
    pub(super) operation: String,
    pub(super) peer: String,
    pub(super) layer: Layer,
    pub(super) component: i32,
    pub(super) error: bool,
    pub(super) skip_analysis: bool,
    pub(super) references: List,
    pub(super) tags: List,
    pub(super) logs: List,
}

/// Encoded elements of a repeated field.
#[derive(Debug, Clone, Default)]
pub(super) struct List {
    pub(super) encoded: Vec<u8>,
    pub(super) count: usize,
}

// The fields of `SpanObject` whose elements are encoded early.
pub(super) const REFERENCES: u32 = 5;
pub(super) const TAGS: u32 = 12;
pub(super) const LOGS: u32 = 13;

// === impl Span ===

impl Span {
    /// The span as a number, for those who cannot keep a `Span`.
    pub fn index(self) -> u32 {
        self.0
    }

    /// The span of such a number.
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }
}

// === impl Layer ===

impl Layer {
    /// The layer of this number, as the protocol counts them.
    pub fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Unknown,
            1 => Self::Database,
            2 => Self::RpcFramework,
            3 => Self::Http,
            4 => Self::Mq,
            5 => Self::Cache,
            6 => Self::Faas,
            7 => Self::GenAi,
            _ => return None,
        })
    }
}

// === impl Growing ===

impl Growing {
    /// Encodes the span under its id; one that is still open ends at `end`.
    pub(super) fn encode(&self, id: i64, end: i64, out: &mut Vec<u8>) {
        number(out, 1, id);
        number(out, 2, self.parent.into());
        number(out, 3, self.start);
        number(out, 4, self.end.unwrap_or(end));
        out.extend_from_slice(&self.references.encoded);
        text(out, 6, &self.operation);
        text(out, 7, &self.peer);
        number(out, 8, self.kind as i64);
        number(out, 9, self.layer as i64);
        number(out, 10, self.component.into());
        number(out, 11, self.error.into());
        out.extend_from_slice(&self.tags.encoded);
        out.extend_from_slice(&self.logs.encoded);
        number(out, 14, self.skip_analysis.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_the_numbers_of_the_protocol() {
        let known = (0..100).filter_map(|number| Some((number, Layer::from_number(number)?)));
        for (number, layer) in known {
            assert_eq!(layer as i32, number);
        }
        let of_protocol = (0..100).filter(|number| v3::SpanLayer::try_from(*number).is_ok());
        assert!(of_protocol.eq((0..100).filter(|number| Layer::from_number(*number).is_some())));
        assert_eq!(v3::SpanLayer::GenAi as i32, Layer::GenAi as i32);
    }
}
