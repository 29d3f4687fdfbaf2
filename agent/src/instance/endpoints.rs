//! PURE: where a server can be reached, from its own host and from others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use baton_proto::HostPort;

use crate::redis_conf::RedisConf;
use crate::server::Endpoint;
use crate::tls::Files;

/// Most addresses tried: Redis itself binds at most sixteen.
const ENDPOINTS_MAX: usize = 17;

/// Where the agent finds the server on its own host: the socket file first, then loopback addresses, since protected
/// mode lets nobody else in, then the others. TLS is spoken to those that have no plain port; `tls_ca` is trusted there
/// beside what the server trusts.
pub(crate) fn endpoints(conf: &RedisConf, tls_ca: Option<&Path>) -> Vec<Endpoint> {
    let mut endpoints: Vec<_> = conf.unix_socket().map(Endpoint::Unix).into_iter().collect();
    let mut hosts: Vec<String> = bound(conf).into_iter().map(reachable).collect();
    hosts.sort_by_key(|host| !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    if conf.port() != 0 {
        endpoints.extend(hosts.into_iter().map(|host| Endpoint::Tcp(HostPort::new(host, conf.port()))));
    } else if let Some(port) = conf.tls_port() {
        let files = Box::new(Files::of_conf(conf, tls_ca));
        endpoints.extend(hosts.into_iter().map(|host| Endpoint::Tls(HostPort::new(host, port), files.clone())));
    }
    endpoints.truncate(ENDPOINTS_MAX);
    endpoints
}

/// A word of `bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    /// As it is written.
    pub(crate) host: String,
    /// It was marked by `-`: this host may lack it.
    pub(crate) optional: bool,
}

impl Bind {
    /// What the server listens on. Both of them are all interfaces, of IPv4 and of IPv6.
    pub(crate) fn address(&self) -> &str {
        match self.host.as_str() {
            "*" => "0.0.0.0",
            "::*" => "::",
            host => host,
        }
    }
}

/// Where the server listens. Without `bind` that is everywhere, also where IPv6 is missing.
pub(crate) fn binds(conf: &RedisConf) -> Vec<Bind> {
    let everywhere = ["*".to_owned(), "-::*".to_owned()];
    let written = conf.bind();
    let words = if written.is_empty() { everywhere.iter() } else { written.iter() };
    let bind = |word: &String| match word.strip_prefix('-') {
        Some(host) => Bind { host: host.to_owned(), optional: true },
        None => Bind { host: word.clone(), optional: false },
    };
    words.map(bind).collect()
}

/// The addresses of `bind`; none means all, as `*` does.
pub(crate) fn bound(conf: &RedisConf) -> Vec<String> {
    if conf.bind().is_empty() {
        return vec!["*".to_owned()];
    }
    binds(conf).into_iter().map(|bind| bind.host).collect()
}

/// The address at which a server that listens everywhere is found.
fn reachable(host: String) -> String {
    match host.as_str() {
        "*" | "0.0.0.0" => Ipv4Addr::LOCALHOST.to_string(),
        "::*" | "::" => Ipv6Addr::LOCALHOST.to_string(),
        _ => host,
    }
}

/// Where other hosts reach the server: what `agent.toml` says, else what the server announces, else the first address
/// that it binds and that others can reach, else the address of the agent, or `own_name` of the host if the agent
/// listens everywhere.
pub(super) fn address(configured: Option<&HostPort>, conf: &RedisConf, listen: IpAddr, own_name: &str) -> HostPort {
    if let Some(address) = configured {
        return address.clone();
    }
    let (announced_host, announced_port) = conf.announced();
    let port = announced_port.unwrap_or_else(|| port_for_others(conf));
    let told = announced_host.map(str::to_owned);
    let host = told.or_else(|| bound(conf).into_iter().find(|host| is_public(host, listen)));
    let otherwise = if listen.is_unspecified() { own_name.to_owned() } else { listen.to_string() };
    // By way of its text: only an address that its reader accepts may cross the wire.
    let checked = |host: String| HostPort::new(host, port).to_string().parse().ok();
    host.and_then(checked).or_else(|| checked(otherwise)).unwrap_or_else(|| HostPort::new(listen.to_string(), port))
}

/// As the server announces it to a primary, unless it is told what to announce.
fn port_for_others(conf: &RedisConf) -> u16 {
    match conf.tls_port() {
        Some(port) if conf.tls_replication() || conf.port() == 0 => port,
        _ => conf.port(),
    }
}

