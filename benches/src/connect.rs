//! What a handshake takes: connect, read the server's first words, say goodbye, again and again.
//!
//! The server's first words bring the session tickets, if it gives any. `openssl s_time` does less: it reads nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::{Args, ValueEnum};
use hyper_util::rt::TokioIo;
use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslSession, SslSessionCacheMode, SslStream, SslVerifyMode,
};
use ossl_ext::Session;
use skytls::Connector;
use skytls::config::Loader;
use skytls::tls::Generation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tower::{Service, ServiceExt};

use crate::Result;
use crate::client::{Cost, Meter};
use crate::pacer::Paced;

/// What connects, and how often.
#[derive(Debug, Clone, Args)]
pub(crate) struct Visits {
    pub(crate) visitor: Visitor,
    #[arg(long)]
    pub(crate) port: u16,
    #[arg(long)]
    pub(crate) ca: PathBuf,
    #[arg(long, default_value_t = 300)]
    pub(crate) count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Visitor {
    /// OpenSSL, by blocking calls.
    Openssl,
    OpensslResumed,
    /// skytls's connector.
    Skytls,
    SkytlsResumed,
}

/// What a client says first; the sink does not care.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const WARM_UP: u64 = 20;

pub(crate) fn run(visits: &Visits) -> Result<Cost> {
    match visits.visitor {
        Visitor::Openssl | Visitor::OpensslResumed => by_openssl(visits),
        Visitor::Skytls | Visitor::SkytlsResumed => by_skytls(visits),
    }
}

fn by_openssl(visits: &Visits) -> Result<Cost> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_ca_file(&visits.ca)?;
    context.set_verify(SslVerifyMode::PEER);
    context.set_alpn_protos(b"\x02h2")?;
    context.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
    let kept: Arc<Mutex<Option<SslSession>>> = Arc::default();
    let keep = kept.clone();
    context.set_new_session_callback(move |_, session| {
        if let Ok(mut keep) = keep.lock() {
            *keep = Some(session);
        }
    });
    let context = context.build();
    let resume = visits.visitor == Visitor::OpensslResumed;
    let visit = |expected: bool| -> Result<()> {
        let mut ssl = Ssl::new(&context)?;
        ssl.param_mut().set_host("localhost")?;
        ssl.set_hostname("localhost")?;
        let session = kept.lock().map_err(|_| "a callback has panicked")?.take();
        if let Some(session) = session.filter(|_| resume) {
            Session::copy_of(&session)?.offer(&mut ssl)?;
        }
        let socket = TcpStream::connect(("127.0.0.1", visits.port))?;
        socket.set_nodelay(true)?;
        let mut stream = SslStream::new(ssl, socket)?;
        stream.connect()?;
        stream.write_all(GREETING)?;
        let mut words = [0; 64];
        if stream.read(&mut words)? == 0 || stream.ssl().session_reused() != expected {
            return Err("not the handshake that is measured".into());
        }
        // The other side may be gone.
        let _ = stream.shutdown();
        Ok(())
    };
    visit(false)?;
    (1..WARM_UP).try_for_each(|_| visit(resume))?;
    let meter = Meter::start()?;
    (0..visits.count).try_for_each(|_| visit(resume))?;
    meter.stop(visits.count, Paced::default())
}

fn by_skytls(visits: &Visits) -> Result<Cost> {
    let loaded = Loader::new()
        .environment([])
        .set("agent.service_name", "bench")
        .set("collector.backend_service", format!("localhost:{}", visits.port))
        .set("agent.ssl_trusted_ca_path", visits.ca.to_string_lossy())
        .load()?;
    let tls = &loaded.settings.tls;
    let uri: http::Uri = format!("https://localhost:{}", visits.port).parse()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let visit = async |connector: &mut Connector| -> Result<()> {
        let mut stream = TokioIo::new(connector.ready().await?.call(uri.clone()).await?);
        stream.write_all(GREETING).await?;
        stream.flush().await?;
        if stream.read(&mut [0; 64]).await? == 0 {
            return Err("closed".into());
        }
        // The other side may be gone.
        _ = stream.shutdown().await;
        Ok(())
    };
    runtime.block_on(async {
        // It resumes whenever it can; for full handshakes the server is one that gives no tickets.
        let mut connector = Connector::from_generation(&Generation::load(tls)?);
        for _ in 0..WARM_UP {
            visit(&mut connector).await?;
        }
        let meter = Meter::start()?;
        for _ in 0..visits.count {
            visit(&mut connector).await?;
        }
        meter.stop(visits.count, Paced::default())
    })
}
