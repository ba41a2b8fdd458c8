//! SkyWalking telemetry over the system's own OpenSSL.
//!
//! Three ways to use it: as an agent for a Rust program ([`Agent`]), as a connector for any tonic client
//! ([`Connector`]), and as the relay of the `skytls` binary ([`relay::Relay`]). Agent and relay rest on
//! one [`engine::Engine`].
//!
//! # The rooms
//!
//! ```text
//!  agent ──────┐
//!  relay ──────┴─► uplink ──► transport ──► HTTP/2 over OpenSSL ──► backends
//!                     │           ▲     ▲
//!                   memory        │     └─ tls: material, trust, policy
//!                                 └─ config: agent.config + environment
//! ```
//!
//! Each module is a room; imports go one way only: [`relay`], [`agent`] and [`server`] → [`engine`]
//! → [`uplink`] → [`transport`] → [`tls`] → [`config`]. [`protocol`], [`trace`], [`pki`] and [`error`]
//! know none of them. A record goes the other way round the picture once: accepted by a
//! [`uplink::Reporter`], queued in a lane, laid out by a stream's body, sent by the transport,
//! acknowledged in the books.
//!
//! # Five shapes the rest rests on
//!
//! 1. **The engine is an object** with its own threads and runtime, and no statics: a process may
//!    hold several, and a forked child starts its own ([`engine`]).
//! 2. **The unit is an envelope**: method, forwarded metadata, encoding, sticky context, bytes, an
//!    id for the books. Its life is a state machine, written down at [`uplink`].
//! 3. **The transport owns its connections**: each can be replaced and retired, behind one
//!    cloneable tower service of `http::Request` ([`transport::Transport`]). Generated clients and
//!    our own framed bodies run over the same service.
//! 4. **The TLS stream is private** to the transport, so that what lies between HTTP/2 and OpenSSL
//!    can change ([`transport::Io`] tells nothing about it).
//! 5. **Material comes from a [`config::Source`]**: a file, a URI, or bytes.
//!
//! # OpenSSL
//!
//! By default the system's OpenSSL (3.0 or newer) is linked; with the feature `vendored` one of the
//! 3.5 LTS line is built in. It reads the distribution's `openssl.cnf` when TLS is first set up, for
//! the whole process: that copy of OpenSSL is ours. `OPENSSL_CONF` wins. Policy is OpenSSL's own:
//! `openssl.cnf`, security level and trust store stay in force ([`tls`]).

#![forbid(unsafe_code)]

mod admin;
pub mod agent;
mod check;
#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod pki;
pub mod protocol;
pub mod relay;
pub mod rotation;
pub mod server;
pub mod tls;
pub mod trace;
pub mod transport;
pub mod uplink;

pub use agent::Agent;
pub use error::{Error, Result};
pub use transport::Connector;
