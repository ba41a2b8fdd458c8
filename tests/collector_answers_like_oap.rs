//! The collector takes in every method and answers as OAP does, also to what is no proper call.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use grpc_client::*;
use http::Method;
use http_body_util::BodyExt;
use skytls::config::Secret;
use skytls::error::Code;
use skytls::protocol::METHODS;
use skytls::protocol::frame::MAX_MESSAGE;
use skytls::server::{Collector, CollectorSettings, Effect, Fault};

async fn start() -> (Collector, Client) {
    let collector = Collector::start(CollectorSettings::default()).await.unwrap();
    let client = Client::plain(collector.address()).await;
    (collector, client)
}

#[tokio::test]
async fn every_method_is_answered_with_an_empty_message_and_counted() {
    let (collector, mut client) = start().await;
    for method in METHODS {
        let reply = client.report(method.path, 1).await;
        assert_eq!(reply.status, Some(0), "{}", method.path);
        assert_eq!(reply.data, EMPTY, "{}", method.path);
        assert_eq!(reply.headers["content-type"], "application/grpc");
        assert_eq!(reply.headers["grpc-accept-encoding"], "identity,gzip");
        assert!(!reply.headers.contains_key("content-length"));
    }
    let counts = collector.counts();
    assert_eq!((counts.received, counts.by_method.len()), (45, 45));
    assert!(counts.by_method.values().all(|n| *n == 1));
    assert_eq!((counts.calls, counts.calls_ok, counts.connections), (45, 45, 1));
    assert_eq!(counts.bytes, 45 * 7);
}

#[tokio::test]
async fn a_stream_is_counted_message_by_message_however_it_is_cut() {
    let (collector, mut client) = start().await;
    let wire: Bytes =
        (0..1000u16).flat_map(|n| framed(&n.to_be_bytes())).collect::<Vec<_>>().into();
    for size in [1, 7, 100_000] {
        let chunks = wire.chunks(size).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        let reply = client.call(request(SEGMENTS, &[]), chunks).await.unwrap();
        assert_eq!((reply.status, &reply.data[..]), (Some(0), EMPTY));
    }
    let counts = collector.counts();
    assert_eq!(counts.by_method[SEGMENTS], 3000);
    assert_eq!(counts.bytes, 6000);
}

#[tokio::test]
async fn a_stream_without_messages_is_answered_too() {
    let (collector, mut client) = start().await;
    for path in [SEGMENTS, PPROF] {
        assert_eq!(client.report(path, 0).await.status, Some(0));
    }
    assert_eq!(collector.counts().received, 0);
    assert_eq!(collector.counts().calls_ok, 2);
}

#[tokio::test]
async fn a_profiling_stream_is_answered_after_its_first_message_and_read_on() {
    let (collector, mut client) = start().await;
    let call = client.open(request(PPROF, &[]));
    call.send.send(framed(b"metadata")).await.unwrap();
    let (send, mut response) = call.answered().await.unwrap();
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), EMPTY);
    for _ in 0..100 {
        send.send(framed(b"content")).await.unwrap();
    }
    assert!(collector.wait_for(|counts| counts.by_method[PPROF] == 101, DEADLINE).await);
    drop(send);
    let rest = Reply::read(response).await.unwrap();
    assert_eq!((rest.status, rest.data.len()), (Some(0), 0));
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let (collector, mut client) = start().await;
    for path in ["/grpc.health.v1.Health/Check", "/x", "/skywalking.v3.EventService/none"] {
        let reply = client.report(path, 1).await;
        assert_eq!((reply.status, reply.trailers_only, reply.http), (Some(12), true, 200));
    }
    let counts = collector.counts();
    assert_eq!((counts.received, counts.calls, counts.calls_refused), (0, 3, 3));
}

