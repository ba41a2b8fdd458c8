//! `skytls check` tries whether a second handshake is a short one, tells, and never makes a fault of it.

mod check_report;
mod session_visits;
mod support;
mod tls_client;

use check_report::Report;
use openssl::ssl::{SslContextBuilder, SslOptions, SslSessionCacheMode};
use session_visits::Odd;
use support::openssl::Peer;
use support::pki;
use tls_client::Agent;

const RESUMED: &str = "a second handshake was a short one";
const NONE: &str = "the backend offers none";
const LOST: &str = "the backend offers it, and did not take it up";
const FAILED: &str = "a second handshake ended in SKT-";

#[test]
fn whether_the_backend_resumes() {
    let set = pki::proper();
    let files = set.write();
    let agent = Agent::trusting(&set.ca);
    let rows: [(&[&str], &str); 6] = [
        (&["-tls1_3"], RESUMED),
        (&["-tls1_2"], RESUMED),
        (&["-tls1_2", "-no_ticket"], RESUMED),
        (&["-tls1_3", "-num_tickets", "0"], NONE),
        (&["-tls1_2", "-no_ticket", "-no_cache"], NONE),
        // It is gone when the second connection is tried, or goes.
        (&["-naccept", "1"], FAILED),
    ];
    for (options, expected) in rows {
        let peer = Peer::server(&files.server, &files.server_key).h2();
        let server = options.iter().fold(peer, |peer, option| peer.flag(option)).listen();
        let check = agent.check(format!("localhost:{}", server.port())).arg("--tls-only");
        let report = Report::of(check.arg("--strict"), agent.folder.path());
        assert_eq!(report.code(0).mark("tls.session"), "ok");
        let said = &report.finished.stdout;
        assert!(said.contains(&format!("where the backend offers it: {expected}")), "{said}");
    }
}

#[test]
fn a_backend_that_forgets_its_sessions() {
    let set = pki::proper();
    let forgetful = |context: &mut SslContextBuilder| {
        context.set_options(SslOptions::NO_TICKET | SslOptions::NO_TLSV1_3);
        context
            .set_session_cache_mode(SslSessionCacheMode::SERVER | SslSessionCacheMode::NO_INTERNAL);
        Ok(())
    };
    let odd = Odd::start(&set.write(), 2, forgetful, |_| false);
    let agent = Agent::trusting(&set.ca);
    let check = agent.check(format!("localhost:{}", odd.port)).arg("--tls-only");
    let report = Report::of(check, agent.folder.path());
    assert_eq!(report.code(0).mark("tls.session"), "ok");
    assert!(report.finished.stdout.contains(LOST), "{}", report.finished.stdout);
    assert_eq!(odd.outcomes(), [Some(false); 2]);
}

#[test]
fn a_way_that_ends_in_an_error_is_not_gone_twice() {
    let set = pki::proper();
    let files = set.write();
    let server = Peer::server(&files.server, &files.server_key).h2().listen();
    let agent = Agent::trusting(pki::unrelated_root().ca);
    let check = agent.check(format!("localhost:{}", server.port())).arg("--tls-only");
    let report = Report::of(check, agent.folder.path());
    assert!(!report.code(4).finished.stdout.contains("tls.session"));
}
