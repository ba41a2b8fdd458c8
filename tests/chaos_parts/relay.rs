//! A relay that comes back on the same port, and what its lives have said.

use std::net::SocketAddr;

use crate::spool_fixture::{World, address};
use crate::support::process::{Finished, Process};

pub struct Relay {
    pub address: SocketAddr,
    settings: Vec<String>,
    process: Option<Process>,
    /// How often each text was in the log, of all lives that have ended.
    said: [(&'static str, usize); 4],
    /// Of the lives that ended properly, added up.
    pub books: Books,
}

/// The last words of a relay.
#[derive(Debug, Default, Clone, Copy)]
pub struct Books {
    pub accepted: u64,
    pub recovered: u64,
    pub acknowledged: u64,
    pub dropped: u64,
    pub refused: u64,
}

/// What the log of a relay says.
pub mod log {
    pub const ROTATED: &str = "is in force:";
    pub const REFUSED: &str = "SKT-230";
    pub const FAILING: &str = "SKT-806";
    pub const RECOVERED: &str = "the spool can be written again";
    pub(super) const ALL: [&str; 4] = [ROTATED, REFUSED, FAILING, RECOVERED];
}

impl Relay {
    pub fn start(world: &World, backend: SocketAddr, more: &[String]) -> Self {
        let mut settings = vec![
            format!("collector.backend_service={backend}"),
            "agent.ssl_server_name=localhost".to_owned(),
            "agent.ssl_reload_interval=1".to_owned(),
            "agent.ssl_drain_timeout=1".to_owned(),
            "buffer.max_bytes=4194304".to_owned(),
            "relay.drain_timeout=60".to_owned(),
        ];
        settings.extend_from_slice(more);
        let mut relay = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            settings,
            process: None,
            said: log::ALL.map(|text| (text, 0)),
            books: Books::default(),
        };
        relay.again(world);
        relay
    }

    pub fn again(&mut self, world: &World) {
        let listen = format!("relay.listen={}", self.address);
        let mut settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        settings.push(&listen);
        let process = world.skytls(&settings).start();
        self.address = address(&process);
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            self.note(&process.finish());
        }
    }

    /// Ends it properly: nothing may be left anywhere but in the spool, and its books balance.
    pub fn end(&mut self) -> String {
        let process = self.process.take().unwrap();
        process.terminate();
        let finished = process.finish();
        self.note(&finished);
        finished.expect_code(0).stderr
    }

    /// Has it read its certificates at once.
    pub fn hang_up(&self) {
        self.process.as_ref().unwrap().signal("HUP");
    }

    /// How often the log of this life has said so up to now.
    pub fn says(&self, text: &str) -> usize {
        self.process.as_ref().unwrap().lines(text, 0).len()
    }

    /// Waits until the log of this life has said so this often.
    pub fn line(&self, text: &str, count: usize) {
        self.process.as_ref().unwrap().lines(text, count);
    }

    /// How often the logs of all lives that have ended have said so.
    pub fn said(&self, text: &str) -> usize {
        self.said.iter().find(|(one, _)| *one == text).map_or(0, |(_, count)| *count)
    }

    fn note(&mut self, finished: &Finished) {
        for (text, count) in &mut self.said {
            *count += finished.stderr.lines().filter(|line| line.contains(*text)).count();
        }
        // A killed one has no last words.
        if let Some(line) = finished.stderr.lines().find(|line| line.contains("accepted ")) {
            self.books.add(line);
        }
    }
}

impl Books {
    /// accepted A, recovered R, acknowledged K, dropped D, refused F, possibly duplicated P
    fn add(&mut self, line: &str) {
        let figure = |name: &str| -> u64 {
            let rest = line.split(&format!("{name} ")).nth(1).unwrap();
            rest.split([',', ' ']).next().unwrap().parse().unwrap()
        };
        self.accepted += figure("accepted");
        self.recovered += figure("recovered");
        self.acknowledged += figure("acknowledged");
        self.dropped += figure("dropped");
        self.refused += figure("refused");
    }
}
