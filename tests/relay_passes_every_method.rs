//! Each of the 45 methods goes through the relay, bytes unchanged, and nothing else does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;

use bytes::Bytes;
use grpc_client::{Client, EMPTY, KEEP_ALIVE, PPROF, SEGMENTS, flagged, framed, request};
use relay_fixture::Fixture;
use skytls::protocol::{METHODS, Shape};

#[test]
fn every_method_reaches_the_backend_with_its_bytes() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for method in METHODS {
            // Field 2000 is unknown to every message: it must survive.
            let message = Bytes::from_static(b"\x82\x7d\x04mark");
            let chunks: Vec<Bytes> = match method.shape {
                Shape::Unary => vec![framed(&message)],
                _ => vec![framed(&message), framed(b""), framed(&message)],
            };
            let sent = chunks.len() as u64;
            let reply = client.call(request(method.path, &[]), chunks).await.unwrap();
            assert_eq!((reply.http, reply.status), (200, Some(0)), "{}", method.path);
            fixture.until(|counts| counts.by_method.get(method.path) == Some(&sent)).await;
            let seen = fixture.seen(method.path);
            assert_eq!(seen[0].data, message, "{}", method.path);
            if method.shape != Shape::Bidi {
                assert_eq!(reply.data, EMPTY, "{}", method.path);
            }
        }
        fixture.settled().await;
    });
}

#[test]
fn what_is_not_skywalkings_is_unimplemented() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for path in ["/grpc.health.v1.Health/Check", "/skywalking.v3.LogReportService/other", "/"] {
            let reply = client.call(request(path, &[]), [framed(b"x")]).await.unwrap();
            assert_eq!(reply.status, Some(12), "{path}");
        }
        // The connection is as good as before.
        assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0));
    });
}

#[test]
fn a_stream_without_messages_is_answered() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        assert_eq!(client.report(SEGMENTS, 0).await.status, Some(0));
    });
}

#[test]
fn calls_pass_with_their_metadata_and_the_backends_own_answer() {
    let fixture = Fixture::with(&[], |collector| {
        collector.authentication = Some(skytls::config::Secret::new("right".to_owned()));
    });
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let metadata = [("authentication", "right"), ("x-anything", "kept")];
        let reply = client.call(request(KEEP_ALIVE, &metadata), [framed(b"m")]).await.unwrap();
        assert_eq!(reply.status, Some(0));
        assert_eq!(fixture.seen(KEEP_ALIVE)[0].metadata["x-anything"], "kept");
        let wrong = [("authentication", "wrong")];
        let reply = client.call(request(KEEP_ALIVE, &wrong), [framed(b"m")]).await.unwrap();
        assert_eq!(reply.status, Some(7), "PERMISSION_DENIED is the backend's own");
    });
}

#[test]
fn a_dialogue_goes_both_ways_before_either_side_has_ended() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let call = client.open(request(PPROF, &[]));
        call.send.send(framed(b"meta")).await.unwrap();
        // The backend answers the first message while the stream is still open.
        let (send, response) = call.answered().await.unwrap();
        send.send(framed(b"content")).await.unwrap();
        drop(send);
        let reply = grpc_client::Reply::read(response).await.unwrap();
        assert_eq!(reply.status, Some(0));
        let seen: Vec<_> = fixture.seen(PPROF).into_iter().map(|seen| seen.data).collect();
        assert_eq!(seen, [&b"meta"[..], b"content"]);
    });
}

#[test]
fn a_dialogue_that_is_reset_does_not_look_complete_to_the_backend() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let call = client.open(request(PPROF, &[]));
        call.send.send(framed(b"meta")).await.unwrap();
        fixture.until(|counts| counts.received == 1).await;
        call.cancel().await;
        let counts = fixture.until(|counts| counts.calls_broken == 1).await;
        assert_eq!(counts.calls_ok, 0);
    });
}

#[test]
fn compressed_messages_stay_as_they_are() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let gzip = [("grpc-encoding", "gzip")];
        let chunks = [flagged(true, b"not really gzip"), framed(b"plain")];
        let reply = client.call(request(SEGMENTS, &gzip), chunks).await.unwrap();
        assert_eq!(reply.status, Some(0));
        // Counted is not seen yet: the observer is called afterwards.
        fixture.settled().await;
        let seen = fixture.seen(SEGMENTS);
        assert_eq!(seen[0].metadata["grpc-encoding"], "gzip");
        assert_eq!((seen[0].compressed, &seen[0].data[..]), (true, &b"not really gzip"[..]));
        assert_eq!((seen[1].compressed, &seen[1].data[..]), (false, &b"plain"[..]));
    });
}

#[test]
fn messages_of_fifty_mebibytes_pass_and_larger_ones_are_refused() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let largest = vec![7_u8; 50 * 1024 * 1024];
        let reply = client.call(request(SEGMENTS, &[]), [framed(&largest)]).await.unwrap();
        assert_eq!(reply.status, Some(0));
        fixture.settled().await;
        assert_eq!(fixture.seen(SEGMENTS)[0].data.len(), largest.len());
        let larger = framed(&vec![7_u8; 50 * 1024 * 1024 + 1]);
        let reply = client.call(request(SEGMENTS, &[]), [larger]).await.unwrap();
        assert_eq!(reply.status, Some(8), "RESOURCE_EXHAUSTED");
        assert!(reply.message.unwrap().contains("SKT-603"));
        assert_eq!(client.report(SEGMENTS, 1).await.status, Some(0), "others are not affected");
    });
}

#[test]
fn what_is_not_grpc_is_refused() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let mut odd = request(SEGMENTS, &[]);
        for kind in ["application/json", "application/grpc-web", "application/grpcx"] {
            odd.headers_mut().insert("content-type", kind.parse().unwrap());
            let reply = client.call(odd.clone(), [Bytes::from_static(b"{}")]).await.unwrap();
            assert_eq!(reply.http, 415, "{kind}");
        }
        for kind in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
            odd.headers_mut().insert("content-type", kind.parse().unwrap());
            let reply = client.call(odd.clone(), [framed(b"m")]).await.unwrap();
            assert_eq!(reply.status, Some(0), "{kind}");
        }
    });
}

#[test]
fn a_broken_stream_keeps_what_was_whole() {
    let fixture = Fixture::new();
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let cut = framed(b"cut off").slice(..8);
        let reply = client.call(request(SEGMENTS, &[]), [framed(b"whole"), cut]).await.unwrap();
        assert_eq!(reply.status, Some(13), "INTERNAL");
        fixture.until(|counts| counts.received == 1).await;
        assert_eq!(fixture.books().total.accepted, 1);
    });
}