/// Whether other hosts can be told this address. The usual loopback address is one only where the agent itself listens
/// there; other ones stand for hosts of their own in a rehearsal on one machine.
fn is_public(host: &str, listen: IpAddr) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) if ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST) => ip == listen,
        Ok(ip) => !ip.is_unspecified(),
        Err(_) => host != "*" && host != "::*" && host != "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_conf::{Source, parse};

    fn conf(text: &str) -> RedisConf {
        let source = Source { path: "redis.conf".into(), text: text.into() };
        parse(&source, Path::new("/data"), &mut |_| Ok(Vec::new())).unwrap()
    }

    fn shown(text: &str) -> Vec<String> {
        endpoints(&conf(text), None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_server_is_sought_where_it_can_listen() {
        assert_eq!(shown(""), ["127.0.0.1:6379"]);
        assert_eq!(shown("bind * -::*"), ["127.0.0.1:6379", "[::1]:6379"]);
        assert_eq!(shown("bind 10.0.0.2 -10.0.0.3 127.0.0.1\nport 7"), ["127.0.0.1:7", "10.0.0.2:7", "10.0.0.3:7"]);
        assert_eq!(shown("unixsocket r.sock\nport 0"), ["/data/r.sock"]);
        assert_eq!(shown("port 0"), [""; 0]);
        assert_eq!(shown("port 0\ntls-port 7\nbind 10.0.0.2 127.0.0.1"), ["127.0.0.1:7 (TLS)", "10.0.0.2:7 (TLS)"]);
        assert_eq!(shown("port 0\ntls-port 7\nunixsocket r.sock\nbind ::1"), ["/data/r.sock", "[::1]:7 (TLS)"]);
        assert_eq!(shown("port 8\ntls-port 7"), ["127.0.0.1:8"]);
    }

    #[test]
    fn a_server_listens_where_it_is_told_and_everywhere_if_it_is_not() {
        let shown = |text: &str| {
            let binds = binds(&conf(text)).into_iter();
            binds.map(|bind| (bind.address().to_owned(), bind.optional)).collect::<Vec<_>>()
        };
        let of = |binds: &[(&str, bool)]| -> Vec<(String, bool)> {
            binds.iter().map(|(host, optional)| ((*host).to_owned(), *optional)).collect()
        };
        let everywhere = of(&[("0.0.0.0", false), ("::", true)]);
        assert_eq!(shown(""), everywhere);
        assert_eq!(shown("bind * -::*"), everywhere);
        assert_eq!(shown("bind 10.0.0.2 -::1 db"), of(&[("10.0.0.2", false), ("::1", true), ("db", false)]));
    }

    #[test]
    fn others_are_told_an_address_that_they_can_reach() {
        let told = |text: &str, listen: &str| address(None, &conf(text), listen.parse().unwrap(), "db-b").to_string();
        assert_eq!(told("", "10.0.0.2"), "10.0.0.2:6379");
        assert_eq!(told("bind 127.0.0.1 10.0.0.9\nport 7", "10.0.0.2"), "10.0.0.9:7");
        assert_eq!(told("bind 127.0.0.1", "10.0.0.2"), "10.0.0.2:6379");
        assert_eq!(told("bind 127.0.0.1", "127.0.0.1"), "127.0.0.1:6379");
        assert_eq!(told("bind 127.0.0.12", "127.0.0.1"), "127.0.0.12:6379");
        assert_eq!(told("bind -::1 fe80::2", "::1"), "[::1]:6379");
        assert_eq!(told("bind 10.0.0.9\nslave-announce-ip db1\nreplica-announce-port 70", "10.0.0.2"), "db1:70");
        assert_eq!(told("bind * -::*", "0.0.0.0"), "db-b:6379");
        assert_eq!(told("bind 10.0.0.9\nport 0\ntls-port 7", "10.0.0.2"), "10.0.0.9:7");
        assert_eq!(told("bind 10.0.0.9\nport 6\ntls-port 7", "10.0.0.2"), "10.0.0.9:6");
        assert_eq!(told("bind 10.0.0.9\nport 6\ntls-port 7\ntls-replication yes", "10.0.0.2"), "10.0.0.9:7");
        let announced = "bind 10.0.0.9\nport 0\ntls-port 7\nreplica-announce-port 70";
        assert_eq!(told(announced, "10.0.0.2"), "10.0.0.9:70");
        let configured = HostPort::new("db2", 1);
        assert_eq!(address(Some(&configured), &conf("bind 10.0.0.9"), [10, 0, 0, 2].into(), ""), configured);
    }
}
