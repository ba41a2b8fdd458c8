//! Certificates and keys that are renewed while the process runs: looked at, loaded together, judged,
//! and put in force, or not.
//!
//! Each set of files has a thread of its own, which looks every so often. It polls: there is nothing
//! to be notified by on network file systems, none of the notifications survives the swap of a
//! symbolic link several folders above, and a few small files cost nothing to read. What the material
//! is for is not known here.

mod files;
mod judge;
pub mod loads;
mod reminders;
mod worker;

use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};

use crate::error::{Code, Error, Result};
use crate::tls::Description;

pub(crate) use files::Files;

use worker::Worker;

/// The set in force, and how the files are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rotation {
    /// Which generation is in force; the one of the start is 1.
    pub generation: u64,
    /// Since when.
    pub since: SystemTime,
    /// What it consists of.
    pub material: Arc<Description>,
    /// How many sets were looked at and not used.
    pub refused: u64,
    /// Why the files as they are now are not used, or could not be read again; `None` while what they hold
    /// is in force, and the last reading succeeded.
    pub failure: Option<Failure>,
}

/// Files that are not used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// When this was first found.
    pub since: SystemTime,
    /// How often they have been tried since.
    pub attempts: u64,
    /// What is wrong, [`Code::RotationRefused`] with the cause as its source.
    pub error: Error,
}

/// A handle on the rotation of one set of files. Cloning shares it; it keeps nothing alive.
#[derive(Debug, Clone)]
pub struct Rotator {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Rotation>,
}

/// Ends the rotation when dropped.
#[derive(Debug)]
pub(crate) struct Rotor(Rotator);

/// What is rotated.
pub(crate) trait Material: Send + 'static {
    /// One generation of it.
    type Loaded;

    /// What the log calls it.
    const NAME: &'static str;

    /// The files as they are now.
    fn files(&self) -> Files;

    /// Whether what is in force can still be used. If not, it is read anew though no file has changed.
    fn is_usable(&self) -> bool {
        true
    }

    /// Reads and checks them, as at the start.
    fn load(&self) -> Result<Self::Loaded>;

    /// What a generation was made of.
    fn description(loaded: &Self::Loaded) -> &Description;

    /// Lets new connections be made with it, and retires the others.
    fn put_in_force(&mut self, loaded: Self::Loaded) -> Result<()>;
}

enum Order {
    Reload(Box<dyn FnOnce(Result<Rotation>) + Send>),
    Stop,
}

// === impl Rotor ===

impl Rotor {
    /// Rotates what is in force from now on. `files` is how they were before it was read, so that
    /// no change since then goes unseen. Without an interval it is done only when asked for.
    pub(crate) fn start<M: Material>(
        material: M,
        files: Files,
        description: &Description,
        interval: Option<Duration>,
    ) -> Result<Self> {
        let (orders, received) = mpsc::channel();
        let (publish, status) = watch::channel(Rotation {
            generation: 1,
            since: SystemTime::now(),
            material: Arc::new(description.clone()),
            refused: 0,
            failure: None,
        });
        let worker = Worker::new(material, files, interval, publish);
        std::thread::Builder::new()
            .name("skytls-rotation".into())
            .spawn(move || worker.run(&received))
            .map_err(|error| Error::new(Code::Bug).found("no threads to be had").because(error))?;
        Ok(Self(Rotator { orders, status }))
    }

    pub(crate) fn handle(&self) -> &Rotator {
        &self.0
    }
}

impl Drop for Rotor {
    fn drop(&mut self) {
        // An error: it has ended already.
        let _ = self.0.orders.send(Order::Stop);
    }
}

// === impl Rotator ===

impl Rotator {
    /// How it is at this moment.
    pub fn status(&self) -> Rotation {
        self.status.borrow().clone()
    }

    /// Waits for the next change; at the first call, for one since this handle was made. Once the
    /// rotation has ended there is none.
    pub async fn changed(&mut self) {
        if self.status.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads the files at once, changed or not, and puts them in force.
    ///
    /// # Errors
    ///
    /// [`Code::RotationRefused`] with the cause: what was in force stays so. [`Code::Stopped`].
    pub async fn reload(&self) -> Result<Rotation> {
        let (tell, answer) = oneshot::channel();
        self.order(move |outcome| {
            // Whoever asked may be gone.
            let _ = tell.send(outcome);
        });
        answer.await.unwrap_or_else(|_| Err(Error::new(Code::Stopped)))
    }

    /// The same for plain threads: blocks until it is done.
    ///
    /// # Errors
    ///
    /// Those of [`reload`](Self::reload).
    pub fn reload_blocking(&self) -> Result<Rotation> {
        let (tell, answer) = mpsc::channel();
        self.order(move |outcome| {
            let _ = tell.send(outcome);
        });
        answer.recv().unwrap_or_else(|_| Err(Error::new(Code::Stopped)))
    }

    /// Asks for a reload, whose outcome is in the log.
    pub(crate) fn request(&self) {
        self.order(|_| {});
    }

    fn order(&self, then: impl FnOnce(Result<Rotation>) + Send + 'static) {
        // An error: it has ended; then `then` is dropped, which tells.
        let _ = self.orders.send(Order::Reload(Box::new(then)));
    }
}
