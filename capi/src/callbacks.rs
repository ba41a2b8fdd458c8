//! Functions of the host that an agent calls: for changes of its state, commands, and settings that the
//! backend changes.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skytls::agent::{Link, ProfileTask};
use skytls::protocol::v3::Command;
use skytls::transport::State;

use crate::error::skytls_error;
use crate::ffi::c_string;
use crate::life::unpoisoned;
use crate::log::in_callback;
use crate::status;

/// Told of every change of the state. `why` is NULL unless the link is down, and holds during the call only.
/// Called on the library's own thread, one call at a time.
pub type skytls_state_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, state: c_int, why: *const skytls_error)>;

/// Told of a command of the backend that the library does not carry out itself. It holds during the call
/// only. Called on a thread of the library that may block, one call at a time.
pub type skytls_command_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, command: *const skytls_command)>;

/// Told of the value that the backend gives to a key of the dynamic configuration; NULL when the key is gone
/// and the default holds again. Called as skytls_command_callback is.
pub type skytls_watch_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, key: *const c_char, value: *const c_char)>;

/// A command of the backend: its name, and arguments in their order.
#[repr(C)]
pub struct skytls_command {
    /// How much of it the library has filled.
    pub size: usize,
    /// What to do, such as "ProfileTaskQuery".
    pub name: *const c_char,
    /// How many arguments there are.
    pub arguments: usize,
    /// Their keys.
    pub keys: *const *const c_char,
    /// Their values.
    pub values: *const *const c_char,
}

/// Told of a profiling task, each once. It holds during the call only. Called as skytls_command_callback is.
pub type skytls_profile_task_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, task: *const skytls_profile_task)>;

/// A profiling task of the backend. Times are in milliseconds.
#[repr(C)]
pub struct skytls_profile_task {
    /// How much of it the library has filled.
    pub size: usize,
    /// Which task it is; it goes with each snapshot and with the report of its end.
    pub task_id: *const c_char,
    /// The endpoint whose segments are to be profiled.
    pub endpoint: *const c_char,
    /// How long the task lasts.
    pub duration: u64,
    /// Only segments that take longer are of interest.
    pub min_duration_threshold: u64,
    /// The time between two snapshots.
    pub dump_period: u64,
    /// How many segments are profiled at most.
    pub max_sampling_count: u64,
    /// When it begins, since 1970.
    pub start_time: i64,
    /// When it was made, since 1970.
    pub create_time: i64,
}

/// Whether callbacks may still be called. Whoever has a lock may be calling one.
#[derive(Clone, Default)]
pub(crate) struct Callbacks(Arc<Gates>);

#[derive(Default)]
struct Gates {
    state: Mutex<Off>,
    orders: Mutex<Off>,
}

#[derive(Default)]
struct Off(bool);

/// A function of the host, with what it wants to be given.
#[derive(Clone, Copy)]
struct Call<F> {
    function: F,
    userdata: *mut c_void,
}

type StateFunction = unsafe extern "C" fn(*mut c_void, c_int, *const skytls_error);
type CommandFunction = unsafe extern "C" fn(*mut c_void, *const skytls_command);
type ProfileTaskFunction = unsafe extern "C" fn(*mut c_void, *const skytls_profile_task);
type WatchFunction = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char);

#[derive(Clone, Copy)]
pub(crate) struct StateCallback(Call<StateFunction>);

#[derive(Clone, Copy)]
pub(crate) struct CommandCallback(Call<CommandFunction>);

#[derive(Clone, Copy)]
pub(crate) struct ProfileTaskCallback(Call<ProfileTaskFunction>);

#[derive(Clone, Copy)]
pub(crate) struct WatchCallback(Call<WatchFunction>);

// SAFETY: the header says on which thread a callback is called; that its data may be used there is the
// host's promise.
unsafe impl<F> Send for Call<F> {}
// SAFETY: as above; calls come one at a time.
unsafe impl<F> Sync for Call<F> {}

// === impl Callbacks ===

impl Callbacks {
    /// Waits for a call that is under way; it is the last one.
    pub(crate) fn switch_off(&self) {
        unpoisoned(&self.0.state).0 = true;
        unpoisoned(&self.0.orders).0 = true;
    }
}

