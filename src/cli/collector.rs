//! `skytls collector`: runs a stand-in for the SkyWalking backend until it is told to stop.
//!
//! It prints nothing itself: it says when it is ready, and gives back what is to be printed at the end.

use std::fmt::Write;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{IdentitySource, Secret, Source};
use crate::error::{Code, Error, Result};
use crate::server::{Collector, CollectorSettings, CollectorTls, Counts, Fault};

/// Arguments of `skytls collector`.
#[derive(Debug, Clone, Args)]
pub struct CollectorArgs {
    /// Address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:11800")]
    pub listen: String,

    /// Certificate chain of the server, PEM: turns TLS on
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,

    /// Private key of the server, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,

    /// CA certificates that clients' certificates must come from, PEM: turns mutual TLS on
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub client_ca: Option<PathBuf>,

    /// Token that every call must carry
    #[arg(long, value_name = "TOKEN")]
    pub authentication: Option<String>,

    /// Something to do wrong, repeatable: status=CODE[:after=N|end], delay=MS, reset-after=N,
    /// close-after=N, goaway-after=N, hang, slow=BYTES_PER_S; each with :every=N, :times=N or
    /// :method=PART to strike fewer calls
    #[arg(long = "fault", value_name = "SPEC")]
    pub faults: Vec<Fault>,

    /// Print what was received as JSON
    #[arg(long)]
    pub json: bool,
}

/// How long calls under way may take to end once the collector is told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Runs the collector until `shutdown` is over; gives back what to print.
///
/// # Errors
///
/// Those of [`Collector::start`], and [`Code::BadListen`].
pub async fn run(
    args: CollectorArgs,
    on_ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<String> {
    let json = args.json;
    let collector = Collector::start(settings(args).await?).await?;
    on_ready(collector.address());
    shutdown.await;
    let counts = collector.shutdown(GRACE).await;
    if json {
        let text = serde_json::to_string(&counts);
        return text.map_err(|error| Error::new(Code::Bug).because(error));
    }
    Ok(table(&counts))
}

async fn settings(args: CollectorArgs) -> Result<CollectorSettings> {
    let tls = match (args.cert, args.key) {
        (Some(chain), Some(key)) => Some(CollectorTls {
            identity: IdentitySource {
                chain: Source::File(chain),
                key: Source::File(key),
                passphrase: None,
            },
            client_ca: args.client_ca.map(Source::File),
        }),
        (None, None) if args.client_ca.is_none() => None,
        // clap refuses these; whoever builds the arguments otherwise must not get plaintext.
        _ => {
            return Err(Error::new(Code::Usage)
                .expected("--cert and --key together, and both with --client-ca"));
        }
    };
    Ok(CollectorSettings {
        listen: resolve(&args.listen).await?,
        tls,
        authentication: args.authentication.map(Secret::new),
        faults: args.faults,
        ..CollectorSettings::default()
    })
}

async fn resolve(listen: &str) -> Result<SocketAddr> {
    let bad = || Error::new(Code::BadListen).found(listen);
    let well_formed = listen
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !well_formed {
        return Err(bad());
    }
    let mut found = tokio::net::lookup_host(listen).await.map_err(|error| bad().because(error))?;
    found.next().ok_or_else(bad)
}

fn table(counts: &Counts) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<12} {value}");
    };
    line(
        "received",
        format!(
            "{} messages, {} bytes, {} compressed",
            counts.received, counts.bytes, counts.compressed
        ),
    );
    line("connections", format!("{}", counts.connections));
    if counts.failed_handshakes > 0 {
        line("", format!("{} failed in the TLS handshake", counts.failed_handshakes));
    }
    line(
        "calls",
        format!(
            "{}: {} answered, {} refused, {} broken off",
            counts.calls, counts.calls_ok, counts.calls_refused, counts.calls_broken
        ),
    );
    if let Some(protocol) = &counts.protocol {
        let cipher = counts.cipher.as_deref().unwrap_or("no cipher");
        line("tls", format!("{protocol}, {cipher}"));
    }
    for subject in &counts.client_certificates {
        line("client", subject.clone());
    }
    for (path, messages) in &counts.by_method {
        line("method", format!("{path} {messages}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        collector: CollectorArgs,
    }

    fn parse(args: &[&str]) -> Result<CollectorArgs, clap::Error> {
        let line = [&["collector"], args].concat();
        Ok(Line::try_parse_from(line)?.collector)
    }

    #[test]
    fn arguments_that_would_mean_less_protection_than_asked_for_are_refused() {
        for args in [
            &["--cert", "a"][..],
            &["--key", "a"],
            &["--client-ca", "a"],
            &["--client-ca", "a", "--key", "b"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
        assert!(parse(&["--cert", "a", "--key", "b", "--client-ca", "c"]).is_ok());
    }

    #[test]
    fn a_wrong_fault_is_explained() {
        let error = parse(&["--fault", "crash"]).unwrap_err().to_string();
        assert!(error.contains("crash") && error.contains("close-after=N"), "{error}");
    }

    #[tokio::test]
    async fn addresses_are_resolved_or_refused() {
        assert_eq!(resolve("127.0.0.1:0").await.unwrap(), "127.0.0.1:0".parse().unwrap());
        assert!(resolve("[::1]:7").await.is_ok());
        assert!(resolve("localhost:7").await.unwrap().ip().is_loopback());
        for listen in ["", ":1", "localhost", "localhost:", "localhost:65536", "1.2.3.4.5:x"] {
            assert_eq!(resolve(listen).await.unwrap_err().code(), Code::BadListen, "{listen}");
        }
    }

    #[tokio::test]
    async fn a_run_without_calls_gives_an_empty_table_or_json() {
        for json in [false, true] {
            let mut args = parse(&["--listen", "127.0.0.1:0"]).unwrap();
            args.json = json;
            let mut ready = None;
            let out = run(args, |address| ready = Some(address), async {}).await.unwrap();
            assert_ne!(ready.unwrap().port(), 0);
            if json {
                assert!(out.starts_with("{\"received\":0,\"by_method\":{},"), "{out}");
            } else {
                assert!(out.starts_with("received     0 messages"), "{out}");
            }
        }
    }

    #[test]
    fn the_table_names_what_was_seen() {
        let counts = Counts {
            received: 7,
            by_method: [("/a/b", 7)].into(),
            protocol: Some("TLSv1.3".into()),
            client_certificates: vec!["CN=agent".into()],
            failed_handshakes: 1,
            ..Counts::default()
        };
        let text = table(&counts);
        for part in ["7 messages", "/a/b 7\n", "TLSv1.3", "CN=agent", "1 failed in the TLS"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
