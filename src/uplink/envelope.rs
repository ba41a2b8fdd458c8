//! The unit of the uplink: an encoded message and what decides whom it may travel with.

use std::fmt;

use http::{HeaderName, HeaderValue};

use crate::protocol::Method;
use crate::protocol::frame::Message;

/// A record in its envelope.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// What it shares with the other records of its stream.
    pub passport: Passport,
    /// The encoded message, compressed or not as it came.
    pub message: Message,
}

/// What all records of one stream have in common. Records travel together only if it is equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Passport {
    /// The method they are reported by.
    pub method: &'static Method,
    /// The metadata that goes with them.
    pub metadata: Metadata,
    /// `grpc-encoding`: how messages marked as compressed are compressed.
    encoding: Option<HeaderValue>,
}

/// Forwarded metadata, in a fixed order. Values do not show in `Debug`: one of them is a token.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata(Vec<(HeaderName, HeaderValue)>);

// === impl Passport ===

impl Passport {
    /// A passport without metadata.
    pub fn new(method: &'static Method) -> Self {
        Self { method, metadata: Metadata::default(), encoding: None }
    }

    /// Sets the metadata that goes with the records.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets the encoding of compressed messages; `identity` is none.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Option<HeaderValue>) -> Self {
        self.encoding = encoding.filter(|encoding| encoding != "identity");
        self
    }

    /// How messages marked as compressed are compressed.
    pub fn encoding(&self) -> Option<&HeaderValue> {
        self.encoding.as_ref()
    }
}

// === impl Metadata ===

impl Metadata {
    /// Adds a value; a name may have several.
    pub fn push(&mut self, name: HeaderName, value: HeaderValue) {
        let at = self.0.partition_point(|(other, _)| other.as_str() <= name.as_str());
        self.0.insert(at, (name, value));
    }

    /// Whether there is a value of this name.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Takes all values of a name out; says whether there were any.
    pub fn remove(&mut self, name: &HeaderName) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, _)| other != name);
        self.0.len() != before
    }

    /// The values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
