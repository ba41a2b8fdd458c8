//! From checked texts to typed settings: what values mean, alone and together.
//!
//! Reads nothing but the passphrase file; certificates and keys are left to the TLS room.

mod relay;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use super::backend::{self, Addresses};
use super::effective::{Effective, Entry, MASK, Origin, Unused, Warning, WarningKind};
use super::keys::Key;
use super::layers::Value;
use super::load::Loaded;
use super::mode::{self, Facts};
use super::paths::{self, Nowhere};
use super::proxy::{self, Proxy};
use super::settings::*;
use super::value::{self, Fault};
use crate::error::{Code, Error, Result};

/// All values, and where their paths start.
pub(super) struct Assembly {
    /// In the order of [`Key::ALL`].
    pub(super) values: Vec<Value>,
    pub(super) folder: PathBuf,
    pub(super) relay: bool,
    pub(super) warnings: Vec<Warning>,
}

/// What gRPC's Java servers, OAP among them, take from a client by default.
const PINGS_ALLOWED: Duration = Duration::from_secs(300);
/// More than any passphrase.
const LONGEST_PASSPHRASE: u64 = 4 * 1024;
/// The default of the file that SkyWalking ships; nobody's service is called so.
const PLACEHOLDER_NAME: &str = "Your_ApplicationName";

// === impl Assembly ===

impl Assembly {
    /// Puts everything together.
    pub(super) fn finish(mut self, unused: Vec<Unused>, file: Option<PathBuf>) -> Result<Loaded> {
        let agent = self.agent()?;
        let link = self.link()?;
        let tls = self.tls()?;
        self.judge_sockets(tls.mode, &link)?;
        self.judge_plaintext(tls.mode, &link, &agent)?;
        let settings = Settings {
            enabled: self.flag(Key::Enable)?,
            duties: self.duties()?,
            buffer: self.buffer()?,
            spool: self.spool()?,
            relay: self.relay(&link)?,
            admin: self.admin()?,
            logging: self.logging(),
            agent,
            link,
            tls,
        };
        let entries = self.entries(&settings);
        let effective = Effective { entries, unused, file };
        Ok(Loaded { settings, effective, warnings: self.warnings })
    }

    fn agent(&self) -> Result<AgentSettings> {
        let properties = self.value(Key::InstanceProperties);
        Ok(AgentSettings {
            folder: self.folder.clone(),
            service_name: self.text(Key::ServiceName).filter(|name| name != PLACEHOLDER_NAME),
            namespace: self.text(Key::Namespace),
            cluster: self.text(Key::Cluster),
            instance_name: self.text(Key::InstanceName),
            instance_properties: match properties.text.as_str() {
                "" => Vec::new(),
                text => value::properties(text).map_err(|fault| properties.fault(fault))?,
            },
            authentication: self.text(Key::Authentication).map(Secret::new),
            allow_plaintext_token: self.flag(Key::AllowPlaintextToken)?,
            ipv4_list_size: usize::try_from(self.number(Key::Ipv4ListSize)?).unwrap_or(usize::MAX),
        })
    }

    fn duties(&self) -> Result<DutySettings> {
        Ok(DutySettings {
            heartbeat_period: self.seconds(Key::HeartbeatPeriod)?,
            properties_factor: self.number(Key::PropertiesReportPeriodFactor)?,
            configuration_interval: self.seconds(Key::DynamicConfigInterval)?,
            profile_interval: self.seconds(Key::ProfileTaskInterval)?,
        })
    }

