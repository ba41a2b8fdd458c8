//! The other crate: it uses tonic with tonic's own TLS, and so switches that on in every crate of the
//! program. Knows nothing of skytls.

#![forbid(unsafe_code)]

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// An endpoint with tonic's own TLS; compiles only with one of tonic's TLS features.
///
/// # Errors
///
/// As `Endpoint::tls_config`.
pub fn endpoint(uri: &'static str, ca: &str) -> Result<Endpoint, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    Endpoint::from_static(uri).tls_config(tls)
}
