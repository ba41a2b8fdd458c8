//! Log lines for the host: to a callback, and to nowhere else unless the host asks.
//!
//! Nothing is installed before skytls_log_set(). Lines that come up while the library holds its locks are
//! kept back on their thread until it has let go, so that a callback may do almost anything.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use skytls::error::{Code, Error};

use crate::error::skytls_error;
use crate::ffi::{c_string, guard};

/// Faults that somebody has to mend.
pub const SKYTLS_LEVEL_ERROR: c_int = 1;
/// What works, but perhaps not as meant; a backend that cannot be reached.
pub const SKYTLS_LEVEL_WARN: c_int = 2;
/// Connections made, material loaded.
pub const SKYTLS_LEVEL_INFO: c_int = 3;
/// For those who look for a fault.
pub const SKYTLS_LEVEL_DEBUG: c_int = 4;
/// Everything.
pub const SKYTLS_LEVEL_TRACE: c_int = 5;

/// Takes one log line, without a line end; `line` holds during the call only. Called from the library's
/// own thread, and from threads of the host that are in a call of this library; from several at a time.
pub type skytls_log_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, level: c_int, line: *const c_char)>;

struct Sink {
    callback: skytls_log_callback,
    userdata: *mut c_void,
    level: LevelFilter,
    /// Sinks are never freed, since a line may be on its way to one; this keeps them in reach.
    _before: *mut Sink,
}

struct Logger;

static LOGGER: Logger = Logger;
static SINK: AtomicPtr<Sink> = AtomicPtr::new(ptr::null_mut());
/// Calls of callbacks under way, those to the sink before included.
static CALLS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How deep this thread is in callbacks, of any kind.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static KEPT_BACK: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
}

/// How long skytls_log_set() waits for lines on their way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends log lines up to `level` to a callback, for all agents of the process; NULL sends them nowhere.
/// When it returns, the callback before is not called any more. Not to be called from a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skytls_log_set(
    level: c_int,
    callback: skytls_log_callback,
    userdata: *mut c_void,
    err: *mut *mut skytls_error,
) -> c_int {
    let body = || {
        not_in_callback()?;
        let level = filter(level)?;
        static INSTALLED: OnceLock<bool> = OnceLock::new();
        // Only within one Rust program, linked statically, can another logger be there already.
        if !*INSTALLED.get_or_init(|| log::set_logger(&LOGGER).is_ok()) {
            return Err(Error::new(Code::BadArgument)
                .key("callback")
                .found("a logger of the log crate that is not this library's"));
        }
        let before = SINK.load(Ordering::SeqCst);
        let sink = Box::new(Sink { callback, userdata, level, _before: before });
        SINK.store(Box::into_raw(sink), Ordering::SeqCst);
        log::set_max_level(if callback.is_some() { level } else { LevelFilter::Off });
        let until = Instant::now() + PATIENCE;
        while CALLS.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    };
    // SAFETY: `err` is NULL or writable by the caller's contract.
    unsafe { guard(err, body) }
}

/// An error if this thread is in a callback.
pub(crate) fn not_in_callback() -> Result<(), Error> {
    match DEPTH.get() {
        0 => Ok(()),
        _ => Err(Error::new(Code::InCallback)),
    }
}

/// Runs a callback of the host, with a note that this thread is in one.
pub(crate) fn in_callback(call: impl FnOnce()) {
    DEPTH.set(DEPTH.get() + 1);
    call();
    DEPTH.set(DEPTH.get() - 1);
}

/// Keeps the lines of this thread back while `body` runs, and sends them after it.
pub(crate) fn keeping_back<T>(body: impl FnOnce() -> T) -> T {
    let begin = |kept: &RefCell<Option<Vec<_>>>| {
        let mut kept = kept.borrow_mut();
        let outermost = kept.is_none();
        kept.get_or_insert_default();
        outermost
    };
    // In handlers of `atexit` there is no such place any more, and the lines get lost.
    let outermost = KEPT_BACK.try_with(begin).unwrap_or(false);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    if outermost {
        let lines = KEPT_BACK.try_with(RefCell::take).ok().flatten().unwrap_or_default();
        lines.iter().for_each(|(level, line)| deliver(*level, line));
    }
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// In a forked child only the calls of its one thread are under way.
pub(crate) fn after_fork() {
    CALLS.store(DEPTH.get().min(1), Ordering::SeqCst);
}

fn filter(level: c_int) -> Result<LevelFilter, Error> {
    Ok(match level {
        SKYTLS_LEVEL_ERROR => LevelFilter::Error,
        SKYTLS_LEVEL_WARN => LevelFilter::Warn,
        SKYTLS_LEVEL_INFO => LevelFilter::Info,
        SKYTLS_LEVEL_DEBUG => LevelFilter::Debug,
        SKYTLS_LEVEL_TRACE => LevelFilter::Trace,
        other => {
            return Err(Error::new(Code::BadArgument)
                .key("level")
                .found(other)
                .expected("a SKYTLS_LEVEL_… of the header"));
        }
    })
}

fn deliver(level: Level, line: &str) {
    if DEPTH.get() > 0 {
        // A callback that reports must not get to see the lines of its own report, without end.
        return;
    }
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: NULL, or a sink, none of which is ever freed or changed.
    let sink = unsafe { SINK.load(Ordering::SeqCst).as_ref() };
    if let Some(Sink { callback: Some(callback), userdata, level: filter, .. }) = sink
        && level <= *filter
    {
        let line = c_string(line);
        // SAFETY: the host's own function with the data it gave for it; the line outlives the call.
        in_callback(|| unsafe { callback(*userdata, level as c_int, line.as_ptr()) });
    }
    CALLS.fetch_sub(1, Ordering::SeqCst);
}

// === impl Logger ===

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("skytls")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = record.args().to_string();
        let keep = |kept: &RefCell<Option<Vec<_>>>| match &mut *kept.borrow_mut() {
            Some(lines) => {
                lines.push((record.level(), line.clone()));
                true
            }
            None => false,
        };
        if !KEPT_BACK.try_with(keep).unwrap_or(true) {
            deliver(record.level(), &line);
        }
    }

    fn flush(&self) {}
}
