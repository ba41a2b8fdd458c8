//! What the other rooms get to see: every setting parsed, checked and typed.
//!
//! Raw text, origins and placeholders stay behind in [`super::Effective`].

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proxy::Proxy;
use crate::error::Result;

/// The settings of one engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `agent.enable`.
    pub enabled: bool,
    /// Who this process is to the backend.
    pub agent: AgentSettings,
    /// Where records go.
    pub link: LinkSettings,
    /// How often the agent speaks for itself.
    pub duties: DutySettings,
    /// How the link is protected.
    pub tls: TlsSettings,
    /// How much waits in memory.
    pub buffer: BufferSettings,
    /// How much waits on disk; `None`: nothing does.
    pub spool: Option<SpoolSettings>,
    /// What local agents talk to.
    pub relay: RelaySettings,
    /// `admin.listen`: where the relay says how it is; only addresses of this machine.
    pub admin: Vec<ListenAddress>,
    /// What is logged where.
    pub logging: LoggingSettings,
}

/// Who this process is to the backend.
#[derive(Debug, Clone, Default)]
pub struct AgentSettings {
    /// The folder that relative paths and `/ca/ca.crt` start from.
    pub folder: PathBuf,
    /// `agent.service_name`; `Your_ApplicationName` counts as unset.
    pub service_name: Option<String>,
    /// `agent.namespace`.
    pub namespace: Option<String>,
    /// `agent.cluster`.
    pub cluster: Option<String>,
    /// `agent.instance_name`.
    pub instance_name: Option<String>,
    /// `agent.instance_properties_json`, as an ordered list.
    pub instance_properties: Vec<(String, String)>,
    /// `agent.authentication`.
    pub authentication: Option<Secret>,
    /// `agent.allow_plaintext_token`.
    pub allow_plaintext_token: bool,
    /// `osinfo.ipv4_list_size`: the most IPv4 addresses among the instance properties.
    pub ipv4_list_size: usize,
}

/// How often the agent speaks for itself, and asks what it is to do.
#[derive(Debug, Clone)]
pub struct DutySettings {
    /// `collector.heartbeat_period`.
    pub heartbeat_period: Duration,
    /// `collector.properties_report_period_factor`: every so many heartbeats the instance
    /// properties take the place of one.
    pub properties_factor: u64,
    /// `collector.get_agent_dynamic_config_interval`.
    pub configuration_interval: Duration,
    /// `collector.get_profile_task_interval`.
    pub profile_interval: Duration,
}

/// Where records go and how long that may take.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// `collector.backend_service`; empty when unset.
    pub backends: Vec<Backend>,
    /// `collector.proxy`.
    pub proxy: Option<Proxy>,
    /// `collector.authority`.
    pub authority: Option<String>,
    /// `collector.grpc_upstream_timeout`: the deadline of a call.
    pub upstream_timeout: Duration,
    /// `collector.grpc_channel_check_interval` × `agent.force_reconnection_period`: the longest pause
    /// between two attempts to connect.
    pub longest_rest: Duration,
    /// `collector.is_resolve_dns_periodically`: how often names are looked up anew,
    /// `collector.grpc_channel_check_interval`.
    pub lookup_interval: Option<Duration>,
    /// `collector.keepalive_interval`: HTTP/2 pings.
    pub keepalive_interval: Option<Duration>,
    /// `collector.connection_max_age`.
    pub connection_max_age: Option<Duration>,
}

/// One backend as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// `host:port` or `[v6]:port`.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// `unix:/path`: plaintext that stays on this machine.
    Unix(PathBuf),
}

/// How the link is protected.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The outcome of the decision table, with the reason.
    pub mode: Mode,
    /// The CA certificates, when there is a file or folder of them.
    pub ca: Option<Source>,
    /// `agent.ssl_trust`, decided: whom the backend's chain may lead to.
    pub trust: Trust,
    /// The client's chain and key, when both are set.
    pub identity: Option<IdentitySource>,
    /// `agent.ssl_server_name`: verified in place of the backend's host.
    pub server_name: Option<String>,
    /// `agent.ssl_sni`: sent in place of the verified name.
    pub sni: Option<String>,
    /// `agent.ssl_same_name_issuer`: the rule for SkyWalking's documented key script is on.
    pub same_name_issuer: bool,
    /// `agent.ssl_partial_chain`: every certificate of the CA file is an anchor.
    pub partial_chain: bool,
    /// What is put on top of the policy of `openssl.cnf`.
    pub policy: PolicySettings,
    /// `agent.ssl_crl_path`: revocation is checked when set.
    pub crl: Option<Source>,
    /// `agent.ssl_ocsp`: what is made of stapled OCSP answers.
    pub ocsp: Ocsp,
    /// `agent.ssl_strict`: X.509 strict verification.
    pub strict: bool,
    /// `agent.ssl_verify_depth`: the most intermediates of a chain.
    pub verify_depth: Option<u32>,
    /// `agent.ssl_fips` and `agent.ssl_fips_config`.
    pub fips: Fips,
    /// `agent.ssl_provider`: what is loaded into a private library context for key URIs.
    pub providers: Vec<String>,
    /// `agent.ssl_key_passphrase_path`, from which the identity's passphrase was read.
    pub passphrase_file: Option<PathBuf>,
    /// `agent.ssl_reload_interval`: how often the files are looked at.
    pub reload_interval: Option<Duration>,
    /// `agent.ssl_drain_timeout`: how long a connection made with replaced files may live on.
    pub drain_timeout: Duration,
}

