//! OpenSSL's configuration files and `SSL_CONF` commands: parsing without effect, applying one line.
//!
//! Which file counts and what a fault means is not decided here.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong};
use std::path::Path;
use std::ptr::{self, NonNull};

use openssl::error::{Error, ErrorStack};
use openssl::ssl::SslContextBuilder;
use openssl_sys as ffi;

/// A parsed configuration file (`NCONF_load(3)`), with no effect on anything.
pub struct Configuration(NonNull<ffi::CONF>);

/// Why a file could not be parsed.
#[derive(Debug)]
pub struct ParseError {
    /// The line, counted from 1, if OpenSSL says one.
    pub line: Option<usize>,
    /// OpenSSL's reasons.
    pub errors: ErrorStack,
}

/// What became of one `SSL_CONF` command.
#[derive(Debug)]
pub enum Applied {
    /// It is in force.
    Yes,
    /// This OpenSSL has no such command, or not for this kind of context.
    Unknown,
    /// The command exists, and refuses the value.
    Refused(ErrorStack),
}

/// What a command is applied as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A client's: options of servers are refused.
    Client,
    /// Either side's, for a context that can be both.
    Both,
}

mod raw {
    //! Declarations that openssl-sys does not have, as OpenSSL 3.0's headers give them.
    use super::{c_char, c_int, c_long, c_uint, c_ulong, ffi};

    /// `CONF_VALUE` of conf.h: public and unchanged since OpenSSL 0.9.
    #[repr(C)]
    pub(crate) struct ConfValue {
        pub(crate) section: *mut c_char,
        pub(crate) name: *mut c_char,
        pub(crate) value: *mut c_char,
    }

    pub(crate) enum SslConfCtx {}

    unsafe extern "C" {
        pub(crate) fn NCONF_load(
            conf: *mut ffi::CONF,
            file: *const c_char,
            eline: *mut c_long,
        ) -> c_int;
        pub(crate) fn NCONF_get_section(
            conf: *const ffi::CONF,
            section: *const c_char,
        ) -> *mut ffi::OPENSSL_STACK;
        pub(crate) fn NCONF_new_ex(
            ctx: *mut ffi::OSSL_LIB_CTX,
            meth: *mut ffi::CONF_METHOD,
        ) -> *mut ffi::CONF;
        pub(crate) fn NCONF_load_bio(
            conf: *mut ffi::CONF,
            bio: *mut ffi::BIO,
            eline: *mut c_long,
        ) -> c_int;
        pub(crate) fn CONF_modules_load(
            conf: *const ffi::CONF,
            appname: *const c_char,
            flags: c_ulong,
        ) -> c_int;
        pub(crate) fn CONF_modules_load_file(
            filename: *const c_char,
            appname: *const c_char,
            flags: c_ulong,
        ) -> c_int;
        pub(crate) fn SSL_CTX_config(ctx: *mut ffi::SSL_CTX, name: *const c_char) -> c_int;
        pub(crate) fn SSL_CONF_CTX_new() -> *mut SslConfCtx;
        pub(crate) fn SSL_CONF_CTX_free(cctx: *mut SslConfCtx);
        pub(crate) fn SSL_CONF_CTX_finish(cctx: *mut SslConfCtx) -> c_int;
        pub(crate) fn SSL_CONF_CTX_set_flags(cctx: *mut SslConfCtx, flags: c_uint) -> c_uint;
        pub(crate) fn SSL_CONF_CTX_set_ssl_ctx(cctx: *mut SslConfCtx, ctx: *mut ffi::SSL_CTX);
        pub(crate) fn SSL_CONF_cmd(
            cctx: *mut SslConfCtx,
            cmd: *const c_char,
            value: *const c_char,
        ) -> c_int;
        pub(crate) fn SSL_CONF_cmd_value_type(cctx: *mut SslConfCtx, cmd: *const c_char) -> c_int;
    }

    // ssl.h
    pub(crate) const SSL_CONF_FLAG_FILE: c_uint = 0x2;
    pub(crate) const SSL_CONF_FLAG_CLIENT: c_uint = 0x4;
    pub(crate) const SSL_CONF_FLAG_SERVER: c_uint = 0x8;
    pub(crate) const SSL_CONF_FLAG_SHOW_ERRORS: c_uint = 0x10;
    pub(crate) const SSL_CONF_FLAG_CERTIFICATE: c_uint = 0x20;
    pub(crate) const SSL_CONF_TYPE_UNKNOWN: c_int = 0;
    // sslerr.h
    pub(crate) const SSL_R_INVALID_CONFIGURATION_NAME: c_int = 113;
    // conf.h
    pub(crate) const CONF_MFLAGS_IGNORE_ERRORS: c_ulong = 0x1;
    pub(crate) const CONF_MFLAGS_IGNORE_RETURN_CODES: c_ulong = 0x2;
    pub(crate) const CONF_MFLAGS_IGNORE_MISSING_FILE: c_ulong = 0x10;
    pub(crate) const CONF_MFLAGS_DEFAULT_SECTION: c_ulong = 0x20;
}

