//! What the instance properties say of machine and process.

use std::net::Ipv4Addr;

use jiff::Zoned;

/// The IPv4 addresses of this machine but for loopback ones, in the system's order.
pub(super) fn addresses() -> Vec<Ipv4Addr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut found = Vec::new();
    for interface in interfaces {
        let address = interface.address.and_then(|address| Some(address.as_sockaddr_in()?.ip()));
        if let Some(address) = address
            && !address.is_loopback()
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// The name of the operating system as it says it, such as `Linux`.
pub(super) fn system() -> String {
    match nix::sys::utsname::uname() {
        Ok(names) => names.sysname().to_string_lossy().into_owned(),
        Err(_) => std::env::consts::OS.to_owned(),
    }
}

/// The name of this machine; empty if it has none.
pub(super) fn host() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The time of day here, as people read it.
pub(super) fn local_time() -> String {
    Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string()
}
