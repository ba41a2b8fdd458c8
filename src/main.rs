//! The `skytls` binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    skytls::cli::main(std::env::args_os())
}