    fn link(&mut self) -> Result<LinkSettings> {
        let own = self.relay && self.value(Key::RelayBackendService).set;
        let key = if own { Key::RelayBackendService } else { Key::BackendService };
        let backends = self.addresses(key, backend::backends)?;
        Ok(LinkSettings {
            backends,
            proxy: self.proxy()?,
            authority: self.text(Key::Authority),
            upstream_timeout: self.seconds(Key::UpstreamTimeout)?,
            longest_rest: self.longest_rest()?,
            lookup_interval: match self.flag(Key::ResolveDnsPeriodically)? {
                true => Some(self.seconds(Key::ChannelCheckInterval)?),
                false => None,
            },
            keepalive_interval: self.keepalive()?,
            connection_max_age: self.seconds_or_off(Key::ConnectionMaxAge)?,
        })
    }

    fn proxy(&self) -> Result<Option<Proxy>> {
        let value = self.value(Key::Proxy);
        let url = self.text(Key::Proxy);
        url.map(|url| proxy::proxy(&url)).transpose().map_err(|fault| value.fault(fault))
    }

    /// Java's agent tries once in so many checks of its channel. Skytls tries sooner by itself.
    fn longest_rest(&self) -> Result<Duration> {
        let checks = u32::try_from(self.number(Key::ForceReconnectionPeriod)?).unwrap_or(u32::MAX);
        Ok(self.seconds(Key::ChannelCheckInterval)?.saturating_mul(checks.max(1)))
    }

    fn keepalive(&mut self) -> Result<Option<Duration>> {
        let interval = self.seconds_or_off(Key::KeepaliveInterval)?;
        if let Some(interval) = interval.filter(|interval| *interval < PINGS_ALLOWED) {
            let text = format!(
                "pings every {interval:?}: SkyWalking's backend closes connections with pings more often than every {PINGS_ALLOWED:?}"
            );
            self.warn(WarningKind::KeepaliveTooFrequent, Key::KeepaliveInterval, text);
        }
        Ok(interval)
    }

    fn tls(&mut self) -> Result<TlsSettings> {
        let ca = self.ca()?;
        let trust = self.trust(ca.is_some())?;
        let other = Key::ALL
            .iter()
            .filter(|&&key| key.needs_tls() && !(self.has_listener_tls() && key.is_rotation()))
            .find(|&&key| self.value(key).text != key.default_text());
        let facts = Facts {
            ca: ca.is_some(),
            force_tls: self.flag(Key::ForceTls)?,
            require_tls: self.flag(Key::RequireTls)?,
            key: self.value(Key::KeyPath).set,
            chain: self.value(Key::CertChainPath).set,
            other: other.is_some(),
        };
        let mode = mode::decide(facts).map_err(|code| self.refusal(code, facts, other.copied()))?;
        let (identity, passphrase_file) = self.identity()?;
        let fips = self.fips()?;
        self.judge_uris(&fips, ca.as_ref(), identity.as_ref())?;
        Ok(TlsSettings {
            mode,
            ca,
            identity,
            server_name: self.text(Key::ServerName),
            sni: self.text(Key::Sni),
            same_name_issuer: self.value(Key::SameNameIssuer).text == "auto",
            partial_chain: self.value(Key::PartialChain).text == "auto",
            trust,
            crl: self.crl()?,
            ocsp: self.ocsp(),
            strict: self.flag(Key::Strict)?,
            verify_depth: self.verify_depth()?,
            policy: self.policy()?,
            fips,
            providers: self.providers()?,
            passphrase_file,
            reload_interval: self.seconds_or_off(Key::ReloadInterval)?,
            drain_timeout: self.seconds(Key::DrainTimeout)?,
        })
    }

    /// As written: OpenSSL judges the words, when a context is made of them.
    fn policy(&self) -> Result<PolicySettings> {
        Ok(PolicySettings {
            min_protocol: self.text(Key::MinProtocol),
            max_protocol: self.text(Key::MaxProtocol),
            ciphers: self.text(Key::Ciphers),
            ciphersuites: self.text(Key::Ciphersuites),
            groups: self.text(Key::Groups),
            signature_algorithms: self.text(Key::SignatureAlgorithms),
            security_level: match self.text(Key::SecurityLevel) {
                Some(_) => u32::try_from(self.number(Key::SecurityLevel)?).ok(),
                None => None,
            },
        })
    }

