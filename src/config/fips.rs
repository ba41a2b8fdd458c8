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
        if self.value(Key::KeylogPath).set {
            return Err(self.conflict(Key::KeylogPath, "it unset"));
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

    /// Beside FIPS a provider is for what is in a token, and a URI for nothing else: a file is read in
    /// the private context by its path.
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
        let has_provider = self.value(Key::Provider).set;
        let mut of_tokens = 0;
        for (key, source) in all {
            let Some(source @ Source::Uri(uri)) = source else { continue };
            let file = uri.expose().get(..5).is_some_and(|name| name.eq_ignore_ascii_case("file:"));
            if file || !has_provider {
                let error = self.value(key).error(Code::FipsConflict).found(source);
                return Err(
                    error.expected("the path of a file, or agent.ssl_provider and a token's URI")
                );
            }
            of_tokens += 1;
        }
        if has_provider && of_tokens == 0 {
            return Err(self.conflict(Key::Provider, "it unset, or a URI that it serves"));
        }
        Ok(())
    }

    fn conflict(&self, key: Key, expected: &str) -> Error {
        let value = self.value(key);
        let found = if value.secret { "a value" } else { value.text.as_str() };
        value.error(Code::FipsConflict).found(found).expected(expected)
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
