//! The catalogue of faults: every id ever given out, its stage, its wording and its remedy.
//!
//! Numbers are frozen: a retired one stays as a comment and is never used again. A test compares
//! this table with `docs/errors.md`.

use std::fmt;

/// Whose fault a failure is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A setting is wrong.
    Settings,
    /// A file of certificates or keys is wrong.
    Material,
    /// This machine lacks something: a port, a folder, a permission.
    Machine,
    /// The network between here and the backend.
    Network,
    /// The TLS handshake or a certificate of the peer.
    Tls,
    /// The backend answered, and refused.
    Backend,
    /// A demo or a drain lost or left records.
    Loss,
    /// The command line.
    Usage,
    /// skytls itself.
    Bug,
}

/// Where on the way from the settings to the backend something failed, in the order of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the command line.
    Usage,
    /// Reading `agent.config`, the environment and overrides.
    Settings,
    /// Reading certificates and keys.
    Files,
    /// Setting OpenSSL up.
    OpenSsl,
    /// Opening a listener for local agents.
    Listen,
    /// Looking the backend's name up.
    Dns,
    /// Connecting to the backend.
    Tcp,
    /// Being let through by a proxy.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The peer's certificate.
    Certificate,
    /// Agreeing on HTTP/2.
    Alpn,
    /// The HTTP/2 connection.
    Http2,
    /// A call to the backend.
    Grpc,
    /// Queueing and delivering records.
    Uplink,
    /// None of these: a fault of skytls.
    Internal,
}

macro_rules! catalogue {
    ($($name:ident = $number:literal, $kind:ident, $stage:ident, $title:literal, $remedy:literal;)*) => {
        /// An entry of the catalogue; `docs/errors.md` explains each one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $title] $name = $number,)*
        }

        impl Code {
            /// Every entry, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Whose fault it is.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }

            /// Where on the way it happens.
            pub fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)* }
            }

            /// What failed, as one clause.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What to do when nothing more is known about the case.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

