//! Unary calls of the agent's own: with its headers, a deadline, and a failure in plain words.

use std::error::Error as _;
use std::time::Duration;

use http::HeaderMap;
use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::rhythm::Rhythm;
use crate::error::{Code, Error, Result};
use crate::protocol::v3::Commands;
use crate::transport::{EVER, Transport};
use crate::uplink::Metadata;

/// Makes calls; cloning shares the transport.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    transport: Transport,
    headers: HeaderMap,
    timeout: Duration,
}

// === impl Caller ===

impl Caller {
    pub(super) fn new(transport: Transport, metadata: &Metadata, timeout: Duration) -> Self {
        let headers = metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        // The header of a deadline has no digits for the longest that a host can give.
        Self { transport, headers, timeout: timeout.min(EVER) }
    }

    /// Calls a method that answers with commands.
    pub(super) async fn call<M>(&self, path: &'static str, message: M) -> Result<Commands>
    where
        M: prost::Message + Send + Sync + 'static,
    {
        let mut request = Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        request.set_timeout(self.timeout);
        let mut client = Grpc::new(self.transport.clone());
        let call = async {
            client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            let codec = ProstCodec::<M, Commands>::default();
            client.unary(request, PathAndQuery::from_static(path), codec).await
        };
        match timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(explain(status)),
            Err(_) => Err(Error::new(Code::CallFailed)
                .found(format_args!("no answer within {:?}", self.timeout))),
        }
    }

    /// Repeats a call by its rhythm until it has succeeded, if only the link is at fault, and as
    /// often as `attempts` says.
    pub(super) async fn insist<M>(&self, path: &'static str, message: M, attempts: u32)
    where
        M: prost::Message + Clone + Send + Sync + 'static,
    {
        let mut rhythm = Rhythm::new(path, Duration::ZERO, self.timeout);
        for _ in 0..attempts {
            if !rhythm.due(&self.transport).await {
                return;
            }
            match self.call(path, message.clone()).await {
                Ok(_) => return rhythm.succeeded(),
                Err(error) if error.code() == Code::DutyUnknown => return rhythm.failed(&error),
                Err(error) => rhythm.failed(&error),
            }
        }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }
}

/// A failure of the way comes out as it went in; a status is the backend's word.
fn explain(status: Status) -> Error {
    let ours = status.source().and_then(|source| source.downcast_ref::<Error>());
    if let Some(error) = ours {
        return error.clone();
    }
    let code = match status.code() {
        tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Code::BackendDenies,
        tonic::Code::Unimplemented => Code::DutyUnknown,
        _ => Code::CallFailed,
    };
    Error::new(code).found(format_args!("gRPC status {:?} {}", status.code(), status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_backends_word_and_a_failure_of_the_way_stays_what_it_was() {
        let code = |status: Status| explain(status).code();
        assert_eq!(code(Status::permission_denied("")), Code::BackendDenies);
        assert_eq!(code(Status::unauthenticated("")), Code::BackendDenies);
        assert_eq!(code(Status::unimplemented("")), Code::DutyUnknown);
        assert_eq!(code(Status::unavailable("")), Code::CallFailed);
        let lost = Error::new(Code::ConnectionLost);
        assert_eq!(code(Status::from_error(Box::new(lost))), Code::ConnectionLost);
    }
}
