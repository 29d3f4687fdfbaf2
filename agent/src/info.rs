//! PURE: what a server says in `INFO`, as the report that crosses the wire.
//!
//! Servers still say `master` and `slave` here, up to Valkey 9.1; today's words are accepted as well. A field that one
//! version lacks has a default; a field without which nothing can be judged (version, role, lineage) is an error.

use std::collections::HashMap;

use baton_proto::report::{
    Backlog, Keys, Keyspace, Link, LoadedKeys, Memory, Persistence, ReplicaLine, Replication, Role, Running,
    SyncCounters,
};
use baton_proto::version::{Product, ServerVersion};
use baton_proto::{HostPort, Lineage, ReplId};

/// The fields of an `INFO`.
#[derive(Debug, Clone, Default)]
pub struct Info {
    fields: HashMap<String, String>,
    modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    #[error("INFO has no `{0}`")]
    Missing(&'static str),
    #[error("INFO says `{field}:{value}`, which is not understood")]
    Strange { field: &'static str, value: String },
}

/// Longest value quoted in an error.
const QUOTE_CHARS_MAX: usize = 80;

impl Info {
    pub fn parse(text: &str) -> Info {
        let mut info = Info::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name == "module" {
                info.modules.extend(pair(value, "name").map(str::to_owned));
            } else {
                info.fields.insert(name.to_owned(), value.trim_end().to_owned());
            }
        }
        info
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A field as a number; negative ones, by which servers say "never", are none.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// A field that is `1` or `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.field(name) == Some("1")
    }

    /// The first of several names for one thing.
    fn either<'a>(&'a self, names: &[&'static str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.field(name))
    }

    fn count(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }

    /// Names of the loaded modules. Older servers than Redis 6.0 do not tell them here.
    pub fn modules(&self) -> &[String] {
        &self.modules
    }

    /// The server's product and version. Valkey also names the Redis version that it stands for.
    pub fn version(&self) -> Result<ServerVersion, InfoError> {
        let (product, field) = match self.field("valkey_version") {
            Some(_) => (Product::Valkey, "valkey_version"),
            None if self.field("server_name") == Some("valkey") => (Product::Valkey, "redis_version"),
            None => (Product::Redis, "redis_version"),
        };
        let text = self.field(field).ok_or(InfoError::Missing(field))?;
        ServerVersion::new(product, text).map_err(|_| strange(field, text))
    }

    pub fn role(&self) -> Result<Role, InfoError> {
        match self.field("role") {
            Some("master" | "primary") => Ok(Role::Primary { replicas: self.replicas() }),
            Some("slave" | "replica") => Ok(Role::Replica {
                primary: self.primary()?,
                link: self.link(),
                priority: self
                    .either(&["slave_priority", "replica_priority"])
                    .and_then(|p| p.parse().ok())
                    .unwrap_or(100),
            }),
            Some(other) => Err(strange("role", other)),
            None => Err(InfoError::Missing("role")),
        }
    }

    fn primary(&self) -> Result<HostPort, InfoError> {
        let host = self.either(&["master_host", "primary_host"]).ok_or(InfoError::Missing("master_host"))?;
        let port = self.either(&["master_port", "primary_port"]).ok_or(InfoError::Missing("master_port"))?;
        let port = port.parse().map_err(|_| strange("master_port", port))?;
        checked(host, port).ok_or_else(|| strange("master_host", host))
    }

    fn link(&self) -> Link {
        let seconds = |names: &[&'static str]| self.either(names).and_then(|s| s.parse::<u64>().ok());
        if self.either(&["master_sync_in_progress", "primary_sync_in_progress"]) == Some("1") {
            Link::Syncing
        } else if self.either(&["master_link_status", "primary_link_status"]) == Some("up") {
            let last_io = seconds(&["master_last_io_seconds_ago", "primary_last_io_seconds_ago"]);
            Link::Up { last_io_seconds: last_io.unwrap_or(0) }
        } else {
            let since = seconds(&["master_link_down_since_seconds", "primary_link_down_since_seconds"]);
            Link::Down { since_seconds: since }
        }
    }

    /// `slave0:ip=127.0.0.1,port=6380,state=online,offset=708,lag=1`
    fn replicas(&self) -> Vec<ReplicaLine> {
        let lines = (0u32..).map_while(|n| {
            self.field(&format!("slave{n}")).or_else(|| self.field(&format!("replica{n}"))).map(str::to_owned)
        });
        let replica = |line: String| {
            Some(ReplicaLine {
                address: checked(pair(&line, "ip")?, pair(&line, "port")?.parse().ok()?)?,
                online: pair(&line, "state") == Some("online"),
                offset: pair(&line, "offset").and_then(|n| n.parse().ok()).unwrap_or(0),
                lag_seconds: pair(&line, "lag").and_then(|n| n.parse().ok()).unwrap_or(0),
            })
        };
        lines.filter_map(replica).collect()
    }

    fn id(&self, names: &[&'static str; 2]) -> Result<ReplId, InfoError> {
        let [field, _] = *names;
        let text = self.either(names).ok_or(InfoError::Missing(field))?;
        text.parse().map_err(|_| strange(field, text))
    }

    /// Where the data stands. A replica's own offset is what it has applied (`slave_repl_offset`); the offset that it
    /// would hand to replicas of its own can be another one.
    pub fn lineage(&self) -> Result<Lineage, InfoError> {
        let id = self.id(&["master_replid", "primary_replid"])?;
        let offset = match self.role()? {
            Role::Primary { .. } => self.either(&["master_repl_offset", "primary_repl_offset"]),
            Role::Replica { .. } => self.either(&["slave_repl_offset", "replica_repl_offset"]),
        };
        Ok(Lineage { id, offset: offset.and_then(|offset| offset.parse().ok()).unwrap_or(0) })
    }

    /// The server says the first offset that the old id does *not* cover; stored is the last that it does.
    fn second(&self) -> Result<Option<Lineage>, InfoError> {
        let id = self.id(&["master_replid2", "primary_replid2"])?;
        let last = self.number("second_repl_offset").and_then(|first_beyond| first_beyond.checked_sub(1));
        Ok(last.filter(|_| !id.is_none()).map(|offset| Lineage { id, offset }))
    }

    fn replication(&self) -> Result<Replication, InfoError> {
        let backlog = self.flag("repl_backlog_active").then(|| Backlog {
            first_offset: self.count("repl_backlog_first_byte_offset"),
            held_bytes: self.count("repl_backlog_histlen"),
        });
        Ok(Replication {
            lineage: self.lineage()?,
            second: self.second()?,
            backlog,
            backlog_bytes: self.count("repl_backlog_size"),
            counters: SyncCounters {
                full: self.count("sync_full"),
                partial_ok: self.count("sync_partial_ok"),
                partial_err: self.count("sync_partial_err"),
            },
            input_bytes: self.count("total_net_input_bytes"),
        })
    }

    /// `db0:keys=6,expires=5,avg_ttl=9999898`
    pub fn keyspace(&self) -> Keyspace {
        let database = |(name, value): (&String, &String)| {
            let number = name.strip_prefix("db")?.parse().ok()?;
            let count = |key| pair(value, key).and_then(|n| n.parse().ok());
            Some((number, Keys { keys: count("keys")?, expires: count("expires").unwrap_or(0) }))
        };
        self.fields.iter().filter_map(database).collect()
    }

    fn persistence(&self) -> Persistence {
        let loaded = self.number("rdb_last_load_keys_loaded");
        Persistence {
            loading: self.flag("loading") || self.flag("async_loading"),
            loaded_bytes: self.count("loading_loaded_bytes"),
            loading_total_bytes: self.count("loading_total_bytes"),
            saving: self.flag("rdb_bgsave_in_progress"),
            aof_enabled: self.flag("aof_enabled"),
            aof_rewriting: self.flag("aof_rewrite_in_progress") || self.flag("aof_rewrite_scheduled"),
            aof_rewrite_ok: self.field("aof_last_bgrewrite_status") == Some("ok"),
            last_save_ok: self.field("rdb_last_bgsave_status") == Some("ok"),
            last_save_unix: self.count("rdb_last_save_time"),
            last_save_seconds: self.number("rdb_last_bgsave_time_sec"),
            changes_since_save: self.count("rdb_changes_since_last_save"),
            load_keys: loaded.map(|loaded| LoadedKeys { loaded, expired: self.count("rdb_last_load_keys_expired") }),
        }
    }

    fn memory(&self) -> Memory {
        Memory {
            used_bytes: self.count("used_memory"),
            rss_bytes: self.count("used_memory_rss"),
            maxmemory_bytes: self.count("maxmemory"),
            expired_keys: self.count("expired_keys"),
            evicted_keys: self.count("evicted_keys"),
        }
    }

    /// The report of a server that answers. `own_clients` are the connections of whoever asks; they are not counted.
    pub fn running(&self, own_clients: u64) -> Result<Running, InfoError> {
        let role = self.role()?;
        // A replica's link to its primary is a client too, as far as the server is concerned.
        let linked = matches!(role, Role::Replica { link: Link::Up { .. }, .. });
        Ok(Running {
            version: self.version()?,
            pid: self
                .number("process_id")
                .and_then(|pid| pid.try_into().ok())
                .ok_or(InfoError::Missing("process_id"))?,
            uptime_seconds: self.count("uptime_in_seconds"),
            clients: self.count("connected_clients").saturating_sub(own_clients.saturating_add(linked.into())),
            role,
            replication: self.replication()?,
            keyspace: self.keyspace(),
            persistence: self.persistence(),
            memory: self.memory(),
            modules: self.modules.clone(),
            cluster: self.flag("cluster_enabled"),
            sentinels: 0,
        })
    }
}

/// Reads an `INFO` that came over a connection of its own.
pub fn parse_running(info: &str) -> Result<Running, InfoError> {
    Info::parse(info).running(1)
}

/// The value of `name` in `name=value,name=value`.
fn pair<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.trim_end().split(',').filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}

/// By way of its text: only an address that its reader accepts may cross the wire.
fn checked(host: &str, port: u16) -> Option<HostPort> {
    HostPort::new(host, port).to_string().parse().ok()
}

fn strange(field: &'static str, value: &str) -> InfoError {
    InfoError::Strange { field, value: value.chars().take(QUOTE_CHARS_MAX).collect() }
}

#[cfg(test)]
mod tests;
