//! A web server that is traced: `sw8` comes in with requests, and goes out with its own.
//!
//! ```text
//! SW_AGENT_NAME=shop SW_AGENT_COLLECTOR_BACKEND_SERVICES=localhost:11800 \
//!     cargo run --example web_server -- 127.0.0.1:8080 [HOST:PORT of another one]
//! ```
//!
//! reads `config/agent.config` and the environment like every agent. `GET /forward` asks the other
//! server, and both are in one trace. Not production style: no limits, no timeouts.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skytls::Agent;
use skytls::agent::Host;
use skytls::config::Loader;
use skytls::protocol::v3::{LogData, LogDataBody, TextLog, log_data_body::Content};
use skytls::trace::{Carrier, Layer, SW8, SW8_CORRELATION, Segment};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Clone)]
struct Shop {
    agent: Agent,
    client: Client<HttpConnector, Empty<Bytes>>,
    other: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("arguments: HOST:PORT [HOST:PORT]")?;
    let settings = Loader::new().discover().load()?.settings;
    let agent = Agent::start_for(&settings, Host::new("rust").agent_version("1.0.0"))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let shop = Shop { agent: agent.clone(), client, other: arguments.next() };
    let listener = TcpListener::bind(listen).await?;
    let mut end = signal(SignalKind::terminate())?;
    #[allow(clippy::disallowed_macros, reason = "a program, not the library")]
    {
        println!("listening on {}", listener.local_addr()?);
    }
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = end.recv() => break,
        };
        let shop = shop.clone();
        let answer = service_fn(move |request| shop.clone().answer(request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
    match agent.shutdown(Duration::from_secs(10)).await {
        0 => Ok(()),
        lost => Err(format!("{lost} records were lost").into()),
    }
}

impl Shop {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let correlation = header(SW8_CORRELATION).unwrap_or_default();
        let from = header(SW8).and_then(Carrier::parse).map(|c| c.with_correlation(correlation));

        let mut segment = self.agent.segment();
        let operation = format!("{}:{}", request.method(), request.uri().path());
        let span = segment.entry(&operation, from.as_ref());
        segment.layer(span, Layer::Http);
        segment.tag(span, "http.method", request.method().as_str());
        let (status, text) = match (request.uri().path(), &self.other) {
            ("/forward", Some(other)) => match self.forward(&mut segment, other).await {
                Ok(status) => (status, format!("{other} says {status}\n")),
                Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")),
            },
            ("/", _) => (StatusCode::OK, "hello\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "there is no such page\n".to_owned()),
        };
        segment.tag(span, "http.status_code", status.as_str());
        if status.is_server_error() {
            segment.error(span);
        }
        segment.end(span);
        let line = Content::Text(TextLog { text: format!("{operation} {status}") });
        self.agent.report(LogData {
            body: Some(LogDataBody { r#type: "TEXT".to_owned(), content: Some(line) }),
            trace_context: Some(segment.context(span)),
            ..LogData::default()
        });
        self.agent.report(segment);
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        Ok(response)
    }

    async fn forward(&self, segment: &mut Segment, other: &str) -> Result<StatusCode> {
        let span = segment.exit("GET:/", None, other);
        segment.layer(span, Layer::Http);
        let carrier = segment.inject(span);
        let request = Request::get(format!("http://{other}/"))
            .header(SW8, carrier.format().unwrap_or_default())
            .header(SW8_CORRELATION, carrier.correlation.format().unwrap_or_default())
            .body(Empty::new())?;
        let answer = self.client.request(request).await;
        if answer.is_err() {
            segment.error(span);
        }
        segment.end(span);
        Ok(answer?.status())
    }
}
