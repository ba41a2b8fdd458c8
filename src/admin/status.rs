//! The state of everything as one JSON document, and as a page.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::View;
use crate::error::{Chain, Error};
use crate::pki::rfc3339;
use crate::rotation::Rotation;
use crate::tls::{CertificateInfo, Description, Library};
use crate::transport::{BackendState, BackendStatus, State};

/// Everything, as it is at this moment.
pub(super) fn document(view: &View) -> Value {
    let library = Library::inspect();
    let rotation: serde_json::Map<String, Value> = view
        .rotators
        .iter()
        .map(|(name, rotator)| ((*name).to_owned(), rotated(&rotator.status())))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "openssl": { "version": library.version, "origin": library.origin },
        "mode": view.mode.name(),
        "mode_reason": view.mode.reason().to_string(),
        "stopping": view.stopping.load(std::sync::atomic::Ordering::Relaxed),
        "link": link(&view.transport.state()),
        "backends": view.transport.backends().iter().map(backend).collect::<Vec<_>>(),
        "connections_by_generation": view.transport.connections(),
        "rotation": rotation,
        "spool": view.uplink.spool(),
        "outage": (view.stand_in)(),
        "books": view.uplink.books(),
    })
}

/// The same for people, without a script.
pub(super) fn page(view: &View) -> String {
    let text = format!("{:#}", document(view));
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>skytls</title><h1>skytls</h1>\
         <p><a href=/healthz>health</a> <a href=/metrics>metrics</a> <a href=/status>status</a>\
         <pre>{escaped}</pre></html>\n"
    )
}

fn link(state: &State) -> Value {
    match state {
        State::Connecting => json!({ "state": "connecting" }),
        State::Ready(ready) => json!({
            "state": "ready",
            "backend": ready.backend,
            "address": ready.remote.map(|address| address.to_string()),
            "connected_seconds": ready.since.elapsed().as_secs(),
            "tls": ready.negotiated,
        }),
        State::Resting { until, reason } => {
            json!({ "state": "resting", "next_attempt_seconds": ahead(*until), "why": why(reason) })
        }
        State::Misconfigured { until, reason } => json!({
            "state": "misconfigured",
            "next_attempt_seconds": until.map(ahead),
            "why": why(reason),
        }),
        State::Stopped => json!({ "state": "stopped" }),
    }
}

fn backend(status: &BackendStatus) -> Value {
    let mut value = json!({ "backend": status.backend });
    match &status.state {
        BackendState::InUse => value["state"] = json!("in_use"),
        BackendState::Spare => value["state"] = json!("spare"),
        BackendState::Resting { until, since, attempts, reason } => {
            value["state"] = json!("resting");
            value["failing_seconds"] = json!(since.elapsed().as_secs());
            value["next_attempt_seconds"] = json!(ahead(*until));
            value["attempts"] = json!(attempts);
            value["why"] = why(reason);
        }
    }
    value
}

fn rotated(rotation: &Rotation) -> Value {
    json!({
        "generation": rotation.generation,
        "since": moment(rotation.since),
        "refused": rotation.refused,
        "failure": rotation.failure.as_ref().map(|failure| json!({
            "since": moment(failure.since),
            "attempts": failure.attempts,
            "why": why(&failure.error),
        })),
        "material": material(&rotation.material),
    })
}

fn material(material: &Description) -> Value {
    let list = |certificates: &[CertificateInfo]| -> Vec<Value> {
        let one = |certificate: &CertificateInfo| {
            json!({
                "subject": certificate.subject,
                "issuer": certificate.issuer,
                "serial": certificate.serial,
                "not_after": rfc3339(certificate.until),
                "seconds_left": certificate.until - seconds(SystemTime::now()),
            })
        };
        certificates.iter().map(one).collect()
    };
    json!({
        "ca": list(&material.ca),
        "own": list(&material.chain),
        "revocation_lists": material.crls.iter().map(|list| {
            json!({ "issuer": list.issuer, "next_update": list.next_update })
        }).collect::<Vec<_>>(),
        "fips": material.fips,
        "warnings": material.warnings,
    })
}

/// An error as others can look it up.
fn why(error: &Error) -> Value {
    json!({ "id": error.code().to_string(), "text": Chain(error).to_string() })
}

fn ahead(until: Instant) -> u64 {
    until.saturating_duration_since(Instant::now()).as_secs()
}

fn moment(time: SystemTime) -> String {
    rfc3339(seconds(time))
}

pub(super) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
