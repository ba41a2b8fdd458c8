//! OCSP answers with any dates, which `openssl ocsp` counts in whole minutes from now.
//!
//! Whether one holds is said in the tests.

use openssl::bn::BigNumContext;
use openssl::ec::PointConversionForm;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::sha::sha1;
use openssl::sign::Signer;
use openssl::x509::X509Ref;
use skytls::pki::{Authority, Validity};

use super::pki::MINTED;

/// That a certificate is good, says its issuer, from and until so many seconds from now; DER.
pub(crate) fn good(certificate: &X509Ref, issuer: &Authority, from: i64, until: i64) -> Vec<u8> {
    answer(certificate, issuer, from, until).expect(MINTED)
}

/// The structures of RFC 6960 section 4.2.1.
fn answer(
    certificate: &X509Ref,
    issuer: &Authority,
    from: i64,
    until: i64,
) -> Result<Vec<u8>, ErrorStack> {
    let name = issuer.certificate().subject_name().to_der()?;
    let key = issuer.key().ec_key()?;
    let point = key.public_key().to_bytes(
        key.group(),
        PointConversionForm::UNCOMPRESSED,
        &mut *BigNumContext::new()?,
    )?;
    let mut serial = vec![0];
    serial.extend(certificate.serial_number().to_bn()?.to_vec());
    if serial.get(1).is_some_and(|byte| byte & 0x80 == 0) {
        serial.remove(0);
    }
    // sha1; ecdsa-with-SHA256; id-pkix-ocsp-basic.
    let digest = der(0x30, &[der(6, &[0x2b, 14, 3, 2, 26])]);
    let signature = der(0x30, &[der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
    let basic = der(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);

    let id = [digest, der(4, &sha1(&name)), der(4, &sha1(&point)), der(2, &serial)];
    let single = [der(0x30, &id), der(0x80, &[0_u8; 0]), time(from), der(0xa0, &[time(until)])];
    let response = [der(0xa1, &[name]), time(from), der(0x30, &[der(0x30, &single)])];
    let response = der(0x30, &response);
    let signed =
        Signer::new(MessageDigest::sha256(), issuer.key())?.sign_oneshot_to_vec(&response)?;
    let signed = [&[0], signed.as_slice()].concat();
    let whole = der(0x30, &[response, signature, der(3, &signed)]);
    let bytes = der(0xa0, &[der(0x30, &[basic, der(4, &whole)])]);
    Ok(der(0x30, &[der(10, &[0_u8]), bytes]))
}

/// A value with its tag and length, from bytes or from the parts it is made of.
fn der<T>(tag: u8, content: &[T]) -> Vec<u8>
where
    [T]: Content,
{
    let content = content.bytes();
    let length = u16::try_from(content.len()).expect("it is short").to_be_bytes();
    let head = match (length, content.len()) {
        ([_, short], 0..=127) => vec![tag, short],
        ([_, middle], 128..=255) => vec![tag, 0x81, middle],
        ([high, low], _) => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// What can stand in a value.
trait Content {
    fn bytes(&self) -> Vec<u8>;
}

impl Content for [u8] {
    fn bytes(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl Content for [Vec<u8>] {
    fn bytes(&self) -> Vec<u8> {
        self.concat()
    }
}

/// A GeneralizedTime.
fn time(from_now: i64) -> Vec<u8> {
    let seconds = Validity::relative(from_now, 0).not_before();
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    der(0x18, text.as_bytes())
}

/// The date of a day since 1970: whole years, then whole months are taken away.
fn date(mut days: i64) -> (i64, i64, i64) {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}
