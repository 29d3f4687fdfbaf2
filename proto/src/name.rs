//! Names of hosts, instances and runs. A constructor may refuse; what exists is valid and safe to use in a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a host or an instance: a DNS label, since a host's name is also the server name of its certificate.
pub const NAME_CHARS_MAX: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a {0} name is empty")]
    Empty(&'static str),
    #[error("{0} name `{1}` is longer than {NAME_CHARS_MAX} characters")]
    Long(&'static str, String),
    #[error("{0} name `{1}` may hold only a-z, 0-9, `-`, `_` and `.`, and starts with a letter or digit")]
    Character(&'static str, String),
    #[error("{0} name `{1}` is an IP address; a name is needed, since certificates carry it")]
    IpAddress(&'static str, String),
    #[error("address `{0}` is not HOST:PORT")]
    Address(String),
}

fn checked(what: &'static str, name: &str) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty(what));
    }
    if name.len() > NAME_CHARS_MAX {
        return Err(NameError::Long(what, name.chars().take(80).collect()));
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(NameError::IpAddress(what, name.to_owned()));
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let all_fit = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if starts_well && all_fit { Ok(name.to_owned()) } else { Err(NameError::Character(what, name.to_owned())) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Accepts a valid name.
            pub fn new(name: &str) -> Result<Self, NameError> {
                checked($what, name).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name_type!(
    /// Names a host: its agent's certificate carries it, `coord.toml` lists it.
    HostName, "host"
);
name_type!(
    /// Names one server process among those of a host, as the host's `agent.toml` does.
    InstanceName, "instance"
);
name_type!(
    /// Names one execution of a verb, like `fo-7k2m`.
    RunId, "run"
);

/// Names an instance among all hosts: `host/instance`, or the host alone where it has one instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceRef {
    pub host: HostName,
    pub instance: InstanceName,
}

/// The name of an instance in an `agent.toml` that gives none; it is left out when an instance is shown.
pub const DEFAULT_INSTANCE: &str = "default";

impl fmt::Display for InstanceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.instance.as_str() == DEFAULT_INSTANCE {
            f.pad(self.host.as_str())
        } else {
            f.pad(&format!("{}/{}", self.host, self.instance))
        }
    }
}

/// Where a server listens: a host name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

/// Longest host part accepted: a DNS name.
const HOST_CHARS_MAX: usize = 253;

impl HostPort {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            f.pad(&format!("[{}]:{}", self.host, self.port))
        } else {
            f.pad(&format!("{}:{}", self.host, self.port))
        }
    }
}

impl FromStr for HostPort {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::Address(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let fits = host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c));
        if host.is_empty() || host.len() > HOST_CHARS_MAX || !fits {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| bad())? })
    }
}

impl TryFrom<String> for HostPort {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in ["", "../x", "a/b", ".hidden", "A", "a b", "-x", "10.0.0.1", &"x".repeat(64)] {
            assert!(HostName::new(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "machine-a", "db1.example.net", "7", "fo-7k2m"] {
            assert_eq!(HostName::new(good).map(String::from).as_deref(), Ok(good));
        }
    }

    #[test]
    fn addresses_survive_a_round_trip() {
        for text in ["127.0.0.11:6379", "redis-a.example.net:1", "[::1]:7400"] {
            assert_eq!(text.parse::<HostPort>().map(|a| a.to_string()).as_deref(), Ok(text));
        }
        for bad in ["", ":1", "a", "a:", "a:99999", "a b:1", "a\r\nFLUSHALL:1"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_default_instance_is_shown_by_its_host_alone() {
        let shown = |i: &str| {
            InstanceRef { host: HostName::new("b").unwrap(), instance: InstanceName::new(i).unwrap() }.to_string()
        };
        assert_eq!(shown("default"), "b");
        assert_eq!(shown("cache"), "b/cache");
    }
}
