//! PURE: the settings that matter to a move, from `redis.conf` and, where it tells them, from the running server.

use std::collections::BTreeMap;
use std::path::Path;

use baton_proto::report::Settings;

use crate::redis_conf::RedisConf;

/// What the configuration file says, with the server's defaults for what it leaves out.
pub(crate) fn of_conf(conf: &RedisConf, path: &Path) -> Settings {
    Settings {
        config_file: path.display().to_string(),
        port: conf.port(),
        bind: conf.bind(),
        protected_mode: conf.protected_mode(),
        unix_socket: conf.unix_socket().map(|path| path.display().to_string()),
        requires_password: conf.requires_password(),
        has_primary_password: conf.masterauth().is_some(),
        primary_user: conf.masteruser().map(str::to_owned),
        tls_replication: conf.tls_replication(),
        configurable: false,
        appendonly: conf.appendonly(),
        dir: conf.dir().display().to_string(),
        dbfilename: conf.dbfilename(),
        maxmemory_bytes: conf.maxmemory_bytes(),
        maxmemory_policy: conf.maxmemory_policy(),
        serve_stale_data: conf.serve_stale_data(),
        min_replicas_to_write: ["min-replicas-to-write", "min-slaves-to-write"]
            .into_iter()
            .find_map(|name| conf.text(name)?.parse().ok())
            .unwrap_or(0),
        load_modules: conf.load_modules(),
        replica_of: conf.replica_of(),
        error: None,
    }
}

/// Puts what the server says (`CONFIG GET *`) in the place of what its file says. What only the file tells stays:
/// the modules, and the primary that a restart would follow.
pub(crate) fn in_force(settings: &mut Settings, told: &BTreeMap<String, String>, conf: &RedisConf) {
    let text = |name: &str| told.get(name).map(String::as_str);
    let some = |name: &str| text(name).filter(|value| !value.is_empty()).map(str::to_owned);
    // A setting that this version does not know by either name keeps the file's value.
    let either = |names: [&str; 2]| names.into_iter().find_map(text);
    let yes = |value: Option<&str>, otherwise: bool| value.map_or(otherwise, |value| value == "yes");
    let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());

    settings.port = text("port").and_then(|port| port.parse().ok()).unwrap_or(settings.port);
    if let Some(bind) = text("bind") {
        settings.bind = bind.split_whitespace().map(str::to_owned).collect();
    }
    settings.protected_mode = yes(text("protected-mode"), settings.protected_mode);
    settings.requires_password = conf.default_user_needs_password().unwrap_or(some("requirepass").is_some());
    settings.has_primary_password = some("masterauth").is_some();
    settings.primary_user = some("masteruser");
    settings.tls_replication = yes(text("tls-replication"), settings.tls_replication);
    settings.configurable = true;
    settings.appendonly = yes(text("appendonly"), settings.appendonly);
    settings.dir = some("dir").unwrap_or_else(|| settings.dir.clone());
    // The server has opened it relative to its directory.
    settings.unix_socket = some("unixsocket").map(|path| Path::new(&settings.dir).join(path).display().to_string());
    settings.dbfilename = some("dbfilename").unwrap_or_else(|| settings.dbfilename.clone());
    settings.maxmemory_bytes = number("maxmemory").unwrap_or(settings.maxmemory_bytes);
    settings.maxmemory_policy = some("maxmemory-policy").unwrap_or_else(|| settings.maxmemory_policy.clone());
    let stale = either(["replica-serve-stale-data", "slave-serve-stale-data"]);
    settings.serve_stale_data = yes(stale, settings.serve_stale_data);
    let min_replicas = either(["min-replicas-to-write", "min-slaves-to-write"]);
    settings.min_replicas_to_write = min_replicas.and_then(|count| count.parse().ok()).unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_conf::{Source, parse};

    fn conf(text: &str) -> RedisConf {
        let source = Source { path: "redis.conf".into(), text: text.into() };
        parse(&source, Path::new("/data"), &mut |_| Ok(Vec::new())).unwrap()
    }

    #[test]
    fn the_server_is_believed_before_its_file() {
        let conf = conf("port 1\nappendonly yes\nrequirepass old\nreplicaof a 6379\nloadmodule /m.so\ndir /old\n");
        let mut settings = of_conf(&conf, Path::new("/etc/redis.conf"));
        assert_eq!((settings.port, settings.appendonly, settings.requires_password), (1, true, true));
        let told = [
            ("port", "2"),
            ("bind", "127.0.0.1 -::1"),
            ("appendonly", "no"),
            ("requirepass", ""),
            ("masterauth", "secret"),
            ("dir", "/data"),
            ("unixsocket", "redis.sock"),
            ("maxmemory", "1048576"),
            ("slave-serve-stale-data", "no"),
        ];
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        in_force(&mut settings, &told, &conf);
        assert_eq!((settings.port, settings.appendonly, settings.requires_password), (2, false, false));
        assert_eq!((settings.bind.join(" "), settings.dir.as_str()), ("127.0.0.1 -::1".into(), "/data"));
        assert_eq!((settings.maxmemory_bytes, settings.serve_stale_data), (1 << 20, false));
        assert_eq!(settings.unix_socket.as_deref(), Some("/data/redis.sock"));
        assert!(settings.has_primary_password && settings.protected_mode && settings.configurable);
        assert_eq!((settings.replica_of.unwrap().to_string(), settings.load_modules.len()), ("a:6379".into(), 1));
    }
}
