//! libskytls: the engine of skytls behind a C interface.
//!
//! `capi/include/skytls.h` is made from this crate; its head states the conventions that every function
//! here keeps. Nothing is decided here that a Rust program would not get from the crate `skytls`: this one
//! turns pointers into references and back, and knows about forks and exits.
//!
//! ```text
//!  handle ──► life ──► skytls::engine
//!              │
//!              ├─ fork: which process it belongs to; holds the threads still while a fork happens
//!              └─ exit: holds them still for good before OpenSSL cleans up
//! ```
//!
//! `unsafe` stands at the boundary (`ffi`), in `fork` and `exit`, and each block says why it holds.

// The names are C's; what a caller must uphold stands once, at the head of the header.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

// In the order of the header.
mod library;

mod error;

mod config;

mod agent;

mod host;

mod kind;

mod segment;

mod span;

mod status;

mod callbacks;

mod log;

// What the header does not show.
mod exit;
mod ffi;
mod fork;
mod life;
mod plan;
mod twins;
mod wait;

pub use agent::*;
pub use callbacks::*;
pub use config::*;
pub use error::*;
pub use host::*;
pub use kind::*;
pub use library::*;
pub use log::*;
pub use segment::*;
pub use span::*;
pub use status::*;
