//! The correlation context: a few pairs of the host's own that travel with a trace, in the header
//! `sw8-correlation`.

use super::carrier::{decode, encode};

/// Pairs that travel with a trace, in the order in which they were put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Correlation(Vec<(String, String)>);

/// As many pairs, and as long values, as the Java agent takes by default.
const PAIRS: usize = 3;
const VALUE: usize = 128;
/// Longer headers than this are nobody's.
const LONGEST: usize = 8 * 1024;

// === impl Correlation ===

impl Correlation {
    /// Reads the header; what is no pair is passed over.
    pub fn parse(header: &str) -> Self {
        let mut pairs = Self::default();
        if header.len() > LONGEST {
            return pairs;
        }
        for pair in header.split(',') {
            let Some((key, value)) = pair.trim().split_once(':') else { continue };
            if let (Some(key), Some(value)) = (decode(key), decode(value)) {
                pairs.put(key, value);
            }
        }
        pairs
    }

    /// The header; `None` without a pair.
    pub fn format(&self) -> Option<String> {
        let pairs = self.0.iter().map(|(key, value)| format!("{}:{}", encode(key), encode(value)));
        Some(pairs.collect::<Vec<_>>().join(",")).filter(|header| !header.is_empty())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Puts a pair; `false` if it is one too many, has no key, or its value is too long. An empty
    /// value takes the pair out.
    pub fn put(&mut self, key: impl Into<String>, value: impl Into<String>) -> bool {
        let (key, value) = (key.into(), value.into());
        if key.is_empty() || value.chars().count() > VALUE {
            return false;
        }
        let at = self.0.iter().position(|(other, _)| *other == key);
        match at {
            Some(at) if value.is_empty() => drop(self.0.remove(at)),
            Some(at) => self.0[at].1 = value,
            None if value.is_empty() => {}
            None if self.0.len() >= PAIRS => return false,
            None => self.0.push((key, value)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_as_they_went() {
        let mut pairs = Correlation::default();
        assert_eq!(pairs.format(), None);
        assert!(pairs.put("tenant", "blue") && pairs.put("größe", "a,b:c"));
        let header = pairs.format().unwrap();
        assert_eq!(header.split_once(',').unwrap().0, "dGVuYW50:Ymx1ZQ==");
        assert_eq!(Correlation::parse(&header), pairs);
        assert_eq!(pairs.get("größe"), Some("a,b:c"));
    }

    #[test]
    fn the_bounds_of_the_java_agent_hold() {
        let mut pairs = Correlation::default();
        assert!(pairs.put("1", "x".repeat(VALUE)) && !pairs.put("2", "x".repeat(VALUE + 1)));
        assert!(pairs.put("2", "b") && pairs.put("3", "c") && !pairs.put("4", "d"));
        assert!(pairs.put("2", "new") && pairs.get("2") == Some("new"));
        assert!(pairs.put("2", "") && pairs.get("2").is_none() && pairs.put("4", "d"));
        assert!(!pairs.put("", "x"));
        let four = ["MQ==:MQ==", "Mg==:Mg==", "Mw==:Mw==", "NA==:NA=="].join(",");
        assert_eq!(Correlation::parse(&four).0.len(), PAIRS);
    }

    #[test]
    fn what_is_no_pair_is_passed_over() {
        let pairs = Correlation::parse("x,dGVuYW50,*:*,dGVuYW50:Ymx1ZQ==,a:b:c,:");
        assert_eq!(pairs.0, [("tenant".to_owned(), "blue".to_owned())]);
    }
}
