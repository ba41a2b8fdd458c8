//! Whatever is wrong with files, settings, listeners or peers: an error with its id, the file or key,
//! what was found, what was expected and what to do, and the documented exit code. Never a panic, never
//! a prompt, never plaintext, never a secret in the output.
//!
//! The rows of the tables are in `bad_input/`, one or more for each kind of bad input.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod grpc_client;
mod support;

use bad_input::{certificates, configuration, passphrases, peers, row, settings, usage};

#[test]
fn files_of_certificates_and_keys() {
    row::check(certificates::rows());
}

#[test]
fn encrypted_keys_and_passphrases() {
    row::check(passphrases::rows());
}

#[test]
fn certificates_out_of_their_dates() {
    row::check(certificates::dates());
}

#[test]
fn backend_lists() {
    row::check(settings::backends());
}

#[test]
fn listen_addresses() {
    row::check(settings::listeners());
}

#[test]
fn single_settings_and_their_combinations() {
    row::check(settings::values());
}

#[test]
fn configuration_files() {
    row::check(configuration::rows());
}

#[test]
fn the_command_line() {
    row::check(usage::rows());
}

#[test]
fn peers_that_are_not_what_they_should_be() {
    peers::check();
}
