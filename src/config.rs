//! Settings: from `agent.config`, the environment and overrides to checked, typed values.
//!
//! The rules are the Java agent's: a key has a built-in value `${ENVIRONMENT_NAME:default}`, a line
//! in the file replaces it, an override replaces both. Nothing here knows TLS or the network.

mod assemble;
mod backend;
mod effective;
mod environment;
mod fips;
mod idn;
mod keys;
mod layers;
mod load;
mod manual;
mod mode;
mod paths;
mod placeholder;
mod properties;
mod proxy;
mod reference;
mod settings;
#[cfg(test)]
mod testing;
mod token;
mod trust;
mod value;

pub(crate) use backend::reached;
pub use effective::{Effective, Entry, MASK, Origin, Unused, Warning, WarningKind};
pub use keys::{Family, Key, Status};
pub use load::{Loaded, Loader};
pub use manual::manual;
pub use proxy::Proxy;
pub use reference::reference;
pub use settings::*;
pub use value::Kind;

pub(crate) use idn::to_ascii;
