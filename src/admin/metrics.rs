//! The figures in the text format of Prometheus.
//!
//! It is written here: what a metrics library adds is a registry of counters to increment, and all of
//! these are counted elsewhere already.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use super::View;
use super::status::seconds;
use crate::tls::Library;
use crate::transport::{BackendState, State};
use crate::uplink::{Account, Snapshot};

/// An exposition in the making.
#[derive(Default)]
struct Text {
    text: String,
    /// The family that samples belong to.
    name: String,
}

/// Names and values.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// All figures, as they are at this moment.
pub(super) fn render(view: &View) -> String {
    let mut text = Text::default();
    let openssl = Library::inspect().version;
    text.family("skytls_build_info", "gauge", "The version, and the OpenSSL in use.");
    let version = env!("CARGO_PKG_VERSION");
    text.sample(&[("version", version), ("openssl", &openssl), ("mode", view.mode.name())], 1);
    text.family("skytls_stopping", "gauge", "Whether the relay comes to its end.");
    text.sample(&[], u8::from(view.stopping.load(Ordering::Relaxed)));
    books(&mut text, &view.uplink.books());
    spool(&mut text, view);
    link(&mut text, view);
    rotation(&mut text, view);
    outage(&mut text, view);
    text.text
}

fn books(text: &mut Text, books: &Snapshot) {
    type Figure = fn(&Account) -> u64;
    let counters: [(&str, &str, Figure); 5] = [
        ("accepted", "Records taken over from agents.", |one| one.accepted),
        ("recovered", "Records found in a spool.", |one| one.recovered),
        ("acknowledged", "Records that the backend has confirmed.", |one| one.acknowledged),
        ("refused", "Records not taken over, for there was no room.", |one| one.refused),
        ("possibly_duplicated", "Records sent again although they may have arrived.", |one| {
            one.possibly_duplicated
        }),
    ];
    for (name, help, figure) in counters {
        text.family(&format!("skytls_records_{name}_total"), "counter", help);
        for (kind, account) in &books.by_kind {
            text.sample(&[("kind", kind)], figure(account));
        }
    }
    text.family("skytls_records_dropped_total", "counter", "Records given up, by reason.");
    for (kind, account) in &books.by_kind {
        let dropped = &account.dropped;
        for (reason, count) in [
            ("displaced", dropped.displaced),
            ("not_resent", dropped.not_resent),
            ("rejected", dropped.rejected),
            ("shutdown", dropped.shutdown),
            ("expired", dropped.expired),
            ("damaged", dropped.damaged),
        ] {
            text.sample(&[("kind", kind), ("reason", reason)], count);
        }
    }
    text.family("skytls_records_pending", "gauge", "Records on their way, by where they are.");
    for (kind, account) in &books.by_kind {
        for (place, count) in
            [("queued", account.queued), ("sent", account.sent), ("spooled", account.spooled)]
        {
            text.sample(&[("kind", kind), ("place", place)], count);
        }
    }
    let gauges: [(&str, &str, Figure); 2] = [
        ("records_durable", "Pending records that are in the spool.", |one| one.durable),
        ("pending_bytes", "Memory that pending records take.", |one| one.pending_bytes),
    ];
    for (name, help, figure) in gauges {
        text.family(&format!("skytls_{name}"), "gauge", help);
        for (kind, account) in &books.by_kind {
            text.sample(&[("kind", kind)], figure(account));
        }
    }
}

fn spool(text: &mut Text, view: &View) {
    let Some(spool) = view.uplink.spool() else { return };
    text.one("skytls_spool_bytes", "gauge", "Bytes of the spool's files.", spool.bytes);
    text.one("skytls_spool_files", "gauge", "Files of the spool.", spool.files);
    let help = "Whether the spool cannot be written, and records are in memory only.";
    text.one("skytls_spool_failing", "gauge", help, u8::from(spool.failing));
    let help = "Records in files that the disk did not take: a power cut may lose them.";
    text.one("skytls_spool_doubtful_records", "gauge", help, spool.doubtful);
}

