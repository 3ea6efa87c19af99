//! Is the interface in use by the host? Taking it takes every frame away from the kernel: an
//! address on it stops answering, which cuts off an operator who is logged in through it.
//!
//! Asked are its IPv4 address, its IPv6 addresses beyond link-local, the routes through it, and
//! whether a bridge or bond has it. An IPv6 link-local address alone does not count: every
//! interface that is up has one. The files in /proc are those of the calling thread's network
//! namespace (proc(5)).

use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;

use crate::SocketError;
use crate::ioctl::Device;

/// Checks that nobody uses the device.
///
/// # Errors
///
/// [`SocketError::InUse`] that names the first use found.
pub(crate) fn check_unused(device: &Device) -> Result<(), SocketError> {
    let name = device.name();
    let in_use = |usage: String| SocketError::InUse { interface: name.to_owned(), usage };
    if let Some(master) = master(name) {
        return Err(in_use(format!("belongs to {master}")));
    }
    let failed = SocketError::system("read address", name);
    if device.has_ipv4_address().map_err(failed)? {
        return Err(in_use("has an IPv4 address".to_owned()));
    }
    if let Some(address) = ipv6_address(&read_own("if_inet6"), name) {
        return Err(in_use(format!("has the address {address}")));
    }
    if has_ipv4_route(&read_own("route"), name) || has_ipv6_route(&read_own("ipv6_route"), name) {
        return Err(in_use("is used by a route".to_owned()));
    }
    Ok(())
}

/// The bridge or bond that the interface is in.
fn master(name: &str) -> Option<String> {
    let target = fs::read_link(Path::new("/sys/class/net").join(name).join("master")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// A file that does not exist belongs to a protocol that the kernel lacks: nothing in it.
fn read_own(file: &str) -> String {
    fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default()
}

/// First address of the interface that is not link-local. A line of `if_inet6` has address,
/// index, prefix length, scope, flags and name.
fn ipv6_address(table: &str, name: &str) -> Option<Ipv6Addr> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok().map(Ipv6Addr::from_bits)?;
        (fields.next_back()? == name && !address.is_unicast_link_local()).then_some(address)
    })
}

/// A line of `route` begins with the interface.
fn has_ipv4_route(table: &str, name: &str) -> bool {
    table.lines().skip(1).any(|line| line.split_ascii_whitespace().next() == Some(name))
}

/// A line of `ipv6_route` begins with the destination and ends with the interface. Link-local
/// and multicast routes come with the interface.
fn has_ipv6_route(table: &str, name: &str) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let destination = fields.next().unwrap_or("fe80");
        fields.next_back() == Some(name)
            && !destination.starts_with("fe80")
            && !destination.starts_with("ff")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: &str = "\
        fe80000000000000dcad00fffe000001 05 40 20 80   uplink0\n\
        20010db8000000000000000000000007 06 40 00 80     lan0\n";
    const ROUTES: &str = "Iface\tDestination\tGateway\nlan0\t00000000\t0101A8C0\n";
    const ROUTES6: &str = "\
        fe800000000000000000000000000000 40 0 00 0 00000100 1 0 00000001  uplink0\n\
        ff000000000000000000000000000000 08 0 00 0 00000100 1 0 00000001  uplink0\n\
        00000000000000000000000000000000 00 0 00 0 00000400 1 0 00000003     lan0\n";

    #[test]
    fn link_local_address_and_its_routes_are_no_use() {
        assert_eq!(ipv6_address(ADDRESSES, "uplink0"), None);
        assert!(!has_ipv6_route(ROUTES6, "uplink0"));
        assert!(!has_ipv4_route(ROUTES, "uplink0"));
    }

    #[test]
    fn global_address_and_default_routes_are_found() {
        assert_eq!(ipv6_address(ADDRESSES, "lan0"), "2001:db8::7".parse().ok());
        assert!(has_ipv6_route(ROUTES6, "lan0"));
        assert!(has_ipv4_route(ROUTES, "lan0"));
    }
}
