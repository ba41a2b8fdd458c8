//! Whatever local clients do with their connections, the relay goes on serving the others, and what they
//! can use up is bounded. `ci/limits` does it with ten thousand of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;

use std::net::SocketAddr;

use grpc_client::{Client, DEADLINE, EVENTS, KEEP_ALIVE, PPROF, SEGMENTS, framed, request, tcp};
use relay_fixture::Fixture;
use skytls::server::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Waits until the other side has closed the connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    // A reset is a way to close.
    let _ = read.expect("the relay lets go of it");
}

async fn stuck_at(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = tcp(address).await;
    stream.write_all(bytes).await.unwrap();
    stream
}

#[test]
fn hundreds_of_idle_and_stuck_clients() {
    let fixture = Fixture::with(&[("relay.greeting_timeout", "2")], |_| {});
    fixture.runtime.block_on(async {
        let mut idle = Vec::new();
        for _ in 0..300 {
            idle.push(Client::plain(fixture.address()).await);
        }
        let mut stuck = Vec::new();
        for number in 0..150 {
            // Nothing, half of the first word, all but the last byte of the preface.
            let length = [0, 4, PREFACE.len() - 1][number % 3];
            stuck.push(stuck_at(fixture.address(), &PREFACE[..length]).await);
        }
        // And some that began a call and do not go on with it.
        let mut slow = Vec::new();
        for client in idle.iter_mut().take(50) {
            let call = client.open(request(SEGMENTS, &[]));
            call.send.send(framed(b"a message").slice(..7)).await.unwrap();
            slow.push(call);
        }
        let mut client = Client::plain(fixture.address()).await;
        assert_eq!(client.report(SEGMENTS, 10).await.status, Some(0));
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        for stream in &mut stuck {
            closed(stream).await;
        }
        for client in &mut idle {
            assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0), "they have greeted");
        }
    });
}

#[test]
fn one_connection_more_than_allowed_is_closed_at_once() {
    let fixture = Fixture::with(&[("relay.max_connections", "3")], |_| {});
    fixture.runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = Client::plain(fixture.address()).await;
            assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
            clients.push(client);
        }
        closed(&mut tcp(fixture.address()).await).await;
        assert_eq!(clients[0].report(KEEP_ALIVE, 1).await.status, Some(0), "not at their cost");
        // One goes, another may come.
        drop(clients.pop());
        let another = async {
            loop {
                let stream = tcp(fixture.address()).await;
                // It may still be closed upon.
                if let Ok(mut client) = tokio::spawn(Client::over(stream)).await
                    && client.call(request(KEEP_ALIVE, &[]), [framed(b"m")]).await.is_ok()
                {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, another).await.unwrap();
    });
}

#[test]
fn a_connection_without_calls_is_closed_and_one_with_a_call_is_not() {
    let fixture = Fixture::with(&[("relay.idle_timeout", "1")], |_| {});
    fixture.runtime.block_on(async {
        let mut idle = Client::plain(fixture.address()).await;
        assert_eq!(idle.report(KEEP_ALIVE, 1).await.status, Some(0));
        let mut busy = Client::plain(fixture.address()).await;
        let call = busy.open(request(SEGMENTS, &[]));
        call.send.send(framed(b"first")).await.unwrap();
        // Closed in an orderly way.
        tokio::time::timeout(DEADLINE, &mut idle.connection).await.unwrap().unwrap().unwrap();
        call.send.send(framed(b"second")).await.unwrap();
        assert_eq!(call.finish().await.unwrap().status, Some(0));
    });
}

#[test]
fn unfinished_messages_share_their_room() {
    let settings = [("relay.max_message_size", "100000"), ("relay.max_partial_bytes", "150000")];
    let fixture = Fixture::with(&settings, |_| {});
    fixture.runtime.block_on(async {
        let (mut one, mut other) =
            (Client::plain(fixture.address()).await, Client::plain(fixture.address()).await);
        let large = framed(&[7; 100_000]);
        let first = one.open(request(SEGMENTS, &[]));
        first.send.send(large.slice(..90_000)).await.unwrap();
        // Both do not fit, whoever comes second.
        let second = other.open(request(EVENTS, &[]));
        let _ = second.send.send(large.slice(..90_000)).await;
        let refused = async {
            while !first.is_answered() && !second.is_answered() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, refused).await.unwrap();
        let (refused, taken) = if first.is_answered() { (first, second) } else { (second, first) };
        assert_eq!(refused.finish().await.unwrap().status, Some(8));
        taken.send.send(large.slice(90_000..)).await.unwrap();
        assert_eq!(taken.finish().await.unwrap().status, Some(0));
        // What it took is given back.
        for path in [SEGMENTS, KEEP_ALIVE] {
            let reply = other.call(request(path, &[]), [large.clone()]).await.unwrap();
            assert_eq!(reply.status, Some(0), "{path}: {:?}", reply.message);
        }
    });
}

