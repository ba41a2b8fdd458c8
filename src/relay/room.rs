//! Room for messages that are still arriving: one budget for all connections, so that many agents
//! which send large messages slowly do not add up to more memory than there is.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// The budget. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// What one call has taken of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Partial {
    room: Room,
    held: usize,
}

// === impl Room ===

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// For one more call.
    pub(super) fn partial(&self) -> Partial {
        Partial { room: self.clone(), held: 0 }
    }
}

// === impl Partial ===

impl Partial {
    /// Takes or gives back what is missing to `bytes`; `false` if there is not so much. Nobody waits:
    /// those who hold a part might all wait for each other.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let semaphore = &self.room.0;
        if bytes < self.held {
            semaphore.add_permits(self.held - bytes);
        } else if bytes > self.held {
            let more = u32::try_from(bytes - self.held).unwrap_or(u32::MAX);
            match semaphore.try_acquire_many(more) {
                Ok(permits) => permits.forget(),
                Err(_) => return false,
            }
        }
        self.held = bytes;
        true
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.room.0.add_permits(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_gives_back_another_may_take() {
        let room = Room::new(100);
        let (mut one, mut other) = (room.partial(), room.partial());
        assert!(one.hold(60) && other.hold(40) && !other.hold(41));
        assert!(one.hold(10) && other.hold(90) && !one.hold(11));
        drop(other);
        assert!(one.hold(100) && one.hold(0) && room.partial().hold(100));
    }
}
