//! OCSP answers: made by `openssl ocsp`, and given other dates with a new signature.
//!
//! Which of them hold is said in the tests.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use openssl::hash::MessageDigest;
use openssl::pkey::{PKeyRef, Private};
use openssl::sign::Signer;

use super::openssl as command;

/// A good answer about `leaf.crt` by the CA `ca.crt`, `ca.pem`, all in this folder: from now on, for a
/// day or without an end.
pub(crate) fn good(folder: &Path, serial: &str, ends: bool) -> Vec<u8> {
    let at = |name: &str| folder.join(name).display().to_string();
    let line = format!("V\t401231000000Z\t\t{serial}\tunknown\t/CN=localhost\n");
    fs::write(at("index"), line).expect("there is room");
    let (index, ca, key) = (at("index"), at("ca.crt"), at("ca.pem"));
    let (leaf, answer) = (at("leaf.crt"), at("answer.der"));
    let mut arguments = vec!["ocsp", "-index", &index, "-CA", &ca, "-issuer", &ca, "-cert", &leaf];
    arguments.extend(["-rsigner", &ca, "-rkey", &key, "-respout", &answer, "-noverify"]);
    if ends {
        arguments.extend(["-ndays", "1"]);
    }
    let done = command::run(arguments);
    assert_eq!(done.code, 0, "{done:?}");
    fs::read(answer).expect("the answer was written")
}

/// The same answer with a thisUpdate and a nextUpdate so many seconds from now; signed anew, which takes
/// an RSA key, since then all lengths stay.
pub(crate) fn redated(answer: &[u8], key: &PKeyRef<Private>, this: i64, next: i64) -> Vec<u8> {
    let mut answer = answer.to_vec();
    // OCSPResponse, its status, [0], responseBytes, their type, an OCTET STRING, BasicOCSPResponse.
    let status = inside(&answer, inside(&answer, 0).start).end;
    let bytes = inside(&answer, status).start;
    let kind = inside(&answer, inside(&answer, bytes).start).end;
    let signed = inside(&answer, inside(&answer, kind).start).start;
    let algorithm = inside(&answer, signed).end;
    let signature = inside(&answer, inside(&answer, algorithm).end);

    let is_time = |at: &usize| answer[*at..].starts_with(&[0x18, 15]) && answer[at + 16] == b'Z';
    let times: Vec<usize> = (signed..algorithm - 16).filter(is_time).collect();
    // producedAt is the first; without an end there are two.
    for (at, seconds) in times.into_iter().skip(1).zip([this, next]) {
        answer[at + 2..at + 17].copy_from_slice(time(seconds).as_bytes());
    }
    let mut signer = Signer::new(MessageDigest::sha256(), key).expect("it signs");
    let new = signer.sign_oneshot_to_vec(&answer[signed..algorithm]).expect("it signs");
    // The first byte of a BIT STRING counts the bits that are not used.
    answer[signature.start + 1..signature.end].copy_from_slice(&new);
    answer
}

/// The content of the DER element that begins here.
fn inside(der: &[u8], at: usize) -> Range<usize> {
    let first = usize::from(der[at + 1]);
    if first < 0x80 {
        return at + 2..at + 2 + first;
    }
    let start = at + 2 + (first & 0x7f);
    let length = der[at + 2..start].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    start..start + length
}

/// As a GeneralizedTime.
fn time(seconds: i64) -> String {
    let now = skytls::pki::Validity::relative(0, 0).not_before();
    let when = format!("@{}", now + seconds);
    let output = Command::new("date").args(["-u", "-d", &when, "+%Y%m%d%H%M%SZ"]).output();
    String::from_utf8(output.expect("there is date").stdout).expect("it is ASCII").trim().to_owned()
}