/// An `SSL_CONF_CTX` that is freed when dropped.
struct Commands(NonNull<raw::SslConfCtx>);

/// Text as a C string; `None` with a NUL inside, which no file or value of OpenSSL's has.
fn c_string(text: &[u8]) -> Option<CString> {
    CString::new(text).ok()
}

fn c_path(path: &Path) -> Option<CString> {
    use std::os::unix::ffi::OsStrExt;
    c_string(path.as_os_str().as_bytes())
}

// === impl Configuration ===

impl Configuration {
    /// Parses a file. What OpenSSL passes over without failing, such as an `.include` that is not
    /// there, comes beside it.
    ///
    /// # Errors
    ///
    /// OpenSSL's reasons, with the line.
    pub fn parse(path: &Path) -> Result<(Self, ErrorStack), ParseError> {
        openssl::init();
        drop(ErrorStack::get());
        let failed = |line| ParseError { line, errors: ErrorStack::get() };
        let file = c_path(path).ok_or_else(|| failed(None))?;
        // SAFETY: NCONF_default gives a static method table, which NCONF_new takes; the result is
        // owned by Self from here on, and freed there.
        let conf = unsafe { ffi::NCONF_new(ffi::NCONF_default()) };
        let conf = Self(NonNull::new(conf).ok_or_else(|| failed(None))?);
        let mut line: c_long = 0;
        // SAFETY: the CONF is live and ours alone; the name is NUL-terminated and outlives the
        // call, as does the local that the line is written to.
        let loaded = unsafe { raw::NCONF_load(conf.0.as_ptr(), file.as_ptr(), &raw mut line) };
        if loaded > 0 {
            return Ok((conf, ErrorStack::get()));
        }
        Err(failed(usize::try_from(line).ok().filter(|&line| line > 0)))
    }

    /// The names and values of a section, in the order of the file; `None` if there is none.
    pub fn section(&self, name: &str) -> Option<Vec<(String, String)>> {
        let name = c_string(name.as_bytes())?;
        // SAFETY: the CONF is live, the name NUL-terminated. The stack belongs to the CONF and is
        // only read while `self` is borrowed.
        let stack = unsafe { raw::NCONF_get_section(self.0.as_ptr(), name.as_ptr()) };
        drop(ErrorStack::get());
        if stack.is_null() {
            return None;
        }
        // SAFETY: a live stack, see above.
        let count = unsafe { ffi::OPENSSL_sk_num(stack) };
        let mut lines = Vec::new();
        for at in 0..count {
            // SAFETY: `at` is below the stack's length, and its elements are CONF_VALUE.
            let value = unsafe { ffi::OPENSSL_sk_value(stack, at) }.cast::<raw::ConfValue>();
            // SAFETY: elements of a parsed section are never NULL, nor are their name and value.
            let (name, value) = unsafe { (text((*value).name), text((*value).value)) };
            lines.push((name, value));
        }
        Some(lines)
    }

    /// The value of a name in a section; the last one counts.
    pub fn value(&self, section: &str, name: &str) -> Option<String> {
        let lines = self.section(section)?;
        lines.into_iter().rev().find(|(of, _)| of == name).map(|(_, value)| value)
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: it came from NCONF_new and is freed once.
        unsafe { ffi::NCONF_free(self.0.as_ptr()) }
    }
}

/// # Safety
///
/// `text` is NULL or a NUL-terminated string that lives during the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Applies a configuration file to the default library context, as OpenSSL does with its own when
/// it is first used (`CONF_modules_load_file(3)`); what one module refuses does not keep the others
/// from being set up.
///
/// This changes the process for everybody who uses this copy of OpenSSL.
pub fn load_modules(path: &Path) {
    openssl::init();
    let Some(file) = c_path(path) else { return };
    let flags = raw::CONF_MFLAGS_DEFAULT_SECTION
        | raw::CONF_MFLAGS_IGNORE_MISSING_FILE
        | raw::CONF_MFLAGS_IGNORE_RETURN_CODES
        | raw::CONF_MFLAGS_IGNORE_ERRORS;
    // SAFETY: the name is NUL-terminated and outlives the call; NULL is the default section's
    // name. OpenSSL guards its list of modules by a lock of its own.
    unsafe { raw::CONF_modules_load_file(file.as_ptr(), ptr::null(), flags) };
    drop(ErrorStack::get());
}