#[tokio::test]
async fn the_token_must_be_exactly_right() {
    let settings = CollectorSettings {
        authentication: Some(Secret::new("s3cret".into())),
        ..CollectorSettings::default()
    };
    let collector = Collector::start(settings).await.unwrap();
    let mut client = Client::plain(collector.address()).await;
    for token in ["", "s3cre", "s3cret1", "S3cret"] {
        let request = request(LOGS, &[("authentication", token)]);
        let reply = client.call(request, [framed(b"x")]).await.unwrap();
        assert_eq!((reply.status, reply.message, reply.trailers_only), (Some(7), None, true));
    }
    assert_eq!(client.report(LOGS, 1).await.status, Some(7));
    assert_eq!(collector.counts().received, 0);
    let request = request(LOGS, &[("authentication", "s3cret")]);
    assert_eq!(client.call(request, [framed(b"x")]).await.unwrap().status, Some(0));
    assert_eq!(collector.counts().received, 1);
}

#[tokio::test]
async fn compressed_messages_are_taken_as_they_are() {
    let (collector, mut client) = start().await;
    let gzip = request(LOGS, &[("grpc-encoding", "gzip")]);
    let mixed = [flagged(true, b"looks like gzip"), framed(b"plain")];
    assert_eq!(client.call(gzip, mixed).await.unwrap().status, Some(0));
    let counts = collector.counts();
    assert_eq!((counts.received, counts.compressed, counts.bytes), (2, 1, 20));

    let none = client.call(request(LOGS, &[]), [flagged(true, b"?")]).await.unwrap();
    assert_eq!(none.status, Some(13));
    let other = request(LOGS, &[("grpc-encoding", "zstd")]);
    let other = client.call(other, [flagged(true, b"?")]).await.unwrap();
    assert_eq!(other.status, Some(12));
    assert_eq!(other.headers["grpc-accept-encoding"], "identity,gzip");
    assert_eq!(collector.counts().received, 2);
}

#[tokio::test]
async fn broken_framing_is_refused_and_the_connection_lives_on() {
    let (collector, mut client) = start().await;
    let too_large = u32::try_from(MAX_MESSAGE + 1).unwrap().to_be_bytes();
    for (data, status) in [
        (Bytes::from_static(b"GET / HTTP/1.1"), 13),
        (framed(b"cut short").slice(..9), 13),
        ([&[0], &too_large[..]].concat().into(), 8),
    ] {
        let chunks = [framed(b"good"), data];
        let reply = client.call(request(SEGMENTS, &[]), chunks).await.unwrap();
        assert_eq!(reply.status, Some(status), "{reply:?}");
    }
    let counts = collector.counts();
    assert_eq!((counts.received, counts.calls_refused, counts.connections), (3, 3, 1));
}

