//! The order of a client's chain: each certificate is followed by the one that issued it.
//!
//! Nothing is judged here: a chain without its upper end, and certificates that belong to no link,
//! are sent as they are, the latter last.

use openssl::x509::{X509, X509Ref, X509VerifyResult};

use super::verify::signed_by;

/// A chain put in order.
pub(super) struct Chain {
    pub(super) leaf: X509,
    pub(super) above: Vec<X509>,
    /// What was done to the file's order, for whoever keeps the file.
    pub(super) notes: Vec<String>,
    /// How many certificates belong to no link.
    pub(super) loose: usize,
}

/// Puts certificates in order; `leaf_at` is the place of the leaf among them.
pub(super) fn arrange(certificates: Vec<X509>, leaf_at: usize, source: &str) -> Chain {
    let mut rest: Vec<X509> = Vec::new();
    let leaf = certificates[leaf_at].clone();
    // Some files hold a certificate twice; a repetition only costs bytes in every handshake.
    for certificate in certificates {
        if !same(&certificate, &leaf) && !rest.iter().any(|other| same(other, &certificate)) {
            rest.push(certificate);
        }
    }
    let before = rest.clone();
    let mut above: Vec<X509> = Vec::new();
    loop {
        let last = above.last().unwrap_or(&leaf);
        let Some(at) = rest.iter().position(|candidate| issued(candidate, last)) else { break };
        above.push(rest.remove(at));
    }
    let unrelated = rest.len();
    above.extend(rest);
    let mut notes = Vec::new();
    if leaf_at > 0 {
        notes.push(format!(
            "{source} holds the client certificate in place {}; it is sent first, as TLS demands",
            leaf_at + 1
        ));
    }
    if before.iter().zip(&above).any(|(before, after)| !same(before, after)) {
        notes.push(format!("the certificates of {source} are sent in the order of their issuers"));
    }
    if unrelated > 0 {
        notes.push(format!(
            "{source} holds {unrelated} certificates above which the client certificate does not \
             stand; they are sent last"
        ));
    }
    Chain { leaf, above, notes, loose: unrelated }
}

fn issued(issuer: &X509Ref, subject: &X509Ref) -> bool {
    // A CA that was renewed has the name twice: the signature tells which one it was.
    issuer.issued(subject) == X509VerifyResult::OK
        && !same(issuer, subject)
        && issuer.public_key().is_ok_and(|key| signed_by(subject, &key))
}

fn same(one: &X509Ref, other: &X509Ref) -> bool {
    matches!((one.to_der(), other.to_der()), (Ok(one), Ok(other)) if one == other)
}
