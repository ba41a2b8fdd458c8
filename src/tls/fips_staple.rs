//! Who signed an OCSP answer, verified by the FIPS provider alone.
//!
//! OpenSSL's own verification of answers works in the default library context. What an answer says is
//! judged in `staple`.

use openssl::error::ErrorStack;
use openssl::ocsp::OcspBasicResponseRef;
use openssl::stack::Stack;
use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{X509, X509PurposeId, X509Ref};
use ossl_ext::context::Context;
use ossl_ext::ocsp::{self, Signature};

use super::fips::{self, FIPS};
use super::fips_policy::LEVEL;
use super::staple::{self, FAILED, Fault};

/// SHA-224 is the shortest digest that FIPS 186-5 has for signatures.
const SHORTEST: usize = 28;
/// The strength in bits of a key at security level 2.
const STRENGTH: u32 = 112;
/// An answer may bring certificates along; so many are looked at.
const CANDIDATES: usize = 8;

/// The answer must be signed by the issuer, which the handshake has verified, or by a delegate that
/// the issuer has appointed and whose certificate comes with it.
pub(super) fn verify(
    answer: &OcspBasicResponseRef,
    issuer: &X509Ref,
    library: &'static Context,
) -> Result<(), Fault> {
    let first = match signed_by(answer, issuer, library) {
        Ok(signature) => return approved(&signature, issuer),
        Err(error) => error,
    };
    for certificate in ocsp::certificates(answer).into_iter().flatten().take(CANDIDATES) {
        // It lives in the default context, like the answer that it came with.
        let Ok(certificate) = library.adopt(certificate) else { continue };
        if let Ok(signature) = signed_by(answer, &certificate, library) {
            approved(&signature, &certificate)?;
            return appointed(&certificate, issuer, library);
        }
    }
    Err(staple::not_the_issuers(&first))
}

fn signed_by(
    answer: &OcspBasicResponseRef,
    signer: &X509Ref,
    library: &'static Context,
) -> Result<Signature, ErrorStack> {
    library.verify_answer(answer, &*signer.public_key()?)
}

/// The provider verifies what it can compute, SHA-1 and short keys included.
fn approved(signature: &Signature, signer: &X509Ref) -> Result<(), Fault> {
    let short = signature.digest.is_some_and(|length| length < SHORTEST);
    if short || signature.provider.as_deref() != Some(FIPS) {
        return Err(Fault::new(FAILED, "the answer is signed in a way that FIPS does not approve"));
    }
    let key = signer.public_key().ok();
    if !key.is_some_and(|key| key.security_bits() >= STRENGTH && fips::serves(&key)) {
        return Err(Fault::new(
            FAILED,
            "the answer is signed with a key that FIPS does not approve",
        ));
    }
    Ok(())
}

/// Whether the issuer itself has signed the delegate's certificate, and for this.
fn appointed(delegate: &X509Ref, issuer: &X509Ref, library: &'static Context) -> Result<(), Fault> {
    let refused = |why: &str| {
        Err(Fault::new(FAILED, format!("not signed by the issuer or its delegate: {why}")))
    };
    if !ocsp::is_for_answers(delegate) {
        return refused("whoever signed has no leave to sign answers");
    }
    match verify_chain(delegate, issuer, library) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => refused(why),
        Err(error) => Err(staple::not_the_issuers(&error)),
    }
}

/// What is wrong with a chain of these two.
fn verify_chain(
    delegate: &X509Ref,
    issuer: &X509Ref,
    library: &'static Context,
) -> Result<Option<&'static str>, ErrorStack> {
    let mut store = staple::only(issuer)?;
    let mut rules = X509VerifyParam::new()?;
    rules.set_auth_level(LEVEL.cast_signed());
    rules.set_purpose(X509PurposeId::OCSP_HELPER)?;
    store.set_param(&rules)?;
    let nothing: Stack<X509> = Stack::new()?;
    library.store_context()?.init(&store.build(), delegate, &nothing, |context| {
        let verified = context.verify_cert()?;
        Ok((!verified).then(|| context.error().error_string()))
    })
}
