//! PURE: a report as Prometheus reads it. Names, units and types are by its conventions
//! (<https://prometheus.io/docs/practices/naming/>): base units, `_total` for what only grows, `_info` for labels alone. A server is
//! named by the label `server`: `instance` is Prometheus's own, for what it has scraped.

use std::fmt::Write;

use baton_proto::report::{HostReport, InstanceReport, Link, Role, Running, total_keys};

struct Page(String);

/// All of it. `sent` is what has left since the agent was started.
pub(super) fn metrics(report: &HostReport, sent: u64) -> String {
    let mut page = Page(String::new());
    page.family("baton_agent_info", "gauge", "The agent: its host and version.");
    page.sample("baton_agent_info", &[("host", report.host.as_str()), ("version", &report.software)], 1);
    if let Some(certificate) = &report.certificate {
        page.one(
            "baton_certificate_expiry_timestamp_seconds",
            "When the agent's certificate ends.",
            certificate.expires_unix,
        );
        page.one(
            "baton_revocation_list_number",
            "Which list of revoked certificates the agent goes by.",
            certificate.revocations,
        );
    }
    page.family("baton_sent_bytes_total", "counter", "Bytes of snapshots sent to other hosts, packed.");
    page.sample("baton_sent_bytes_total", &[], sent);
    let untold = report.depositions.iter().filter(|held| held.deposition.stands() && !held.told).count();
    page.one("baton_depositions_untold", "Replaced primaries whose agent has not heard of it yet.", untold as u64);
    instances(&mut page, &report.instances);
    page.0
}

type Value = fn(&Running) -> Option<u64>;

/// A metric of an instance that answers: its name, its type, what it is, and where it stands.
const OF_SERVERS: &[(&str, &str, &str, Value)] = &[
    ("baton_instance_primary", "gauge", "Whether it is a primary.", |running| {
        Some(u64::from(matches!(running.role, Role::Primary { .. })))
    }),
    ("baton_instance_link_up", "gauge", "Whether a replica is linked to its primary.", |running| match &running.role {
        Role::Primary { .. } => None,
        Role::Replica { link, .. } => Some(u64::from(matches!(link, Link::Up { .. }))),
    }),
    (
        "baton_instance_link_silence_seconds",
        "gauge",
        "How long a linked replica has heard nothing of its primary.",
        |running| match &running.role {
            Role::Replica { link: Link::Up { last_io_seconds }, .. } => Some(*last_io_seconds),
            _ => None,
        },
    ),
    ("baton_instance_replicas", "gauge", "Replicas that a primary serves.", |running| match &running.role {
        Role::Primary { replicas } => Some(replicas.len() as u64),
        Role::Replica { .. } => None,
    }),
    ("baton_instance_replication_offset_bytes", "gauge", "Where it stands in its history.", |running| {
        Some(running.replication.lineage.offset)
    }),
    ("baton_instance_keys", "gauge", "Keys in all databases.", |running| Some(total_keys(&running.keyspace))),
    ("baton_instance_memory_used_bytes", "gauge", "Memory that its data takes.", |running| {
        Some(running.memory.used_bytes)
    }),
    ("baton_instance_loading", "gauge", "Whether it loads its data.", |running| {
        Some(u64::from(running.persistence.loading))
    }),
    ("baton_instance_last_save_timestamp_seconds", "gauge", "When it saved last.", |running| {
        Some(running.persistence.last_save_unix)
    }),
    ("baton_instance_last_save_ok", "gauge", "Whether its last background save went well.", |running| {
        Some(u64::from(running.persistence.last_save_ok))
    }),
    ("baton_instance_resyncs_full_total", "counter", "Full resyncs that it has served.", |running| {
        Some(running.replication.counters.full)
    }),
    ("baton_instance_resyncs_partial_total", "counter", "Partial resyncs that it has served.", |running| {
        Some(running.replication.counters.partial_ok)
    }),
];

fn instances(page: &mut Page, instances: &[InstanceReport]) {
    page.family("baton_instance_up", "gauge", "Whether its server answers the agent.");
    for instance in instances {
        let up = u64::from(instance.server.running().is_some());
        page.sample("baton_instance_up", &[("server", instance.name.as_str())], up);
    }
    page.family("baton_instance_fenced", "gauge", "Whether a run holds it off its former primary.");
    for instance in instances {
        let fenced = u64::from(instance.fence.is_some());
        page.sample("baton_instance_fenced", &[("server", instance.name.as_str())], fenced);
    }
    page.family("baton_instance_held_info", "gauge", "The run that has it.");
    for (instance, claim) in instances.iter().filter_map(|instance| Some((instance, instance.claim.as_ref()?))) {
        let labels = [("server", instance.name.as_str()), ("run", claim.run.as_str()), ("operator", &claim.by)];
        page.sample("baton_instance_held_info", &labels, 1);
    }
    page.family("baton_instance_disk_free_bytes", "gauge", "Room in its data directory, less the reserve.");
    for instance in instances {
        page.sample("baton_instance_disk_free_bytes", &[("server", instance.name.as_str())], instance.files.free_bytes);
    }
    for (name, kind, help, value) in OF_SERVERS {
        page.family(name, kind, help);
        for instance in instances {
            if let Some(value) = instance.server.running().and_then(value) {
                page.sample(name, &[("server", instance.name.as_str())], value);
            }
        }
    }
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A text in memory takes every line.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// A gauge without labels.
    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

/// A label's value, as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_what_would_end_them() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn names_follow_the_conventions_and_each_stands_once() {
        for (at, (name, kind, help, _)) in OF_SERVERS.iter().enumerate() {
            assert!(name.starts_with("baton_instance_") && help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
            assert!(OF_SERVERS[..at].iter().all(|(other, ..)| other != name), "{name}");
        }
    }
}
