//! The tables of bad input and what is asserted of every row.

pub(crate) mod certificates;
pub(crate) mod configuration;
pub(crate) mod passphrases;
pub(crate) mod peers;
pub(crate) mod row;
pub(crate) mod settings;
pub(crate) mod usage;