/// Whether this OpenSSL takes this line in the section that `alg_section` names, asked of a library
/// context of its own that is gone afterwards.
pub fn takes_algorithm_option(name: &str, value: &str) -> bool {
    let text = format!("openssl_conf = a\n[a]\nalg_section = b\n[b]\n{name} = {value}\n");
    crate::context::Draft::new().is_ok_and(|mut draft| draft.configure(&text).is_ok())
}

/// Applies a text to a library context (`CONF_modules_load(3)`); a refused line is an error.
///
/// # Safety
///
/// The context is live.
pub(crate) unsafe fn load_text(
    context: *mut ffi::OSSL_LIB_CTX,
    text: &str,
) -> Result<(), ErrorStack> {
    let length = c_int::try_from(text.len()).map_err(|_| ErrorStack::get())?;
    // SAFETY: the context is live; NULL is the default method.
    let conf = unsafe { raw::NCONF_new_ex(context, ptr::null_mut()) };
    // SAFETY: the text outlives the BIO, which only reads it.
    let bio = unsafe { ffi::BIO_new_mem_buf(text.as_ptr().cast(), length) };
    // SAFETY: both are live; NULL is allowed for the line, and for the default section's name. No
    // flag: a refused line makes the call fail.
    let loaded = !conf.is_null()
        && !bio.is_null()
        && unsafe {
            raw::NCONF_load_bio(conf, bio, ptr::null_mut()) > 0
                && raw::CONF_modules_load(conf, ptr::null(), raw::CONF_MFLAGS_DEFAULT_SECTION) > 0
        };
    let errors = ErrorStack::get();
    // SAFETY: each came from its constructor, is freed once, and may be NULL.
    unsafe {
        ffi::BIO_free_all(bio);
        ffi::NCONF_free(conf);
    }
    if loaded { Ok(()) } else { Err(errors) }
}

/// Applies a section as OpenSSL took it from its file (`SSL_CTX_config(3)`). `Unknown` means that
/// none of this name is in force.
pub fn apply_section(context: &mut SslContextBuilder, name: &str) -> Applied {
    drop(ErrorStack::get());
    let Some(name) = c_string(name.as_bytes()) else { return Applied::Unknown };
    // SAFETY: the context is live and borrowed mutably; the name is NUL-terminated.
    if unsafe { raw::SSL_CTX_config(context.as_ptr(), name.as_ptr()) } > 0 {
        return Applied::Yes;
    }
    let errors = ErrorStack::get();
    let absent = |error: &Error| error.reason_code() == raw::SSL_R_INVALID_CONFIGURATION_NAME;
    if errors.errors().iter().any(absent) { Applied::Unknown } else { Applied::Refused(errors) }
}

/// Applies one command as a line of `openssl.cnf` would (`SSL_CONF_cmd(3)`).
pub fn apply_command(
    context: &mut SslContextBuilder,
    side: Side,
    name: &str,
    value: &str,
) -> Applied {
    drop(ErrorStack::get());
    let side = match side {
        Side::Client => raw::SSL_CONF_FLAG_CLIENT,
        Side::Both => raw::SSL_CONF_FLAG_CLIENT | raw::SSL_CONF_FLAG_SERVER,
    };
    let flags = raw::SSL_CONF_FLAG_FILE | raw::SSL_CONF_FLAG_SHOW_ERRORS | side;
    let (Some(commands), Some(name), Some(value)) =
        (Commands::new(flags), c_string(name.as_bytes()), c_string(value.as_bytes()))
    else {
        return Applied::Refused(ErrorStack::get());
    };
    // SAFETY: both are live; the context outlives the commands, which end in this function.
    unsafe { raw::SSL_CONF_CTX_set_ssl_ctx(commands.0.as_ptr(), context.as_ptr()) };
    // SAFETY: the commands are live and the strings NUL-terminated.
    let result = unsafe { raw::SSL_CONF_cmd(commands.0.as_ptr(), name.as_ptr(), value.as_ptr()) };
    match result {
        1.. => {}
        -2 => {
            drop(ErrorStack::get());
            return Applied::Unknown;
        }
        _ => return Applied::Refused(ErrorStack::get()),
    }
    // SAFETY: as above.
    match unsafe { raw::SSL_CONF_CTX_finish(commands.0.as_ptr()) } {
        1.. => Applied::Yes,
        _ => Applied::Refused(ErrorStack::get()),
    }
}