fn link(text: &mut Text, view: &View) {
    let now = match view.transport.state() {
        State::Connecting => "connecting",
        State::Ready(_) => "ready",
        State::Resting { .. } => "resting",
        State::Misconfigured { .. } => "misconfigured",
        State::Stopped => "stopped",
    };
    text.family("skytls_link_state", "gauge", "The state of the link: 1 at the one it is in.");
    for state in ["connecting", "ready", "resting", "misconfigured", "stopped"] {
        text.sample(&[("state", state)], u8::from(state == now));
    }
    text.family("skytls_backend_resting", "gauge", "Whether a backend has failed and is let rest.");
    for status in view.transport.backends() {
        let resting = matches!(status.state, BackendState::Resting { .. });
        text.sample(&[("backend", &status.backend)], u8::from(resting));
    }
    let help = "Connections to the backend, by the generation of the material they were made with.";
    text.family("skytls_connections", "gauge", help);
    for (generation, count) in view.transport.connections() {
        text.sample(&[("generation", &generation.to_string())], count);
    }
}

fn rotation(text: &mut Text, view: &View) {
    let sets: Vec<_> = view.rotators.iter().map(|(name, one)| (*name, one.status())).collect();
    if sets.is_empty() {
        return;
    }
    let help = "Which generation of certificates is in force; that of the start is 1.";
    text.family("skytls_rotation_generation", "gauge", help);
    for (set, status) in &sets {
        text.sample(&[("set", set)], status.generation);
    }
    let help = "Sets of files that were looked at and not used.";
    text.family("skytls_rotation_refused_total", "counter", help);
    for (set, status) in &sets {
        text.sample(&[("set", set)], status.refused);
    }
    let help = "Whether the files as they are now are not used, for they are faulty.";
    text.family("skytls_rotation_failing", "gauge", help);
    for (set, status) in &sets {
        text.sample(&[("set", set)], u8::from(status.failure.is_some()));
    }
    let help = "Since when they are, in seconds since 1970.";
    text.family("skytls_rotation_failing_since_seconds", "gauge", help);
    for (set, status) in &sets {
        if let Some(failure) = &status.failure {
            text.sample(&[("set", set)], seconds(failure.since));
        }
    }
    let help = "End of each certificate in force, in seconds since 1970.";
    text.family("skytls_certificate_not_after_seconds", "gauge", help);
    for (set, status) in &sets {
        for (part, list) in [("ca", &status.material.ca), ("own", &status.material.chain)] {
            // A file may hold a certificate twice, and two series of the same labels make a scrape void: of
            // several ends the first one counts.
            let mut ends: BTreeMap<(&str, &str), i64> = BTreeMap::new();
            for one in list {
                let end = ends.entry((&one.subject, &one.serial)).or_insert(one.until);
                *end = one.until.min(*end);
            }
            for ((subject, serial), until) in ends {
                let labels =
                    [("set", *set), ("part", part), ("subject", subject), ("serial", serial)];
                text.sample(&labels, until);
            }
        }
    }
}

fn outage(text: &mut Text, view: &View) {
    let Some(stand_in) = (view.stand_in)() else { return };
    let away = u8::from(stand_in.away);
    text.one("skytls_backend_away", "gauge", "Whether the relay stands in for the backend.", away);
    let help = "How often it had to.";
    text.one("skytls_outages_total", "counter", help, stand_in.outages);
    text.family(
        "skytls_stand_in_calls_total",
        "counter",
        "Calls of agents in outages, by outcome.",
    );
    for (outcome, count) in [
        ("answered", stand_in.answered),
        ("queued", stand_in.queued),
        ("not_resent", stand_in.not_resent),
        ("refused", stand_in.refused),
        ("replayed", stand_in.replayed),
    ] {
        text.sample(&[("outcome", outcome)], count);
    }
}

// === impl Text ===

impl Text {
    /// Begins a family: the samples that follow are its own.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        name.clone_into(&mut self.name);
    }

    /// A sample of the last family.
    fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(&self.name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{}\"", escaped(value));
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.text, "{value}");
    }

    /// A family of one sample.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_bear_the_name_of_their_family_and_their_values_are_escaped() {
        let mut text = Text::default();
        text.one("a_total", "counter", "Of a.", 3);
        text.family("b", "gauge", "Of b.");
        text.sample(&[("x", "1"), ("y", "a\"b\\c\nd")], -4);
        assert_eq!(
            text.text,
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total 3\n\
             # HELP b Of b.\n# TYPE b gauge\nb{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} -4\n"
        );
    }
}
