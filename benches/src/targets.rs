//! What is to be reached, and whether it was.

use serde::{Deserialize, Serialize};

use crate::results::Results;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    /// At most this.
    pub(crate) bound: f64,
    /// The median; `None` when it was not measured.
    pub(crate) reached: Option<f64>,
    pub(crate) unit: String,
    pub(crate) met: Option<bool>,
}

/// Where a number comes from.
enum Of<'a> {
    Row(&'a str),
    /// The first divided by the second, round by round.
    Ratio(&'a str, &'a str),
    /// The median of the first divided by that of the second.
    Medians(&'a str, &'a str),
}

const SKYTLS: &str = "client/skytls/682/backlog";

pub(crate) fn judge(results: &Results) -> Vec<Target> {
    use Of::*;
    let crowd =
        if results.sample("crowd/per-agent/1000").is_some() { "crowd/per-agent/1000" } else { "" };
    let most = ["growth/records/10000000", "growth/records/1000000"];
    let records = most.into_iter().find(|id| results.sample(id).is_some()).unwrap_or(most[0]);
    let memory = records.replace("records", "memory");
    let table = [
        (
            "library, 682 B, backlog, × the floor",
            1.5,
            "×",
            Ratio(SKYTLS, "client/floor/682/backlog"),
        ),
        (
            "the same, × tonic over rustls",
            1.0,
            "×",
            Ratio(SKYTLS, "client/tonic-rustls/682/backlog"),
        ),
        (
            "the same, × gRPC C++ with buffer hint",
            0.2,
            "×",
            Ratio(SKYTLS, "client/grpc-hint/682/backlog"),
        ),
        (
            "the same, × the skywalking crate",
            1.0 / 15.0,
            "×",
            Ratio(SKYTLS, "client/skywalking/682/backlog"),
        ),
        ("`skytls_agent_report`, 1 thread, p50", 100.0, "ns", Row("report/p50/1")),
        ("`skytls_agent_report`, 1 thread, p99", 1000.0, "ns", Row("report/p99/1")),
        ("`skytls_agent_report`, 8 threads, p50", 100.0, "ns", Row("report/p50/8")),
        ("`skytls_agent_report`, 8 threads, p99", 1000.0, "ns", Row("report/p99/8")),
        (
            "relay, batched clients, × stunnel",
            1.0,
            "×",
            Ratio("relay/skytls/682/batched", "relay/stunnel/682/batched"),
        ),
        (
            "relay, one stream per segment, × nginx",
            0.5,
            "×",
            Ratio("relay/skytls/682/single", "relay/nginx/682/single"),
        ),
        (
            "50,000 a second, one at a time, × tonic over tokio-openssl",
            1.0 / 3.0,
            "×",
            Ratio("client/skytls/682/50000", "client/tonic-openssl/682/50000"),
        ),
        (
            "full handshake, × `openssl s_time`",
            1.1,
            "×",
            Ratio("handshake/skytls", "handshake/s-time"),
        ),
        (
            "resumed handshake, × full",
            1.0 / 3.0,
            "×",
            Ratio("handshake/skytls-resumed", "handshake/skytls"),
        ),
        ("idle relay, memory", 10_240.0, "KiB", Row("idle/rss")),
        ("idle relay, wake-ups", 2.0, "per second", Row("idle/wake-ups")),
        ("1,000 local agents, memory of each", 64.0, "KiB", Row(crowd)),
        (
            "cost of a record, the most records × 100,000",
            1.05,
            "×",
            Medians(records, "growth/records/100000"),
        ),
        (
            "peak memory, the most records × 100,000",
            1.1,
            "×",
            Medians(&memory, "growth/memory/100000"),
        ),
        (
            "cost of a record, 1,000 local agents × 1",
            1.5,
            "×",
            Medians("growth/agents/1000", "growth/agents/1"),
        ),
    ];
    table
        .into_iter()
        .map(|(what, bound, unit, of)| {
            let reached = match of {
                Row(id) => results.median(id),
                Ratio(of, to) => results.ratio(of, to).map(|sample| sample.median()),
                Medians(of, to) => {
                    results.median(of).zip(results.median(to)).map(|(of, to)| of / to)
                }
            };
            let reached = reached.filter(|reached| reached.is_finite());
            let met = reached.map(|reached| reached <= bound);
            Target { what: what.to_owned(), bound, reached, unit: unit.to_owned(), met }
        })
        .collect()
}