#[tokio::test]
async fn a_unary_call_has_exactly_one_request() {
    let (_collector, mut client) = start().await;
    assert_eq!(client.report(KEEP_ALIVE, 0).await.status, Some(13));
    assert_eq!(client.report(KEEP_ALIVE, 2).await.status, Some(13));
    assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_in_terms_of_http() {
    let (_collector, mut client) = start().await;
    let mut get = request(EVENTS, &[]);
    *get.method_mut() = Method::GET;
    assert_eq!(client.call(get, []).await.unwrap().http, 405);
    let mut json = request(EVENTS, &[]);
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(client.call(json, []).await.unwrap().http, 415);
}

#[tokio::test]
async fn a_cancelled_call_counts_as_broken_and_its_messages_as_received() {
    let (collector, mut client) = start().await;
    let call = client.open(request(SEGMENTS, &[]));
    call.send.send(framed(b"one")).await.unwrap();
    assert!(collector.wait_for(|counts| counts.received == 1, DEADLINE).await);
    call.cancel().await;
    assert!(collector.wait_for(|counts| counts.calls_broken == 1, DEADLINE).await);
    let counts = collector.counts();
    assert_eq!((counts.calls, counts.calls_ok, counts.received), (1, 0, 1));
}

#[tokio::test]
async fn an_observer_sees_every_message_with_its_call() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let settings = CollectorSettings {
        observer: Some(Arc::new({
            let seen = seen.clone();
            move |call, message| {
                let version = call.metadata["agent-version"].to_str().unwrap().to_owned();
                let debug = format!("{call:?}");
                assert!(!debug.contains("s3cret"), "{debug}");
                seen.lock().unwrap().push((
                    (call.connection, call.call, call.remote.ip().is_loopback()),
                    (call.path, version, message.compressed, message.data.clone()),
                ));
            }
        })),
        ..CollectorSettings::default()
    };
    let collector = Collector::start(settings).await.unwrap();
    let metadata =
        [("agent-version", "9.4.0"), ("grpc-encoding", "gzip"), ("authentication", "s3cret")];
    for (path, data) in [(EVENTS, "a"), (LOGS, "b")] {
        let mut client = Client::plain(collector.address()).await;
        let chunks = [framed(data.as_bytes()), flagged(true, b"z")];
        client.call(request(path, &metadata), chunks).await.unwrap();
    }
    let line = |call, path, compressed, data: &'static str| {
        (
            (call, call, true),
            (path, "9.4.0".to_owned(), compressed, Bytes::from_static(data.as_bytes())),
        )
    };
    assert_eq!(
        *seen.lock().unwrap(),
        [
            line(1, EVENTS, false, "a"),
            line(1, EVENTS, true, "z"),
            line(2, LOGS, false, "b"),
            line(2, LOGS, true, "z"),
        ]
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let (collector, _client) = start().await;
    let settings =
        CollectorSettings { listen: collector.address(), ..CollectorSettings::default() };
    let error = Collector::start(settings).await.unwrap_err();
    assert_eq!(error.code(), Code::PortTaken);
    assert!(error.to_string().contains(&collector.address().to_string()), "{error}");
}

#[tokio::test]
async fn a_shutdown_lets_calls_end_and_frees_the_port() {
    let (collector, mut client) = start().await;
    let address = collector.address();
    let call = client.open(request(SEGMENTS, &[]));
    call.send.send(framed(b"one")).await.unwrap();
    assert!(collector.wait_for(|counts| counts.received == 1, DEADLINE).await);

    let down = tokio::spawn(collector.shutdown(DEADLINE));
    // The port is free while the call goes on.
    let settings = CollectorSettings { listen: address, ..CollectorSettings::default() };
    let next = loop {
        match Collector::start(settings.clone()).await {
            Ok(next) => break next,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    call.send.send(framed(b"two")).await.unwrap();
    assert_eq!(call.finish().await.unwrap().status, Some(0));
    let counts = down.await.unwrap();
    assert_eq!((counts.received, counts.calls_ok, counts.open_connections), (2, 1, 0));
    assert_eq!(next.address(), address);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_longer_than_its_grace() {
    let (collector, mut client) = start().await;
    collector.set_faults(vec![Fault::new(Effect::Hang)]);
    let call = client.open(request(SEGMENTS, &[]));
    assert!(collector.wait_for(|counts| counts.calls == 1, DEADLINE).await);
    let counts = collector.shutdown(Duration::from_millis(20)).await;
    assert_eq!((counts.calls_ok, counts.open_connections), (0, 0));
    assert!(call.finish().await.is_err());
}

#[tokio::test]
async fn a_dropped_collector_closes_its_connections() {
    let (collector, mut client) = start().await;
    assert_eq!(client.report(EVENTS, 1).await.status, Some(0));
    drop(collector);
    // However hyper calls it, it is over.
    let _ = tokio::time::timeout(DEADLINE, client.connection).await.unwrap();
}

#[tokio::test]
async fn waiting_ends_at_the_deadline() {
    let (collector, _client) = start().await;
    assert!(!collector.wait_for(|counts| counts.received > 0, Duration::from_millis(5)).await);
    assert!(collector.wait_for(|counts| counts.received == 0, Duration::ZERO).await);
}
