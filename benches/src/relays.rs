//! Relays as processes: plaintext HTTP/2 in, TLS out. What is measured is the relay's CPU time alone.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::jobs::word;
use crate::load::{Done, Shape};
use crate::stage::{Running, Stage, free_port, said};
use crate::{Result, cpu};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relay {
    Skytls,
    /// Copies bytes, and knows nothing of HTTP/2.
    Stunnel,
    Nginx,
    Haproxy,
}

/// One load on one relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) shape: Shape,
    pub(crate) size: usize,
    pub(crate) count: u64,
    pub(crate) agents: u64,
}

/// A relay that listens.
pub(crate) struct Up {
    pub(crate) process: Running,
    pub(crate) port: u16,
}

const START: Duration = Duration::from_secs(20);

/// CPU time per segment, in microseconds.
pub(crate) fn measure(stage: &mut Stage, relay: Relay, traffic: Traffic) -> Result<f64> {
    // First: the sink tells each connection at its beginning.
    stage.sink.expect(traffic.size)?;
    let up = relay.start(stage)?;
    let warm_up = Traffic { count: (traffic.count / 10).max(traffic.agents), ..traffic };
    send(stage, up.port, warm_up)?;
    let before = cpu::of_process(up.process.0.id())?;
    send(stage, up.port, traffic)?;
    let taken = cpu::of_process(up.process.0.id())? - before;
    Ok(taken / traffic.count as f64)
}

/// Sends, and waits until all has come out on the other side.
pub(crate) fn send(stage: &mut Stage, port: u16, traffic: Traffic) -> Result<()> {
    let Traffic { shape, size, count, agents } = traffic;
    let shape = word(shape);
    let mut load = stage.own("load")?;
    load.args([
        "--port",
        &port.to_string(),
        "--size",
        &size.to_string(),
        "--count",
        &count.to_string(),
    ]);
    load.args(["--agents", &agents.to_string(), "--shape", &shape]);
    let _: Done = said(&mut load)?;
    let counts = stage.arrived(count)?;
    if counts.good != count || counts.bytes != count * size as u64 {
        return Err(format!("{count} were sent, and {counts:?} have arrived").into());
    }
    Ok(())
}

// === impl Relay ===

impl Relay {
    pub(crate) const ALL: [Self; 4] = [Self::Skytls, Self::Stunnel, Self::Nginx, Self::Haproxy];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Skytls => "skytls",
            Self::Stunnel => "stunnel",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Skytls => "skytls run",
            Self::Stunnel => "stunnel",
            Self::Nginx => "nginx grpc_pass",
            Self::Haproxy => "haproxy",
        }
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(self, stage: &Stage) -> Result<Up> {
        let port = free_port()?;
        let mut command = match self {
            Self::Skytls => skytls(stage, port)?,
            Self::Stunnel => configured(stage, "stunnel4", &[], &stunnel(stage, port))?,
            Self::Nginx => {
                let prefix = stage.file("");
                let prefix = prefix.to_string_lossy();
                configured(
                    stage,
                    "nginx",
                    &["-p", &prefix, "-e", "stderr", "-c"],
                    &nginx(stage, port),
                )?
            }
            Self::Haproxy => configured(stage, "haproxy", &["-q", "-f"], &haproxy(stage, port))?,
        };
        let name = self.name();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(stage.file("relay.log"))?);
        let process = Running(command.spawn().map_err(|error| format!("{name}: {error}"))?);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > START {
                let log = fs::read_to_string(stage.file("relay.log"))?;
                return Err(format!("{name} does not listen: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Up { process, port })
    }
}

/// The relay as a user starts it.
pub(crate) fn skytls(stage: &Stage, port: u16) -> Result<Command> {
    let mut command = stage.program("skytls")?;
    command.args([
        "run",
        "--set",
        &format!("collector.backend_service=localhost:{}", stage.sink.port),
    ]);
    command.args(["--set", &format!("agent.ssl_trusted_ca_path={}", stage.ca().display())]);
    command.args(["--set", &format!("relay.listen=127.0.0.1:{port}")]);
    Ok(command)
}

fn configured(
    stage: &Stage,
    program: &str,
    arguments: &[&str],
    configuration: &str,
) -> Result<Command> {
    let file = stage.file(&format!("{program}.conf"));
    fs::write(&file, configuration)?;
    let mut command = Command::new(program);
    command.args(arguments).arg(file);
    Ok(command)
}

fn stunnel(stage: &Stage, port: u16) -> String {
    format!(
        "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
         [oap]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{}\nCAfile = {}\nverifyChain = yes\n\
         checkHost = localhost\nsni = localhost\n",
        stage.sink.port,
        stage.ca().display()
    )
}

/// One worker. It needs a connection to the backend for each stream that is open, keeps them all, and lets no limit
/// of requests end one.
fn nginx(stage: &Stage, port: u16) -> String {
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nuser root;\nworker_rlimit_nofile 8192;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path body;\n  proxy_temp_path p;\n  fastcgi_temp_path f;\n  \
         uwsgi_temp_path u;\n  scgi_temp_path s;\n  client_max_body_size 0;\n  keepalive_requests 1000000000;\n  \
         http2_max_concurrent_streams 128;\n  \
         upstream oap {{ server 127.0.0.1:{}; keepalive 1100; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen 127.0.0.1:{port} http2;\n    location / {{\n      grpc_pass grpcs://oap;\n      \
         grpc_socket_keepalive on;\n      grpc_ssl_protocols TLSv1.3;\n      grpc_ssl_trusted_certificate {};\n      \
         grpc_ssl_verify on;\n      grpc_ssl_name localhost;\n      grpc_ssl_server_name on;\n    }}\n  }}\n}}\n",
        stage.sink.port,
        stage.ca().display()
    )
}

fn haproxy(stage: &Stage, port: u16) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         defaults\n  mode http\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
         frontend agents\n  bind 127.0.0.1:{port} proto h2\n  default_backend oap\n\
         backend oap\n  server oap 127.0.0.1:{} ssl ca-file {} verify required verifyhost localhost \
         sni str(localhost) alpn h2 proto h2\n",
        stage.sink.port,
        stage.ca().display()
    )
}
