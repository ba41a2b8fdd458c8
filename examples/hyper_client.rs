//! hyper-util's client on its own, over TLS as the settings of an agent describe it.
//!
//! ```text
//! SW_AGENT_COLLECTOR_BACKEND_SERVICES=localhost:11800 cargo run --example hyper_client
//! ```
//!
//! reads `config/agent.config` and the environment like an agent. Not production style: only the
//! first backend is tried, the one gRPC message is framed by hand, and whoever fails ends the program.

use std::error::Error;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use skytls::config::Loader;
use skytls::protocol::{frame, v3::InstancePingPkg};
use skytls::tls::Generation;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Loader::new().discover().load()?.settings;
    let backend = settings.link.backends.first().ok_or("no backend is set")?;
    if !settings.tls.mode.is_tls() {
        return Err("the settings mean plaintext: no CA file, no agent.force_tls".into());
    }

    let connector = skytls::Connector::from_generation(&Generation::load(&settings.tls)?);
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build(connector);

    let ping = InstancePingPkg { service: "example".to_owned(), ..InstancePingPkg::default() };
    let ping = ping.encode_to_vec();
    let body = [&frame::header(false, ping.len())[..], &ping].concat();
    let request =
        Request::post(format!("https://{backend}/skywalking.v3.ManagementService/keepAlive"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::from(body))?;
    let (head, body) = client.request(request).await?.into_parts();
    let body = body.collect().await?;
    let status = body.trailers().unwrap_or(&head.headers).get("grpc-status").cloned();
    #[allow(clippy::disallowed_macros, reason = "a program, not the library")]
    {
        println!("{:?} {}, grpc-status {:?}", head.version, head.status, status);
    }
    Ok(())
}
