//! What a file of certificates or keys holds, told by its content and never by its name.
//!
//! Finds PEM blocks among any text around them and names the shape of DER; decodes nothing.

use std::fmt;

/// What was found in a file.
#[derive(Debug)]
pub(super) enum Contents {
    /// PEM blocks in the order of the file; never empty.
    Pem(Vec<Block>),
    /// One DER value that fills the file.
    Der(Shape),
    /// A DER value that ends after the file does.
    CutOff(&'static str),
    /// Neither.
    Unknown,
}

/// One PEM block, normalised: no text around it, LF line ends, no indentation.
pub(super) struct Block {
    pub(super) label: String,
    pub(super) pem: Vec<u8>,
    /// Traditional encryption announces itself in the block's headers.
    pub(super) encrypted: bool,
}

/// The outer structure of a DER value, enough to tell the kinds of files apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Certificate,
    CertificateRequest,
    PublicKey,
    PrivateKey,
    EncryptedPrivateKey,
    Pkcs12,
    Pkcs7,
    RevocationList,
    Other,
}

impl Contents {
    pub(super) fn of(bytes: &[u8]) -> Self {
        if let Some(found) = pem(bytes) {
            return found;
        }
        if let Some(shape) = indefinite(bytes) {
            return Self::Der(shape);
        }
        let Some((0x30, body, rest)) = element(bytes) else {
            // A SEQUENCE that announces more than there is was DER once.
            return match bytes {
                [0x30, 0x81..=0x84, ..] if bytes.len() > 16 => Self::CutOff("DER"),
                _ => Self::Unknown,
            };
        };
        if rest.iter().all(u8::is_ascii_whitespace) {
            Self::Der(shape(body))
        } else {
            Self::Unknown
        }
    }

    /// What was found, in the words of an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Pem(blocks) => {
                let mut labels: Vec<&str> =
                    blocks.iter().map(|block| block.label.as_str()).collect();
                labels.dedup();
                format!("PEM {}", labels.join(", "))
            }
            Self::Der(shape) => format!("DER {shape}"),
            Self::CutOff(format) => format!("cut-off {format}"),
            Self::Unknown => "binary or other data".to_owned(),
        }
    }
}

impl Block {
    pub(super) fn is_certificate(&self) -> bool {
        matches!(self.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
    }

    pub(super) fn is_pkcs7(&self) -> bool {
        self.label == "PKCS7"
    }

    pub(super) fn is_revocation_list(&self) -> bool {
        self.label == "X509 CRL"
    }

    pub(super) fn is_private_key(&self) -> bool {
        self.label == "PRIVATE KEY"
            || (self.label.ends_with(" PRIVATE KEY") && self.label != "OPENSSH PRIVATE KEY")
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content may be a private key.
        f.debug_struct("Block").field("label", &self.label).finish_non_exhaustive()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::CertificateRequest => "certificate request",
            Self::PublicKey => "public key",
            Self::PrivateKey => "private key",
            Self::EncryptedPrivateKey => "encrypted private key",
            Self::Pkcs12 => "PKCS#12",
            Self::Pkcs7 => "PKCS#7",
            Self::RevocationList => "revocation list",
            Self::Other => "of an unknown kind",
        })
    }
}

/// All PEM blocks; `CutOff` when one is begun and not ended; `None` when there is no begin line.
fn pem(bytes: &[u8]) -> Option<Contents> {
    const BEGIN: &str = "-----BEGIN ";
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
        // Text around the blocks may be in any encoding; the blocks themselves are ASCII.
        let line = String::from_utf8_lossy(line);
        let line = line.trim_start_matches('\u{feff}').trim();
        if let Some(label) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix("-----")) {
            if open.is_some() {
                return Some(Contents::CutOff("PEM"));
            }
            let pem = format!("{BEGIN}{label}-----\n").into_bytes();
            let encrypted = label == "ENCRYPTED PRIVATE KEY";
            open = Some(Block { label: label.to_owned(), pem, encrypted });
        } else if let Some(mut block) = open.take() {
            if line.starts_with("Proc-Type:") && line.contains("ENCRYPTED") {
                block.encrypted = true;
            }
            // The blank line behind the headers matters; blank lines elsewhere do not.
            let after_headers = block.pem.ends_with(b"\n") && has_headers(&block.pem);
            if !line.is_empty() || after_headers {
                block.pem.extend_from_slice(line.as_bytes());
                block.pem.push(b'\n');
            }
            if line == format!("-----END {}-----", block.label) {
                blocks.push(block);
            } else {
                open = Some(block);
            }
        }
    }
    match (open, blocks.is_empty()) {
        (Some(_), _) => Some(Contents::CutOff("PEM")),
        (None, true) => None,
        (None, false) => Some(Contents::Pem(blocks)),
    }
}

/// Whether the last line so far is a header (`DEK-Info: …`), behind which a blank line must stay.
fn has_headers(pem: &[u8]) -> bool {
    let text = pem.strip_suffix(b"\n").unwrap_or(pem);
    let last = text.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    !last.starts_with(b"-----") && last.contains(&b':')
}

