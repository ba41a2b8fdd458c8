//! FIPS and providers: `agent.ssl_fips`, `agent.ssl_fips_config`, `agent.ssl_provider`, and what cannot
//! stand beside them.
//!
//! Decides on words alone. Whether FIPS is in force is proven in the TLS room.

use super::assemble::Assembly;
use super::keys::Key;
use super::settings::{Fips, IdentitySource, Source};
use crate::error::{Code, Error, Result};

impl Assembly {
    pub(super) fn fips(&self) -> Result<Fips> {
        let config = self.value(Key::FipsConfig);
        if self.value(Key::Fips).text != "required" {
            // Whoever names the file means FIPS.
            return match config.set {
                true => Err(config
                    .error(Code::FipsConflict)
                    .found("agent.ssl_fips=off")
                    .expected("agent.ssl_fips=required")
                    .hint("set agent.ssl_fips=required, or remove agent.ssl_fips_config")),
                false => Ok(Fips::Off),
            };
        }
        for key in [Key::KeylogPath, Key::Provider] {
            if self.value(key).set {
                return Err(self.conflict(key, "it unset"));
            }
        }
        if self.value(Key::SecurityLevel).set && self.number(Key::SecurityLevel)? < 2 {
            return Err(self.conflict(Key::SecurityLevel, "2 or more"));
        }
        let config = match config.set.then(|| self.source(Key::FipsConfig)).transpose()? {
            Some(Source::File(path)) => Some(path),
            _ => None,
        };
        Ok(Fips::Required { config })
    }

    /// What a URI stands for is read by a store's loader, which may go outside the private context.
    pub(super) fn judge_uris(
        &self,
        fips: &Fips,
        ca: Option<&Source>,
        identity: Option<&IdentitySource>,
    ) -> Result<()> {
        if !fips.is_required() {
            return Ok(());
        }
        let chain = identity.map(|identity| &identity.chain);
        let key = identity.map(|identity| &identity.key);
        let all = [(Key::TrustedCaPath, ca), (Key::CertChainPath, chain), (Key::KeyPath, key)];
        let uri = |(_, source): &(_, Option<&Source>)| matches!(source, Some(Source::Uri(_)));
        match all.into_iter().find(uri) {
            Some((key, Some(source))) => Err(self
                .value(key)
                .error(Code::FipsConflict)
                .found(source)
                .expected("the path of a file")),
            _ => Ok(()),
        }
    }

    fn conflict(&self, key: Key, expected: &str) -> Error {
        let value = self.value(key);
        let found = if value.secret { "a value" } else { value.text.as_str() };
        let error = value.error(Code::FipsConflict).found(found).expected(expected);
        match key {
            Key::Provider => error.hint(
                "a key in a token is not served by the FIPS provider: use a file, or leave agent.ssl_fips off and rely on the token's own approval",
            ),
            _ => error,
        }
    }

    /// A list of names, separated by commas.
    pub(super) fn providers(&self) -> Result<Vec<String>> {
        let value = self.value(Key::Provider);
        let names = value.text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names: Vec<String> = names.map(str::to_owned).collect();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(odd) = names.iter().find(|name| !name.chars().all(legal)) {
            return Err(value
                .error(Code::BadValue)
                .found(odd)
                .expected("names of OpenSSL providers, such as pkcs11, separated by commas"));
        }
        if names.iter().any(|name| name == "fips") {
            return Err(value
                .error(Code::BadValue)
                .found("fips")
                .expected("another provider")
                .hint("set agent.ssl_fips=required, which also proves that it is in force"));
        }
        Ok(names)
    }
}
