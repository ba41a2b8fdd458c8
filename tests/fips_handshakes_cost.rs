//! What a handshake costs the client's processor with and without FIPS, measured in one run: mutual TLS 1.3
//! with P-256, nothing resumed.
//!
//! `ci/fips` prints it. That it stays within bounds is all that is asserted.

mod fips_provider;
mod support;
mod tls_client;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslMethod, SslOptions, SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::x509::X509;
use skytls::Connector;
use skytls::tls::Generation;
use support::pki::{self, Set};
use tls_client::Agent;
use tower::ServiceExt;

const ROUNDS: usize = 11;
const HANDSHAKES: u32 = 40;

/// Hands out nothing that could be resumed.
fn serve(set: &Set) -> u16 {
    let mut builder = SslContext::builder(SslMethod::tls_server()).expect("a context");
    builder.set_min_proto_version(Some(SslVersion::TLS1_3)).expect("TLS 1.3");
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0).expect("no tickets");
    builder.set_groups_list("P-256").expect("P-256");
    let certificates = X509::stack_from_pem(set.server.as_bytes()).expect("certificates");
    builder.set_certificate(&certificates[0]).expect("the leaf");
    for above in &certificates[1..] {
        builder.add_extra_chain_cert(above.clone()).expect("its issuer");
    }
    let key = PKey::private_key_from_pem_passphrase(set.server_key.as_bytes(), b"").expect("a key");
    builder.set_private_key(&key).expect("its key");
    let ca = X509::from_pem(set.ca.as_bytes()).expect("a CA");
    builder.cert_store_mut().add_cert(ca).expect("a CA");
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
    let context = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let Ok(ssl) = Ssl::new(&context) else { return };
            drop(ssl.accept(stream));
        }
    });
    port
}

/// What this thread has spent so far, in nanoseconds.
fn spent() -> u64 {
    // The kernel books it when a thread is switched away.
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}

/// One round: microseconds for each handshake.
fn round(generation: &Generation, port: u16) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let before = spent();
    for _ in 0..HANDSHAKES {
        let connector = Connector::from_generation(generation).deadlines(tls_client::patient());
        let uri: http::Uri = format!("https://localhost:{port}").parse().expect("it is a URI");
        drop(runtime.block_on(connector.oneshot(uri)).expect("it is approved"));
    }
    (spent() - before) / 1000 / u64::from(HANDSHAKES)
}

#[test]
fn with_fips_as_without_within_bounds() {
    let set = pki::proper();
    let port = serve(&set);
    let agent = |fips: bool| {
        let agent = Agent::trusting(&set.ca).showing(&set).set("agent.ssl_groups", "P-256");
        if !fips {
            return agent;
        }
        let agent = agent.set("agent.ssl_fips", "required");
        agent.set("agent.ssl_fips_config", fips_provider::config())
    };
    let [without, with] = [false, true].map(|fips| agent(fips).generation());
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        all[0].push(round(&without, port));
        all[1].push(round(&with, port));
    }
    let [without, with] = all.map(|mut rounds| {
        rounds.sort_unstable();
        rounds[ROUNDS / 2]
    });
    writeln!(
        std::io::stdout(),
        "client CPU of a handshake, median of {ROUNDS} rounds of {HANDSHAKES}: {without} µs without FIPS, {with} µs \
         with, {:.2} times; {}",
        f64::from(u32::try_from(with).expect("short"))
            / f64::from(u32::try_from(without).expect("short")),
        openssl::version::version()
    )
    .expect("stdout is open");
    assert!(with < 5 * without, "{without} µs without FIPS, {with} µs with");
}
