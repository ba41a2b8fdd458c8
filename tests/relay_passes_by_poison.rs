//! A record the backend breaks over costs only itself; a backend that breaks over everything costs
//! nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use grpc_client::{Client, SEGMENTS, framed, request};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use skytls::config::Loader;
use skytls::engine::{Engine, Purpose};
use skytls::protocol::frame::{MAX_MESSAGE, Splitter};
use skytls::relay::Relay;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::body::Body;

const DEADLINE: Duration = Duration::from_secs(60);

/// A backend that cannot decode some messages, as a real one cannot.
#[derive(Default)]
struct Backend {
    taken: Mutex<Vec<Bytes>>,
    refuses: Option<(&'static [u8], Status)>,
    broken: AtomicBool,
}

impl Backend {
    async fn answer(&self, call: Request<Incoming>) -> Response<Body> {
        let body = call.into_body().collect().await.unwrap().to_bytes();
        let mut splitter = Splitter::new(MAX_MESSAGE);
        splitter.push(body);
        let mut messages = Vec::new();
        while let Some(message) = splitter.next().unwrap() {
            messages.push(message.data);
        }
        if self.broken.load(Ordering::Relaxed) {
            return Status::unknown("out of order").into_http();
        }
        for message in messages {
            match &self.refuses {
                Some((poison, status)) if message == *poison => return status.clone().into_http(),
                _ => self.taken.lock().unwrap().push(message),
            }
        }
        let trailers =
            http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let body =
            Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
        Response::new(Body::new(body))
    }

    async fn listen(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let backend = backend.clone();
                let service = hyper::service::service_fn(move |call| {
                    let backend = backend.clone();
                    async move { Ok::<_, Infallible>(backend.answer(call).await) }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        address
    }

    fn distinct(&self) -> BTreeSet<Bytes> {
        self.taken.lock().unwrap().iter().cloned().collect()
    }
}

/// Reports records through a relay to the backend; gives back the engine to look at its books.
fn relay(runtime: &Runtime, backend: SocketAddr) -> (Engine, Relay) {
    let loader = Loader::new()
        .environment([])
        .relay(true)
        .set("relay.listen", "127.0.0.1:0")
        .set("collector.backend_service", backend.to_string());
    let settings = loader.load().unwrap().settings;
    let engine = Engine::start(&settings, Purpose::Relay).unwrap();
    let (uplink, transport) = (engine.uplink().clone(), engine.transport().clone());
    let relay = Relay::start(&settings, uplink, transport, runtime.handle()).unwrap();
    (engine, relay)
}

async fn report(relay: &Relay, records: impl IntoIterator<Item = Bytes>) {
    let mut client = Client::plain(relay.addresses()[0]).await;
    let chunks: Vec<Bytes> = records.into_iter().map(|record| framed(&record)).collect();
    let reply = client.call(request(SEGMENTS, &[]), chunks).await.unwrap();
    assert_eq!(reply.status, Some(0));
}

fn records(from: u32, until: u32) -> impl Iterator<Item = Bytes> {
    (from..until).map(|number| Bytes::from(format!("record {number}")))
}

fn one_in_many_is_poison(status: Status) {
    let runtime = Runtime::new().unwrap();
    let backend = Arc::new(Backend { refuses: Some((b"poison", status)), ..Backend::default() });
    let address = runtime.block_on(backend.listen());
    let (engine, relay) = relay(&runtime, address);
    runtime.block_on(async {
        let poison = [Bytes::from_static(b"poison")];
        report(&relay, records(0, 50).chain(poison).chain(records(50, 100))).await;
        report(&relay, records(100, 110)).await;
        assert_eq!(engine.uplink().flush(DEADLINE).await, 0, "{:?}", engine.uplink().books());
    });
    let books = engine.uplink().books().total;
    assert_eq!((books.acknowledged, books.dropped.rejected), (110, 1), "{books:?}");
    assert_eq!(backend.distinct().len(), 110);
    let taken = backend.taken.lock().unwrap().len();
    assert!(taken < 110 * 8, "{taken} deliveries of 110 records");
}

#[test]
fn a_record_that_is_refused_is_found_and_given_up() {
    one_in_many_is_poison(Status::invalid_argument("not a segment"));
}

#[test]
fn a_record_that_breaks_the_backend_is_found_and_given_up() {
    one_in_many_is_poison(Status::internal("cannot decode"));
}

#[test]
fn a_record_that_is_too_large_for_the_backend_is_found_and_given_up() {
    let text = "grpc: received message larger than max (5242880 vs. 4194304)";
    one_in_many_is_poison(Status::resource_exhausted(text));
}

#[test]
fn a_backend_that_breaks_over_everything_costs_no_record() {
    let runtime = Runtime::new().unwrap();
    let backend = Arc::new(Backend { broken: AtomicBool::new(true), ..Backend::default() });
    let address = runtime.block_on(backend.listen());
    let (engine, relay) = relay(&runtime, address);
    runtime.block_on(async {
        report(&relay, records(0, 8)).await;
        // Long enough to have tried single records several times.
        assert_eq!(engine.uplink().flush(Duration::from_secs(5)).await, 8);
        backend.broken.store(false, Ordering::Relaxed);
        assert_eq!(engine.uplink().flush(DEADLINE).await, 0, "{:?}", engine.uplink().books());
    });
    let books = engine.uplink().books().total;
    assert_eq!((books.acknowledged, books.dropped.total()), (8, 0), "{books:?}");
    assert_eq!(backend.distinct().len(), 8);
}
