//! Whose address is that? Servers name each other by address; people name hosts and instances.

use std::net::IpAddr;

use baton_proto::report::InstanceReport;
use baton_proto::{HostName, HostPort, InstanceName, InstanceRef};

use super::{HostView, World, instance_ref};

/// What stands at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Instance(InstanceRef),
    /// A host of the inventory. Its agent does not answer, or it has no instance at that port.
    Host(HostName),
    /// No host of the inventory has that address.
    Unknown,
}

impl Place {
    pub fn instance(&self) -> Option<&InstanceRef> {
        match self {
            Place::Instance(instance) => Some(instance),
            Place::Host(_) | Place::Unknown => None,
        }
    }

    pub fn host(&self) -> Option<&HostName> {
        match self {
            Place::Instance(instance) => Some(&instance.host),
            Place::Host(host) => Some(host),
            Place::Unknown => None,
        }
    }
}

/// Why a word of a person does not name an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error("host {host} is not among the observed hosts")]
    NotObserved { host: HostName },
    #[error("the agent of {host} does not answer: {error}")]
    Unreachable { host: HostName, error: String },
    #[error("host {host} has no instance `{instance}`; it has {}", listed(found))]
    NoInstance { host: HostName, instance: InstanceName, found: Vec<InstanceName> },
    #[error("host {host} has no instance in its agent.toml")]
    Empty { host: HostName },
    #[error("host {host} has {} instances; name one of {}", found.len(), qualified(host, found))]
    Several { host: HostName, found: Vec<InstanceName> },
}

fn listed(names: &[InstanceName]) -> String {
    if names.is_empty() { "none".into() } else { names.iter().map(InstanceName::as_str).collect::<Vec<_>>().join(", ") }
}

fn qualified(host: &HostName, names: &[InstanceName]) -> String {
    names.iter().map(|name| format!("`{host}/{name}`")).collect::<Vec<_>>().join(", ")
}

/// The names of "this host" that mean another server on every host.
fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "::1" | "localhost")
}

impl World {
    /// Tells what stands at an address as the host `seen_from` uses it.
    pub fn place(&self, address: &HostPort, seen_from: &HostName) -> Place {
        if is_loopback(&address.host)
            && let Some(report) = self.report(seen_from)
            && let Some(found) = report.instances.iter().find(|instance| has_port(instance, address.port))
        {
            return Place::Instance(instance_ref(seen_from, &found.name));
        }
        let advertised = self.instances().find(|(_, instance)| {
            instance.address.port == address.port && self.is_same_host(&instance.address.host, &address.host)
        });
        if let Some((name, _)) = advertised {
            return Place::Instance(name);
        }
        let by_host = self
            .instances()
            .find(|(name, instance)| has_port(instance, address.port) && self.is_address_of(&name.host, &address.host));
        if let Some((name, _)) = by_host {
            return Place::Instance(name);
        }
        self.place_on_host(address, seen_from)
    }

    /// The host that alone can be meant, where no reported instance fits: one whose agent is silent is likelier than one
    /// that says it has no such instance.
    fn place_on_host(&self, address: &HostPort, seen_from: &HostName) -> Place {
        let with_address = self.hosts.iter().filter(|(name, _)| self.is_address_of(name, &address.host));
        let (silent, answering): (Vec<_>, Vec<_>) =
            with_address.partition(|(_, host)| matches!(host.view, HostView::Unreachable { .. }));
        match (silent.as_slice(), answering.as_slice()) {
            ([(name, _)], _) | ([], [(name, _)]) => Place::Host((*name).clone()),
            _ if is_loopback(&address.host) => Place::Host(seen_from.clone()),
            _ => Place::Unknown,
        }
    }

    /// The instance that a person means by a host's name, and by an instance's where the host has several.
    pub fn named(&self, host: &HostName, instance: Option<&InstanceName>) -> Result<InstanceRef, WordError> {
        let entry = self.hosts.get(host).ok_or_else(|| WordError::NotObserved { host: host.clone() })?;
        let report = match &entry.view {
            HostView::Answered { report, .. } => report,
            HostView::Unreachable { error } => {
                return Err(WordError::Unreachable { host: host.clone(), error: error.clone() });
            }
        };
        let found: Vec<InstanceName> = report.instances.iter().map(|instance| instance.name.clone()).collect();
        match (instance, found.as_slice()) {
            (Some(name), _) if found.contains(name) => Ok(instance_ref(host, name)),
            (Some(name), _) => Err(WordError::NoInstance { host: host.clone(), instance: name.clone(), found }),
            (None, [only]) => Ok(instance_ref(host, only)),
            (None, []) => Err(WordError::Empty { host: host.clone() }),
            (None, _) => Err(WordError::Several { host: host.clone(), found }),
        }
    }

    fn is_address_of(&self, host: &HostName, address: &str) -> bool {
        self.hosts.get(host).is_some_and(|entry| {
            let known = std::iter::once(&entry.agent.host).chain(&entry.addresses);
            known.into_iter().any(|known| self.is_same_host(known, address))
        })
    }

    /// Whether two names or addresses are of the same host, as far as the names were resolved.
    fn is_same_host(&self, a: &str, b: &str) -> bool {
        if a.eq_ignore_ascii_case(b) {
            return true;
        }
        let (a, b) = (self.ips(a), self.ips(b));
        a.iter().any(|ip| b.contains(ip))
    }

    fn ips(&self, host: &str) -> Vec<IpAddr> {
        match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip.to_canonical()],
            Err(_) => self.resolved.get(host).into_iter().flatten().map(IpAddr::to_canonical).collect(),
        }
    }
}

/// Whether the instance listens there or says that it does: behind a port translation the two differ.
fn has_port(instance: &InstanceReport, port: u16) -> bool {
    instance.address.port == port || instance.settings.port == port
}
