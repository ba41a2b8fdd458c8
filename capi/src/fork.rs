//! Forks: which process this is, and that no thread of ours is in the middle of something when it happens.
//!
//! A child gets a copy of the memory and of one thread. What other threads were doing stays half done for
//! ever: a lock they held, in OpenSSL as well as in the C library, is never given back. Therefore
//!
//! - every engine has one thread, and `prepare` gives it a task that waits until the fork is over. A thread
//!   that runs this task runs no other: it is not inside OpenSSL and holds no lock.
//! - a name that is being looked up, on a thread of its own, is waited for: the C library's resolver has locks.
//! - files of certificates and keys are loaded anew on another thread, inside OpenSSL: that is paused.
//! - whatever a thread of the *host* does inside OpenSSL through us, it does when it is its turn, one at a time
//!   ([`exclusively`]), and `prepare` waits for a turn, too, unless the thread that forks has it: a module of
//!   OpenSSL may start a program while a key is loaded. A turn may take long: files are read. What is known of
//!   the threads has a lock of its own, which is held for moments, so that an exit need not wait for a turn.
//! - the child does not touch what it has inherited. It counts up the generation, by which every handle
//!   notices; there is no system call on the way of a record.
//!
//! `vfork` and `posix_spawn` run no such handlers and need none. A bare `clone` system call goes unnoticed.

use std::cell::{Cell, UnsafeCell};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use skytls::rotation::loads::{self, Pause};
use skytls::transport::lookups;
use skytls::uplink::Uplink;
use tokio::runtime::Handle;

use crate::ffi::guard_void;
use crate::log::keeping_back;

/// The threads of this process, and what was inherited from the one before.
#[derive(Default)]
struct Registry {
    workers: Vec<Worker>,
    /// Never touched again; kept in reach, so that leak checkers know that it is meant.
    inherited: Vec<Vec<Worker>>,
    /// Lives of a parent whose handle was freed here.
    abandoned: Vec<usize>,
    /// Threads that never go on: at the end of the process, and those of a parent, which are not here.
    still: Vec<Stillness>,
}

/// An engine's thread, as far as forks and exits are concerned.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) id: u64,
    pub(crate) handle: Handle,
    pub(crate) uplink: Uplink,
    /// How long an exit may wait for what is pending.
    pub(crate) exit_limit: Duration,
}

/// Threads held still; they go on when it is dropped.
#[must_use]
struct Stillness(Arc<Gate>);

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    moved: Condvar,
}

#[derive(Default)]
struct GateState {
    arrived: usize,
    open: bool,
}

/// What `prepare` leaves to the handlers that run after the fork.
struct Held(UnsafeCell<Option<Halt>>);

/// Everything has come to a halt, for a fork.
struct Halt {
    /// `None`: the thread had its turn already, and keeps it after the fork, here and in the child.
    _turn: Option<Turn>,
    registry: MutexGuard<'static, Registry>,
    still: Stillness,
    _paused: Pause,
}

/// Its owner's turn to be inside OpenSSL, or to fork.
#[must_use]
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

// SAFETY: only the handlers use it, and all of them on the thread that forks, during a turn of that thread.
unsafe impl Sync for Held {}

static GENERATION: AtomicU64 = AtomicU64::new(1);
static TURN: Mutex<()> = Mutex::new(());
/// Locked for moments, and during a fork; by those who also have their turn, only after it has come.
static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    workers: Vec::new(),
    inherited: Vec::new(),
    abandoned: Vec::new(),
    still: Vec::new(),
});
static HELD: Held = Held(UnsafeCell::new(None));
/// Exit handlers have run: the threads stand still, and nothing starts any more.
static ENDED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The engine whose thread this is; 0: none.
    static WORKER_OF: Cell<u64> = const { Cell::new(0) };
    /// It is this thread's turn.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// How long a fork waits for a thread to stand still. It is reached only if a callback of the host blocks;
/// the fork then happens all the same.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a fork waits for the system's resolver. Its locks are held for moments, at the beginning and the
/// end of a lookup, not while it waits for an answer; a longer wait would only cost the host.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(20);

/// The generation of this process: a forked child has a higher one than its parent.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Sees to it that forks are noticed. To be called before anything is started.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handlers are functions of a library that is never unmapped (`-z nodelete`), and
        // none of them unwinds.
        let result = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        if result != 0 {
            log::error!("no memory for fork handlers: a child must not use what it inherits");
        }
    });
}

/// Runs `body` while no fork can happen. Lines that it logs come out after it.
pub(crate) fn exclusively<T>(body: impl FnOnce() -> T) -> T {
    keeping_back(|| {
        let _turn = Turn::wait();
        body()
    })
}

