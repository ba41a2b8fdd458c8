//! Whom the settings trust and how strictly: `agent.ssl_trust`, `…_crl_path`, `…_ocsp`, depth.
//!
//! Decides on words and paths; what the files hold is found out in the TLS room.

use std::path::PathBuf;

use super::assemble::Assembly;
use super::effective::Origin;
use super::keys::Key;
use super::paths;
use super::settings::{Ocsp, Source, Trust};
use crate::error::{Code, Error, Result};

impl Assembly {
    /// The CA file. Only the built-in default may be absent; the line of SkyWalking's shipped file
    /// says just that default again.
    pub(super) fn ca(&self) -> Result<Option<Source>> {
        let value = self.value(Key::TrustedCaPath);
        let from_file =
            matches!(&value.origin, Origin::File { environment, .. } if environment.is_empty());
        if !value.set || (from_file && value.text == Key::TrustedCaPath.default_text()) {
            let path = self.default_ca();
            return Ok((!paths::is_absent(&self.folder, &path)).then_some(Source::File(path)));
        }
        self.source(Key::TrustedCaPath).map(Some)
    }

    pub(super) fn default_ca(&self) -> PathBuf {
        paths::join(&self.folder, Key::TrustedCaPath.default_text())
    }

    /// `agent.ssl_trust`, decided. What was asked for by name must be there: without the file,
    /// `both` would quietly be something else.
    pub(super) fn trust(&self, ca_is_there: bool) -> Result<Trust> {
        let value = self.value(Key::Trust);
        match (value.text.as_str(), ca_is_there) {
            ("ca", true) => Ok(Trust::Ca),
            ("both", true) => Ok(Trust::Both),
            (word @ ("ca" | "both"), false) => Err(Error::new(Code::FileMissing)
                .key(Key::Trust.name())
                .file(self.default_ca())
                .found(format_args!("no CA file, and {}={word}", Key::Trust.name()))
                .expected("a CA file")
                .hint("put the CA there or set agent.ssl_trusted_ca_path, or set agent.ssl_trust=system")),
            ("system", _) | (_, false) => Ok(Trust::System),
            (_, true) => Ok(Trust::Ca),
        }
    }

    pub(super) fn crl(&self) -> Result<Option<Source>> {
        if self.value(Key::CrlPath).set { self.source(Key::CrlPath).map(Some) } else { Ok(None) }
    }

    pub(super) fn ocsp(&self) -> Ocsp {
        match self.value(Key::Ocsp).text.as_str() {
            "staple" => Ocsp::Staple,
            "require" => Ocsp::Require,
            _ => Ocsp::Off,
        }
    }

    pub(super) fn verify_depth(&self) -> Result<Option<u32>> {
        if !self.value(Key::VerifyDepth).set {
            return Ok(None);
        }
        self.number(Key::VerifyDepth).map(|depth| u32::try_from(depth).ok())
    }
}
