//! The skywalking crate as it is: its own objects, queue and stream, over rustls.
//!
//! It sends over tonic 0.12, which nothing else here does, and it drops what its queue of 255 has no room for: the
//! sink says how much that was.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use prost_0_13::Message;
use rustls::pki_types::ServerName;
use skywalking::proto::v3::SegmentObject;
use skywalking::reporter::grpc::GrpcReporter;
use skywalking::reporter::{CollectItem, Report};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tonic_0_12::transport::Endpoint;
use tower::service_fn;

use super::{Arrival, Cost, Meter, Task};
use crate::Result;
use crate::pacer::{Paced, pace};
use crate::segment;

/// How many are handed in at a time when there is a backlog: its queue has room for them.
const BATCH: u64 = 128;

pub(super) fn run(task: &Task) -> Result<Cost> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let segment = SegmentObject::decode(&*segment::encoded(task.size))?;
    runtime.block_on(report(task, &segment, task.warm_up, Arrival::Backlog))?;
    let meter = Meter::start()?;
    let paced = runtime.block_on(report(task, &segment, task.count, task.arrival))?;
    meter.stop(task.count, paced)
}

/// One reporter from its start to its end, since only that says that all has arrived. The handshake is a thousandth
/// of what is measured.
async fn report(
    task: &Task,
    segment: &SegmentObject,
    count: u64,
    arrival: Arrival,
) -> Result<Paced> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(super::tonic::rustls_client(task)?));
    let port = task.port;
    let channel = Endpoint::from_shared(format!("http://localhost:{port}"))?
        .connect_with_connector(service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let socket = TcpStream::connect(("127.0.0.1", port)).await?;
                socket.set_nodelay(true)?;
                let stream = connector.connect(ServerName::try_from("localhost")?, socket).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(TokioIo::new(stream))
            }
        }))
        .await?;
    let reporter = GrpcReporter::new(channel);
    let (end, ended) = oneshot::channel::<()>();
    let running =
        reporter.reporting().await.with_graceful_shutdown(async { _ = ended.await }).spawn();
    let paced = match arrival {
        Arrival::Backlog => {
            let mut left = count;
            while left > 0 {
                for _ in 0..left.min(BATCH) {
                    reporter.report(CollectItem::Trace(Box::new(segment.clone())));
                }
                left -= left.min(BATCH);
                // Its tasks have the thread: one moves the records, the other sends them.
                tokio::task::yield_now().await;
            }
            Paced::default()
        }
        Arrival::Rate(rate) => {
            let (reporter, segment) = (reporter.clone(), segment.clone());
            let host = std::thread::spawn(move || {
                pace(rate, count, || {
                    reporter.report(CollectItem::Trace(Box::new(segment.clone())));
                    Ok(())
                })
            });
            tokio::task::spawn_blocking(move || host.join())
                .await?
                .map_err(|_| "the host's thread has panicked")??
        }
    };
    _ = end.send(());
    running.await.map_err(|error| error.to_string())?;
    Ok(paced)
}
