//! A generated tonic client over an `SslConnector` that the caller has built with the openssl crate.
//!
//! ```text
//! cargo run --example tonic_client -- localhost:11800 ca/ca.crt ca/client.crt ca/client.pem
//! ```
//!
//! Not production style: `SslConnector::builder` replaces the cipher string of openssl.cnf by the
//! crate's own and trusts the system's store besides the CA file, and an encrypted key makes OpenSSL
//! ask on the terminal (`hyper_client` shows the way that does none of this). One call is made, and
//! whoever fails ends the program.

use std::error::Error;
use std::{env, process};

use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use skytls::protocol::v3::InstancePingPkg;
use skytls::protocol::v3::management_service_client::ManagementServiceClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [backend, ca, identity @ ..] = arguments.as_slice() else {
        return Err("arguments: HOST:PORT CA [CHAIN KEY]".into());
    };

    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_ca_file(ca)?;
    if let [chain, key] = identity {
        builder.set_certificate_chain_file(chain)?;
        builder.set_private_key_file(key, SslFiletype::PEM)?;
    }

    // The host is verified and HTTP/2 demanded, whatever the connector says about either.
    let connector = skytls::Connector::new(builder.build());
    let channel = connector.endpoint(backend)?.connect_with_connector(connector).await?;

    let ping = InstancePingPkg {
        service: "example".to_owned(),
        service_instance: format!("{}@localhost", process::id()),
        ..InstancePingPkg::default()
    };
    let answer = ManagementServiceClient::new(channel).keep_alive(ping).await?.into_inner();
    #[allow(clippy::disallowed_macros, reason = "a program, not the library")]
    {
        println!("the backend is alive and sent {} commands", answer.commands.len());
    }
    Ok(())
}
