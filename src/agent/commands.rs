//! What the backend orders: each command once, one after the other, to whom it concerns.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::configuration::{self, Change, Watchers};
use super::profile::{self, ProfileTask};
use crate::protocol::v3::{Command, Commands};

/// Whom commands are handed to.
#[derive(Clone, Default)]
pub(super) struct Handlers {
    pub(super) profile: Option<Arc<dyn Fn(ProfileTask) + Send + Sync>>,
    pub(super) other: Option<Arc<dyn Fn(Command) + Send + Sync>>,
}

/// Where answers of the backend are handed in.
#[derive(Debug)]
pub(super) struct Orders {
    seen: Mutex<Serials>,
    queue: mpsc::Sender<Command>,
    /// When the newest profiling task was made: the backend sends only later ones.
    newest_task: AtomicI64,
}

/// A call of one of the host's callbacks.
type Work = Box<dyn FnOnce() + Send>;

/// The serial numbers of the last commands.
#[derive(Debug, Default)]
struct Serials(VecDeque<String>);

/// Commands that wait, and serial numbers that are remembered: as many as in the Java agent.
const PENDING: usize = 64;
const REMEMBERED: usize = 64;

// === impl Orders ===

impl Orders {
    /// A place to hand commands in, and where they come out.
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (queue, pending) = mpsc::channel(PENDING);
        let orders = Self { seen: Mutex::default(), queue, newest_task: AtomicI64::new(0) };
        (Arc::new(orders), pending)
    }

    /// Takes the commands of an answer; those that came before are passed over.
    pub(super) fn receive(&self, commands: Commands) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for command in commands.commands {
            let serial = serial(&command).to_owned();
            if seen.has(&serial) {
                log::debug!("the command {} {serial} came before", command.command);
                continue;
            }
            match self.queue.try_send(command) {
                Ok(()) => seen.add(serial),
                // Not remembered: the backend may send it again.
                Err(error) => log::warn!(
                    "the command {} is left out: {PENDING} others wait",
                    error.into_inner().command
                ),
            }
        }
    }

    /// When the newest profiling task was made, in milliseconds since the epoch.
    pub(super) fn newest_task(&self) -> i64 {
        self.newest_task.load(Relaxed)
    }

    /// Hands each command to whom it concerns, until there is nobody left who could send one.
    pub(super) async fn carry_out(
        self: Arc<Self>,
        mut pending: mpsc::Receiver<Command>,
        handlers: Handlers,
        watchers: Arc<Watchers>,
    ) {
        while let Some(command) = pending.recv().await {
            for work in self.assign(command, &handlers, &watchers) {
                // A host may block, or panic: neither must stop the engine, or keep from others what
                // concerns them.
                if let Err(error) = tokio::task::spawn_blocking(work).await
                    && error.is_panic()
                {
                    log::error!("the host panicked over a command of the backend");
                }
            }
        }
    }

    /// What is to be called because of a command, one after the other.
    fn assign(&self, command: Command, handlers: &Handlers, watchers: &Watchers) -> Vec<Work> {
        match command.command.as_str() {
            configuration::COMMAND => {
                let tell = |change: Change| -> Work { Box::new(move || change.tell()) };
                watchers.update(&command).into_iter().map(tell).collect()
            }
            profile::COMMAND => {
                let Some(task) = ProfileTask::read(&command) else {
                    log::warn!("a profiling task of the backend is incomplete");
                    return Vec::new();
                };
                self.newest_task.fetch_max(task.create_time, Relaxed);
                match handlers.profile.clone() {
                    Some(take) => vec![Box::new(move || take(task))],
                    None => Vec::new(),
                }
            }
            name => match handlers.other.clone() {
                Some(take) => vec![Box::new(move || take(command))],
                None => {
                    log::debug!("nobody takes the command {name:?}");
                    Vec::new()
                }
            },
        }
    }
}

/// The serial number of a command; empty if it has none.
fn serial(command: &Command) -> &str {
    let pair = command.args.iter().find(|pair| pair.key == "SerialNumber");
    pair.map_or("", |pair| &pair.value)
}

// === impl Serials ===

impl Serials {
    fn has(&self, serial: &str) -> bool {
        !serial.is_empty() && self.0.iter().any(|seen| seen == serial)
    }

    fn add(&mut self, serial: String) {
        if serial.is_empty() {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(serial);
    }
}

// === impl Handlers ===

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers")
            .field("profile", &self.profile.is_some())
            .field("other", &self.other.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::v3::KeyStringValuePair;

    fn numbered(serial: &str) -> Command {
        let pair = KeyStringValuePair { key: "SerialNumber".to_owned(), value: serial.to_owned() };
        Command { command: "Any".to_owned(), args: vec![pair] }
    }

    fn receive(orders: &Orders, serials: impl IntoIterator<Item = usize>) {
        let commands = serials.into_iter().map(|serial| numbered(&serial.to_string())).collect();
        orders.receive(Commands { commands });
    }

    fn pending(queue: &mut mpsc::Receiver<Command>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(command) = queue.try_recv() {
            all.push(serial(&command).to_owned());
        }
        all
    }

    #[test]
    fn a_command_is_carried_out_once_while_it_is_remembered() {
        let (orders, mut queue) = Orders::new();
        receive(&orders, [1, 2, 1]);
        receive(&orders, [2, 3]);
        assert_eq!(pending(&mut queue), ["1", "2", "3"]);
        receive(&orders, 4..=REMEMBERED + 1);
        assert_eq!(pending(&mut queue).len(), REMEMBERED - 2);
        receive(&orders, [2, REMEMBERED + 1, 1]);
        assert_eq!(pending(&mut queue), ["1"], "the oldest is forgotten");
    }

    #[test]
    fn a_command_without_a_number_is_no_repeat() {
        let (orders, mut queue) = Orders::new();
        let unnumbered = || Commands { commands: vec![numbered(""), numbered("")] };
        orders.receive(unnumbered());
        assert_eq!(pending(&mut queue).len(), 2);
        // And none is remembered in the place of one with a number.
        receive(&orders, [1]);
        for _ in 0..REMEMBERED {
            orders.receive(unnumbered());
            pending(&mut queue);
        }
        receive(&orders, [1, 2]);
        assert_eq!(pending(&mut queue), ["2"]);
    }

    #[test]
    fn one_that_found_no_room_may_come_again() {
        let (orders, mut queue) = Orders::new();
        receive(&orders, 0..PENDING + 1);
        assert_eq!(pending(&mut queue).len(), PENDING);
        receive(&orders, [PENDING]);
        assert_eq!(pending(&mut queue), [PENDING.to_string()]);
    }
}
