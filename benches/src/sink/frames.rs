//! Finds the gRPC messages in the data of one stream, and compares them with what is expected.

/// Bytes in front of each message: a flag and a length.
pub(super) const HEADER: usize = 5;

/// The messages of one stream, wherever its data is cut.
#[derive(Debug, Default)]
pub(super) struct Messages {
    header: [u8; HEADER],
    /// How much of the header is there.
    have: usize,
    /// The length that it says.
    length: usize,
    /// How much of the payload has gone by.
    passed: usize,
    /// So far it is what was expected.
    matches: bool,
    good: u64,
    other: u64,
    bytes: u64,
    seen: u64,
}

impl Messages {
    /// Takes the next data of the stream.
    pub(super) fn push(&mut self, mut data: &[u8], expected: &[u8]) {
        loop {
            if self.have < HEADER {
                if data.is_empty() {
                    return;
                }
                let taken = data.len().min(HEADER - self.have);
                self.header[self.have..self.have + taken].copy_from_slice(&data[..taken]);
                self.have += taken;
                data = &data[taken..];
                if self.have < HEADER {
                    return;
                }
                let [_, length @ ..] = self.header;
                self.length = u32::from_be_bytes(length) as usize;
                self.passed = 0;
                self.matches = self.length == expected.len();
            }
            let taken = data.len().min(self.length - self.passed);
            let (payload, rest) = data.split_at(taken);
            self.matches = self.matches && payload == &expected[self.passed..self.passed + taken];
            self.passed += taken;
            data = rest;
            if self.passed < self.length {
                return;
            }
            self.have = 0;
            self.seen += 1;
            if self.matches {
                self.good += 1;
                self.bytes += self.length as u64;
            } else {
                self.other += 1;
            }
        }
    }

    /// Good ones, other ones, and the bytes of the good ones, since the last call.
    pub(super) fn take(&mut self) -> (u64, u64, u64) {
        (
            std::mem::take(&mut self.good),
            std::mem::take(&mut self.other),
            std::mem::take(&mut self.bytes),
        )
    }

    /// All there ever were.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_wherever_they_are_cut_and_a_changed_byte_shows() {
        let mut data = Vec::new();
        for payload in [&b"segment"[..], b"", b"segmenT", b"segment"] {
            data.push(0);
            data.extend(u32::try_from(payload.len()).unwrap_or(0).to_be_bytes());
            data.extend(payload);
        }
        for step in 1..=data.len() {
            let mut messages = Messages::default();
            data.chunks(step).for_each(|chunk| messages.push(chunk, b"segment"));
            assert_eq!(messages.take(), (2, 2, 14), "in steps of {step}");
        }
    }
}
