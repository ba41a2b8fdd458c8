//! What is agreed on besides the chain, where skytls demands more than `s_client` does.

use super::mint::leaf;
use super::{Case, Demand, Refused, Trusted, below_root, case};

const H2: &str = "the server must choose h2";
const OLD: &str = "nothing below TLS 1.2";

pub(super) fn cases() -> Vec<Case> {
    let of = |what, server: &'static [&'static str], verdict| {
        case(what, &below_root(leaf()), verdict).server(server)
    };
    vec![
        of("TLS 1.3", &["-tls1_3"], Trusted),
        of("TLS 1.2", &["-tls1_2"], Trusted),
        of("another protocol than h2", &["-alpn", "http/1.1"], Trusted).but(Refused(0), H2),
        of("TLS 1.1", &["-tls1_1"], Trusted)
            .demand(Demand::OfJudge(&["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]))
            .but(Refused(0), OLD),
    ]
}