/// PKCS#12 and PKCS#7 are written in BER by some (Java, NSS), without lengths at the outside.
fn indefinite(bytes: &[u8]) -> Option<Shape> {
    match bytes.strip_prefix(&[0x30, 0x80])? {
        [0x02, 0x01, 0x03, ..] => Some(Shape::Pkcs12),
        [0x06, ..] => Some(Shape::Pkcs7),
        _ => None,
    }
}

/// One DER element: tag, content, and what follows; `None` when malformed or cut off.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        let (length, rest) = rest.split_at(count);
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    (rest.len() >= length).then(|| {
        let (content, rest) = rest.split_at(length);
        (tag, content, rest)
    })
}

/// Tells the kinds apart by the first elements of the outer SEQUENCE (RFC 5280, 5208, 5958, 8017,
/// 2986, 7292, 2315).
fn shape(body: &[u8]) -> Shape {
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const OCTET_STRING: u8 = 0x04;
    const OBJECT: u8 = 0x06;
    const SEQUENCE: u8 = 0x30;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let Some((tag, first, rest)) = element(body) else { return Shape::Other };
    let second = element(rest).map(|(tag, ..)| tag);
    match (tag, second) {
        (INTEGER, Some(SEQUENCE)) if first == [3] => Shape::Pkcs12,
        (INTEGER, Some(INTEGER | SEQUENCE | OCTET_STRING)) => Shape::PrivateKey,
        (OBJECT, _) => Shape::Pkcs7,
        (SEQUENCE, Some(BIT_STRING)) => Shape::PublicKey,
        (SEQUENCE, Some(OCTET_STRING)) => Shape::EncryptedPrivateKey,
        (SEQUENCE, Some(SEQUENCE)) => {
            // A request's first SEQUENCE is version 0, a name, a key; a certificate's first is an
            // explicit version or the serial number followed by the signature algorithm and more.
            let mut tags = Vec::new();
            let mut inner = first;
            while let Some((tag, _, rest)) = element(inner) {
                tags.push(tag);
                inner = rest;
            }
            match tags.as_slice() {
                [INTEGER, SEQUENCE, SEQUENCE] | [INTEGER, SEQUENCE, SEQUENCE, 0xa0] => {
                    Shape::CertificateRequest
                }
                [0xa0, ..] | [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, ..] => {
                    Shape::Certificate
                }
                // Version 2 or none, algorithm, issuer, and a time where a certificate has two.
                [INTEGER, SEQUENCE, SEQUENCE, UTC_TIME | GENERALIZED_TIME, ..]
                | [SEQUENCE, SEQUENCE, UTC_TIME | GENERALIZED_TIME, ..] => Shape::RevocationList,
                _ => Shape::Other,
            }
        }
        _ => Shape::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_text_and_normalised() {
        let file = b"\xef\xbb\xbf-----BEGIN CERTIFICATE-----\r\n  QUJD\r\n\r\n-----END CERTIFICATE-----\r\nBag Attributes\r\n\
            -----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nQUJD\n-----END RSA PRIVATE KEY-----";
        let Contents::Pem(blocks) = Contents::of(file) else { panic!("no PEM") };
        assert_eq!(blocks.len(), 2);
        assert_eq!(
            blocks[0].pem,
            b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
        );
        assert!(blocks[1].encrypted && blocks[1].is_private_key());
        assert!(String::from_utf8_lossy(&blocks[1].pem).contains("AES-256-CBC,00\n\nQUJD\n"));
    }

    #[test]
    fn a_block_without_end_is_cut_off() {
        assert!(matches!(
            Contents::of(b"-----BEGIN CERTIFICATE-----\nQUJD\n"),
            Contents::CutOff("PEM")
        ));
    }

    #[test]
    fn lists_and_archives_are_told_by_their_first_elements() {
        let sequence = |inner: &[u8]| [&[0x30, u8::try_from(inner.len()).unwrap()], inner].concat();
        let (empty, time) = (sequence(&[]), [0x17, 1, b'x']);
        for version in [&[2, 1, 1][..], &[]] {
            let list = sequence(&[version, &empty, &empty, &time].concat());
            let list = sequence(&[&list[..], &empty].concat());
            assert!(matches!(Contents::of(&list), Contents::Der(Shape::RevocationList)));
        }
        for (start, shape) in [(&[2, 1, 3][..], Shape::Pkcs12), (&[6, 1, 0], Shape::Pkcs7)] {
            let indefinite = [&[0x30, 0x80], start, &[0, 0]].concat();
            assert!(matches!(Contents::of(&indefinite), Contents::Der(found) if found == shape));
        }
    }

    #[test]
    fn noise_is_unknown_and_never_panics() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for length in 0..600 {
            let noise: Vec<u8> = (0..length)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()[0]
                })
                .collect();
            let mut der = vec![0x30, 0x82];
            der.extend(&noise);
            let _ = (Contents::of(&noise), Contents::of(&der));
        }
        assert!(matches!(Contents::of(&[0xff; 64]), Contents::Unknown));
    }
}
