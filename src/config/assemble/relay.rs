//! The relay's part of the settings: where it listens, how that is protected, whom it lets in.
//!
//! An agent may share the relay's environment: what only a relay does is judged for a relay only.

use super::*;

impl Assembly {
    pub(super) fn relay(&mut self, link: &LinkSettings) -> Result<RelaySettings> {
        let listen = self.addresses(Key::Listen, backend::listen)?;
        let ack = self.ack()?;
        let tls = match self.relay {
            true => self.listener_tls()?,
            false => None,
        };
        let authentication = self.text(Key::RelayAuthentication).map(Secret::new);
        if self.relay {
            self.judge_remote(&listen, tls.as_ref(), authentication.is_some())?;
            let proxy = link.proxy.as_ref();
            let is_listener = |backend: &&Backend| {
                backend.is_one_of(&listen) && !Proxy::leads_away(proxy, backend)
            };
            if let Some(backend) = link.backends.iter().find(is_listener) {
                return Err(self
                    .value(Key::Listen)
                    .error(Code::BackendIsListener)
                    .found(format_args!("{backend} among the backends"))
                    .expected("another address than theirs"));
            }
        }
        let (headers, mode) = (self.value(Key::ForwardHeaders), self.value(Key::UnixMode));
        Ok(RelaySettings {
            listen,
            unix_mode: value::permissions(&mode.text).map_err(|fault| mode.fault(fault))?,
            tls,
            authentication,
            forward_headers: match headers.text.as_str() {
                "" => Vec::new(),
                text => value::headers(text).map_err(|fault| headers.fault(fault))?,
            },
            shutdown_grace: self.seconds(Key::ShutdownGrace)?,
            limits: self.limits()?,
            drain_timeout: self.seconds(Key::RelayDrainTimeout)?,
            ack,
        })
    }

    /// What is said there is nobody's secret, but everybody's knowledge of it helps an attacker.
    pub(super) fn admin(&mut self) -> Result<Vec<ListenAddress>> {
        let listen = self.addresses(Key::AdminListen, backend::listen)?;
        match listen.iter().find(|address| self.relay && !address.is_loopback()) {
            Some(address) => Err(self
                .value(Key::AdminListen)
                .error(Code::AdminRemote)
                .found(address)
                .expected("a loopback address or a Unix socket")),
            None => Ok(listen),
        }
    }

    /// Whether this is a relay whose listener has a certificate.
    pub(super) fn has_listener_tls(&self) -> bool {
        self.relay && self.value(Key::RelayCertChainPath).set
    }

    /// A promise to keep records on disk needs a disk.
    fn ack(&self) -> Result<RelayAck> {
        let (ack, spool) = (self.value(Key::Ack), self.value(Key::SpoolPath).set);
        match ack.text.as_str() {
            "delivered" => Ok(RelayAck::Delivered),
            "queued" => Ok(RelayAck::Queued),
            "spooled" if !spool && self.relay => Err(ack
                .error(Code::AckWithoutSpool)
                .found("no spool.path")
                .expected("spool.path, or relay.ack=queued or delivered")),
            _ if spool => Ok(RelayAck::Spooled),
            _ => Ok(RelayAck::Queued),
        }
    }

    fn limits(&self) -> Result<ListenerLimits> {
        let narrow = |key| Ok::<_, Error>(u32::try_from(self.number(key)?).unwrap_or(u32::MAX));
        let size = |key| Ok::<_, Error>(usize::try_from(self.number(key)?).unwrap_or(usize::MAX));
        let message = size(Key::MaxMessageSize)?;
        Ok(ListenerLimits {
            connections: size(Key::MaxConnections)?,
            streams: narrow(Key::MaxStreams)?,
            message,
            headers: narrow(Key::MaxHeaderSize)?,
            partial: size(Key::MaxPartialBytes)?.max(message),
            unread: size(Key::MaxUnreadBytes)?,
            greeting: self.seconds(Key::GreetingTimeout)?,
            idle: self.seconds_or_off(Key::IdleTimeout)?,
        })
    }

    /// Certificate and key, or neither; a CA without them would protect nothing.
    fn listener_tls(&self) -> Result<Option<ListenerTls>> {
        let set = |key| self.value(key).set;
        let (chain, key) = (set(Key::RelayCertChainPath), set(Key::RelayKeyPath));
        let missing = match (chain, key) {
            (true, true) => {
                let identity = IdentitySource {
                    chain: self.source(Key::RelayCertChainPath)?,
                    key: self.source(Key::RelayKeyPath)?,
                    passphrase: None,
                };
                let ca = Key::RelayTrustedCaPath;
                let client_ca = set(ca).then(|| self.source(ca)).transpose()?;
                return Ok(Some(ListenerTls { identity, client_ca }));
            }
            (true, false) => (Key::RelayCertChainPath, Key::RelayKeyPath),
            (false, true) => (Key::RelayKeyPath, Key::RelayCertChainPath),
            (false, false) if set(Key::RelayTrustedCaPath) => {
                (Key::RelayTrustedCaPath, Key::RelayCertChainPath)
            }
            (false, false) => return Ok(None),
        };
        Err(self
            .value(missing.0)
            .error(Code::ListenerTlsIncomplete)
            .found(format_args!("no {}", missing.1.name()))
            .expected("relay.ssl_cert_chain_path and relay.ssl_key_path together"))
    }

    /// Other machines get in when that was said, and by TLS only.
    fn judge_remote(
        &mut self,
        listen: &[ListenAddress],
        tls: Option<&ListenerTls>,
        token: bool,
    ) -> Result<()> {
        let Some(address) = listen.iter().find(|address| !address.is_loopback()) else {
            return Ok(());
        };
        let allowed = self.flag(Key::AllowRemote)?;
        let missing = match (allowed, tls.is_some()) {
            (true, true) => None,
            (false, true) => Some("relay.allow_remote=true"),
            (true, false) => Some("relay.ssl_cert_chain_path and relay.ssl_key_path"),
            (false, false) => {
                Some("relay.allow_remote=true, relay.ssl_cert_chain_path and relay.ssl_key_path")
            }
        };
        if let Some(missing) = missing {
            return Err(self
                .value(Key::Listen)
                .error(Code::ListenRemote)
                .found(address)
                .expected("a loopback address")
                .hint(format!(
                    "listen on a loopback address; other machines are let in by TLS only: set {missing}"
                )));
        }
        if tls.is_some_and(|tls| tls.client_ca.is_none()) && !token {
            let text = format!(
                "whoever reaches {address} can report: relay.ssl_trusted_ca_path demands client certificates, relay.authentication a token"
            );
            self.warn(WarningKind::OpenListener, Key::Listen, text);
        }
        Ok(())
    }
}
