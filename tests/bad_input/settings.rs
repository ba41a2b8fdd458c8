//! Values of settings, alone and together.

use std::net::TcpListener;

use super::certificates::mutual;
use super::row::Row;
use crate::support::pki;

/// `collector.backend_service`.
pub(crate) fn backends() -> Vec<Row> {
    let set = pki::proper();
    let row = |list: &str| {
        mutual(format!("backends {list:?}"), &set).set(&format!("collector.backend_service={list}"))
    };
    let bad = |list: &str, expected: &str| {
        row(list)
            .refused("SKT-114")
            .says("key collector.backend_service")
            .says(format!("expected {expected}"))
    };
    vec![
        row("127.0.0.1:1 ,\tlocalhost:1, [::1]:1 ")
            .says("sending to 127.0.0.1:1, localhost:1, [::1]:1 by mtls"),
        bad("oap:1,,oap:2", "an address between the commas"),
        bad(",oap:1", "an address between the commas"),
        bad("oap:1,", "an address between the commas"),
        bad("oap:1, ", "an address between the commas"),
        bad("oap", "a port").says("found oap,"),
        bad("oap:", "a port"),
        bad(":11800", "a DNS name or an IP address"),
        bad("::1:11800", "an IPv6 address in brackets").says("for example [::1]:11800"),
        bad("fe80::1", "an IPv6 address in brackets"),
        bad("[::1]", "a port"),
        bad("[::1", "a closing bracket"),
        bad("[1.2.3.4]:1", "an IPv6 address in the brackets"),
        bad("[fe80::1%eth0]:1", "an IPv6 address without a zone"),
        bad("oap:0", "a port from 1 to 65535").says("found oap:0"),
        bad("oap:70000", "a port up to 65535").says("found oap:70000"),
        bad("oap:-1", "a port up to 65535"),
        bad("http://oap:11800", "host:port without a scheme").says("agent.force_tls"),
        bad("https://oap:11800", "host:port without a scheme"),
        bad("oap:1;oap:2", "a DNS name or an IP address"),
        bad("oap:1 oap:2", "a DNS name or an IP address"),
        bad("oap.example.com/path:1", "a DNS name or an IP address"),
        bad("bü cher.example:1", "a DNS name or an IP address").says("xn--"),
        Row::new("backends: none at all", "")
            .refused("SKT-115")
            .says("key collector.backend_service")
            .says("SW_AGENT_COLLECTOR_BACKEND_SERVICES"),
        Row::new("backends: a blank", "collector.backend_service= \n").refused("SKT-115"),
        bad("unix:oap.sock", "unix:/path"),
        row("unix:/run/oap.sock").refused("SKT-704").says("key collector.backend_service"),
        mutual("backends: of the relay", &set)
            .set("relay.backend_service=oap:0")
            .refused("SKT-114")
            .says("key relay.backend_service"),
    ]
}

