//! Results as Markdown, and as plots.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Result;
use crate::jobs::Subject;
use crate::relays::Relay;
use crate::results::Results;
use crate::targets::Target;

const SIZES: [usize; 4] = [200, 682, 4096, 65_536];
const RATES: [&str; 2] = ["1000", "50000"];
const SHAPES: [(&str, &str); 3] = [
    ("batched", "10,000 per stream"),
    ("framed", "the same, one DATA frame each"),
    ("single", "one stream each"),
];

/// What the words of an id stand for.
pub(crate) fn label(word: &str) -> &str {
    match word {
        "floor" => "floor: `SSL_write` of full records",
        "skytls" => "**skytls**, Rust library",
        "skytls-c" => "**skytls**, C library",
        "tonic-openssl" => "tonic over tokio-openssl",
        "tonic-tls" => "tonic over tonic-tls (OpenSSL)",
        "tonic-rustls" => "tonic over rustls",
        "skywalking" => "skywalking crate 0.10 (rustls)",
        "grpc-hint" => "gRPC C++ with buffer hint",
        "grpc" => "gRPC C++",
        other => other,
    }
}

/// All of it as Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let machine = &results.machine;
    let _ = writeln!(
        text,
        "<!-- Made by ci/bench; do not edit. -->\n# Results\n\n{}, {} processors, Linux {}, {}, {}; commit {}, {}; {} rounds{}; load {}.\n\n\
         CPU time of the client alone, user and system, in µs per segment: the median of all rounds. `×` is the \
         ratio to the floor of the same round; ± is half the distance between the least and the most of these ratios.",
        machine.processor,
        machine.processors,
        machine.kernel,
        machine.openssl,
        machine.rustc,
        machine.commit,
        machine.date,
        results.rounds,
        if results.quick { ", quick" } else { "" },
        machine.load,
    );
    backlog(&mut text, results);
    arrival(&mut text, results);
    relays(&mut text, results);
    instructions(&mut text, results);
    rest(&mut text, results);
    targets(&mut text, &results.targets);
    if !results.missing.is_empty() {
        text.push_str("\n## Not measured\n\n");
        for (id, why) in &results.missing {
            let _ = writeln!(text, "- `{id}`: {why}");
        }
    }
    text
}

/// A cell: the value, and what it is of the floor.
fn cell(results: &Results, id: &str, to: &str) -> String {
    let Some(value) = results.median(id) else { return "–".to_owned() };
    match results.ratio(id, to) {
        Some(ratio) => {
            format!(
                "{} ({:.2} × ± {:.2})",
                number(value),
                ratio.median(),
                (ratio.most() - ratio.least()) / 2.0
            )
        }
        None => number(value),
    }
}

fn backlog(text: &mut String, results: &Results) {
    let sizes: Vec<usize> = SIZES
        .into_iter()
        .filter(|size| results.sample(&format!("client/floor/{size}/backlog")).is_some())
        .collect();
    if sizes.is_empty() {
        return;
    }
    text.push_str("\n## Library, backlog\n\n| client |");
    sizes.iter().for_each(|size| _ = write!(text, " {size} B |"));
    text.push_str("\n|---|");
    sizes.iter().for_each(|_| text.push_str("---|"));
    for subject in Subject::all() {
        let word = subject.word();
        let _ = write!(text, "\n| {} |", label(&word));
        for size in &sizes {
            let id = format!("client/{word}/{size}/backlog");
            let _ =
                write!(text, " {} |", cell(results, &id, &format!("client/floor/{size}/backlog")));
        }
    }
    text.push('\n');
}

fn arrival(text: &mut String, results: &Results) {
    let rates: Vec<&str> = RATES
        .into_iter()
        .filter(|rate| results.sample(&format!("client/skytls/682/{rate}")).is_some())
        .collect();
    if rates.is_empty() {
        return;
    }
    text.push_str("\n## One at a time, 682 B\n\nThe host's thread spins between segments; what it spins is taken off.\n\n| client |");
    rates.iter().for_each(|rate| _ = write!(text, " {rate}/s |"));
    text.push_str("\n|---|");
    rates.iter().for_each(|_| text.push_str("---|"));
    for subject in Subject::all() {
        let word = subject.word();
        if !rates.iter().any(|rate| results.sample(&format!("client/{word}/682/{rate}")).is_some())
        {
            continue;
        }
        let name = if word == "floor" { "`SSL_write` of each segment" } else { label(&word) };
        let _ = write!(text, "\n| {name} |");
        for rate in &rates {
            let id = format!("client/{word}/682/{rate}");
            let _ = write!(text, " {} |", cell(results, &id, &format!("client/floor/682/{rate}")));
        }
    }
    text.push('\n');
}

fn relays(text: &mut String, results: &Results) {
    let shapes: Vec<(&str, &str)> = SHAPES
        .into_iter()
        .filter(|(shape, _)| results.sample(&format!("relay/skytls/682/{shape}")).is_some())
        .collect();
    if shapes.is_empty() {
        return;
    }
    text.push_str("\n## Relays, 682 B, 8 local agents\n\nPlaintext HTTP/2 in, TLS out; CPU time of the relay. `×` is the ratio to stunnel.\n\n| relay |");
    shapes.iter().for_each(|(_, title)| _ = write!(text, " {title} |"));
    text.push_str("\n|---|");
    shapes.iter().for_each(|_| text.push_str("---|"));
    for relay in Relay::ALL {
        let _ = write!(text, "\n| {} |", relay.name());
        for (shape, _) in &shapes {
            let id = format!("relay/{}/682/{shape}", relay.word());
            let _ =
                write!(text, " {} |", cell(results, &id, &format!("relay/stunnel/682/{shape}")));
        }
    }
    text.push('\n');
}