    /// Names the setting and the file that would have made the difference.
    fn refusal(&self, code: Code, facts: Facts, other: Option<Key>) -> Error {
        let key = match code {
            Code::HalfIdentity if facts.key => Key::KeyPath,
            Code::HalfIdentity | Code::IdentityWithoutTls => Key::CertChainPath,
            Code::TlsRequired => Key::RequireTls,
            _ => other.unwrap_or(Key::TrustedCaPath),
        };
        let error = self.value(key).error(code);
        match code {
            Code::HalfIdentity => {
                let other = if facts.key { Key::CertChainPath } else { Key::KeyPath };
                error.found(format_args!("no {}", other.name())).expected("both or neither")
            }
            _ => error
                .found(format_args!("no CA file at {}", self.default_ca().display()))
                .expected("a CA file there, or agent.force_tls=true"),
        }
    }

    /// The client's chain and key, and the file of the passphrase.
    fn identity(&mut self) -> Result<(Option<IdentitySource>, Option<PathBuf>)> {
        let passphrase_keys = [Key::KeyPassphrase, Key::KeyPassphrasePath];
        let set: Vec<Key> =
            passphrase_keys.into_iter().filter(|&key| self.value(key).set).collect();
        if let [_, second] = set[..] {
            return Err(self.value(second).error(Code::BadValue).found("both").expected(
                "only one of agent.ssl_key_passphrase and agent.ssl_key_passphrase_path",
            ));
        }
        if !self.value(Key::KeyPath).set {
            if let Some(&key) = set.first() {
                self.warn(WarningKind::PassphraseUnused, key, "there is no key to decrypt".into());
            }
            return Ok((None, None));
        }
        let file = match set.first() {
            Some(&key) if key == Key::KeyPassphrasePath => {
                self.source(key)?.path().map(Path::to_owned)
            }
            _ => None,
        };
        let passphrase = match &file {
            Some(path) => Some(passphrase(path)?),
            None => self.text(Key::KeyPassphrase).map(Secret::new),
        };
        let chain = self.source(Key::CertChainPath)?;
        let key = self.source(Key::KeyPath)?;
        Ok((Some(IdentitySource { chain, key, passphrase }), file))
    }

    /// The file that a set path means.
    pub(super) fn source(&self, key: Key) -> Result<Source> {
        let value = self.value(key);
        if let Some(scheme) = paths::uri_scheme(&self.folder, &value.text) {
            if key.takes_uri() {
                return Ok(Source::Uri(Secret::new(value.text.clone())));
            }
            // Only the scheme: a URI may carry a PIN.
            return Err(value
                .error(Code::BadValue)
                .found(format_args!("{scheme}:…"))
                .expected("the path of a file"));
        }
        paths::resolve(&self.folder, &value.text).map(Source::File).map_err(
            |Nowhere { inside, outside }| {
                let error =
                    Error::new(Code::FileMissing).key(key.name()).file(&inside).expected("a file");
                match outside {
                    Some(outside) if outside != inside => error.found(format_args!(
                        "neither {} nor {}",
                        inside.display(),
                        outside.display()
                    )),
                    _ => error.found("nothing there"),
                }
            },
        )
    }

    /// A socket of this machine is plaintext. Whoever asks for TLS as well does not get less.
    fn judge_sockets(&self, mode: Mode, link: &LinkSettings) -> Result<()> {
        let Some(socket) = link.backends.iter().find(|backend| matches!(backend, Backend::Unix(_)))
        else {
            return Ok(());
        };
        if !mode.is_tls() {
            return Ok(());
        }
        let own = self.relay && self.value(Key::RelayBackendService).set;
        let key = if own { Key::RelayBackendService } else { Key::BackendService };
        Err(self
            .value(key)
            .error(Code::SocketBackendWithTls)
            .found(format_args!("{socket} and {} ({})", mode.name(), mode.reason()))
            .expected("host:port, or no TLS settings"))
    }

