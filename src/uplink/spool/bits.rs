//! A set of small numbers that grows from 0 up.

/// One bit for each number.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

// === impl Bits ===

impl Bits {
    pub(super) fn has(&self, number: u32) -> bool {
        let (word, bit) = Self::split(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds a number; `false` if it was there.
    pub(super) fn set(&mut self, number: u32) -> bool {
        let (word, bit) = Self::split(number);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    fn split(number: u32) -> (usize, u64) {
        (number as usize / 64, 1 << (number % 64))
    }
}
