//! `coord.toml` as people read about it. A test compares it with the structs that read the file.

use baton_manual::{File, Opt, Table};

pub const FILE: File = File {
    name: "coord.toml",
    about: "The hosts that `coord` knows. It is looked for as ./coord.toml, ~/.config/baton/coord.toml and \
            /etc/baton/coord.toml. Relative paths are relative to its directory.",
    tables: &[TOP, HOST],
};

pub(super) const TOP: Table = Table {
    header: "",
    about: "The operator.",
    options: &[
        Opt {
            name: "identity",
            kind: "file",
            default: None,
            example: "\"pki/operator.pem\"",
            about: "Who you are; made by `coord pki init`, readable by you alone (mode 0600).",
        },
        Opt {
            name: "state",
            kind: "directory",
            default: Some("`$XDG_STATE_HOME/baton`, else ~/.local/state/baton"),
            example: "\"/var/lib/baton-coord\"",
            about: "Where the journals of runs are kept.",
        },
    ],
};

pub(super) const HOST: Table = Table {
    header: "[hosts.machine-b]",
    about: "A host with an agent, under the name that its identity has; one such table for each.",
    options: &[
        Opt {
            name: "agent",
            kind: "address:port",
            default: None,
            example: "\"10.77.0.2:7400\"",
            about: "Where the host's agent listens (UDP).",
        },
        Opt {
            name: "addresses",
            kind: "list of addresses or names",
            default: Some("none"),
            example: "[\"192.0.2.2\"]",
            about: "Further addresses under which the host's servers are known.",
        },
    ],
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use baton_manual::fields;

    use super::super::{File as Read, FileHost};
    use super::*;
    use crate::inventory::{Inventory, Places};

    #[test]
    fn every_option_that_is_read_is_described_and_no_other() {
        assert_eq!([TOP.names(), vec!["hosts"]].concat(), fields::<Read>());
        assert_eq!(HOST.names(), fields::<FileHost>());
    }

    #[test]
    fn the_commented_file_is_valid_once_its_options_are_set() {
        Inventory::parse(&FILE.set(), Path::new("coord.toml"), &Places::default()).unwrap();
    }

    #[test]
    fn the_reference_is_up_to_date() {
        let written = include_str!("../../../docs/config.md");
        assert!(written.contains(&FILE.reference()), "docs/config.md is out of date: run docs/make");
    }
}
