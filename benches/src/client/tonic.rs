//! tonic as it is used with a TLS stream of one's own: encoded segments, 10,000 per stream, on a runtime of one thread.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{Arrival, Cost, Meter, PER_STREAM, Task};
use crate::Result;
use crate::pacer::{Paced, pace};
use crate::segment::{self, PATH};

/// What lies under it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tls {
    Openssl,
    /// The crate tonic-tls, with its feature `openssl`.
    #[cfg(feature = "peers")]
    Foreign,
    #[cfg(feature = "peers")]
    Rustls,
}

/// Leaves messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Raw;

pub(super) fn run(task: &Task, tls: Tls) -> Result<Cost> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let channel = runtime.block_on(connect(task, tls))?;
    let mut client = Grpc::new(channel);
    let segment = Bytes::from(segment::encoded(task.size));

    runtime.block_on(backlog(&mut client, &segment, task.warm_up))?;
    let meter = Meter::start()?;
    let paced = match task.arrival {
        Arrival::Backlog => {
            runtime.block_on(backlog(&mut client, &segment, task.count))?;
            Paced::default()
        }
        Arrival::Rate(rate) => {
            let (give, take) = mpsc::unbounded_channel();
            let count = task.count;
            // The host's thread; the runtime stays on this one.
            let host =
                std::thread::spawn(move || pace(rate, count, || Ok(give.send(segment.clone())?)));
            runtime.block_on(call(&mut client, UnboundedReceiverStream::new(take)))?;
            host.join().map_err(|_| "the host's thread has panicked")??
        }
    };
    meter.stop(task.count, paced)
}

async fn backlog(client: &mut Grpc<Channel>, segment: &Bytes, mut count: u64) -> Result<()> {
    while count > 0 {
        let now = count.min(PER_STREAM);
        let segment = segment.clone();
        let segments = tokio_stream::iter(0..now).map(move |_| segment.clone());
        call(client, segments).await?;
        count -= now;
    }
    Ok(())
}

async fn call(
    client: &mut Grpc<Channel>,
    segments: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<()> {
    client.ready().await?;
    client
        .client_streaming(tonic::Request::new(segments), PathAndQuery::from_static(PATH), Raw)
        .await?;
    Ok(())
}

async fn connect(task: &Task, tls: Tls) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://localhost:{}", task.port))?;
    let port = task.port;
    let socket = async move || {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        Ok::<_, std::io::Error>(socket)
    };
    let channel = match tls {
        Tls::Openssl => {
            let mut context = SslContext::builder(SslMethod::tls_client())?;
            context.set_ca_file(&task.ca)?;
            context.set_verify(SslVerifyMode::PEER);
            context.set_alpn_protos(b"\x02h2")?;
            let context = context.build();
            let connector = service_fn(move |_| {
                let (context, socket) = (context.clone(), socket);
                async move {
                    let mut ssl = Ssl::new(&context)?;
                    ssl.set_hostname("localhost")?;
                    ssl.param_mut().set_host("localhost")?;
                    let mut stream = tokio_openssl::SslStream::new(ssl, socket().await?)?;
                    std::pin::Pin::new(&mut stream).connect().await?;
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(TokioIo::new(stream))
                }
            });
            endpoint.connect_with_connector(connector).await?
        }
        #[cfg(feature = "peers")]
        Tls::Foreign => {
            let mut connector = openssl::ssl::SslConnector::builder(SslMethod::tls_client())?;
            connector.set_ca_file(&task.ca)?;
            connector.set_alpn_protos(b"\x02h2")?;
            let endpoint =
                Endpoint::from_shared(format!("http://127.0.0.1:{}", task.port))?.tcp_nodelay(true);
            let transport = tonic_tls::TcpTransport::from_endpoint(&endpoint);
            let connector = tonic_tls::openssl::TlsConnector::new(
                transport,
                connector.build(),
                "localhost".to_owned(),
            );
            endpoint.connect_with_connector(connector).await?
        }
        #[cfg(feature = "peers")]
        Tls::Rustls => {
            let connector =
                tokio_rustls::TlsConnector::from(std::sync::Arc::new(rustls_client(task)?));
            let connector = service_fn(move |_| {
                let (connector, socket) = (connector.clone(), socket);
                async move {
                    let name = rustls::pki_types::ServerName::try_from("localhost")?;
                    let stream = connector.connect(name, socket().await?).await?;
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(TokioIo::new(stream))
                }
            });
            endpoint.connect_with_connector(connector).await?
        }
    };
    Ok(channel)
}

#[cfg(feature = "peers")]
pub(super) fn rustls_client(task: &Task) -> Result<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&task.ca)? {
        roots.add(certificate?)?;
    }
    let mut config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])?
    .with_root_certificates(roots)
    .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

// === impl Raw ===

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(
        &mut self,
        message: Bytes,
        out: &mut EncodeBuf<'_>,
    ) -> std::result::Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, data: &mut DecodeBuf<'_>) -> std::result::Result<Option<()>, Status> {
        data.advance(data.remaining());
        Ok(Some(()))
    }
}
