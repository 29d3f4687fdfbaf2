//! Adds found instances to an agent.toml: what stands there stays as it is, and the result is checked before it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Findings, tables};
use crate::config::AgentConfig;

/// What a new file begins with.
const NEW: &str = "# Made by `baton-agent discover --write`.\n\
    listen = \"0.0.0.0:7400\"              # UDP; name the address that the operators and the other agents use\n\
    identity = \"agent.pem\"               # made by `coord pki issue`\n";

#[derive(Deserialize, Default)]
struct Existing {
    #[serde(default)]
    instance: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: Option<String>,
    config: PathBuf,
}

/// The instances of an agent.toml, by configuration file. Other mistakes than broken TOML are told by [`merged`].
pub fn known(text: &str, base: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let existing: Existing = toml::from_str(text).map_err(|error| error.to_string())?;
    let entry = |entry: Entry| {
        // A `..` is followed where the file is there, so that one file has one name.
        let path = base.join(entry.config);
        let path = path.canonicalize().unwrap_or_else(|_| path.components().collect());
        (path, entry.name.unwrap_or_else(|| baton_proto::name::DEFAULT_INSTANCE.to_owned()))
    };
    Ok(existing.instance.into_iter().map(entry).collect())
}

/// The file with the found instances added, or what is wrong with the result.
pub fn merged(text: Option<&str>, findings: &Findings, base: &Path) -> Result<String, String> {
    let mut merged = text.unwrap_or(NEW).to_owned();
    if !merged.is_empty() && !merged.ends_with('\n') {
        merged.push('\n');
    }
    merged.push_str(&tables(findings));
    AgentConfig::parse(&merged, base, None).map_err(|mistake| {
        let (line, column) = mistake.line_and_column(&merged);
        format!("line {line}, column {column} of the result: {}", mistake.message)
    })?;
    Ok(merged)
}
