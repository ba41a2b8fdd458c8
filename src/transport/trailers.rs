//! What an answer ends with, when nothing but that counts.
//!
//! What the trailers mean is for whoever has asked.

use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;

/// Reads a body to its end and keeps nothing of it but the trailers: how long it is, the peer decides.
pub(crate) async fn trailers<B: Body + Unpin>(mut body: B) -> Result<Option<HeaderMap>, B::Error> {
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        trailers = frame?.into_trailers().ok().or(trailers);
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio_stream as stream;

    use super::*;

    /// Bytes that count those who hold them.
    struct Held(#[allow(dead_code, reason = "it is the count that matters")] Arc<()>);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            b"more"
        }
    }

    #[tokio::test]
    async fn of_a_long_answer_only_the_trailers_are_kept() {
        let held = Arc::new(());
        let frames = (0..=1000).map(|number| {
            assert!(Arc::strong_count(&held) <= 2, "what came before is gone");
            Ok::<_, Infallible>(match number {
                1000 => Frame::trailers(HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )])),
                _ => Frame::data(Bytes::from_owner(Held(held.clone()))),
            })
        });
        let found = trailers(StreamBody::new(stream::iter(frames))).await.unwrap();
        assert_eq!(found.unwrap()["grpc-status"], "0");
        let nothing = StreamBody::new(stream::empty::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(trailers(nothing).await, Ok(None));
    }
}
