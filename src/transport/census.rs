//! How many connections are open, by the generation of targets they were made for.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The counts. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Census(watch::Sender<BTreeMap<u64, usize>>);

/// One open connection; dropping it takes it off the count.
#[derive(Debug)]
pub(super) struct Present {
    census: Census,
    generation: u64,
}

// === impl Census ===

impl Census {
    pub(super) fn new() -> Self {
        Self(watch::channel(BTreeMap::new()).0)
    }

    pub(super) fn enter(&self, generation: u64) -> Present {
        self.0.send_modify(|counts| *counts.entry(generation).or_default() += 1);
        Present { census: self.clone(), generation }
    }

    pub(super) fn counts(&self) -> BTreeMap<u64, usize> {
        self.0.borrow().clone()
    }

    /// Waits until no connection of an older generation is open.
    pub(super) async fn none_before(&self, generation: u64) {
        let mut counts = self.0.subscribe();
        let gone = |counts: &BTreeMap<u64, usize>| counts.range(..generation).next().is_none();
        // `self` is a sender: there is no error.
        let _ = counts.wait_for(gone).await;
    }
}

// === impl Present ===

impl Drop for Present {
    fn drop(&mut self) {
        self.census.0.send_modify(|counts| {
            if let Some(count) = counts.get_mut(&self.generation) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.generation);
                }
            }
        });
    }
}