/// `relay.listen`.
pub(crate) fn listeners() -> Vec<Row> {
    let set = pki::proper();
    let row = |name: String, address: &str| {
        mutual(name, &set).set(&format!("relay.listen={address}")).says("relay.listen")
    };
    let bad =
        |address: &str, id| row(format!("listen: {address:?}"), address).refused(id).says("found ");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (port, other) = (address.port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let backend = |address: &str, backend: &str| {
        row(format!("backend {backend} is {address}"), address)
            .set(&format!("collector.backend_service={backend}"))
            .refused("SKT-118")
    };
    vec![
        bad("127.0.0.1", "SKT-116").says("expected a port"),
        bad("127.0.0.1:70000", "SKT-116"),
        bad("11800", "SKT-116"),
        bad("some garbage", "SKT-116"),
        bad("127.0.0.1:0,", "SKT-116"),
        bad("oap:11800", "SKT-116").says("expected an IP address or localhost"),
        bad("[::1:11800", "SKT-116"),
        bad("unix:relay.sock", "SKT-116"),
        bad("unix:/no/such/folder/relay.sock", "SKT-702"),
        bad("0.0.0.0:11800", "SKT-117").says("found 0.0.0.0:11800"),
        bad("[::]:0", "SKT-117"),
        bad("192.0.2.1:11800", "SKT-117"),
        bad("127.0.0.1:0,10.0.0.1:0", "SKT-117"),
        row("listen: remote, though allowed".into(), "0.0.0.0:0")
            .set("relay.allow_remote=true")
            .refused("SKT-117"),
        row("listen: a port that is taken".into(), &address.to_string())
            .refused("SKT-701")
            .says(address.to_string()),
        row(
            "listen: localhost, taken".into(),
            &format!("localhost:{}", other.local_addr().unwrap().port()),
        )
        .keep(other)
        .refused("SKT-701"),
        Row::new("collector: a port that is taken", "")
            .command(["collector", "--listen", &address.to_string()])
            .keep(taken)
            .refused("SKT-701")
            .says(address.to_string()),
        row("listen: an address that is not this machine's".into(), "127.0.0.1:0,[::1%9]:0")
            .refused("SKT-116"),
        backend(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{port}")),
        backend(&format!("127.0.0.1:{port}"), &format!("localhost:{port}")),
        backend(&format!("localhost:{port}"), &format!("oap:1,[::1]:{port}")),
        // A connection to the unspecified address stays on this machine.
        backend(&format!("127.0.0.1:{port}"), &format!("0.0.0.0:{port}")),
        backend(&format!("[::1]:{port}"), &format!("[::]:{port}")),
    ]
}

/// Values of the wrong form, keys that do not exist, and settings that contradict each other.
pub(crate) fn values() -> Vec<Row> {
    let plain = |name: &str, lines: &str| {
        Row::new(name, &format!("collector.backend_service=127.0.0.1:1\n{lines}"))
    };
    let set = pki::proper();
    let over = |pair: &str| mutual(pair, &set).set(pair);
    let key = |pair: &str| format!("key {}", pair.split('=').next().unwrap_or(pair));
    let bad = |pair: &str, id| over(pair).refused(id).says(key(pair));
    let remote = "collector.backend_service=192.0.2.1:11800\n";
    vec![
        // Keys.
        bad("agent.force_tsl=true", "SKT-112").says("did you mean agent.force_tls?"),
        bad("collector.backend_services=oap:1", "SKT-112").says("collector.backend_service?"),
        bad("no_such_thing_at_all=1", "SKT-112"),
        bad("plugin.mount=x", "SKT-112"),
        bad("=x", "SKT-112"),
        bad("agent.ssl_fips=required", "SKT-310").says("no provider fips"),
        bad("agent.ssl_fips_config=config/agent.config", "SKT-312").says("agent.ssl_fips=off"),
        bad("agent.ssl_fips_config=/dev/null", "SKT-203").set("agent.ssl_fips=required"),
        bad("agent.ssl_provider=no-such-provider", "SKT-314").says("no-such-provider"),
        bad("agent.ssl_provider=fips", "SKT-110").says("another provider"),
        bad("agent.ssl_provider=../x", "SKT-110"),
        bad("agent.ssl_crl_path=/no/such/list", "SKT-201"),
        bad("agent.ssl_crl_path=config", "SKT-217").says("openssl rehash"),
        bad("agent.ssl_crl_path=tls/ca.crt", "SKT-207").says("expected revocation lists"),
        bad("agent.ssl_verify_depth=three", "SKT-110"),
        bad("agent.ssl_verify_depth=1000", "SKT-111"),
        bad("agent.ssl_trust=file", "SKT-110").says("auto, ca, system, both"),
        bad("spool.sync=sometimes", "SKT-110").says("always, interval, never"),
        bad("spool.path=/dev/null", "SKT-222"),
        bad("relay.ack=spooled", "SKT-128").says("no spool.path"),
        bad("relay.authentication=s3crét", "SKT-110").secret("s3cr"),
        bad("relay.unix_mode=rw", "SKT-110"),
        bad("relay.unix_mode=1777", "SKT-111"),
        bad("relay.ssl_key_path=tls/client.pem", "SKT-703").says("no relay.ssl_cert_chain_path"),
        bad("collector.proxy=https://u:s3cret@h:1", "SKT-125").says("not https").secret("s3cret"),
        bad("collector.proxy=socks5://u:s3cret@h:1", "SKT-125").says("not socks").secret("s3cret"),
        bad("collector.proxy=u:s3cret@h:1", "SKT-125").says("http:// in front").secret("s3cret"),
        bad("collector.proxy=http://u:s3cret@h", "SKT-125").says("a port").secret("s3cret"),
        bad("collector.proxy=http://u:s3cret/x@h:1", "SKT-125").says("%2F").secret("s3cret"),
        mutual("a proxy by the environment", &set)
            .env("SW_COLLECTOR_PROXY", "http://:s3cret@h:1")
            .refused("SKT-125")
            .says("from SW_COLLECTOR_PROXY")
            .secret("s3cret"),
        mutual("a proxy that is as it should be", &set)
            .set("collector.proxy=http://u:s3cret%40@127.0.0.1:1")
            .says("SKT-402")
            .secret("s3cret"),
        mutual("not built yet, by the environment", &set)
            .env("SW_AGENT_SSL_KEYLOG_PATH", "keys")
            .refused("SKT-113")
            .says("key agent.ssl_keylog_path"),
        mutual("a key by a URI", &set)
            .set("agent.ssl_key_path=pkcs11:object=x;pin-value=s3cret")
            .refused("SKT-225")
            .says("key agent.ssl_key_path")
            .says("file pkcs11:")
            .secret("s3cret"),
        // Values.
        bad("agent.force_tls=yes", "SKT-110").says("found yes").says("expected true or false"),
        bad("agent.require_tls=1", "SKT-110").says("expected true or false"),
        bad("collector.grpc_upstream_timeout=30s", "SKT-110").says("a plain number of seconds"),
        bad("collector.grpc_upstream_timeout=0", "SKT-111").says("found 0"),
        bad("buffer.max_bytes=99999999999999999999999", "SKT-111"),
        bad("buffer.on_full=panic", "SKT-110").says("drop_newest, drop_oldest, block"),
        bad("logging.level=LOUD", "SKT-110"),
        bad("agent.ssl_server_name=oap:11800", "SKT-124"),
        bad("agent.ssl_sni=10.0.0.1", "SKT-124"),
        bad("agent.instance_properties_json={\"a\":}", "SKT-110"),
        bad("agent.authentication=geh\u{e9}im", "SKT-110").secret("geh\u{e9}im"),
        bad("collector.authority=u@oap", "SKT-110"),
        mutual("a wrong value by the environment", &set)
            .env("SW_AGENT_FORCE_TLS", "treu")
            .refused("SKT-110")
            .says("key agent.force_tls")
            .says("found treu from SW_AGENT_FORCE_TLS"),
        plain("a wrong value in the file", "agent.force_tls=treu")
            .refused("SKT-110")
            .says("config/agent.config, line 3, found treu"),
        // Combinations.
        plain("require_tls with plaintext", "agent.require_tls=true")
            .refused("SKT-119")
            .says("key agent.require_tls")
            .says("ca/ca.crt"),
        plain(
            "an identity without TLS",
            "agent.ssl_cert_chain_path=/tls/client.crt\nagent.ssl_key_path=/tls/client.pem",
        )
        .file("tls/client.crt", &set.client)
        .file("tls/client.pem", &set.client_key)
        .refused("SKT-120")
        .says("key agent.ssl_cert_chain_path"),
        over("agent.ssl_key_path=")
            .refused("SKT-121")
            .says("key agent.ssl_cert_chain_path")
            .says("found no agent.ssl_key_path"),
        over("agent.ssl_cert_chain_path=")
            .refused("SKT-121")
            .says("key agent.ssl_key_path")
            .says("found no agent.ssl_cert_chain_path"),
        plain("half an identity without TLS", "agent.ssl_key_path=/tls/client.pem")
            .file("tls/client.pem", &set.client_key)
            .refused("SKT-121"),
        plain("a server name while plaintext", "agent.ssl_server_name=oap")
            .refused("SKT-122")
            .says("key agent.ssl_server_name"),
        plain("a passphrase while plaintext", "agent.ssl_key_passphrase=s3cret")
            .secret("s3cret")
            .refused("SKT-122")
            .says("key agent.ssl_key_passphrase"),
        plain("the script's rule off while plaintext", "agent.ssl_same_name_issuer=off")
            .refused("SKT-122"),
        Row::new("a token over plaintext", &format!("{remote}agent.authentication=s3cret"))
            .secret("s3cret")
            .refused("SKT-123")
            .says("key agent.authentication")
            .says("192.0.2.1:11800"),
        Row::new("a token of the environment over plaintext", remote)
            .env("SW_AGENT_AUTHENTICATION", "s3cret")
            .secret("s3cret")
            .refused("SKT-123"),
        // The CA that was asked for is not there.
        plain("trust in a CA file that is missing", "agent.force_tls=true\nagent.ssl_trust=ca")
            .refused("SKT-201")
            .says("key agent.ssl_trust")
            .says("ca/ca.crt"),
        plain("trust in both with a file missing", "agent.force_tls=true\nagent.ssl_trust=both")
            .refused("SKT-201")
            .says("agent.ssl_trust=both"),
        plain("trust in the system while plaintext", "agent.ssl_trust=system").refused("SKT-122"),
        plain("a CA by the environment that is missing", "")
            .env("SW_AGENT_SSL_TRUSTED_CA_PATH", "/ca/ca.crt")
            .refused("SKT-201")
            .says("key agent.ssl_trusted_ca_path"),
        plain("a default CA that is a dangling link", "")
            .prepare(|folder| {
                std::fs::create_dir(folder.join("ca")).unwrap();
                std::os::unix::fs::symlink("/no/such", folder.join("ca/ca.crt")).unwrap();
            })
            .refused("SKT-201")
            .says("ca/ca.crt"),
        plain("a default CA that is empty", "").file("ca/ca.crt", "").refused("SKT-204"),
        plain("an agent folder that is missing", "")
            .env("SW_AGENT_HOME", "/no/such/folder")
            .refused("SKT-201")
            .says("key SW_AGENT_HOME")
            .says("file /no/such/folder"),
    ]
}
