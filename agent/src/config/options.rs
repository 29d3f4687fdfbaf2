//! `agent.toml` as people read about it. A test compares it with the structs that read the file.

use baton_manual::{File, Opt, Table};

pub const FILE: File = File {
    name: "agent.toml",
    about: "The agent of a host: where it listens, who it is, and which servers it looks after. Relative paths are \
            relative to this file's directory.",
    tables: &[TOP, INSTANCE],
};

pub(super) const TOP: Table = Table {
    header: "",
    about: "The agent itself.",
    options: &[
        Opt {
            name: "listen",
            kind: "address and UDP port",
            default: None,
            example: "\"0.0.0.0:7400\"",
            about: "Where `coord` and other agents reach this one.",
        },
        Opt {
            name: "identity",
            kind: "file",
            default: None,
            example: "\"/etc/baton/identity.pem\"",
            about: "Certificate, key and authority, made by `coord pki issue`; readable by the agent alone (mode 0600).",
        },
        Opt {
            name: "state",
            kind: "directory",
            default: Some(
                "`$STATE_DIRECTORY`, which systemd sets; else `state-NAME` beside this file, after the identity's name",
            ),
            example: "\"/var/lib/baton\"",
            about: "Where the agent keeps what it must not forget.",
        },
        Opt {
            name: "disk_reserve",
            kind: "size",
            default: Some("512MiB"),
            example: "\"512MiB\"",
            about: "What is left free on a disk: a server that cannot write its log stops serving writes.",
        },
        Opt {
            name: "memory_reserve",
            kind: "size",
            default: Some("256MiB"),
            example: "\"256MiB\"",
            about: "What is left free in memory.",
        },
        Opt {
            name: "lanes",
            kind: "1 to 16",
            default: Some("half of the cores, 4 at most"),
            example: "2",
            about: "Connections that a transfer to this host uses, each on a core of its own.",
        },
        Opt {
            name: "metrics",
            kind: "address and TCP port",
            default: Some("no pages"),
            example: "\"127.0.0.1:9121\"",
            about: "Where pages for monitoring are served over plain HTTP: `/metrics` for Prometheus, `/primary` and `/replica` for load balancers.",
        },
        Opt {
            name: "log",
            kind: "`\"text\"` or `\"json\"`",
            default: Some("text"),
            example: "\"json\"",
            about: "In which form the agent logs to stderr. What belongs to a run has its name as `run=`, or as the member `run`.",
        },
    ],
};

pub(super) const INSTANCE: Table = Table {
    header: "[[instance]]",
    about: "A server of this host; there may be several of these tables.",
    options: &[
        Opt {
            name: "name",
            kind: "name",
            default: Some("default"),
            example: "\"default\"",
            about: "What the server is called, as in `coord status`: HOST/NAME.",
        },
        Opt {
            name: "config",
            kind: "file",
            default: None,
            example: "\"/etc/redis/redis.conf\"",
            about: "The server's own configuration: address, password and directory are read from it.",
        },
        Opt {
            name: "address",
            kind: "address:port",
            default: Some("what the server's configuration says"),
            example: "\"10.77.0.2:6379\"",
            about: "Where other hosts reach the server.",
        },
        Opt {
            name: "user",
            kind: "name",
            default: Some("the server's default user"),
            example: "\"baton\"",
            about: "As whom the agent logs in; it needs `password_file`.",
        },
        Opt {
            name: "password_file",
            kind: "file",
            default: Some("`requirepass` of the server's configuration"),
            example: "\"/etc/baton/redis.password\"",
            about: "Holds that user's password, and nothing else.",
        },
        Opt {
            name: "tls_ca",
            kind: "file",
            default: Some("`tls-ca-cert-file` and `tls-ca-cert-dir` of the server's configuration alone"),
            example: "\"/etc/baton/redis-ca.pem\"",
            about: "Certificates of authorities that the agent trusts beside those, where it speaks TLS to the server.",
        },
        Opt {
            name: "service",
            kind: "`{ systemd = UNIT }`, `{ exec = [PROGRAM, ...] }` or `{ command = { start, stop, status } }`",
            default: None,
            example: "{ systemd = \"redis-server.service\" }",
            about: "How the server is started and stopped: as a unit, by the agent itself, or by commands of your own, where \
                    the word `{args}` of `start` stands for the arguments of the start.",
        },
    ],
};

#[cfg(test)]
mod tests {
    use baton_manual::fields;

    use super::super::file;
    use super::*;
    use crate::config::AgentConfig;

    #[test]
    fn every_option_that_is_read_is_described_and_no_other() {
        assert_eq!([TOP.names(), vec!["instance"]].concat(), fields::<file::File>());
        assert_eq!(INSTANCE.names(), fields::<file::Instance>());
    }

    #[test]
    fn the_commented_file_is_valid_once_its_options_are_set() {
        AgentConfig::parse(&FILE.set(), std::path::Path::new("/etc/baton"), None).unwrap();
    }

    #[test]
    fn the_reference_is_up_to_date() {
        let written = include_str!("../../../docs/config.md");
        assert!(written.contains(&FILE.reference()), "docs/config.md is out of date: run docs/make");
    }
}
