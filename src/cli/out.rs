//! The only place that writes to the standard streams.

use std::fmt::Display;
use std::io::{self, Write};

use crate::error::{Chain, Code, Error, Result};

/// Writes a result to the standard output.
///
/// # Errors
///
/// [`Code::OutputFailed`]; a reader that has closed its end (`| head`) is none.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Code::OutputFailed).because(error))
        }
        _ => Ok(()),
    }
}

/// Tells that a listener is ready; scripts wait for this line.
pub fn listening(address: impl Display) {
    // Whoever does not listen to the output can still connect.
    let _ = print(&format!("listening on {address}\n"));
}

/// Tells why a command failed.
pub(crate) fn error(error: &Error) {
    note(&format!("error: {}\n", Chain(error)));
}

/// Writes a note to the standard error.
pub(crate) fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    // There is nowhere left to complain.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
