//! SkyWalking telemetry over the system's own OpenSSL.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod pki;
pub mod protocol;
pub mod relay;
pub mod server;
pub mod tls;
pub mod transport;
pub mod uplink;

pub use error::{Error, Result};
pub use transport::Connector;