/// Whether this OpenSSL has such a command for clients or servers (`SSL_CONF_cmd_value_type(3)`).
pub fn is_command(name: &str) -> bool {
    openssl::init();
    let flags = raw::SSL_CONF_FLAG_FILE
        | raw::SSL_CONF_FLAG_CLIENT
        | raw::SSL_CONF_FLAG_SERVER
        | raw::SSL_CONF_FLAG_CERTIFICATE;
    let (Some(commands), Some(name)) = (Commands::new(flags), c_string(name.as_bytes())) else {
        return false;
    };
    // SAFETY: the commands are live and the name NUL-terminated; the call only looks it up.
    let kind = unsafe { raw::SSL_CONF_cmd_value_type(commands.0.as_ptr(), name.as_ptr()) };
    kind != raw::SSL_CONF_TYPE_UNKNOWN
}

// === impl Commands ===

impl Commands {
    fn new(flags: c_uint) -> Option<Self> {
        // SAFETY: the result is owned by Self and freed there.
        let commands = Self(NonNull::new(unsafe { raw::SSL_CONF_CTX_new() })?);
        // SAFETY: it is live.
        unsafe { raw::SSL_CONF_CTX_set_flags(commands.0.as_ptr(), flags) };
        Some(commands)
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        // SAFETY: it came from SSL_CONF_CTX_new and is freed once. It does not own the context.
        unsafe { raw::SSL_CONF_CTX_free(self.0.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ssl::{SslContext, SslMethod, SslVersion};
    use std::fs;

    fn parse(text: &str) -> Result<(Configuration, ErrorStack), ParseError> {
        let path = std::env::temp_dir().join(format!(
            "ossl-ext-{}-{:?}.cnf",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::write(&path, text).unwrap();
        let parsed = Configuration::parse(&path);
        fs::remove_file(&path).unwrap();
        parsed
    }

    #[test]
    fn sections_come_in_the_order_of_the_file() {
        let (conf, skipped) = parse("a = 1\na = 2\n[s]\nx = $default::a\ny = 3\n").unwrap();
        assert!(skipped.errors().is_empty());
        assert_eq!(conf.value("default", "a").as_deref(), Some("2"));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(conf.section("s").unwrap(), [pair("x", "2"), pair("y", "3")]);
        assert!(conf.section("t").is_none());
    }

    #[test]
    fn a_broken_file_is_refused_with_its_line() {
        let error = parse("a = 1\nno equal sign\n").err().unwrap();
        assert_eq!(error.line, Some(2));
        assert!(error.errors.to_string().contains("equal sign"), "{}", error.errors);
    }

    #[test]
    fn algorithm_options_are_known_or_not() {
        assert!(takes_algorithm_option("default_properties", ""));
        assert!(!takes_algorithm_option("no-such-option", "yes"));
        // Asking changes nothing.
        assert!(!crate::default_properties_ask_for_fips());
    }

    #[test]
    fn a_missing_include_is_told() {
        let (_, skipped) = parse(".include /nonexistent/policy.cnf\na = 1\n").unwrap();
        assert!(skipped.to_string().contains("/nonexistent/policy.cnf"), "{skipped}");
    }

    #[test]
    fn commands_are_applied_refused_or_unknown() {
        let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
        let mut apply = |name, value| apply_command(&mut context, Side::Client, name, value);
        assert!(matches!(apply("MinProtocol", "TLSv1.3"), Applied::Yes));
        assert!(matches!(apply("NoSuch", "x"), Applied::Unknown));
        assert!(matches!(apply("DHParameters", "x"), Applied::Unknown));
        assert!(matches!(apply("Options", "ServerPreference"), Applied::Refused(_)));
        let Applied::Refused(errors) = apply("Groups", "no-such-group") else { panic!() };
        assert!(errors.to_string().contains("no-such-group"), "{errors}");
        assert_eq!(context.min_proto_version(), Some(SslVersion::TLS1_3));
        let mut both = SslContext::builder(SslMethod::tls()).unwrap();
        let applied = apply_command(&mut both, Side::Both, "Options", "ServerPreference");
        assert!(matches!(applied, Applied::Yes));
        assert!(is_command("DHParameters") && !is_command("NoSuch"));
        assert!(matches!(apply_section(&mut context, "no such section"), Applied::Unknown));
    }
}
