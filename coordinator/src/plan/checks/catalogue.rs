//! The catalogue of all checks: what each asks, what helps, how bad it can be, and for which verbs it is made. `coord
//! checks` prints it, and `docs/checks.md` is made of it.

mod group;
mod path;
mod source;
mod target;

use std::io::{self, Write};

use serde::Serialize;

use crate::plan::Level;

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub id: &'static str,
    /// What it asks, in a sentence.
    pub asks: &'static str,
    pub remedy: &'static str,
    /// The worst that it says.
    pub worst: Level,
    /// The verbs that make it.
    pub verbs: &'static [&'static str],
}

const FAILOVER: &str = "failover";
const SWITCHOVER: &str = "switchover";
const CLONE: &str = "clone";
const COPY: &str = "copy";
const REJOIN: &str = "rejoin";

/// All checks, by what they are about.
const CATALOGUE: [&[Entry]; 4] = [group::ENTRIES, source::ENTRIES, target::ENTRIES, path::ENTRIES];

pub fn all() -> impl Iterator<Item = &'static Entry> {
    CATALOGUE.into_iter().flatten()
}

/// The check of that id.
pub fn entry(id: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.id == id)
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::Ok => "tells",
        Level::Warn => "warns",
        Level::Refuse => "refuses",
        Level::Danger => "refuses: data could be lost",
    }
}

/// Writes the catalogue for a terminal.
pub fn text(out: &mut dyn Write) -> io::Result<()> {
    all().try_for_each(|entry| {
        writeln!(out, "{}  ({}; {})", entry.id, severity(entry.worst), entry.verbs.join(", "))?;
        writeln!(out, "    {}\n    -> {}", entry.asks, entry.remedy)
    })
}

/// Writes the catalogue as `docs/checks.md`.
pub fn markdown(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# What is checked before anything is changed\n")?;
    writeln!(out, "Made by `coord checks --markdown > docs/checks.md`; a test compares it with the code.\n")?;
    writeln!(
        out,
        "Every check is made, so that all refusals are seen at once. `--dry-run` prints them and stops. A check"
    )?;
    writeln!(
        out,
        "that warns lets the run go on; one that refuses ends it with exit code 3, or 4 where data could be lost.\n"
    )?;
    writeln!(out, "| id | what it asks | at worst it | verbs | what helps |\n|---|---|---|---|---|")?;
    all().try_for_each(|entry| {
        let (worst, verbs) = (severity(entry.worst), entry.verbs.join(", "));
        writeln!(out, "| `{}` | {} | {worst} | {verbs} | {} |", entry.id, entry.asks, entry.remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources of all checks.
    const SOURCES: [&str; 10] = [
        include_str!("batch.rs"),
        include_str!("condition.rs"),
        include_str!("handover.rs"),
        include_str!("held.rs"),
        include_str!("live_source.rs"),
        include_str!("path.rs"),
        include_str!("primary.rs"),
        include_str!("rejoin.rs"),
        include_str!("source.rs"),
        include_str!("target.rs"),
    ];

    #[test]
    fn every_entry_is_made_somewhere_and_none_is_there_twice() {
        for (at, entry) in all().enumerate() {
            let quoted = format!("\"{}\"", entry.id);
            assert!(SOURCES.iter().any(|source| source.contains(&quoted)), "no check says {quoted}");
            assert!(all().take(at).all(|other| other.id != entry.id), "{quoted} is there twice");
            assert!(!entry.verbs.is_empty() && entry.asks.ends_with(['?', ')', '.']), "{quoted}");
            assert!(!entry.remedy.contains('|') && !entry.asks.contains('|'), "{quoted} breaks the table");
        }
    }

    #[test]
    fn the_documentation_is_the_catalogue() {
        let mut now = Vec::new();
        markdown(&mut now).unwrap();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/checks.md");
        let stands = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(stands, String::from_utf8(now).unwrap(), "write it anew: coord checks --markdown > docs/checks.md");
    }
}
