//! Settings by name and value: the keys of `agent.config`, and nothing that is not there.
//!
//! A new setting never changes the ABI. What values mean together is judged when an agent is made.

use std::env;
use std::ffi::{CString, OsString, c_char, c_int};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skytls::config::{Effective, Loaded, Loader};
use skytls::error::Result;

use crate::error::skytls_error;
use crate::ffi::{c_string, give, guard_on, guard_value, guard_void, null, text};
use crate::fork;

/// Settings on their way to an agent. Made by skytls_config_new(), freed by skytls_config_free(); an agent
/// made of it keeps a copy. May be used from several threads.
pub struct skytls_config {
    /// Locked only while no fork can happen.
    choices: Mutex<Choices>,
}

#[derive(Clone)]
struct Choices {
    /// As it was when the object was made: the host may change it later, on any thread.
    environment: Vec<(OsString, OsString)>,
    file: File,
    values: Vec<(String, String)>,
}

#[derive(Clone)]
enum File {
    None,
    Usual,
    Named(PathBuf),
}

// === impl skytls_config ===

impl skytls_config {
    pub(crate) fn load(&self) -> Result<Loaded> {
        let choices = self.choices().clone();
        choices.loader().load()
    }

    fn choices(&self) -> MutexGuard<'_, Choices> {
        self.choices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Choices ===

impl Choices {
    fn loader(self) -> Loader {
        let loader = Loader::new().environment(self.environment);
        let loader = match self.file {
            File::None => loader,
            File::Usual => loader.discover(),
            File::Named(path) => loader.file(path),
        };
        self.values.into_iter().fold(loader, |loader, (key, value)| loader.set(key, value))
    }
}

/// Makes settings: built-in values, over which the environment variables of the table in
/// docs/configuration.md hold. The environment is read here, and not again.
///
/// Gives NULL only if memory is short.
#[unsafe(no_mangle)]
pub extern "C" fn skytls_config_new() -> *mut skytls_config {
    guard_value(std::ptr::null_mut(), || {
        fork::install();
        let choices =
            Choices { environment: env::vars_os().collect(), file: File::None, values: Vec::new() };
        Box::into_raw(Box::new(skytls_config { choices: Mutex::new(choices) }))
    })
}

/// Frees settings; NULL is nothing to free. Agents made of them go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_config_free(config: *mut skytls_config) {
    guard_void(|| {
        if !config.is_null() {
            // SAFETY: handed out as a box, and by contract freed once.
            drop(unsafe { Box::from_raw(config) });
        }
    });
}

/// Reads an agent.config, as the Java agent has it, in place of one read before. With NULL as `path`:
/// $SW_AGENT_CONFIG, else ./config/agent.config, else ./agent.config, else none.
///
/// A file that cannot be read, or holds a bad value, is an error now, and the settings stay as they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_config_load_file(
    config: *mut skytls_config,
    path: *const c_char,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |config: &skytls_config| {
        let file = match path.is_null() {
            true => File::Usual,
            // SAFETY: not NULL, so a C string by the caller's contract.
            false => File::Named(unsafe { text(path, "path") }?.into()),
        };
        fork::exclusively(|| {
            let mut choices = config.choices();
            let changed = Choices { file, ..choices.clone() };
            changed.clone().loader().load()?;
            *choices = changed;
            Ok(())
        })
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(config, "config", err, body) }
}

/// Sets a key above file and environment. The value is taken as it is, without placeholders; an empty one
/// means the default. Of several for one key the last counts.
///
/// An unknown key (SKT-112) and a value that is not of the key's type are errors now. What values mean
/// together is judged by skytls_agent_new().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_config_set(
    config: *mut skytls_config,
    key: *const c_char,
    value: *const c_char,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |config: &skytls_config| {
        // SAFETY: by the caller's contract.
        let key = unsafe { text(key, "key") }?;
        // SAFETY: as above.
        let value = unsafe { text(value, "value") }?;
        Loader::check(key, value)?;
        let pair = (key.to_owned(), value.to_owned());
        fork::exclusively(|| config.choices().values.push(pair));
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(config, "config", err, body) }
}

/// Writes all settings in force as text: one `key=value` a line, each with a comment that says where the
/// value comes from, secrets masked, then the warnings. The text is freed by skytls_string_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_config_dump(
    config: *const skytls_config,
    dump: *mut *mut c_char,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = |config: &skytls_config| {
        if dump.is_null() {
            return Err(null("dump"));
        }
        let loaded = fork::exclusively(|| config.load())?;
        let mut out = written(&loaded.effective);
        for warning in &loaded.warnings {
            let _ = writeln!(out, "# warning: {warning}");
        }
        // SAFETY: not NULL, so writable by the caller's contract.
        unsafe { give(dump, "dump", c_string(&out).into_raw()) }
    };
    // SAFETY: by the caller's contract.
    unsafe { guard_on(config, "config", err, body) }
}

/// Frees a text that a function of this library has made; NULL is nothing to free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_string_free(text: *mut c_char) {
    guard_void(|| {
        if !text.is_null() {
            // SAFETY: such texts are handed out by `CString::into_raw`, and by contract freed once and
            // not made longer or shorter.
            drop(unsafe { CString::from_raw(text) });
        }
    });
}

fn written(effective: &Effective) -> String {
    let mut out = String::new();
    for entry in &effective.entries {
        let _ = writeln!(out, "# {}\n{}={}", entry.origin, entry.key.name(), entry.value);
    }
    out
}