fn instructions(text: &mut String, results: &Results) {
    let rows: Vec<_> =
        results.rows.iter().filter(|row| row.id.starts_with("instructions/")).collect();
    if rows.is_empty() {
        return;
    }
    text.push_str("\n## Instructions, 682 B, backlog\n\nBy callgrind, with those of libc and of the TLS library.\n\n| client | per segment |\n|---|---|\n");
    for row in rows {
        let word = row.id.trim_start_matches("instructions/");
        let _ = writeln!(
            text,
            "| {} | {} |",
            label(word),
            cell(results, &row.id, "instructions/floor")
        );
    }
}

/// Rows that stand for themselves.
fn rest(text: &mut String, results: &Results) {
    let mut rows = results
        .rows
        .iter()
        .filter(|row| {
            !["client/", "relay/", "instructions/"].iter().any(|prefix| row.id.starts_with(prefix))
        })
        .peekable();
    if rows.peek().is_none() {
        return;
    }
    text.push_str("\n## Handshakes, reports, growth, footprint\n\n| what | median | least – most |\n|---|---|---|\n");
    for row in rows {
        let (sample, unit) = (&row.sample, &row.unit);
        let _ = writeln!(
            text,
            "| {} | {} {unit} | {} – {} |",
            row.id.replace('/', ", "),
            number(sample.median()),
            number(sample.least()),
            number(sample.most())
        );
    }
}

fn targets(text: &mut String, targets: &[Target]) {
    text.push_str("\n## Targets\n\n| what | at most | reached | |\n|---|---|---|---|\n");
    for target in targets {
        let reached = target.reached.map_or_else(|| "–".to_owned(), number);
        let verdict = match target.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        let unit = &target.unit;
        let _ = writeln!(
            text,
            "| {} | {} {unit} | {reached} {unit} | {verdict} |",
            target.what,
            number(target.bound)
        );
    }
}

/// With as many digits as say something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Puts the clients into a text that has marks for them.
pub(crate) fn show(results: &Results, file: &Path) -> Result<()> {
    const BEGIN: &str = "<!-- bench: made by ci/bench -->\n";
    const END: &str = "<!-- /bench -->";
    let text = fs::read_to_string(file)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no mark where the results begin")?;
    let (_, after) = rest.split_once(END).ok_or("no mark where the results end")?;
    let machine = &results.machine;
    let mut table = String::from("| client | µs | × floor |\n|---|---|---|\n");
    for subject in Subject::all() {
        let (word, floor) = (subject.word(), "client/floor/682/backlog");
        let id = format!("client/{word}/682/backlog");
        if let (Some(value), Some(ratio)) = (results.median(&id), results.ratio(&id, floor)) {
            let _ = writeln!(table, "| {} | {value:.2} | {:.2} |", label(&word), ratio.median());
        }
    }
    let _ = writeln!(
        table,
        "\n{} {}, {}, {}; medians of {} rounds; CPU time only, while others used the machine too.",
        machine.date, machine.processor, machine.openssl, machine.rustc, results.rounds
    );
    fs::write(file, format!("{before}{BEGIN}{table}{END}{after}"))?;
    Ok(())
}

/// Writes the Markdown and the plots.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::write(folder.join("latest.md"), markdown(results))?;
    #[cfg(feature = "peers")]
    plots(results, folder)?;
    Ok(())
}

#[cfg(feature = "peers")]
fn plots(results: &Results, folder: &Path) -> Result<()> {
    use crate::plot::{self, Curve};

    let bars: Vec<(String, f64)> = Subject::all()
        .filter_map(|subject| {
            let word = subject.word();
            let ratio =
                results.ratio(&format!("client/{word}/682/backlog"), "client/floor/682/backlog")?;
            Some((label(&word).replace(['*', '`'], ""), ratio.median()))
        })
        .collect();
    if !bars.is_empty() {
        plot::bars(
            &folder.join("clients.svg"),
            "CPU per segment of 682 B, backlog: ratio to the floor",
            &bars,
        )?;
    }
    let curve = |prefix: &str, unit: f64| -> Vec<(f64, f64)> {
        let points = results.rows.iter().filter_map(|row| {
            let at = row.id.strip_prefix(prefix)?.parse().ok()?;
            Some((at, row.sample.median() / unit))
        });
        points.collect()
    };
    let growth = [
        Curve {
            file: "growth-records.svg",
            title: "CPU per record",
            across: "records",
            up: "µs",
            points: curve("growth/records/", 1.0),
        },
        Curve {
            file: "growth-memory.svg",
            title: "Peak memory of the library",
            across: "records",
            up: "MiB",
            points: curve("growth/memory/", 1024.0),
        },
        Curve {
            file: "growth-agents.svg",
            title: "CPU of the relay per record",
            across: "local agents",
            up: "µs",
            points: curve("growth/agents/", 1.0),
        },
    ];
    for curve in growth.iter().filter(|curve| !curve.points.is_empty()) {
        plot::curve(folder, curve)?;
    }
    Ok(())
}
