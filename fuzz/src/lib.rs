//! What the targets share: settings without an environment, and material given as bytes.
//!
//! Only the public API is called: what is fuzzed is what a host program can reach.

use skytls::config::{IdentitySource, Loader, Secret, Source, TlsSettings, Trust};
use skytls::error::Chain;
use skytls::tls::Generation;

/// TLS settings without any file.
pub fn tls() -> TlsSettings {
    let loader = Loader::new()
        .environment([])
        .set("collector.backend_service", "localhost:11800")
        .set("agent.force_tls", "true");
    let mut tls = loader.load().expect("the settings are sound").settings.tls;
    // The system's store is large, and it is not what is tested here.
    tls.trust = Trust::Ca;
    tls
}

/// Bytes in place of a file.
pub fn bytes(bytes: &[u8]) -> Source {
    Source::Bytes(Secret::new(bytes.to_vec()))
}

/// Chain, key and passphrase from memory.
pub fn identity(chain: &[u8], key: &[u8], passphrase: Option<&str>) -> IdentitySource {
    let passphrase = passphrase.map(|text| Secret::new(text.to_owned()));
    IdentitySource { chain: bytes(chain), key: bytes(key), passphrase }
}

/// Loads material and writes everything that is said about it.
pub fn load(tls: &TlsSettings) -> Result<(), String> {
    match Generation::load(tls) {
        Ok(generation) => {
            let _ = format!("{generation:?}");
            Ok(())
        }
        Err(error) => {
            let text = Chain(&error).to_string();
            // Each fault of a file is one of the catalogue, with a remedy, and no bug of ours.
            assert!(!text.is_empty() && !error.remedy().is_empty());
            assert_ne!(error.exit_code(), 70, "{text}");
            Err(text)
        }
    }
}