#[test]
fn streams_that_wait_for_the_queue_share_their_room() {
    // Room for two of them; the queue takes one message, which the backend does not.
    let settings = [("buffer.max_bytes", "2000"), ("relay.max_unread_bytes", "170000")];
    let fixture = Fixture::with(&settings, |_| {});
    fixture.set_faults(vec![Fault::status(14)]);
    fixture.runtime.block_on(async {
        let message = framed(&[7; 1500]);
        let mut first = Client::plain(fixture.address()).await;
        let reply = first.call(request(SEGMENTS, &[]), [message.clone()]).await.unwrap();
        assert_eq!(reply.status, Some(0), "there is room for one");
        let mut others = Client::plain(fixture.address()).await;
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let call = others.open(request(SEGMENTS, &[]));
            call.send.send(message.clone()).await.unwrap();
            waiting.push(call);
        }
        let refused = async {
            loop {
                if let Some(at) = waiting.iter().position(|call| call.is_answered()) {
                    return at;
                }
                tokio::task::yield_now().await;
            }
        };
        let refused = tokio::time::timeout(DEADLINE, refused).await.unwrap();
        let reply = waiting.remove(refused).finish().await.unwrap();
        let text = reply.message.unwrap_or_default();
        assert!(reply.status == Some(8) && text.contains("SKT-840"), "{text:?}");
        assert_eq!(fixture.books().total.refused, 1);
        assert!(waiting.iter().all(|call| !call.is_answered()), "they may wait");
        // A dialogue takes such a place as well.
        assert_eq!(others.report(PPROF, 1).await.status, Some(8));
        fixture.set_faults(Vec::new());
        for call in waiting {
            assert_eq!(call.finish().await.unwrap().status, Some(0));
        }
        assert_eq!(fixture.settled().await.total.acknowledged, 3);
        assert_eq!(others.report(PPROF, 1).await.status, Some(0), "it is given back");
    });
}

#[test]
fn sizes_are_as_set() {
    let settings = [("relay.max_message_size", "1000"), ("relay.max_header_size", "2048")];
    let fixture = Fixture::with(&settings, |_| {});
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        for path in [SEGMENTS, KEEP_ALIVE] {
            for (length, status) in [(1000, 0), (1001, 8)] {
                let message = framed(&vec![7; length]);
                let reply = client.call(request(path, &[]), [message]).await.unwrap();
                assert_eq!(reply.status, Some(status), "{path} {length}: {:?}", reply.message);
            }
        }
        for (length, taken) in [(1000, true), (4000, false)] {
            let value = "x".repeat(length);
            let head = request(KEEP_ALIVE, &[("agent-version", &value)]);
            let reply = client.call(head, [framed(b"m")]).await;
            let status = reply.ok().and_then(|reply| reply.status);
            assert_eq!(status == Some(0), taken, "{length}: {status:?}");
        }
    });
}

#[test]
fn calls_beyond_the_limit_of_a_connection_wait_for_the_others() {
    let fixture = Fixture::with(&[("relay.max_streams", "2")], |_| {});
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        // The client knows the limit when the first answer is there.
        assert_eq!(client.report(KEEP_ALIVE, 1).await.status, Some(0));
        let (one, other) = (client.open(request(SEGMENTS, &[])), client.open(request(EVENTS, &[])));
        one.send.send(framed(b"m")).await.unwrap();
        other.send.send(framed(b"m")).await.unwrap();
        let third = client.open(request(KEEP_ALIVE, &[]));
        third.send.send(framed(b"m")).await.unwrap();
        let third = tokio::spawn(third.finish());
        fixture.until(|counts| counts.received >= 3).await;
        assert!(!third.is_finished());
        assert_eq!(one.finish().await.unwrap().status, Some(0));
        assert_eq!(third.await.unwrap().unwrap().status, Some(0));
        drop(other);
    });
}
