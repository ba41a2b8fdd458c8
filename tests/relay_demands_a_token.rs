//! With `relay.authentication` only calls that carry it are let in, and it stays on this side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod grpc_client;
mod relay_fixture;

use grpc_client::{Client, EMPTY, KEEP_ALIVE, SEGMENTS, framed, request};
use relay_fixture::Fixture;

const LOCAL: (&str, &str) = ("relay.authentication", "local-token");

async fn status(client: &mut Client, path: &str, metadata: &[(&'static str, &str)]) -> Option<u8> {
    let chunks = [framed(b"message")];
    client.call(request(path, metadata), chunks).await.unwrap().status
}

#[test]
fn other_tokens_and_none_are_refused_before_anything_is_read() {
    let fixture = Fixture::with(&[LOCAL], |_| {});
    fixture.runtime.block_on(async {
        let mut client = Client::plain(fixture.address()).await;
        let twice = [("authentication", "local-token"), ("authentication", "other")];
        let wrong: [&[(&'static str, &str)]; 7] = [
            &[],
            &[("authentication", "")],
            &[("authentication", "local-toke")],
            &[("authentication", "local-tokem")],
            &[("authentication", "local-token2")],
            &[("authentication", "Local-Token")],
            &twice,
        ];
        for metadata in wrong {
            for path in [SEGMENTS, KEEP_ALIVE] {
                assert_eq!(status(&mut client, path, metadata).await, Some(7), "{metadata:?}");
            }
        }
        assert_eq!(fixture.books().total.accepted, 0);
        let right = [("authentication", "local-token")];
        assert_eq!(status(&mut client, SEGMENTS, &right).await, Some(0));
        fixture.settled().await;
        assert_eq!(fixture.seen(SEGMENTS).len(), 1);
        assert!(fixture.seen(KEEP_ALIVE).is_empty());
    });
}

#[test]
fn the_local_token_is_replaced_by_the_relays_own_or_taken_away() {
    for own in [None, Some("backend-token")] {
        // Naming it among the forwarded ones does not let it out either.
        let mut settings = vec![LOCAL, ("relay.forward_headers", "authentication,x-tenant")];
        settings.extend(own.map(|own| ("agent.authentication", own)));
        let fixture = Fixture::with(&settings, |_| {});
        fixture.runtime.block_on(async {
            let mut client = Client::plain(fixture.address()).await;
            let metadata = [("authentication", "local-token"), ("x-tenant", "t")];
            assert_eq!(status(&mut client, SEGMENTS, &metadata).await, Some(0));
            let reply = client.call(request(KEEP_ALIVE, &metadata), [EMPTY.into()]).await.unwrap();
            assert_eq!(reply.status, Some(0), "{:?}", reply.message);
            fixture.settled().await;
            for path in [SEGMENTS, KEEP_ALIVE] {
                let seen = fixture.seen(path);
                let tokens: Vec<_> = seen[0].metadata.get_all("authentication").iter().collect();
                assert_eq!(tokens, own.into_iter().collect::<Vec<_>>(), "{path}");
                assert_eq!(seen[0].metadata["x-tenant"], "t");
            }
        });
    }
}