    /// Plaintext that leaves the machine: an error with a token, a warning without.
    fn judge_plaintext(
        &mut self,
        mode: Mode,
        link: &LinkSettings,
        agent: &AgentSettings,
    ) -> Result<()> {
        let Some(backend) = mode::exposed(mode, link) else { return Ok(()) };
        let proxy = link.proxy.as_ref();
        let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
        if agent.authentication.is_some() && !agent.allow_plaintext_token {
            return Err(self
                .value(Key::Authentication)
                .error(Code::TokenOverPlaintext)
                .peer(backend)
                .found(format_args!("a plaintext link{through}"))
                .expected("TLS"));
        }
        let text = format!(
            "records travel in plaintext to {backend}{through}: there is no CA file at {} and agent.force_tls is off",
            self.default_ca().display()
        );
        self.warn(WarningKind::Plaintext, Key::ForceTls, text);
        Ok(())
    }

    fn buffer(&self) -> Result<BufferSettings> {
        let size = |key| self.number(key).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok(BufferSettings {
            max_bytes: size(Key::MaxBytes)?,
            max_records: size(Key::ChannelSize)?.saturating_mul(size(Key::BufferSize)?),
            on_full: match self.value(Key::OnFull).text.as_str() {
                "drop_newest" => Some(OnFull::DropNewest),
                "drop_oldest" => Some(OnFull::DropOldest),
                "block" => Some(OnFull::Block),
                _ => None,
            },
        })
    }

    fn spool(&self) -> Result<Option<SpoolSettings>> {
        let path = self.value(Key::SpoolPath);
        if !path.set {
            return Ok(None);
        }
        let age = self.seconds(Key::SpoolMaxAge)?;
        let rate = self.number(Key::SpoolReplayRate)?;
        Ok(Some(SpoolSettings {
            // As for logs: an absolute path is absolute.
            path: self.folder.join(&path.text),
            max_bytes: self.number(Key::SpoolMaxBytes)?,
            max_age: (!age.is_zero()).then_some(age),
            replay_rate: (rate > 0).then_some(rate),
            sync: match self.value(Key::SpoolSync).text.as_str() {
                "always" => SpoolSync::Always,
                "never" => SpoolSync::Never,
                _ => SpoolSync::Interval,
            },
        }))
    }

    fn logging(&self) -> LoggingSettings {
        let dir = match self.value(Key::LoggingDir).text.as_str() {
            "" => self.folder.join("logs"),
            // Unlike certificates, as in Java: an absolute path is absolute.
            text => self.folder.join(text),
        };
        let name = &self.value(Key::LoggingFileName).text;
        let to_file = self.value(Key::LoggingOutput).text == "FILE";
        LoggingSettings {
            level: match self.value(Key::LoggingLevel).text.as_str() {
                "TRACE" => LevelFilter::Trace,
                "DEBUG" => LevelFilter::Debug,
                "WARN" => LevelFilter::Warn,
                "ERROR" => LevelFilter::Error,
                "OFF" => LevelFilter::Off,
                _ => LevelFilter::Info,
            },
            file: to_file.then(|| paths::join(&dir, name)),
        }
    }

    fn addresses<T: std::fmt::Display>(
        &mut self,
        key: Key,
        parse: impl Fn(&str) -> Result<Addresses<T>, Fault>,
    ) -> Result<Vec<T>> {
        let value = self.value(key);
        if value.text.is_empty() {
            return Ok(Vec::new());
        }
        let Addresses { list, repeated } =
            parse(&value.text).map_err(|fault| value.fault(fault))?;
        for address in repeated {
            self.warn(WarningKind::RepeatedAddress, key, format!("{address} stands there twice"));
        }
        Ok(list)
    }

