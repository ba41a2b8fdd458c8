//! Machines of a network that exists for one test: network namespaces around a router, made by `ip`, so
//! that packets can vanish as they do on a real way. Nothing of it touches the network of the host.
//!
//! A thread that has moved to a machine opens its sockets there, and so do the threads it starts.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use skytls::server::{Collector, CollectorSettings};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// The agent's machine, those of its backends, and the router.
pub struct Network {
    name: String,
}

/// A backend; each has a wire of its own to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    One,
    Two,
}

/// A collector that runs on a machine until it is dropped.
pub struct Remote {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

const AGENT: Wire = Wire { name: "agent", number: 0 };
const ROUTER: &str = "router";
const PORT: u16 = 11800;

/// One end at a machine, which has the address 10.99.N.2, the other at the router, 10.99.N.1.
#[derive(Clone, Copy)]
struct Wire {
    name: &'static str,
    number: u8,
}

// === impl Network ===

impl Network {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("skytls-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let network = Self { name };
        ip(&["netns", "add", &network.of(ROUTER)]);
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        ip(&["netns", "exec", &network.of(ROUTER), "sh", "-c", forward]);
        for wire in [AGENT, Machine::One.wire(), Machine::Two.wire()] {
            network.connect(wire);
        }
        network
    }

    /// A runtime whose sockets are the agent's.
    pub fn agent(&self) -> Runtime {
        let name = self.of(AGENT.name);
        let made = std::thread::spawn(move || {
            enter(&name);
            Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
        });
        made.join().unwrap()
    }

    /// Starts a collector on a machine.
    pub fn serve(&self, machine: Machine, settings: CollectorSettings) -> Remote {
        let name = self.of(machine.wire().name);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter(&name);
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let _collector = Collector::start(settings).await.unwrap();
                ready.send(()).unwrap();
                let _ = stopped.await;
            });
        });
        is_ready.recv().unwrap();
        Remote { stop: Some(stop), thread: Some(thread) }
    }

    /// From now on packets from and to this machine vanish.
    pub fn swallow(&self, machine: Machine) {
        self.rules("add", machine);
    }

    /// Packets pass again.
    pub fn pass(&self, machine: Machine) {
        self.rules("del", machine);
    }

    /// Takes a machine away, with all that its system knows of connections, and puts a new one in its
    /// place.
    pub fn reboot(&self, machine: Machine, running: Remote) {
        // What the old one says at its end reaches nobody: its wire goes with it.
        drop(running);
        ip(&["-n", &self.of(ROUTER), "link", "delete", machine.wire().name]);
        ip(&["netns", "delete", &self.of(machine.wire().name)]);
        self.connect(machine.wire());
    }

    fn connect(&self, wire: Wire) {
        let (near, router) = (self.of(wire.name), self.of(ROUTER));
        let Wire { name, number } = wire;
        let (here, there) = (format!("10.99.{number}.2"), format!("10.99.{number}.1"));
        ip(&["netns", "add", &near]);
        ip(&["-n", &near, "link", "set", "lo", "up"]);
        let veth = ["link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", &router];
        ip(&[&["-n", &near][..], &veth].concat());
        for (machine, device, address) in [(&near, "eth0", &here), (&router, name, &there)] {
            ip(&["-n", machine, "address", "add", &format!("{address}/24"), "dev", device]);
            ip(&["-n", machine, "link", "set", device, "up"]);
        }
        ip(&["-n", &near, "route", "add", "default", "via", &there]);
    }

    fn rules(&self, verb: &str, machine: Machine) {
        let address = machine.address().ip().to_string();
        for way in ["from", "to"] {
            ip(&[
                "-n",
                &self.of(ROUTER),
                "rule",
                verb,
                way,
                &address,
                "priority",
                "1",
                "blackhole",
            ]);
        }
    }

    fn of(&self, machine: &str) -> String {
        format!("{}-{machine}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in [AGENT.name, Machine::One.wire().name, Machine::Two.wire().name, ROUTER] {
            let _ = Command::new("ip").args(["netns", "delete", &self.of(machine)]).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {said}; run ci/black-hole as root",
        arguments.join(" ")
    );
}

/// Moves this thread to a machine.
fn enter(machine: &str) {
    let namespace = File::open(format!("/run/netns/{machine}")).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

// === impl Machine ===

impl Machine {
    /// Where its collector listens.
    pub fn address(self) -> SocketAddr {
        (Ipv4Addr::new(10, 99, self.wire().number, 2), PORT).into()
    }

    fn wire(self) -> Wire {
        match self {
            Self::One => Wire { name: "one", number: 1 },
            Self::Two => Wire { name: "two", number: 2 },
        }
    }
}

// === impl Remote ===

impl Drop for Remote {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
