//! The call at the end: an empty stream of segments, closed at once, with the token an agent sends.
//!
//! A backend authenticates it and answers it, and keeps nothing of it: no service, no instance, no
//! segment.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code as Status, Status as Answer};

use super::{Check, Ours, TlsReport, call_failed, explain};
use crate::error::{Code, Error, Result};
use crate::transport::connection::{Connection, Refused};
use crate::transport::trailers::trailers;
use crate::transport::{Io, Target};

const PATH: &str = "/skywalking.v3.TraceSegmentReportService/collect";
const TOKEN: &str = "authentication";

/// HTTP/2, gRPC, and the backend itself.
pub(super) async fn checks(
    target: &Arc<Target>,
    ours: Ours<'_>,
    seen: Option<&TlsReport>,
    io: Io,
) -> Vec<Check> {
    let (id, fact) = ("http2.greeting", "the backend greets by HTTP/2");
    let connection = match Connection::over(target.clone(), io).await {
        Ok(connection) => connection,
        Err(error) => {
            let refused = matches!(
                error.code(),
                Code::ClientCertificateRefused | Code::ClientCertificateMissing
            );
            return vec![match seen {
                Some(seen) if refused => explain::client_certificate(ours, seen, &error),
                Some(_) => Check::error(id, fact, &error),
                None => Check::error(id, fact, &error)
                    .also(
                        "the link is plaintext by the settings: a backend that speaks TLS answers \
                         like this",
                    )
                    .remedy(
                        "name a gRPC port; if the backend speaks TLS, put its CA at \
                         agent.ssl_trusted_ca_path or set agent.force_tls=true",
                    ),
            }];
        }
    };
    let mut checks = vec![Check::ok(id, fact, "HTTP/2")];
    let limit = ours.settings.link.upstream_timeout;
    let answered = match timeout(limit, call(&connection, ours)).await {
        Ok(answered) => answered,
        Err(_) => Err(call_failed(format!("no answer within {limit:?}"))),
    };
    match answered {
        Ok(answer) => {
            let value = format!("gRPC status {:?}", answer.code());
            checks.push(Check::ok("grpc.answer", "the backend answers by gRPC", value));
            checks.extend(verdict(&answer, ours));
        }
        Err(error) => {
            checks.push(
                Check::error("grpc.answer", "the backend answers by gRPC", &error)
                    .remedy("name the port of OAP's gRPC server, 11800 unless it was changed"),
            );
        }
    }
    checks
}

async fn call(connection: &Connection, ours: Ours<'_>) -> Result<Answer> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(PATH);
    let headers = request.headers_mut();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Some(token) = &ours.settings.agent.authentication {
        // The settings hold only what can be a header's value.
        let mut token = HeaderValue::from_str(token.expose()).map_err(|_| Error::new(Code::Bug))?;
        token.set_sensitive(true);
        headers.insert(TOKEN, token);
    }
    let response = match connection.send(request).await {
        Ok(response) => response,
        Err(Refused::Closed(_)) => return Err(connection.ended().await),
        Err(Refused::Failed(error, _)) => return Err(error),
    };
    status(response).await
}

/// The status comes in the trailers, or in the head if there is nothing else.
async fn status(response: Response<Incoming>) -> Result<Answer> {
    let (head, body) = response.into_parts();
    if let Some(status) = Answer::from_header_map(&head.headers) {
        return Ok(status);
    }
    let trailers = trailers(body).await;
    let trailers = trailers.map_err(|error| Error::new(Code::ConnectionLost).because(error))?;
    trailers.as_ref().and_then(Answer::from_header_map).ok_or_else(|| {
        call_failed(format!("HTTP status {} without a gRPC status", head.status.as_u16()))
    })
}

/// What the backend thinks of the call.
fn verdict(answer: &Answer, ours: Ours<'_>) -> Vec<Check> {
    let token = match &ours.settings.agent.authentication {
        Some(_) => "a token is set",
        None => "no token is set",
    };
    let (token_fact, oap_fact) = ("the backend takes the token", "an OAP takes segments here");
    let found = format!("gRPC status {:?} {}", answer.code(), answer.message());
    let error = call_failed(found.trim_end());
    match answer.code() {
        Status::Ok => vec![
            Check::ok("oap.token", token_fact, token),
            Check::ok("oap.segments", oap_fact, "an empty stream was acknowledged"),
        ],
        Status::PermissionDenied | Status::Unauthenticated => {
            vec![Check::error("oap.token", token_fact, &error).also(token).remedy(
                "set agent.authentication (SW_AGENT_AUTHENTICATION) to the backend's \
                 SW_AUTHENTICATION",
            )]
        }
        Status::Unimplemented => vec![
            Check::error("oap.segments", oap_fact, &error)
                .also("what answers on this port is not an OAP, or another of its ports")
                .remedy(
                    "name the port of OAP's gRPC server (SW_CORE_GRPC_PORT, 11800), or of its \
                     sharing server (SW_RECEIVER_GRPC_PORT), which alone can demand client \
                     certificates",
                ),
        ],
        _ => vec![Check::error("oap.segments", oap_fact, &error).remedy("see the backend's log")],
    }
}