/// Waits for a turn, but not for longer than `limit`; not at all if it is this thread's already.
pub(crate) fn turn_within(limit: Duration) -> Option<Turn> {
    if HAS_TURN.get() {
        return None;
    }
    let until = Instant::now() + limit;
    loop {
        match TURN.try_lock() {
            Ok(turn) => return Some(Turn::new(turn)),
            Err(TryLockError::Poisoned(poisoned)) => return Some(Turn::new(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Takes a new engine's thread in. At the end of the process it is to stand still like the others.
pub(crate) fn add(worker: Worker) {
    let mut registry = lock();
    let id = worker.id;
    // The engine has one thread, so this runs on it.
    worker.handle.spawn(async move { WORKER_OF.set(id) });
    if has_ended() {
        let gate = Arc::new(Gate::default());
        registry.still.push(Stillness(gate.clone()));
        worker.handle.spawn(async move { gate.pass() });
    }
    registry.workers.push(worker);
}

/// Forgets an engine whose thread has ended.
pub(crate) fn remove(id: u64) {
    lock().workers.retain(|worker| worker.id != id);
}

/// Keeps what a parent has left behind, untouched; NULL is nothing.
pub(crate) fn abandon(life: *const crate::life::Life) {
    if !life.is_null() {
        lock().abandoned.push(life as usize);
    }
}

/// The engines of this process, but for one whose thread this is.
pub(crate) fn others() -> Vec<Worker> {
    lock().workers.iter().filter(|worker| !is_worker_of(worker.id)).cloned().collect()
}

/// The end of the process: nothing starts any more, and every thread stands still for good, after waiting for it
/// at most for `patience`.
pub(crate) fn end(patience: Duration) {
    let mut registry = lock();
    let still = registry.stand_still(patience);
    registry.still.push(still);
    ENDED.store(true, Ordering::SeqCst);
}

/// Whether exit handlers have run.
pub(crate) fn has_ended() -> bool {
    ENDED.load(Ordering::SeqCst)
}

/// Whether this is the thread of that engine.
pub(crate) fn is_worker_of(id: u64) -> bool {
    WORKER_OF.get() == id
}

/// A number that no other engine of this process has.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

// === the handlers ===

extern "C" fn prepare() {
    guard_void(|| {
        let _turn = (!HAS_TURN.get()).then(Turn::wait);
        let registry = lock();
        let still = registry.stand_still(PATIENCE);
        let _paused = loads::pause(PATIENCE);
        // No new one begins: that takes the thread that stands still.
        let until = Instant::now() + LOOKUP_PATIENCE;
        while lookups::are_under_way() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: it is this thread's turn, see `Held`.
        unsafe { *HELD.0.get() = Some(Halt { _turn, registry, still, _paused }) };
    });
}

extern "C" fn parent() {
    // SAFETY: it is this thread's turn since `prepare`, see `Held`.
    guard_void(|| drop(unsafe { (*HELD.0.get()).take() }));
}

extern "C" fn child() {
    guard_void(|| {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        crate::log::after_fork();
        lookups::forget();
        loads::forget();
        // SAFETY: the copy of the thread whose turn it is, and the only thread there is, see `Held`.
        let halt = unsafe { (*HELD.0.get()).take() };
        if let Some(Halt { _turn, mut registry, still, _paused }) = halt {
            let workers = mem::take(&mut registry.workers);
            registry.inherited.push(workers);
            registry.still.push(still);
        }
    });
}

// === impl Turn ===

impl Turn {
    fn wait() -> Self {
        Self::new(TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn new(turn: MutexGuard<'static, ()>) -> Self {
        HAS_TURN.set(true);
        Self(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
    }
}

// === impl Registry ===

impl Registry {
    /// Waits until every thread stands still, at most for `patience`.
    fn stand_still(&self, patience: Duration) -> Stillness {
        let gate = Arc::new(Gate::default());
        let mut awaited = 0;
        // At the end of the process they stand still already, for good.
        let others = self.workers.iter().filter(|worker| !is_worker_of(worker.id) && !has_ended());
        for worker in others {
            let gate = gate.clone();
            worker.handle.spawn(async move { gate.pass() });
            awaited += 1;
        }
        gate.wait(awaited, patience);
        Stillness(gate)
    }
}

// === impl Gate ===

impl Gate {
    /// Arrives, and waits until the gate opens.
    fn pass(&self) {
        let mut state = self.state();
        state.arrived += 1;
        self.moved.notify_all();
        while !state.open {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until so many have arrived.
    fn wait(&self, count: usize, patience: Duration) {
        let state = self.state();
        drop(self.moved.wait_timeout_while(state, patience, |state| state.arrived < count));
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stillness {
    fn drop(&mut self) {
        self.0.state().open = true;
        self.0.moved.notify_all();
    }
}
