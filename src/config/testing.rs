//! Helpers of the unit tests in this room.

use std::ffi::OsString;

use super::environment::Environment;

/// A small generator of reproducible noise.
pub(super) struct Xorshift(u32);

impl Xorshift {
    pub(super) fn new(seed: u32) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Up to `longest` bytes of an alphabet.
    pub(super) fn bytes(&mut self, alphabet: &[u8], longest: u32) -> Vec<u8> {
        let length = self.next() % (longest + 1);
        (0..length).map(|_| alphabet[self.next() as usize % alphabet.len()]).collect()
    }
}

/// An environment of these variables and no others.
pub(super) fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)))).unwrap()
}
