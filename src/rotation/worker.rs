//! The thread of one rotation: looks, loads, judges, hands over, and says so.
//!
//! It may block on a file system that hangs: nothing else runs on it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::files::Files;
use super::judge::judge;
use super::loads::Load;
use super::reminders::Reminders;
use super::{Failure, Material, Order, Rotation};
use crate::error::{Chain, Code, Error, Result};
use crate::tls::Description;

pub(super) struct Worker<M: Material> {
    material: M,
    /// What is in force was read from these.
    in_force: Files,
    /// Files that must not be tried once more: each attempt counts.
    burnt: Option<Files>,
    /// The last refusal that was logged.
    said: Option<String>,
    interval: Option<Duration>,
    reminders: Reminders,
    status: watch::Sender<Rotation>,
}

/// Who wants the look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Time,
    Order,
}

/// How often files that change under the reader are read anew before the next look.
const READS: usize = 5;
/// How often dates are looked at when files are not.
const DATES: Duration = Duration::from_secs(3600);

// === impl Worker ===

impl<M: Material> Worker<M> {
    pub(super) fn new(
        material: M,
        in_force: Files,
        interval: Option<Duration>,
        status: watch::Sender<Rotation>,
    ) -> Self {
        let reminders = Reminders::of(&status.borrow().material, now());
        Self { material, in_force, burnt: None, said: None, interval, reminders, status }
    }

    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        loop {
            self.remind();
            match orders.recv_timeout(self.interval.unwrap_or(DATES)) {
                Ok(Order::Reload(then)) => then(self.look(Cause::Order)),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if self.interval.is_some() => {
                    // Logged, and in the status.
                    let _ = self.look(Cause::Time);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn look(&mut self, cause: Cause) -> Result<Rotation> {
        // From the first look on: OpenSSL digests what the files hold.
        let _load = Load::begin();
        let files = self.material.files();
        if cause == Cause::Time {
            // A refusal stands until a reading succeeds: its cause may lie outside of the files.
            if self.status.borrow().failure.is_none() && self.is_in_force(&files) {
                return Ok(self.status.borrow().clone());
            }
            if self.burnt.as_ref().is_some_and(|burnt| burnt.holds_the_same(&files)) {
                return Ok(self.status.borrow().clone());
            }
        }
        let (files, outcome) = self.read(files);
        self.burnt = None;
        if cause == Cause::Time && outcome.is_ok() && self.is_in_force(&files) {
            // They were put right, or what else was wrong.
            self.all_is_well();
            return Ok(self.status.borrow().clone());
        }
        let outcome = outcome.and_then(|loaded| {
            let material = Arc::new(M::description(&loaded).clone());
            self.material.put_in_force(loaded)?;
            Ok(material)
        });
        match outcome {
            Ok(material) => {
                self.in_force = files;
                self.rotated(material);
                Ok(self.status.borrow().clone())
            }
            Err(error) => {
                if error.code() == Code::UriSecretRefused {
                    self.burnt = Some(files);
                }
                Err(self.refused(error, cause))
            }
        }
    }

    fn is_in_force(&self, files: &Files) -> bool {
        files.holds_the_same(&self.in_force) && self.material.is_usable()
    }

    /// Reads the set until it was not written to meanwhile.
    fn read(&self, mut files: Files) -> (Files, Result<M::Loaded>) {
        for _ in 0..READS {
            let outcome = self.material.load().and_then(|loaded| {
                judge(M::description(&loaded), &self.status.borrow().material, now())?;
                Ok(loaded)
            });
            let after = self.material.files();
            // A wrong PIN counts at the token: once is enough.
            let burnt = matches!(&outcome, Err(error) if error.code() == Code::UriSecretRefused);
            if after == files || burnt {
                return (files, outcome);
            }
            files = after;
        }
        (files, Err(Error::new(Code::FilesChanging).found(format!("{READS} reads in a row"))))
    }

    fn rotated(&mut self, material: Arc<Description>) {
        let before = self.status.borrow().material.clone();
        self.said = None;
        self.status.send_modify(|status| {
            status.generation += 1;
            status.since = SystemTime::now();
            status.material = material.clone();
            status.failure = None;
        });
        let generation = self.status.borrow().generation;
        log::info!("{}: generation {generation} is in force: {}", M::NAME, outline(&material));
        for warning in material.warnings.iter().filter(|text| !before.warnings.contains(text)) {
            log::warn!("{}: {warning}", M::NAME);
        }
        self.reminders.renew(&material, now());
    }

    /// What the files hold is in force.
    fn all_is_well(&mut self) {
        if self.said.take().is_some() {
            log::info!("{}: the files hold what is in force again", M::NAME);
        }
        self.status.send_if_modified(|status| status.failure.take().is_some());
    }

    fn refused(&mut self, cause: Error, asked: Cause) -> Error {
        let in_force = self.status.borrow().clone();
        let until = in_force.material.chain.first().or(in_force.material.ca.first());
        let until = until.map(|one| format!(", {} until {}", one.subject, one.not_after));
        let error = Error::new(Code::RotationRefused)
            .found(format!(
                "{}; generation {} stays in force{}",
                cause.id(),
                in_force.generation,
                until.unwrap_or_default()
            ))
            .hint(cause.remedy())
            .because(cause);
        let text = Chain(&error).to_string();
        if asked == Cause::Order || self.said.as_ref() != Some(&text) {
            log::warn!("{}: {text}", M::NAME);
        }
        let is_same = self.said.replace(text.clone()) == Some(text);
        let failure = |old: Option<&Failure>| Failure {
            since: old.map_or_else(SystemTime::now, |old| old.since),
            attempts: old.map_or(0, |old| old.attempts) + 1,
            error: error.clone(),
        };
        self.status.send_modify(|status| {
            status.refused += 1;
            status.failure = Some(failure(status.failure.as_ref().filter(|_| is_same)));
        });
        error
    }

    fn remind(&mut self) {
        let material = self.status.borrow().material.clone();
        for text in self.reminders.due(&material, now()) {
            log::warn!("{}: {text}", M::NAME);
        }
    }
}

/// The subjects and how long they hold.
fn outline(material: &Description) -> String {
    let mut parts = Vec::new();
    for (what, list) in [("own", &material.chain), ("CA", &material.ca)] {
        for one in list {
            parts.push(format!("{what} certificate {}, {} days left", one.subject, one.days_left));
        }
    }
    for list in &material.crls {
        let left = list.days_left.map_or("no end".into(), |days| format!("{days} days left"));
        parts.push(format!("revocation list of {} with {}, {left}", list.issuer, list.revoked));
    }
    if parts.is_empty() { "the system's trust store".to_owned() } else { parts.join("; ") }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    use super::super::loads;
    use super::*;

    /// Says when its files are looked at.
    struct Looked(Sender<()>);

    impl Material for Looked {
        type Loaded = Description;
        const NAME: &'static str = "test";

        fn files(&self) -> Files {
            self.0.send(()).unwrap();
            Files::look([])
        }

        fn load(&self) -> Result<Description> {
            Ok(Description::default())
        }

        fn description(loaded: &Description) -> &Description {
            loaded
        }

        fn put_in_force(&mut self, _: Description) -> Result<()> {
            Ok(())
        }
    }

    fn publisher() -> watch::Sender<Rotation> {
        watch::Sender::new(Rotation {
            generation: 1,
            since: SystemTime::now(),
            material: Arc::new(Description::default()),
            refused: 0,
            failure: None,
        })
    }

    /// A fork at that moment would leave the child a lock of OpenSSL that nobody gives back.
    #[test]
    fn files_are_not_even_looked_at_during_a_pause() {
        let (tell, looked) = channel();
        let publish = publisher();
        for cause in [Cause::Time, Cause::Order] {
            let files = Files::look([]);
            let mut worker = Worker::new(Looked(tell.clone()), files, None, publish.clone());
            let pause = loads::pause(Duration::from_secs(30));
            thread::scope(|scope| {
                let looking = scope.spawn(|| worker.look(cause).map(drop));
                assert!(looked.recv_timeout(Duration::from_millis(50)).is_err(), "{cause:?}");
                drop(pause);
                looked.recv_timeout(Duration::from_secs(30)).unwrap();
                looking.join().unwrap().unwrap();
            });
            while looked.try_recv().is_ok() {}
        }
    }

    /// Fails for a reason that no file has, until it is put right.
    struct Spoilt(Arc<AtomicBool>);

    impl Material for Spoilt {
        type Loaded = Description;
        const NAME: &'static str = "test";

        fn files(&self) -> Files {
            Files::look([])
        }

        fn load(&self) -> Result<Description> {
            match self.0.load(Ordering::Relaxed) {
                true => Err(Error::new(Code::FipsNotProven)),
                false => Ok(Description::default()),
            }
        }

        fn description(loaded: &Description) -> &Description {
            loaded
        }

        fn put_in_force(&mut self, _: Description) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_refusal_that_is_not_the_files_fault_stands_until_a_reading_succeeds() {
        let (spoilt, publish) = (Arc::new(AtomicBool::new(true)), publisher());
        let material = Spoilt(spoilt.clone());
        let mut worker = Worker::new(material, Files::look([]), None, publish.clone());
        assert!(worker.look(Cause::Order).is_err());
        for attempts in 2..4 {
            assert!(worker.look(Cause::Time).is_err());
            let failure = publish.borrow().failure.clone();
            assert_eq!(failure.map(|failure| failure.attempts), Some(attempts));
        }
        spoilt.store(false, Ordering::Relaxed);
        let status = worker.look(Cause::Time).unwrap();
        assert!(status.failure.is_none() && status.generation == 1, "{status:?}");
        // And nothing is read while nothing is wrong.
        spoilt.store(true, Ordering::Relaxed);
        assert!(worker.look(Cause::Time).is_ok());
    }
}