    fn entries(&self, settings: &Settings) -> Vec<Entry> {
        let identity = settings.tls.identity.as_ref();
        let listener = settings.relay.tls.as_ref();
        let resolved = |key| {
            let source = match key {
                Key::TrustedCaPath => settings.tls.ca.as_ref(),
                Key::CertChainPath => identity.map(|identity| &identity.chain),
                Key::KeyPath => identity.map(|identity| &identity.key),
                Key::RelayCertChainPath => listener.map(|tls| &tls.identity.chain),
                Key::RelayKeyPath => listener.map(|tls| &tls.identity.key),
                Key::RelayTrustedCaPath => listener.and_then(|tls| tls.client_ca.as_ref()),
                Key::CrlPath => settings.tls.crl.as_ref(),
                _ => None,
            };
            source.and_then(Source::path).map(Path::to_owned)
        };
        let is_uri = |key| match key {
            Key::TrustedCaPath => matches!(settings.tls.ca, Some(Source::Uri(_))),
            Key::CertChainPath => identity.is_some_and(|i| matches!(i.chain, Source::Uri(_))),
            Key::KeyPath => identity.is_some_and(|i| matches!(i.key, Source::Uri(_))),
            _ => false,
        };
        let entry = |value: &Value| Entry {
            key: value.key,
            value: match value.text.as_str() {
                "" => String::new(),
                _ if value.secret => MASK.to_owned(),
                // A URI may hold a PIN.
                text if is_uri(value.key) => Source::Uri(Secret::new(text.to_owned())).to_string(),
                text => text.to_owned(),
            },
            origin: value.origin.clone(),
            status: value.key.status(),
            secret: value.secret,
            resolved: resolved(value.key),
        };
        self.values.iter().map(entry).collect()
    }

    pub(super) fn value(&self, key: Key) -> &Value {
        &self.values[key as usize]
    }

    fn text(&self, key: Key) -> Option<String> {
        Some(self.value(key).text.clone()).filter(|text| !text.is_empty())
    }

    fn flag(&self, key: Key) -> Result<bool> {
        let value = self.value(key);
        value::flag(&value.text).map_err(|fault| value.fault(fault))
    }

    pub(super) fn number(&self, key: Key) -> Result<u64> {
        let value = self.value(key);
        value::number(key.kind(), &value.text).map_err(|fault| value.fault(fault))
    }

    fn seconds(&self, key: Key) -> Result<Duration> {
        self.number(key).map(Duration::from_secs)
    }

    /// 0 is off.
    fn seconds_or_off(&self, key: Key) -> Result<Option<Duration>> {
        Ok(Some(self.seconds(key)?).filter(|time| !time.is_zero()))
    }

    fn warn(&mut self, kind: WarningKind, key: Key, text: String) {
        let place = match &self.value(key).origin {
            Origin::File { path, line, .. } => Some((path.clone(), *line)),
            _ => None,
        };
        self.warnings.push(Warning { kind, key: key.name().to_owned(), text, place });
    }
}

/// The first line of a passphrase file, without its end.
pub(super) fn passphrase(path: &Path) -> Result<Secret> {
    let error = |code| Error::new(code).key(Key::KeyPassphrasePath.name()).file(path);
    let unreadable =
        |cause| error(Code::FileUnreadable).expected("a file that can be read").because(cause);
    let metadata = path.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(error(Code::FileNotRegular).found(found).expected("a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_PASSPHRASE + 2).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(error(Code::FileEmpty)
            .found("nothing on the first line")
            .expected("the passphrase there"));
    }
    if line.len() as u64 > LONGEST_PASSPHRASE {
        return Err(error(Code::FileTooLarge)
            .found("a longer one")
            .expected(format_args!("a first line of at most {LONGEST_PASSPHRASE} bytes")));
    }
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Secret::new(text.to_owned())),
        Err(_) => Err(error(Code::BadValue).found("other bytes").expected("UTF-8 text")),
    }
}
