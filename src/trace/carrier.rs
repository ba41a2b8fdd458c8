//! What one process tells the next about the trace: the header `sw8`, version 3.
//!
//! Eight fields joined by `-`, all texts in base64. A header that is not exactly that is ignored, as
//! SkyWalking's agents do it: a broken header must not break a request.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::Correlation;

/// Where a trace comes from: one span of one segment of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carrier {
    /// The trace.
    pub trace_id: String,
    /// The segment of the parent.
    pub segment_id: String,
    /// The span of the parent.
    pub span_id: i32,
    /// The parent's service.
    pub service: String,
    /// The parent's instance.
    pub instance: String,
    /// The endpoint of the parent that the trace came in by.
    pub endpoint: String,
    /// The address that the parent dialled.
    pub address: String,
    /// What the host sends along; a header of its own.
    pub correlation: Correlation,
}

/// Standard base64; padding is written, but others need not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Four times what the protocol allows.
const LONGEST: usize = 8 * 1024;

// === impl Carrier ===

impl Carrier {
    /// Reads the value of `sw8`; `None` if it is anything else.
    pub fn parse(sw8: &str) -> Option<Self> {
        if sw8.len() > LONGEST {
            return None;
        }
        let fields: Vec<&str> = sw8.split('-').collect();
        // The first field, whether the trace is sampled, is ignored by every agent.
        let [_, trace_id, segment_id, span_id, service, instance, endpoint, address] = fields[..]
        else {
            return None;
        };
        let text = |field| decode(field).filter(|text| !text.is_empty());
        Some(Self {
            trace_id: text(trace_id)?,
            segment_id: text(segment_id)?,
            span_id: span_id.parse().ok()?,
            service: text(service)?,
            instance: text(instance)?,
            endpoint: text(endpoint)?,
            address: text(address)?,
            correlation: Correlation::default(),
        })
    }

    /// Adds what `sw8-correlation` says.
    #[must_use]
    pub fn with_correlation(mut self, header: &str) -> Self {
        self.correlation = Correlation::parse(header);
        self
    }

    /// The value of `sw8`; `None` while a field is empty.
    pub fn format(&self) -> Option<String> {
        let texts = [&self.trace_id, &self.segment_id, &self.service, &self.instance];
        let texts = texts.into_iter().chain([&self.endpoint, &self.address]);
        if texts.into_iter().any(String::is_empty) || self.span_id < 0 {
            return None;
        }
        Some(format!(
            "1-{}-{}-{}-{}-{}-{}-{}",
            encode(&self.trace_id),
            encode(&self.segment_id),
            self.span_id,
            encode(&self.service),
            encode(&self.instance),
            encode(&self.endpoint),
            encode(&self.address)
        ))
    }
}

pub(super) fn encode(text: &str) -> String {
    BASE64.encode(text)
}

pub(super) fn decode(text: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of SkyWalking's documentation of the header.
    const DOCUMENTED: &str =
        "1-TRACEID-SEGMENTID-3-PARENT_SERVICE-PARENT_INSTANCE-PARENT_ENDPOINT-IPPORT";

    fn documented() -> (String, Carrier) {
        let carrier = Carrier {
            trace_id: "TRACEID".into(),
            segment_id: "SEGMENTID".into(),
            span_id: 3,
            service: "PARENT_SERVICE".into(),
            instance: "PARENT_INSTANCE".into(),
            endpoint: "PARENT_ENDPOINT".into(),
            address: "IPPORT".into(),
            ..Carrier::default()
        };
        let text = |part: &str| match part {
            "1" | "3" => part.to_owned(),
            part => encode(part),
        };
        (DOCUMENTED.split('-').map(text).collect::<Vec<_>>().join("-"), carrier)
    }

    #[test]
    fn the_documented_header_is_read_and_written() {
        let (header, carrier) = documented();
        assert_eq!(Carrier::parse(&header).as_ref(), Some(&carrier));
        assert_eq!(carrier.format(), Some(header));
    }

    #[test]
    fn a_header_of_the_java_agents_own_tests_is_read() {
        let header =
            "1-My40LjU=-MS4yLjM=-4-c2VydmljZQ==-aW5zdGFuY2U=-L2FwcA==-MTI3LjAuMC4xOjgwODA=";
        let carrier = Carrier::parse(header).unwrap();
        assert_eq!(
            (&*carrier.trace_id, &*carrier.segment_id, carrier.span_id),
            ("3.4.5", "1.2.3", 4)
        );
        assert_eq!((&*carrier.service, &*carrier.instance), ("service", "instance"));
        assert_eq!((&*carrier.endpoint, &*carrier.address), ("/app", "127.0.0.1:8080"));
        assert_eq!(carrier.format().as_deref(), Some(header));
        // Not every agent pads.
        assert_eq!(Carrier::parse(&header.replace('=', "")), Some(carrier));
    }

    #[test]
    fn what_is_not_a_whole_header_is_ignored() {
        let (header, _) = documented();
        let parts: Vec<&str> = header.split('-').collect();
        let mut wrong = vec![
            String::new(),
            "1".to_owned(),
            header.clone() + "-",
            parts[..7].join("-"),
            header.replace("-3-", "-x-"),
            header.replace("-3-", "-99999999999-"),
            "1-".repeat(LONGEST),
        ];
        for at in [1, 2, 4, 5, 6, 7] {
            for bad in ["", "*", "/w=="] {
                let mut parts = parts.clone();
                parts[at] = bad;
                wrong.push(parts.join("-"));
            }
        }
        for header in wrong {
            assert_eq!(Carrier::parse(&header), None, "{header}");
        }
    }

    #[test]
    fn nothing_is_written_while_a_field_is_empty() {
        let (_, carrier) = documented();
        let empty: [fn(&mut Carrier); 6] = [
            |c| c.trace_id.clear(),
            |c| c.segment_id.clear(),
            |c| c.service.clear(),
            |c| c.instance.clear(),
            |c| c.endpoint.clear(),
            |c| c.address.clear(),
        ];
        for clear in empty {
            let mut carrier = carrier.clone();
            clear(&mut carrier);
            assert_eq!(carrier.format(), None);
        }
    }
}