impl Gates {
    fn pass(gate: &Mutex<Off>, call: impl FnOnce()) {
        let off = unpoisoned(gate);
        if !off.0 {
            in_callback(call);
        }
    }
}

// === impl StateCallback ===

impl StateCallback {
    pub(crate) fn new(function: StateFunction, userdata: *mut c_void) -> Self {
        Self(Call { function, userdata })
    }

    /// Tells the host of every change of the link, on the engine's thread.
    pub(crate) async fn watch(self, mut link: Link, callbacks: Callbacks) {
        let mut last = None;
        loop {
            let state = link.state();
            if matches!(state, State::Stopped) {
                // Whoever has stopped it knows.
                return;
            }
            let number = status::number(&state);
            if last.replace(number) != Some(number) {
                let why = status::reason(&state).map(skytls_error::new);
                let why = why.as_ref().map_or(ptr::null(), ptr::from_ref);
                let Call { function, userdata } = self.0;
                // SAFETY: the host's own function with the data it gave for it; the error outlives it.
                Gates::pass(&callbacks.0.state, || unsafe { function(userdata, number, why) });
            }
            link.changed().await;
        }
    }
}

// === impl CommandCallback ===

impl CommandCallback {
    pub(crate) fn new(function: CommandFunction, userdata: *mut c_void) -> Self {
        Self(Call { function, userdata })
    }

    pub(crate) fn call(self, command: &Command, callbacks: &Callbacks) {
        let texts = |choose: fn(&skytls::protocol::v3::KeyStringValuePair) -> &str| {
            command.args.iter().map(|pair| c_string(choose(pair))).collect::<Vec<CString>>()
        };
        let (keys, values) = (texts(|pair| &pair.key), texts(|pair| &pair.value));
        let pointers = |texts: &[CString]| -> Vec<*const c_char> {
            texts.iter().map(|text| text.as_ptr()).collect()
        };
        let (key_pointers, value_pointers) = (pointers(&keys), pointers(&values));
        let name = c_string(&command.command);
        let order = skytls_command {
            size: size_of::<skytls_command>(),
            name: name.as_ptr(),
            arguments: keys.len(),
            keys: key_pointers.as_ptr(),
            values: value_pointers.as_ptr(),
        };
        let Call { function, userdata } = self.0;
        // SAFETY: the host's own function with the data it gave for it; the command outlives the call.
        Gates::pass(&callbacks.0.orders, || unsafe { function(userdata, &raw const order) });
    }
}

// === impl ProfileTaskCallback ===

impl ProfileTaskCallback {
    pub(crate) fn new(function: ProfileTaskFunction, userdata: *mut c_void) -> Self {
        Self(Call { function, userdata })
    }

    pub(crate) fn call(self, task: &ProfileTask, callbacks: &Callbacks) {
        let (task_id, endpoint) = (c_string(&task.task_id), c_string(&task.endpoint_name));
        let told = skytls_profile_task {
            size: size_of::<skytls_profile_task>(),
            task_id: task_id.as_ptr(),
            endpoint: endpoint.as_ptr(),
            duration: milliseconds(task.duration),
            min_duration_threshold: milliseconds(task.min_duration_threshold),
            dump_period: milliseconds(task.dump_period),
            max_sampling_count: task.max_sampling_count.into(),
            start_time: task.start_time,
            create_time: task.create_time,
        };
        let Call { function, userdata } = self.0;
        // SAFETY: the host's own function with the data it gave for it; the task outlives the call.
        Gates::pass(&callbacks.0.orders, || unsafe { function(userdata, &raw const told) });
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

// === impl WatchCallback ===

impl WatchCallback {
    pub(crate) fn new(function: WatchFunction, userdata: *mut c_void) -> Self {
        Self(Call { function, userdata })
    }

    pub(crate) fn call(self, key: &str, value: Option<&str>, callbacks: &Callbacks) {
        let (key, value) = (c_string(key), value.map(c_string));
        let value = value.as_ref().map_or(ptr::null(), |value| value.as_ptr());
        let Call { function, userdata } = self.0;
        // SAFETY: the host's own function with the data it gave for it; both texts outlive the call.
        Gates::pass(&callbacks.0.orders, || unsafe { function(userdata, key.as_ptr(), value) });
    }
}
