//! Traces of a host: segments and their spans, the headers that join them, and their ids.
//!
//! A [`Segment`] is what one process, or one thread of it, contributes to a trace. It is built span by
//! span and encoded as it grows; [`crate::agent::Agent::report`] takes it. Nothing here knows threads,
//! network or settings.
//!
//! ```
//! use skytls::trace::{Carrier, Layer, Tracer};
//!
//! let tracer = Tracer::new("shop", "shop-1");
//! let mut segment = tracer.segment();
//! let upstream = None::<Carrier>; // Carrier::parse(header) of a request that has one
//! let server = segment.entry("GET:/cart", upstream.as_ref());
//! segment.layer(server, Layer::Http);
//! let client = segment.exit("GET:/price", None, "prices:80");
//! let header = segment.inject(client).format(); // goes with the request as `sw8`
//! assert!(header.is_some_and(|sw8| sw8.starts_with("1-")));
//! segment.end(client);
//! segment.end(server);
//! let encoded = segment.finish();
//! # assert!(!encoded.is_empty());
//! ```

mod carrier;
mod correlation;
mod id;
mod segment;
mod span;
mod wire;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use carrier::Carrier;
pub use correlation::Correlation;
pub use segment::Segment;
pub use span::{Layer, RefKind, Span};

pub(crate) use id::{dashed as random_uuid, hex as random_hex};

use id::Ids;

/// The header that carries a trace from process to process.
pub const SW8: &str = "sw8";
/// The header that carries the correlation context.
pub const SW8_CORRELATION: &str = "sw8-correlation";

/// Makes the segments of one instance of a service. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Shared>);

/// How much one segment may hold. What is beyond is left out, and the segment says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Spans of a segment.
    pub spans: usize,
    /// References of a span.
    pub references: usize,
    /// Logs of a span.
    pub logs: usize,
    /// Tags of a span.
    pub tags: usize,
    /// Characters of an operation's name.
    pub operation: usize,
    /// Characters of any other text.
    pub text: usize,
    /// Bytes of all references, tags and logs of a segment together.
    pub bytes: usize,
}

#[derive(Debug)]
struct Shared {
    service: String,
    instance: String,
    limits: Limits,
    ids: Ids,
}

// === impl Tracer ===

impl Tracer {
    /// A tracer of this instance, with the usual limits.
    pub fn new(service: impl Into<String>, instance: impl Into<String>) -> Self {
        Self::with_limits(service, instance, Limits::default())
    }

    /// A tracer with other limits.
    pub fn with_limits(
        service: impl Into<String>,
        instance: impl Into<String>,
        limits: Limits,
    ) -> Self {
        let (service, instance) = (service.into(), instance.into());
        Self(Arc::new(Shared { service, instance, limits, ids: Ids::new() }))
    }

    /// Begins a segment, and with it a trace, until it is told of an earlier one.
    pub fn segment(&self) -> Segment {
        Segment::new(self.clone())
    }

    /// The name of the service, as it is reported.
    pub fn service(&self) -> &str {
        &self.0.service
    }

    /// The name of the instance.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }
}

// === impl Limits ===

impl Default for Limits {
    /// The Java agent's, and bounds where it has none.
    fn default() -> Self {
        Self {
            spans: 300,
            references: 500,
            logs: 500,
            tags: 256,
            operation: 150,
            text: 16 * 1024,
            bytes: 4 * 1024 * 1024,
        }
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
