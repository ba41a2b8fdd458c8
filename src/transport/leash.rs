//! Holds the tasks of one HTTP/2 connection, so that it can be cut.
//!
//! hyper closes a client's connection by itself once nobody uses it; it has no way to break one off.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::AbortHandle;

/// An executor whose tasks can be aborted together. Cloning shares it; dropping it aborts nothing,
/// so that calls under way outlive their connection's retirement.
#[derive(Debug, Clone, Default)]
pub(super) struct Leash(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    tasks: Vec<AbortHandle>,
    /// How many to hold before the finished ones are sorted out.
    full: usize,
    cut: bool,
}

/// Calls come and go with a task each.
const FEW: usize = 32;

impl Leash {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(task).abort_handle();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.cut {
            task.abort();
            return;
        }
        if held.tasks.len() >= held.full {
            held.tasks.retain(|task| !task.is_finished());
            held.full = (held.tasks.len() * 2).max(FEW);
        }
        held.tasks.push(task);
    }

    /// Ends all tasks, those to come too; the socket is closed with them.
    pub(super) fn cut(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.cut = true;
        held.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Leash {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}
