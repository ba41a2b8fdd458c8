//! What the integration tests share: odd certificates and keys, real `openssl` peers, the `skytls`
//! binary under observation, agent folders and plain TCP peers.
//!
//! Nothing here knows what is right for skytls to do with any of it: that is said in the tests. There are
//! no sleeps: whoever waits is woken, or fails at [`DEADLINE`] with everything that was printed so far.

// Every file in `tests/` is a crate of its own that compiles all of this and uses a part of it.
#![allow(dead_code, unused_imports)]

use std::time::Duration;

pub(crate) mod command;
pub(crate) mod crl;
pub(crate) mod folder;
pub(crate) mod keys;
pub(crate) mod ocsp;
pub(crate) mod ocsp_dates;
pub(crate) mod openssl;
pub(crate) mod peers;
pub(crate) mod pki;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod script;
pub(crate) mod verdict;

/// How long a test waits for what has to happen: long for a machine under load, never reached otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
