//! Agents that remember what they got an answer for, and how that compares with what arrived.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::grpc_client::Client;
use crate::spool_fixture::{World, report};

/// Agents that report for as long as they are let.
pub struct Fleet {
    agents: Vec<JoinHandle<Vec<u64>>>,
    stopped: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
}

/// What agents have done.
pub struct Reported {
    /// Numbers the relay has answered for.
    pub answered: Vec<u64>,
    /// All numbers below were sent, or meant to be.
    pub sent: u64,
}

/// Records of one stream.
const BATCH: u64 = 100;

impl Fleet {
    pub fn start(world: &World, relay: SocketAddr, agents: usize, path: &'static str) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let agent = |_| world.runtime.spawn(agent(relay, path, next.clone(), stopped.clone()));
        let agents = (0..agents).map(agent).collect();
        Self { agents, stopped, next }
    }

    pub fn stop(self, world: &World) -> Reported {
        self.stopped.store(true, Ordering::Relaxed);
        let mut answered = Vec::new();
        for agent in self.agents {
            answered.extend(world.runtime.block_on(agent).unwrap());
        }
        Reported { answered, sent: self.next.load(Ordering::Relaxed) }
    }
}

async fn agent(
    relay: SocketAddr,
    path: &'static str,
    next: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
) -> Vec<u64> {
    let mut answered = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(relay).await else {
            // It was killed and is about to be there again.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let Some(mut client) = Client::try_over(stream).await else { continue };
        while !stopped.load(Ordering::Relaxed) {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if !report(&mut client, path, first..first + BATCH).await {
                break;
            }
            answered.extend(first..first + BATCH);
        }
    }
    answered
}

/// What agents and collector say, held against each other.
pub struct Tally {
    pub missing: usize,
    pub invented: usize,
    pub repeated: usize,
}

impl Tally {
    pub fn of(reported: &Reported, arrived: &HashMap<u64, u32>) -> Self {
        let answered: HashSet<u64> = reported.answered.iter().copied().collect();
        Self {
            missing: answered.iter().filter(|number| !arrived.contains_key(number)).count(),
            invented: arrived.keys().filter(|number| **number >= reported.sent).count(),
            repeated: arrived.values().filter(|times| **times > 1).count(),
        }
    }
}
