//! The one table of settings: name, environment variable, type, default, help, status.
//!
//! Documentation, `skytls config` and the C interface come from it. What a value means for the
//! other settings is not decided here.

use super::value::Kind;

/// Whether a key belongs to the Java agent too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// The same name, environment variable and meaning as in the Java agent.
    Java,
    /// A key of skytls.
    Ours,
}

/// What this version does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It works.
    Built,
    /// Not implemented yet: anything but the default is an error.
    Later,
    /// Accepted and checked, without effect in this version.
    NoEffect,
}

/// One row of the table.
struct Row {
    name: &'static str,
    environment: &'static str,
    family: Family,
    status: Status,
    kind: Kind,
    default: &'static str,
    help: &'static str,
}

macro_rules! keys {
    ($($family:ident { $($variant:ident = $name:literal $env:literal $status:ident $kind:expr, $default:literal, $help:literal;)* })*) => {
        /// A setting.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Key {
            $($(#[doc = concat!("`", $name, "`: ", $help)] $variant,)*)*
        }

        impl Key {
            /// Every key, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];
        }

        /// In the order of [`Key::ALL`].
        static TABLE: &[Row] = &[$($(Row {
            name: $name,
            environment: $env,
            family: Family::$family,
            status: Status::$status,
            kind: $kind,
            default: $default,
            help: $help,
        },)*)*];
    };
}

const COUNT: Kind = Kind::Whole { least: 1, most: i32::MAX as u64 };
const COUNT_OR_NONE: Kind = Kind::Whole { least: 0, most: i32::MAX as u64 };
const PERIOD: Kind = Kind::Seconds { least: 1, most: i32::MAX as u64 };
const PERIOD_OR_OFF: Kind = Kind::Seconds { least: 0, most: i32::MAX as u64 };
const SIZE: Kind = Kind::Bytes { least: 1, most: i64::MAX as u64 };
const MESSAGE: Kind = Kind::Bytes { least: 1, most: 1 << 30 };
const HEADERS: Kind = Kind::Bytes { least: 1024, most: 1 << 24 };
const SWITCH: Kind = Kind::OneOf(&["auto", "off"]);

keys! {
    Java {
        ServiceName = "agent.service_name" "SW_AGENT_NAME" Built Kind::Name { longest: 50 }, "",
            "name of the service; `Your_ApplicationName` counts as unset";
        Namespace = "agent.namespace" "SW_AGENT_NAMESPACE" Built Kind::Name { longest: 20 }, "",
            "second part of the reported service name";
        Cluster = "agent.cluster" "SW_AGENT_CLUSTER" Built Kind::Name { longest: 20 }, "",
            "third part of the reported service name";
        InstanceName = "agent.instance_name" "SW_AGENT_INSTANCE_NAME" Built Kind::Name { longest: 50 }, "",
            "name of this instance; empty: a random id, `@` and an IPv4 address";
        InstanceProperties = "agent.instance_properties_json" "SW_INSTANCE_PROPERTIES_JSON" Built Kind::Json, "",
            "more properties of this instance, as a JSON object of strings";
        Authentication = "agent.authentication" "SW_AGENT_AUTHENTICATION" Built Kind::Token, "",
            "token sent with every call";
        ForceTls = "agent.force_tls" "SW_AGENT_FORCE_TLS" Built Kind::Flag, "false",
            "use TLS with the system's trust when there is no CA file";
        TrustedCaPath = "agent.ssl_trusted_ca_path" "SW_AGENT_SSL_TRUSTED_CA_PATH" Built Kind::Path, "/ca/ca.crt",
            "CA certificates, a file or a hashed folder; TLS is on when it is there";
        KeyPath = "agent.ssl_key_path" "SW_AGENT_SSL_KEY_PATH" Built Kind::Path, "",
            "the client's private key, for mutual TLS: PEM, DER or PKCS#12";
        CertChainPath = "agent.ssl_cert_chain_path" "SW_AGENT_SSL_CERT_CHAIN_PATH" Built Kind::Path, "",
            "the client's certificate and its intermediates, for mutual TLS: PEM, DER, PKCS#7 or PKCS#12";
        ForceReconnectionPeriod = "agent.force_reconnection_period" "SW_AGENT_FORCE_RECONNECTION_PERIOD" Built COUNT_OR_NONE, "1",
            "longest pause between two attempts to connect, in channel checks; 0 means 1. Usual pauses are much shorter";
        Enable = "agent.enable" "SW_AGENT_ENABLE" Built Kind::Flag, "true",
            "false: nothing is reported";
        Ipv4ListSize = "osinfo.ipv4_list_size" "SW_AGENT_OSINFO_IPV4_LIST_SIZE" Built COUNT_OR_NONE, "10",
            "how many IPv4 addresses are reported at most";
        BackendService = "collector.backend_service" "SW_AGENT_COLLECTOR_BACKEND_SERVICES" Built Kind::Backends, "",
            "the backends, `host:port`, `[v6]:port` or `unix:/path`, separated by commas; plaintext only over a Unix socket";
        ChannelCheckInterval = "collector.grpc_channel_check_interval" "SW_AGENT_COLLECTOR_GRPC_CHANNEL_CHECK_INTERVAL" Built PERIOD, "30",
            "length of a channel check; how often names are looked up with `collector.is_resolve_dns_periodically`";
        HeartbeatPeriod = "collector.heartbeat_period" "SW_AGENT_COLLECTOR_HEARTBEAT_PERIOD" Built PERIOD, "30",
            "how often the agent says that it lives";
        PropertiesReportPeriodFactor = "collector.properties_report_period_factor" "SW_AGENT_COLLECTOR_PROPERTIES_REPORT_PERIOD_FACTOR" Built COUNT, "10",
            "heartbeats between two reports of the instance properties";
        UpstreamTimeout = "collector.grpc_upstream_timeout" "SW_AGENT_COLLECTOR_GRPC_UPSTREAM_TIMEOUT" Built PERIOD, "30",
            "deadline of a call";
        DynamicConfigInterval = "collector.get_agent_dynamic_config_interval" "SW_AGENT_COLLECTOR_GET_AGENT_DYNAMIC_CONFIG_INTERVAL" Built PERIOD, "20",
            "how often dynamic configuration is asked for";
        ProfileTaskInterval = "collector.get_profile_task_interval" "SW_AGENT_COLLECTOR_GET_PROFILE_TASK_INTERVAL" Built PERIOD, "20",
            "how often profiling tasks are asked for";
        ResolveDnsPeriodically = "collector.is_resolve_dns_periodically" "SW_AGENT_COLLECTOR_IS_RESOLVE_DNS_PERIODICALLY" Built Kind::Flag, "false",
            "look the name up while connected, too, and follow it when its addresses change; the name stays what is verified";
        ChannelSize = "buffer.channel_size" "SW_BUFFER_CHANNEL_SIZE" Built COUNT, "5",
            "times `buffer.buffer_size`: records of one kind that may wait in a library";
        BufferSize = "buffer.buffer_size" "SW_BUFFER_BUFFER_SIZE" Built COUNT, "300",
            "times `buffer.channel_size`: records of one kind that may wait in a library";
        LogMaxMessageSize = "log.max_message_size" "SW_GRPC_LOG_MAX_MESSAGE_SIZE" NoEffect SIZE, "10485760",
            "largest log message";
        LoggingLevel = "logging.level" "SW_LOGGING_LEVEL" Built Kind::OneOf(&["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"]), "INFO",
            "what is logged";
        LoggingOutput = "logging.output" "SW_LOGGING_OUTPUT" Built Kind::OneOf(&["CONSOLE", "FILE"]), "CONSOLE",
            "where it is logged: standard error or a file";
        LoggingDir = "logging.dir" "SW_LOGGING_DIR" Built Kind::Path, "",
            "folder of the log file; empty: `logs` in the agent folder";
        LoggingFileName = "logging.file_name" "SW_LOGGING_FILE_NAME" Built Kind::Path, "skywalking-api.log",
            "name of the log file";
    }
    Ours {
        RequireTls = "agent.require_tls" "SW_AGENT_REQUIRE_TLS" Built Kind::Flag, "false",
            "plaintext is an error whatever else is set";
        KeyPassphrase = "agent.ssl_key_passphrase" "SW_AGENT_SSL_KEY_PASSPHRASE" Built Kind::Secret, "",
            "passphrase of the key or PKCS#12; nothing ever prompts for it";
        KeyPassphrasePath = "agent.ssl_key_passphrase_path" "SW_AGENT_SSL_KEY_PASSPHRASE_PATH" Built Kind::Path, "",
            "file whose first line is the passphrase of the key";
        ServerName = "agent.ssl_server_name" "SW_AGENT_SSL_SERVER_NAME" Built Kind::ServerName, "",
            "name or IP address verified in the certificate; empty: the backend's host";
        Sni = "agent.ssl_sni" "SW_AGENT_SSL_SNI" Built Kind::DnsName, "",
            "name sent as SNI; empty: the verified name unless it is an IP address";
        Trust = "agent.ssl_trust" "SW_AGENT_SSL_TRUST" Built Kind::OneOf(&["auto", "ca", "system", "both"]), "auto",
            "who is trusted: `ca`, the CA file only; `system`, the system's store only; `both`, either; `auto`: the file when there is one, else the system's store";
        SameNameIssuer = "agent.ssl_same_name_issuer" "SW_AGENT_SSL_SAME_NAME_ISSUER" Built SWITCH, "auto",
            "accept a leaf whose issuer in the CA file has the same name, as SkyWalking's key script makes them";
        PartialChain = "agent.ssl_partial_chain" "SW_AGENT_SSL_PARTIAL_CHAIN" Built SWITCH, "auto",
            "every certificate of the CA file is an anchor, intermediates too";
        CrlPath = "agent.ssl_crl_path" "SW_AGENT_SSL_CRL_PATH" Built Kind::Path, "",
            "file or hashed folder of CRLs; when set, the whole chain below the anchor must have them and must not be revoked";
        Ocsp = "agent.ssl_ocsp" "SW_AGENT_SSL_OCSP" Built Kind::OneOf(&["off", "staple", "require"]), "off",
            "stapled OCSP answers: verified when there (`staple`), or required";
        MinProtocol = "agent.ssl_min_protocol" "SW_AGENT_SSL_MIN_PROTOCOL" Built Kind::Text, "",
            "lowest TLS version, `TLSv1.2` or `TLSv1.3`; empty: what openssl.cnf says, never below TLS 1.2";
        MaxProtocol = "agent.ssl_max_protocol" "SW_AGENT_SSL_MAX_PROTOCOL" Built Kind::Text, "",
            "highest TLS version, `TLSv1.2` or `TLSv1.3`; empty: what openssl.cnf says";
        Ciphers = "agent.ssl_ciphers" "SW_AGENT_SSL_CIPHERS" Built Kind::Text, "",
            "cipher list for TLS 1.2, as `openssl ciphers` takes it; empty: what openssl.cnf says";
        Ciphersuites = "agent.ssl_ciphersuites" "SW_AGENT_SSL_CIPHERSUITES" Built Kind::Text, "",
            "cipher suites for TLS 1.3, separated by colons; empty: what openssl.cnf says";
        Groups = "agent.ssl_groups" "SW_AGENT_SSL_GROUPS" Built Kind::Text, "",
            "key exchange groups, separated by colons, best first; empty: what openssl.cnf says";
        SignatureAlgorithms = "agent.ssl_signature_algorithms" "SW_AGENT_SSL_SIGNATURE_ALGORITHMS" Built Kind::Text, "",
            "signature algorithms, separated by colons, best first; empty: what openssl.cnf says";
        SecurityLevel = "agent.ssl_security_level" "SW_AGENT_SSL_SECURITY_LEVEL" Built Kind::Whole { least: 0, most: 5 }, "",
            "OpenSSL's security level, 0 to 5; empty: what openssl.cnf says";
        Strict = "agent.ssl_strict" "SW_AGENT_SSL_STRICT" Built Kind::Flag, "false",
            "X509 strict verification, as `openssl -x509_strict`";
        VerifyDepth = "agent.ssl_verify_depth" "SW_AGENT_SSL_VERIFY_DEPTH" Built Kind::Whole { least: 0, most: 100 }, "",
            "most intermediate CAs that a chain may have; empty: OpenSSL's 100";
        Fips = "agent.ssl_fips" "SW_AGENT_SSL_FIPS" Built Kind::OneOf(&["off", "required"]), "off",
            "`required`: refuse to start unless FIPS is proven to be in force";
        FipsConfig = "agent.ssl_fips_config" "SW_AGENT_SSL_FIPS_CONFIG" Built Kind::Path, "",
            "the FIPS provider's configuration, if not where OpenSSL finds it";
        Provider = "agent.ssl_provider" "SW_AGENT_SSL_PROVIDER" Built Kind::Text, "",
            "OpenSSL providers to load for key URIs";
        ReloadInterval = "agent.ssl_reload_interval" "SW_AGENT_SSL_RELOAD_INTERVAL" Built PERIOD_OR_OFF, "10",
            "how often the files are looked at; 0: only at SIGHUP";
        DrainTimeout = "agent.ssl_drain_timeout" "SW_AGENT_SSL_DRAIN_TIMEOUT" Built PERIOD_OR_OFF, "30",
            "how long a connection made with replaced files may live on";
        KeylogPath = "agent.ssl_keylog_path" "SW_AGENT_SSL_KEYLOG_PATH" Later Kind::Path, "",
            "NSS key log, for debugging";
        AllowPlaintextToken = "agent.allow_plaintext_token" "SW_AGENT_ALLOW_PLAINTEXT_TOKEN" Built Kind::Flag, "false",
            "let the token travel in plaintext to another machine";
        Proxy = "collector.proxy" "SW_COLLECTOR_PROXY" Built Kind::Proxy, "",
            "HTTP proxy asked for a way (CONNECT) to every backend that is `host:port`: `http://user:pass@host:port`, user and password percent-encoded; HTTPS_PROXY and NO_PROXY are not looked at";
        Authority = "collector.authority" "SW_COLLECTOR_AUTHORITY" Built Kind::Authority, "",
            "the `:authority` sent; empty: host and port of the backend";
        KeepaliveInterval = "collector.keepalive_interval" "SW_COLLECTOR_KEEPALIVE_INTERVAL" Built PERIOD_OR_OFF, "0",
            "HTTP/2 ping while calls are open; 0: off. OAP does not tolerate less than 300";
        ConnectionMaxAge = "collector.connection_max_age" "SW_COLLECTOR_CONNECTION_MAX_AGE" Built PERIOD_OR_OFF, "0",
            "a connection is replaced after this time, ± 20 % at random; 0: never";
        MaxBytes = "buffer.max_bytes" "SW_BUFFER_MAX_BYTES" Built SIZE, "67108864",
            "bytes that the memory queue of all kinds together may hold";
        OnFull = "buffer.on_full" "SW_BUFFER_ON_FULL" Built Kind::OneOf(&["drop_newest", "drop_oldest", "block"]), "",
            "what happens when the queue is full; empty: `drop_newest` in a library, `block` in the relay";
        SpoolPath = "spool.path" "SW_SPOOL_PATH" Built Kind::Path, "",
            "folder of the disk spool; empty: off";
        SpoolMaxBytes = "spool.max_bytes" "SW_SPOOL_MAX_BYTES" Built SIZE, "1073741824",
            "bytes that the spool may hold";
        SpoolMaxAge = "spool.max_age" "SW_SPOOL_MAX_AGE" Built PERIOD_OR_OFF, "0",
            "how long records stay in the spool; 0: for ever";
        SpoolReplayRate = "spool.replay_rate" "SW_SPOOL_REPLAY_RATE" Built COUNT_OR_NONE, "0",
            "records per second that are replayed; 0: unbounded";
        SpoolSync = "spool.sync" "SW_SPOOL_SYNC" Built Kind::OneOf(&["always", "interval", "never"]), "interval",
            "when the disk is made to have the records: before they count as durable, every second, or when the kernel likes; a killed process loses none in either case";
        Listen = "relay.listen" "SW_RELAY_LISTEN" Built Kind::Listen, "127.0.0.1:11800",
            "where the relay listens, `host:port` or `unix:/path`, separated by commas";
        UnixMode = "relay.unix_mode" "SW_RELAY_UNIX_MODE" Built Kind::Permissions, "0660",
            "permissions of the Unix sockets that the relay listens on, in octal";
        AllowRemote = "relay.allow_remote" "SW_RELAY_ALLOW_REMOTE" Built Kind::Flag, "false",
            "listen on addresses other than loopback; needs the listener's own TLS";
        RelayCertChainPath = "relay.ssl_cert_chain_path" "SW_RELAY_SSL_CERT_CHAIN_PATH" Built Kind::Path, "",
            "the listener's certificate and its intermediates: TLS on every address listened on, loopback too, but not on Unix sockets";
        RelayKeyPath = "relay.ssl_key_path" "SW_RELAY_SSL_KEY_PATH" Built Kind::Path, "",
            "the listener's private key, not encrypted";
        RelayTrustedCaPath = "relay.ssl_trusted_ca_path" "SW_RELAY_SSL_TRUSTED_CA_PATH" Built Kind::Path, "",
            "CA of the client certificates that the listener demands";
        RelayAuthentication = "relay.authentication" "SW_RELAY_AUTHENTICATION" Built Kind::Token, "",
            "token that local agents must present; it stays here: the backend gets `agent.authentication` or none";
        RelayBackendService = "relay.backend_service" "SW_RELAY_BACKEND_SERVICE" Built Kind::Backends, "",
            "backends of the relay; empty: `collector.backend_service`";
        ForwardHeaders = "relay.forward_headers" "SW_RELAY_FORWARD_HEADERS" Built Kind::Headers, "",
            "more metadata names to forward, separated by commas";
        Ack = "relay.ack" "SW_RELAY_ACK" Built Kind::OneOf(&["queued", "spooled", "delivered"]), "",
            "when a local agent's stream is answered: its records are in memory, in the spool, or confirmed by the backend; empty: `spooled` with a spool, else `queued`";
        ShutdownGrace = "relay.shutdown_grace" "SW_RELAY_SHUTDOWN_GRACE" Built PERIOD_OR_OFF, "0",
            "how long to keep accepting after SIGTERM";
        RelayDrainTimeout = "relay.drain_timeout" "SW_RELAY_DRAIN_TIMEOUT" Built PERIOD_OR_OFF, "10",
            "how long to send what is queued after SIGTERM";
        MaxConnections = "relay.max_connections" "SW_RELAY_MAX_CONNECTIONS" Built COUNT, "20000",
            "connections of local agents at a time, all addresses together; further ones are closed at once";
        MaxStreams = "relay.max_streams" "SW_RELAY_MAX_STREAMS" Built COUNT, "200",
            "calls that one connection may have open at a time";
        MaxMessageSize = "relay.max_message_size" "SW_RELAY_MAX_MESSAGE_SIZE" Built MESSAGE, "52428800",
            "bytes of the largest message that is taken from a local agent";
        MaxHeaderSize = "relay.max_header_size" "SW_RELAY_MAX_HEADER_SIZE" Built HEADERS, "16384",
            "bytes of metadata that a call may carry";
        MaxPartialBytes = "relay.max_partial_bytes" "SW_RELAY_MAX_PARTIAL_BYTES" Built SIZE, "268435456",
            "bytes of messages that are still arriving, of all local agents together; at least one message fits";
        MaxUnreadBytes = "relay.max_unread_bytes" "SW_RELAY_MAX_UNREAD_BYTES" Built SIZE, "1073741824",
            "bytes that streams of local agents may have under way while they wait for room in the queue, 80 KiB each; further ones are refused, at least one may wait";
        GreetingTimeout = "relay.greeting_timeout" "SW_RELAY_GREETING_TIMEOUT" Built PERIOD, "10",
            "how long a client may take for its TLS handshake and the preface of HTTP/2";
        IdleTimeout = "relay.idle_timeout" "SW_RELAY_IDLE_TIMEOUT" Built PERIOD_OR_OFF, "600",
            "a connection without calls is closed after this time; 0: never";
        AdminListen = "admin.listen" "SW_ADMIN_LISTEN" Built Kind::Listen, "",
            "where the relay serves `/healthz`, `/metrics`, `/status` and a page, on this machine only: `127.0.0.1:port`, `localhost:port` or `unix:/path`, separated by commas; empty: off";
    }
}

/// Whole groups of keys where a misspelling in a file deserves a warning.
const WATCHED: [&str; 6] = ["agent.ssl_", "collector.", "buffer.", "spool.", "relay.", "admin."];

// === impl Key ===

impl Key {
    /// The key of this exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }

    /// The key that this exact environment variable feeds.
    pub fn from_environment(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.environment() == name)
    }

    /// The name as it is written in `agent.config`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The environment variable in the built-in value.
    pub fn environment(self) -> &'static str {
        self.row().environment
    }

    /// Whether the key is the Java agent's or ours.
    pub fn family(self) -> Family {
        self.row().family
    }

    /// What this version does with it.
    pub fn status(self) -> Status {
        self.row().status
    }

    /// The type of its value.
    pub fn kind(self) -> Kind {
        self.row().kind
    }

    /// The default, as it would be written.
    pub fn default_text(self) -> &'static str {
        self.row().default
    }

    /// What it is for, in one line.
    pub fn help(self) -> &'static str {
        self.row().help
    }

    /// Whether the value must never be shown.
    pub fn is_secret(self) -> bool {
        matches!(self.kind(), Kind::Proxy | Kind::Secret | Kind::Token)
    }

    /// Whether this is an `agent.ssl_…` setting besides the three paths that decide whether TLS
    /// is on.
    pub(super) fn needs_tls(self) -> bool {
        self.name().starts_with("agent.ssl_")
            && !matches!(self, Self::TrustedCaPath | Self::KeyPath | Self::CertChainPath)
    }

    /// Whether it is about the rotation of files, those of a listener too.
    pub(super) fn is_rotation(self) -> bool {
        matches!(self, Self::ReloadInterval | Self::DrainTimeout)
    }

    /// Whether a URI of OpenSSL's store may stand in place of a path.
    pub(super) fn takes_uri(self) -> bool {
        matches!(self, Self::TrustedCaPath | Self::KeyPath | Self::CertChainPath)
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// The known name most like this one, if any is similar enough to be what was meant.
pub(super) fn nearest(name: &str) -> Option<Key> {
    Key::ALL
        .iter()
        .map(|&key| (key, strsim::jaro_winkler(name, key.name())))
        .filter(|&(_, similarity)| similarity > 0.8)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(key, _)| key)
}