/// Whether the link must be FIPS's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fips {
    /// OpenSSL as it is.
    #[default]
    Off,
    /// Nothing starts unless it is proven that a FIPS provider does all the work.
    Required {
        /// `agent.ssl_fips_config`; absent: where OpenSSL finds it.
        config: Option<PathBuf>,
    },
}

/// TLS policy as it was written; `None` leaves what `openssl.cnf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// `agent.ssl_min_protocol`, such as `TLSv1.3`.
    pub min_protocol: Option<String>,
    /// `agent.ssl_max_protocol`, such as `TLSv1.2`.
    pub max_protocol: Option<String>,
    /// `agent.ssl_ciphers`: the cipher list of TLS 1.2.
    pub ciphers: Option<String>,
    /// `agent.ssl_ciphersuites`: the cipher suites of TLS 1.3.
    pub ciphersuites: Option<String>,
    /// `agent.ssl_groups`: key exchange groups, separated by colons.
    pub groups: Option<String>,
    /// `agent.ssl_signature_algorithms`, separated by colons.
    pub signature_algorithms: Option<String>,
    /// `agent.ssl_security_level`, 0 to 5.
    pub security_level: Option<u32>,
}

/// Whom a backend's chain may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Trust {
    /// The certificates of the CA file, and nothing of the system's store.
    Ca,
    /// The system's store, and nothing of a CA file.
    #[default]
    System,
    /// Either of the two; never a mixture.
    Both,
}

/// What is made of an OCSP answer that the backend sends with its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ocsp {
    /// None is asked for.
    #[default]
    Off,
    /// One that comes has to be right.
    Staple,
    /// One has to come, and be right.
    Require,
}

/// Whether the link is plaintext, TLS or mutual TLS, and why. Reasons are stable words: they
/// appear in logs, status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Records travel unprotected.
    Plaintext(PlaintextReason),
    /// The server is authenticated.
    Tls(TlsReason),
    /// Server and client are authenticated.
    Mutual(TlsReason),
}

/// Why the link is plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaintextReason {
    /// Neither a CA file nor `force_tls`.
    NothingAsksForTls,
}

/// Why the link is TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsReason {
    /// A CA file is there.
    CaFile,
    /// `agent.force_tls`, with the system's trust store.
    ForceTls,
}

/// Where certificates or keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A file, already resolved against the agent folder.
    File(PathBuf),
    /// A URI for OpenSSL's store, such as `pkcs11:…`; it may hold a PIN.
    Uri(Secret),
    /// Bytes in memory.
    Bytes(Secret<Vec<u8>>),
}

/// The client's chain and key.
#[derive(Debug, Clone)]
pub struct IdentitySource {
    /// `agent.ssl_cert_chain_path`.
    pub chain: Source,
    /// `agent.ssl_key_path`.
    pub key: Source,
    /// `agent.ssl_key_passphrase` or the content of `agent.ssl_key_passphrase_path`.
    pub passphrase: Option<Secret>,
}

/// How much waits in memory.
#[derive(Debug, Clone)]
pub struct BufferSettings {
    /// `buffer.max_bytes`.
    pub max_bytes: usize,
    /// `buffer.channel_size` × `buffer.buffer_size`: records of one kind a library may hold.
    pub max_records: usize,
    /// `buffer.on_full`, when set; each way of use has its own default.
    pub on_full: Option<OnFull>,
}

/// What happens to a record that finds the queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFull {
    /// The new record is refused.
    DropNewest,
    /// The oldest records of its kind make room.
    DropOldest,
    /// Whoever reports waits.
    Block,
}

/// How much waits on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// `spool.path`.
    pub path: PathBuf,
    /// `spool.max_bytes`.
    pub max_bytes: u64,
    /// `spool.max_age`, when set.
    pub max_age: Option<Duration>,
    /// `spool.replay_rate`, when set: records in a second.
    pub replay_rate: Option<u64>,
    /// `spool.sync`.
    pub sync: SpoolSync,
}

/// When the disk is made to have what was written. Until then it is the kernel's, which keeps it
/// when a process is killed, and loses it with the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SpoolSync {
    /// Before records count as durable.
    Always,
    /// Every second.
    #[default]
    Interval,
    /// When the kernel likes.
    Never,
}

/// When a local agent's stream is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayAck {
    /// Once its records are in memory.
    Queued,
    /// Once they are in the spool.
    Spooled,
    /// Once the backend has confirmed them.
    Delivered,
}