catalogue! {
    // 1xx: settings
    ConfigUnreadable = 101, Settings, Settings, "the configuration file cannot be read",
        "check the path given by --config or SW_AGENT_CONFIG and the permissions of the file";
    ConfigNotAFile = 102, Settings, Settings, "the configuration file is not a regular file",
        "name the file itself, for example config/agent.config";
    ConfigNotText = 103, Settings, Settings, "the configuration file is not UTF-8 text",
        "save the file as UTF-8 without other bytes";
    ConfigTooLarge = 104, Settings, Settings, "the configuration file is too large",
        "check that the right file was named: an agent.config has a few hundred short lines";
    BadEscape = 105, Settings, Settings, "a \\u escape in the configuration file is malformed",
        "write \\u and four hexadecimal digits, and double every backslash that is meant as one";
    PlaceholderCycle = 106, Settings, Settings, "placeholders refer to each other in a circle",
        "break the circle: give one of the names a literal value";
    PlaceholderTooLarge = 107, Settings, Settings, "a placeholder expands to too much text",
        "shorten the values that the placeholder refers to";
    BadValue = 110, Settings, Settings, "a setting has a value of the wrong form",
        "correct the value";
    OutOfRange = 111, Settings, Settings, "a setting is outside its range",
        "choose a value within the range";
    UnknownKey = 112, Settings, Settings, "there is no such setting",
        "see `skytls config` for the list of settings";
    NotBuiltYet = 113, Settings, Settings, "this version does not implement the setting yet",
        "remove the setting, or wait for the version that implements it: ignoring it silently could be unsafe";
    BadBackend = 114, Settings, Settings, "a backend address is malformed",
        "write host:port, [v6]:port or unix:/path, several of them separated by commas";
    BackendMissing = 115, Settings, Settings, "no backend is set",
        "set collector.backend_service, for example by SW_AGENT_COLLECTOR_BACKEND_SERVICES=oap:11800";
    BadListen = 116, Settings, Settings, "a listen address is malformed",
        "write host:port or unix:/path, for example 127.0.0.1:11800";
    ListenRemote = 117, Settings, Settings, "the relay would accept plaintext from other machines",
        "listen on a loopback address; other machines need relay.allow_remote and the listener's own TLS";
    BackendIsListener = 118, Settings, Settings, "the backend is the relay itself",
        "name the real backend in collector.backend_service or relay.backend_service";
    TlsRequired = 119, Settings, Settings, "TLS is required, but the settings mean plaintext",
        "put the CA at agent.ssl_trusted_ca_path, or set agent.force_tls=true to use the system's trust";
    IdentityWithoutTls = 120, Settings, Settings, "a client certificate is set, but TLS is off",
        "put the CA at agent.ssl_trusted_ca_path, or set agent.force_tls=true to use the system's trust";
    HalfIdentity = 121, Settings, Settings, "only one of client key and client certificate is set",
        "set both agent.ssl_key_path and agent.ssl_cert_chain_path, or neither";
    TlsSettingWithoutTls = 122, Settings, Settings, "a TLS setting is set, but TLS is off",
        "put the CA at agent.ssl_trusted_ca_path, or set agent.force_tls=true, or remove the setting";
    TokenOverPlaintext = 123, Settings, Settings, "the token would travel in plaintext to another machine",
        "turn TLS on, or accept the risk with agent.allow_plaintext_token=true";
    BadServerName = 124, Settings, Settings, "the server name cannot be verified",
        "set agent.ssl_server_name to the DNS name or IP address in the backend's certificate";
    BadProxy = 125, Settings, Settings, "the proxy's address is malformed",
        "write http://host:port or http://user:password@host:port, with @ as %40, / as %2F and % as %25 in user and password";
    AckWithoutSpool = 128, Settings, Settings, "records shall be answered for once they are on disk, but there is no spool",
        "set spool.path, or relay.ack to queued or delivered";
    AgentDisabled = 130, Settings, Settings, "the agent is switched off",
        "set agent.enable=true, or report nothing";
    ServiceNameMissing = 131, Settings, Settings, "no service name is set",
        "set agent.service_name, for example by SW_AGENT_NAME=shop";
    NotAReport = 132, Settings, Uplink, "no records can be reported by this method",
        "name the full path of a method that takes reports, such as /skywalking.v3.EventService/collect";
    BadAgentVersion = 133, Settings, Settings, "the agent's version cannot be a header",
        "give the host's agent version in visible ASCII characters";

    // 2xx: files of certificates and keys
    FileMissing = 201, Material, Files, "the file does not exist",
        "check the path: relative ones and those of the form /ca/ca.crt are looked up in the agent folder";
    FileUnreadable = 202, Material, Files, "the file cannot be read",
        "give the user that runs skytls permission to read it";
    FileNotRegular = 203, Material, Files, "the path is not a regular file",
        "name a file, not a folder or a device";
    FileEmpty = 204, Material, Files, "the file is empty",
        "check that the file was written completely";
    FileTooLarge = 205, Material, Files, "the file is too large",
        "check that the right file was named";
    NotRecognised = 206, Material, Files, "the file holds neither PEM nor DER",
        "convert it to PEM; `openssl x509 -in FILE -inform DER` and `openssl pkey -in FILE` show what OpenSSL makes of it";
    WrongType = 207, Material, Files, "the file holds something else than was asked for",
        "check whether the paths of CA, certificate and key were exchanged";
    Damaged = 208, Material, Files, "the file is damaged or cut off",
        "write the file again from its source";
    PassphraseNeeded = 209, Material, Files, "the key is encrypted and no passphrase is set",
        "set agent.ssl_key_passphrase or agent.ssl_key_passphrase_path, or decrypt it: openssl pkey -in FILE -out FILE.plain";
    PassphraseWrong = 210, Material, Files, "the key cannot be decrypted with the passphrase",
        "check agent.ssl_key_passphrase; `openssl pkey -in FILE -noout` asks for it and tells whether it fits";
    KeyMismatch = 211, Material, Files, "the private key does not belong to the certificate",
        "use the key the certificate was requested with; compare `openssl pkey -in KEY -pubout` with `openssl x509 -in CERT -noout -pubkey`";
    OwnExpired = 212, Material, Files, "the own certificate has expired",
        "renew the certificate; what runs takes the new one by itself";
    OwnNotYetValid = 213, Material, Files, "the own certificate is not valid yet",
        "check the clock of this machine, or wait until the certificate's notBefore";
    CaExpired = 214, Material, Files, "a CA certificate has expired",
        "replace the CA file: servers whose chain ends in this certificate are refused";
    MaterialRefused = 215, Material, Files, "OpenSSL refuses the certificate or key",
        "see the reason: a key too small for the security level needs to be re-issued";
    CrlOutdated = 216, Material, Files, "a revocation list is outside its dates",
        "fetch the CA's current list, and check the clock of this machine";
    FolderNotHashed = 217, Material, Files, "the folder has no links by hash",
        "name a file, or make the links: openssl rehash FOLDER";
    LegacyEncryption = 218, Material, Files, "the file is encrypted with an algorithm that only OpenSSL's legacy provider has",
        "convert it: openssl pkey -provider legacy -provider default -in FILE -aes256 -out FILE.new";
    CannotWrite = 220, Machine, Files, "the file cannot be written",
        "choose another folder, or remove the files that are in the way";
    BadHostName = 221, Settings, Files, "the name cannot stand in a certificate",
        "give a DNS name or an IP address without port and scheme";
    SpoolUnusable = 222, Machine, Files, "the spool folder cannot be used",
        "give the user that runs skytls a folder of its own in spool.path, or correct its permissions";
    SpoolNewer = 223, Machine, Files, "the spool was written by a later version",
        "run that version until the spool is empty, or name another spool.path; nothing in it was changed";

    UriFailed = 225, Material, Files, "nothing can be loaded from the URI",
        "name the provider that knows the scheme in agent.ssl_provider, or see OpenSSL's reason; `openssl storeutl -provider PROVIDER -provider default URI` shows what is there";
    UriSecretRefused = 226, Material, Files, "the PIN or passphrase of the URI is missing or wrong",
        "check agent.ssl_key_passphrase or agent.ssl_key_passphrase_path before you start again: each start is one attempt, and a few wrong ones lock a token";
    FipsForm = 227, Material, Files, "the file is in a form that FIPS does not allow",
        "convert it: openssl pkcs8 -topk8 -in FILE -v2 aes256 -v2prf hmacWithSHA256 -out FILE.new";
    FipsWeak = 228, Material, Files, "a key or signature of the file is not approved by FIPS",
        "re-issue it with RSA of 2048 bits or more, or P-256, P-384 or P-521, and SHA-256 or better";

    RotationRefused = 230, Material, Files, "the files have changed, and what they hold is not used",
        "see the reason; the files are tried again at each look, or at SIGHUP";
    FilesChanging = 231, Material, Files, "the files change while they are read",
        "none, if it passes: write files elsewhere and rename them into place, so that no reader sees half of one";
    ChainBroken = 232, Material, Files, "certificates of the chain do not belong together",
        "write the leaf and the intermediates that issued it; `openssl verify -untrusted CHAIN -CAfile CA CHAIN` must agree";
    EndsSoon = 233, Material, Files, "a certificate or revocation list ends soon",
        "renew it and replace the file; what runs takes the new one by itself";
    OwnKeyFailed = 234, Material, Tls, "the own private key cannot sign",
        "see whether its token is there and has a session left; it is looked for again every agent.ssl_reload_interval, and at SIGHUP";

    // 3xx: OpenSSL
    OpenSslFailed = 301, Machine, OpenSsl, "OpenSSL cannot be set up",
        "see OpenSSL's reason; `skytls version` shows which OpenSSL and which openssl.cnf are in use";
    SystemTrustMissing = 302, Machine, OpenSsl, "the system's trust store cannot be read",
        "install the distribution's CA certificates, or set SSL_CERT_FILE or agent.ssl_trusted_ca_path";
    ConfigurationUnreadable = 303, Machine, OpenSsl, "OpenSSL's configuration file cannot be read",
        "correct OPENSSL_CONF or the permissions of the file; to do without any file, set OPENSSL_CONF to nothing";
    ConfigurationBroken = 304, Machine, OpenSsl, "OpenSSL's configuration file is broken",
        "correct the file: OpenSSL passes over all of it in silence, and its policy is not in force";
    PolicyLineRefused = 305, Machine, OpenSsl, "OpenSSL refuses a line of its configuration file",
        "correct or remove the line: OpenSSL passes over it in silence";
    NoVersionLeft = 306, Settings, OpenSsl, "the policy leaves no TLS version to be used",
        "allow TLS 1.2 or TLS 1.3 in openssl.cnf and agent.ssl_min_protocol and agent.ssl_max_protocol; skytls never goes below";
    TwoOpenSsls = 307, Machine, OpenSsl, "the process holds more than one OpenSSL",
        "let host and library use one: link both against the system's; where two must be, keep the symbols of each apart";

    FipsNotFound = 310, Machine, OpenSsl, "FIPS is required, and there is no FIPS provider",
        "install your distribution's FIPS provider and name it in openssl.cnf, or set agent.ssl_fips_config to the fips.cnf or fipsmodule.cnf of one";
    FipsNotProven = 311, Machine, OpenSsl, "FIPS is required, and cannot be proven to be in force",
        "see which proof failed; `openssl fipsinstall -module FIPS.SO -in FIPSMODULE.CNF -verify` checks the installation";
    FipsConflict = 312, Settings, Settings, "a setting cannot stand beside agent.ssl_fips",
        "change or remove the setting, or set agent.ssl_fips=off";
    FipsNothingLeft = 313, Settings, OpenSsl, "the policy and FIPS together leave nothing to be used",
        "allow AES-GCM, P-256 and SHA-256 in openssl.cnf and the agent.ssl_* policy";
    ProviderFailed = 314, Machine, OpenSsl, "an OpenSSL provider cannot be loaded",
        "install its module where OpenSSL looks for it, name its path in openssl.cnf, or set OPENSSL_MODULES";

    // 4xx: network
    NameNotFound = 401, Network, Dns, "the name cannot be resolved",
        "check the name in collector.backend_service and this machine's DNS";
    ConnectRefused = 402, Network, Tcp, "the connection is refused",
        "check that the backend runs and listens on this port";
    ConnectTimedOut = 403, Network, Tcp, "the connection is not answered in time",
        "check firewalls between this machine and the backend";
    ConnectFailed = 404, Network, Tcp, "the connection cannot be made",
        "see the reason";
    ConnectionLost = 405, Network, Tcp, "the connection to the backend was lost",
        "none: skytls connects again; if it happens often, look for idle limits on the way";
    ProxyRefused = 406, Network, Proxy, "the proxy refuses to connect to the backend",
        "see the status, and the proxy's log";
    ProxyDenied = 407, Network, Proxy, "the proxy demands credentials",
        "set collector.proxy=http://user:password@host:port";
    ProxyTimedOut = 408, Network, Proxy, "the proxy does not answer in time",
        "check that the port is an HTTP proxy's, and that the proxy reaches the backend";
    NotAProxy = 409, Network, Proxy, "the answer is not an HTTP proxy's",
        "check host and port in collector.proxy";
    BackendSilent = 410, Network, Tcp, "the backend has stopped answering",
        "look whether the backend hangs or the network on the way drops packets; skytls has left the connection";
    ConnectionReplaced = 411, Network, Tcp, "the connection was replaced, and its time to drain is over",
        "none: what was under way is sent again; agent.ssl_drain_timeout gives it more time";
    BackendGoesAway = 412, Network, Http2, "the backend takes no more calls on this connection",
        "none: skytls makes the next connection; the backend is stopping or limits the age of connections";

    // 5xx: TLS
    HandshakeTimedOut = 501, Tls, Tls, "the TLS handshake did not finish in time",
        "check that the port speaks TLS and that no device on the way holds the packets back";
    PeerNotTls = 502, Tls, Tls, "the backend does not speak TLS on this port",
        "name the backend's TLS port, or turn TLS on there (SW_RECEIVER_GRPC_SSL_ENABLED for the sharing server)";
    NoCommonProtocol = 503, Tls, Tls, "no common TLS version",
        "let the backend offer TLS 1.2 or newer; skytls never goes below it";
    NoCommonCipher = 504, Tls, Tls, "no common cipher suite, group or signature algorithm",
        "compare openssl.cnf and the agent.ssl_* policy with what the backend offers";
    HandshakeRefused = 505, Tls, Tls, "the backend refused the TLS handshake",
        "see the alert; the backend's log says more";
    HandshakeClosed = 506, Tls, Tls, "the backend closed the connection during the TLS handshake",
        "check that the port speaks TLS; a proxy that expects another server name closes like this too";
    ClientCertificateRefused = 507, Tls, Tls, "the backend refused the client certificate",
        "check that the backend's CA file holds the issuer of agent.ssl_cert_chain_path, and its dates";
    ClientCertificateMissing = 508, Tls, Tls, "the backend demands a client certificate",
        "set agent.ssl_cert_chain_path and agent.ssl_key_path";
    HandshakeFailed = 509, Tls, Tls, "the TLS handshake failed",
        "see OpenSSL's reason";
    CertificateUntrusted = 510, Tls, Certificate, "the backend's certificate is not signed by a trusted CA",
        "put the CA that issued it into agent.ssl_trusted_ca_path";
    CertificateExpired = 511, Tls, Certificate, "a certificate of the backend's chain has expired",
        "renew it at the backend; check the clock of this machine";
    CertificateNotYetValid = 512, Tls, Certificate, "a certificate of the backend's chain is not valid yet",
        "check the clock of this machine and of the one that issued the certificate";
    NameMismatch = 513, Tls, Certificate, "the backend's certificate is for another name",
        "set agent.ssl_server_name to a name in the certificate, or re-issue the certificate";
    SelfSigned = 514, Tls, Certificate, "the backend's certificate is self-signed and not trusted",
        "put this very certificate into agent.ssl_trusted_ca_path, or use one issued by a CA";
    CertificateWeak = 515, Tls, Certificate, "a key or signature of the backend's chain is too weak",
        "re-issue it with at least RSA 2048 or P-256 and SHA-256";
    CertificateRefused = 516, Tls, Certificate, "the backend's certificate was refused",
        "see OpenSSL's reason";
    CertificateRevoked = 517, Tls, Certificate, "a certificate of the backend's chain has been revoked",
        "re-issue it: whoever has its key may no longer be the backend";
    RevocationUnknown = 518, Tls, Certificate, "it cannot be told whether the backend's certificate has been revoked",
        "put the current list of the CA that is named into agent.ssl_crl_path; every CA below the trusted one needs its own";
    OcspRefused = 519, Tls, Certificate, "the backend's OCSP answer is missing or does not hold",
        "let the backend staple a current OCSP answer, or set agent.ssl_ocsp=off";
    AlpnMissing = 520, Tls, Alpn, "the backend did not agree to HTTP/2",
        "name a gRPC port; a TLS-inspecting proxy that does not know HTTP/2 looks like this too";

    FipsConnection = 521, Tls, Tls, "the connection does not hold what FIPS demands",
        "let the backend offer TLS 1.3, or TLS 1.2 with the extended master secret (RFC 7627), and a chain of approved keys";

    // 6xx: HTTP/2 and gRPC
    Http2Failed = 601, Network, Http2, "the HTTP/2 connection failed",
        "check that the port is a gRPC port";
    CallFailed = 602, Backend, Grpc, "the backend refused the call",
        "see the gRPC status";
    MessageTooLarge = 603, Backend, Grpc, "a message is larger than 50 MiB",
        "send smaller messages: no SkyWalking backend accepts this one";
    BackendDenies = 604, Backend, Grpc, "the backend refuses the token",
        "compare agent.authentication with the backend's SW_AUTHENTICATION; records wait meanwhile";
    PingsRefused = 605, Network, Http2, "the backend finds our keep-alive pings too frequent",
        "set collector.keepalive_interval to 300 s or more, or to 0; skytls pings less often from now on";
    BackendBusy = 606, Backend, Grpc, "the backend has more to do than it can",
        "none: records wait and are sent more slowly; if it lasts, give the backend more memory or more nodes";
    DutyUnknown = 611, Backend, Grpc, "the backend does not know the call",
        "none: the agent does without it; a newer backend knows it";

    // 7xx: local listeners
    PortTaken = 701, Machine, Listen, "the listen address is in use",
        "stop the other program, or choose another relay.listen";
    ListenFailed = 702, Machine, Listen, "the listen address cannot be opened",
        "see the reason";
    ListenerTlsIncomplete = 703, Settings, Listen, "the listener's TLS files are incomplete",
        "set both relay.ssl_cert_chain_path and relay.ssl_key_path, or none of relay.ssl_*";
    SocketBackendWithTls = 704, Settings, Settings, "a Unix socket is plaintext, but TLS is asked for",
        "leave TLS to the relay behind the socket: remove the CA file and the agent.ssl_* settings; or name the backend as host:port";
    ClientSpeaksTls = 711, Tls, Listen, "a local agent speaks TLS to a plaintext listener",
        "leave the agent's own TLS off (Java: no ca/ca.crt in its folder, no agent.force_tls), or give the relay relay.ssl_cert_chain_path and relay.ssl_key_path";
    ClientSpeaksPlaintext = 712, Tls, Listen, "a client speaks plaintext to a TLS listener",
        "turn TLS on in the agent and give it the CA of relay.ssl_cert_chain_path, or name another address of relay.listen to it";
    ClientSpeaksHttp1 = 713, Network, Listen, "a client speaks HTTP/1 to a gRPC listener",
        "point only gRPC reporters at relay.listen; health checks should do no more than connect";
    ClientHandshakeFailed = 714, Tls, Listen, "a client failed the TLS handshake with the listener",
        "see OpenSSL's reason";
    TokenRefused = 715, Settings, Listen, "a local agent did not present the token of relay.authentication",
        "set the agent's authentication (SW_AGENT_AUTHENTICATION) to the value of relay.authentication";
    TooManyConnections = 716, Settings, Listen, "more local clients than relay.max_connections",
        "raise relay.max_connections, and the limit of open files (ulimit -n) if it is lower; or find out who opens so many";
    TooManyPartials = 717, Settings, Listen, "unfinished messages of local agents take all the room there is for them",
        "find out who sends large messages slowly, or raise relay.max_partial_bytes";
    AcceptFailed = 718, Machine, Listen, "a local client's connection cannot be accepted",
        "see the reason; for too many open files raise their limit (ulimit -n, LimitNOFILE of systemd)";

    // 8xx: uplink
    QueueFull = 801, Network, Uplink, "the queue is full",
        "raise buffer.max_bytes, or find out why the backend does not take records";
    Stopped = 802, Network, Uplink, "the engine has been stopped",
        "none: records are not accepted after a stop";
    RecordsLost = 803, Loss, Uplink, "records did not arrive",
        "see the counters and the log for the reason";
    NotDelivered = 804, Loss, Uplink, "records that were waited for did not arrive",
        "see the log for the reason; the books count them by it";
    SpoolFull = 805, Machine, Uplink, "the spool is full",
        "find out why the backend does not take records, or raise spool.max_bytes";
    SpoolFailing = 806, Machine, Uplink, "the spool cannot be written",
        "make room on the disk; until then a crash loses what is in memory";
    SpoolDamaged = 807, Machine, Uplink, "a file of the spool is damaged",
        "none: what was whole is sent; after a crash or a loss of power the end of a file is often cut off";
    NotStarted = 830, Usage, Uplink, "the agent has not been started",
        "call skytls_agent_start first; a forked child of a process that has called it need not";
    NullArgument = 831, Usage, Usage, "a pointer that must not be NULL is",
        "correct the call; the header says which pointers may be NULL";
    BadArgument = 832, Usage, Usage, "an argument has a value that it cannot have",
        "correct the call; the header says which values there are";
    InCallback = 833, Usage, Usage, "the function must not be called from a callback",
        "leave a note in the callback and make the call from a thread of the host";
    AlreadyStarted = 834, Usage, Usage, "the agent runs already",
        "set callbacks and deadlines between skytls_agent_new and skytls_agent_start";
    StillPending = 835, Network, Uplink, "records are still pending at the deadline",
        "call again with more time, or find out why the backend does not take records";

    // 9xx: the command line and skytls itself
    TooManyWaiting = 840, Settings, Listen, "local agents that wait for the queue take all the room there is for them",
        "find out why the backend does not take records, or raise relay.max_unread_bytes or buffer.max_bytes";

    AdminRemote = 841, Settings, Settings, "admin.listen must stay on this machine",
        "take a loopback address or a Unix socket; what has to get out is passed on by something that knows who may see it";
    SpoolRefused = 842, Machine, Uplink, "the disk did not take what the spool had written",
        "see the kernel's log for what is wrong with the disk, and replace it";
    SpoolUnreadable = 843, Machine, Uplink, "the spool cannot be read for now",
        "if too many files are open, raise the limit (ulimit -n, LimitNOFILE); else see the kernel's log for what is wrong with the disk";

    Usage = 901, Usage, Usage, "the command line is wrong",
        "see `skytls --help`";
    OutputFailed = 902, Machine, Internal, "the output cannot be written",
        "check the disk and the pipe";
    Bug = 970, Bug, Internal, "skytls did something it should not",
        "please report it with the log";
}

// === impl Kind ===

impl Kind {
    /// The exit code of the command line.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Loss => 1,
            Self::Settings | Self::Material | Self::Machine => 2,
            Self::Network => 3,
            Self::Tls => 4,
            Self::Backend => 5,
            Self::Usage => 64,
            Self::Bug => 70,
        }
    }
}

// === impl Code ===

impl Code {
    /// The number in the id.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The stable id, `SKT-nnn`.
    pub fn id(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SKT-{:03}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_are_unique() {
        let numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }
}