/// Whether a name nobody knows looks like a misspelt setting rather than like one of the many keys
/// of the Java agent that mean nothing here.
pub(super) fn is_suspicious(name: &str) -> bool {
    const SLIPS: usize = 2;
    let near = |key: &Key| {
        // Files hold a hundred foreign keys: most are told apart by their length alone.
        key.name().len().abs_diff(name.len()) <= SLIPS
            && strsim::osa_distance(name, key.name()) <= SLIPS
    };
    WATCHED.iter().any(|group| name.starts_with(group)) || Key::ALL.iter().any(near)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::value;

    #[test]
    fn names_and_variables_are_unique_also_in_lower_case() {
        let names: HashSet<_> = Key::ALL.iter().map(|key| key.name()).collect();
        assert_eq!(names.len(), Key::ALL.len());
        let variables: HashSet<_> =
            Key::ALL.iter().map(|key| key.environment().to_lowercase()).collect();
        assert_eq!(variables.len(), Key::ALL.len());
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (at, &key) in Key::ALL.iter().enumerate() {
            assert_eq!(key as usize, at);
            assert_eq!(Key::from_name(key.name()), Some(key));
            assert_eq!(Key::from_environment(key.environment()), Some(key));
        }
    }

    #[test]
    fn our_variables_follow_the_rule() {
        for key in Key::ALL.iter().filter(|key| key.family() == Family::Ours) {
            let expected = format!("SW_{}", key.name().to_uppercase().replace('.', "_"));
            assert_eq!(key.environment(), expected);
        }
    }

    #[test]
    fn defaults_are_valid_and_canonical() {
        for &key in Key::ALL.iter().filter(|key| !key.default_text().is_empty()) {
            let checked = value::check(key.kind(), key.default_text());
            assert_eq!(checked.ok().as_deref(), Some(key.default_text()), "{}", key.name());
        }
    }

    #[test]
    fn secrets_are_marked() {
        let secrets: Vec<_> =
            Key::ALL.iter().filter(|key| key.is_secret()).map(|key| key.name()).collect();
        assert_eq!(
            secrets,
            [
                "agent.authentication",
                "agent.ssl_key_passphrase",
                "collector.proxy",
                "relay.authentication"
            ]
        );
    }

    #[test]
    fn misspellings_are_recognised() {
        assert_eq!(nearest("agent.ssl_trusted_ca"), Some(Key::TrustedCaPath));
        assert_eq!(nearest("agent.require_tsl"), Some(Key::RequireTls));
        assert_eq!(nearest("collector.backend_services"), Some(Key::BackendService));
        assert_eq!(nearest("zzz"), None);
        assert!(is_suspicious("agent.require_tsl") && is_suspicious("relay.anything"));
        assert!(!is_suspicious("plugin.mount") && !is_suspicious("jvm.buffer_size"));
    }
}