/// What local agents talk to.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// `relay.listen`.
    pub listen: Vec<ListenAddress>,
    /// `relay.unix_mode`: the permissions of Unix sockets.
    pub unix_mode: u32,
    /// TLS on the addresses listened on, Unix sockets excepted.
    pub tls: Option<ListenerTls>,
    /// `relay.authentication`: what local agents must present.
    pub authentication: Option<Secret>,
    /// `relay.forward_headers`, in lower case.
    pub forward_headers: Vec<String>,
    /// `relay.shutdown_grace`.
    pub shutdown_grace: Duration,
    /// What local agents may use up.
    pub limits: ListenerLimits,
    /// `relay.drain_timeout`.
    pub drain_timeout: Duration,
    /// `relay.ack`.
    pub ack: RelayAck,
}

/// What local agents may use up, so that none of them harms the others.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// `relay.max_connections`.
    pub connections: usize,
    /// `relay.max_streams`, of one connection.
    pub streams: u32,
    /// `relay.max_message_size`, in bytes.
    pub message: usize,
    /// `relay.max_header_size`, in bytes.
    pub headers: u32,
    /// `relay.max_partial_bytes`: at least one message.
    pub partial: usize,
    /// `relay.max_unread_bytes`.
    pub unread: usize,
    /// `relay.greeting_timeout`.
    pub greeting: Duration,
    /// `relay.idle_timeout`; `None`: never.
    pub idle: Option<Duration>,
}

/// What a listener shows of itself and demands of its clients.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// `relay.ssl_cert_chain_path` and `relay.ssl_key_path`.
    pub identity: IdentitySource,
    /// `relay.ssl_trusted_ca_path`: client certificates are demanded, and must come from it.
    pub client_ca: Option<Source>,
}

/// An address to listen on: a name is resolved when the listener is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// An IP address and port; port 0 lets the system choose.
    Ip(SocketAddr),
    /// `localhost` and a port.
    Localhost(u16),
    /// `unix:/path`: a socket that only processes of this machine can reach.
    Unix(PathBuf),
}

/// What is logged where.
#[derive(Debug, Clone)]
pub struct LoggingSettings {
    /// `logging.level`.
    pub level: log::LevelFilter,
    /// `logging.output=FILE`: the file made of `logging.dir` and `logging.file_name`.
    pub file: Option<PathBuf>,
}

/// A value that never shows in `Debug`, in a log or in an error.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret<T = String>(T);

// === impl Secret ===

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself; whoever calls this answers for where it goes.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

// === impl TlsSettings ===

impl TlsSettings {
    /// The same with the passphrase as its file holds it now.
    ///
    /// # Errors
    ///
    /// When that file cannot be read.
    pub(crate) fn with_fresh_passphrase(&self) -> Result<Self> {
        let mut fresh = self.clone();
        if let (Some(path), Some(identity)) = (&self.passphrase_file, &mut fresh.identity) {
            identity.passphrase = Some(super::assemble::passphrase(path)?);
        }
        Ok(fresh)
    }

    /// Whether the rule for certificates of SkyWalking's key script may speak: it cannot vouch for
    /// revocation or strictness, nor for whose code verified a signature.
    pub fn same_name_rule(&self) -> bool {
        self.same_name_issuer
            && !self.strict
            && self.crl.is_none()
            && self.ocsp == Ocsp::Off
            && !self.fips.is_required()
    }
}

// === impl Fips ===

impl Fips {
    /// Whether FIPS is required.
    pub fn is_required(&self) -> bool {
        matches!(self, Self::Required { .. })
    }
}

// === impl Trust ===

impl Trust {
    /// Whether certificates of the CA file are anchors.
    pub fn has_ca(self) -> bool {
        self != Self::System
    }

    /// Whether certificates of the system's store are anchors.
    pub fn has_system(self) -> bool {
        self != Self::Ca
    }

    /// `ca`, `system` or `both`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::System => "system",
            Self::Both => "both",
        }
    }
}

// === impl Source ===

impl Source {
    /// The file, if the source is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            // A URI may carry a PIN: only its scheme is shown.
            Self::Uri(uri) => write!(f, "{}:…", uri.expose().split(':').next().unwrap_or_default()),
            Self::Bytes(_) => f.write_str("memory"),
        }
    }
}

// === impl Backend ===

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// === impl Mode ===

impl Mode {
    /// Whether TLS protects the link.
    pub fn is_tls(self) -> bool {
        !matches!(self, Self::Plaintext(_))
    }

    /// `plaintext`, `tls` or `mtls`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext(_) => "plaintext",
            Self::Tls(_) => "tls",
            Self::Mutual(_) => "mtls",
        }
    }

    /// The reason as a stable word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Plaintext(PlaintextReason::NothingAsksForTls) => "nothing_asks_for_tls",
            Self::Tls(TlsReason::CaFile) | Self::Mutual(TlsReason::CaFile) => "ca_file",
            Self::Tls(TlsReason::ForceTls) | Self::Mutual(TlsReason::ForceTls) => "force_tls",
        }
    }
}

// === impl ListenAddress ===

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
