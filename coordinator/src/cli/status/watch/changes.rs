//! PURE: what has changed between two looks. Counters and clocks always move, and are no change: where servers stand, how
//! many keys they hold, since when something is so.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// Figures that move while nothing happens.
const MOVING: [&str; 12] = [
    "offset",
    "keys",
    "keyspace",
    "expect_lineage",
    "lag_bytes",
    "dead_seconds",
    "link_down_seconds",
    "clock_offset_ms",
    "clock_uncertainty_ms",
    "memory_available_bytes",
    "dump_bytes",
    "free_bytes",
];
/// Sentences, in which figures move.
const SENTENCES: [&str; 4] = ["verdict", "testimony", "issues", "error"];

/// What was seen of each thing at the last look, without what moves.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<Name, Value>);

/// The kind of a thing, and which one it is.
type Name = (String, String);

#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// It stands otherwise than before, or is new.
    Is(Name, Value),
    Gone(Name),
}

impl Seen {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in what stands now, and tells what changed by it.
    pub(super) fn changes(&mut self, lines: &[Value]) -> Vec<Change> {
        let now: BTreeMap<Name, Value> = lines.iter().map(|line| (name(line), essence("", line))).collect();
        let differs = |line: &&Value| self.0.get(&name(line)) != now.get(&name(line));
        let is = lines.iter().filter(differs).map(|line| Change::Is(name(line), line.clone()));
        let gone = self.0.keys().filter(|name| !now.contains_key(*name)).cloned().map(Change::Gone);
        let changes = is.chain(gone).collect();
        self.0 = now;
        changes
    }
}

impl Change {
    /// What programs read: what stands now, or that it is gone.
    pub(super) fn line(&self) -> Value {
        match self {
            Change::Is(_, line) => line.clone(),
            Change::Gone((kind, which)) => json!({ "event": "gone", "what": kind, "name": which }),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Is((kind, which), line) => match line["verdict"].as_str() {
                Some(verdict) => write!(f, "{kind} {which}: {verdict}"),
                None => write!(f, "{kind} {which}"),
            },
            Change::Gone((kind, which)) => write!(f, "{kind} {which} is gone"),
        }
    }
}

fn name(line: &Value) -> Name {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let kind = text("event");
    let which = match kind {
        "agent-seen" => format!("{} of {}", text("from"), text("to")),
        "spare" | "target" => text("instance").to_owned(),
        kind => text(kind).to_owned(),
    };
    (kind.to_owned(), which)
}

/// What of a value counts. `of` is the name under which it stands.
fn essence(of: &str, value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let lasting = members.iter().filter(|(name, _)| !MOVING.contains(&name.as_str()));
            Value::Object(lasting.map(|(name, value)| (name.clone(), essence(name, value))).collect())
        }
        Value::Array(values) => values.iter().map(|value| essence(of, value)).collect(),
        Value::String(text) if SENTENCES.contains(&of) => without_figures(text).into(),
        other => other.clone(),
    }
}

/// A sentence with each word that begins with a digit, or with a sign and a digit, made the same: `3m12s`, `1,024`, `+7`.
fn without_figures(text: &str) -> String {
    let word =
        |word: &str| match word.trim_start_matches(['(', '+', '-', '`']).starts_with(|c: char| c.is_ascii_digit()) {
            true => "#".to_owned(),
            false => word.to_owned(),
        };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::{Selection, lines};
    use crate::topology::fixture::*;
    use crate::topology::{Topology, World};

    fn lines_of(world: &World) -> Vec<Value> {
        let topology = Topology::of(world);
        lines::lines(&Selection::all(world, &topology), &topology, world)
    }

    fn pair(offset: u64, keys: u64, link: baton_proto::report::Link) -> World {
        let primary = instance("default", "10.0.0.1:6379").primary(lineage('a', offset), keys);
        let replica = instance("default", "10.0.0.2:6379").replica("10.0.0.1:6379", link, lineage('a', offset), keys);
        World::default().with("machine-a", "10.0.0.1:7400", vec![primary]).with(
            "machine-b",
            "10.0.0.2:7400",
            vec![replica],
        )
    }

    fn words(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_is_new_at_first_and_writes_and_clocks_are_no_change() {
        let mut seen = Seen::default();
        assert!(seen.is_empty());
        assert_eq!(words(&seen.changes(&lines_of(&pair(100, 7, up())))).len(), 3);
        assert_eq!(seen.changes(&lines_of(&pair(900, 8, up()))), []);
        let lost = |seconds: u64| lines_of(&pair(900, 8, down(seconds)));
        let changes = seen.changes(&lost(59));
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].line()["event"], "group");
        assert_eq!(seen.changes(&lost(3600)), [], "time passes");
    }

    #[test]
    fn what_is_gone_is_told_once_and_by_name() {
        let mut seen = Seen::default();
        let world = lost_primary();
        seen.changes(&lines_of(&world));
        let mut less = lost_primary();
        less.hosts.remove(&host("machine-c"));
        let changes = seen.changes(&lines_of(&less));
        assert!(words(&changes).contains(&"spare machine-c is gone".to_owned()), "{changes:?}");
        let gone = changes.iter().map(Change::line).find(|line| line["event"] == "gone").unwrap();
        assert_eq!(gone, json!({ "event": "gone", "what": "host", "name": "machine-c" }));
        assert_eq!(seen.changes(&lines_of(&less)), []);
    }

    #[test]
    fn figures_in_sentences_do_not_count_and_names_with_digits_do() {
        assert_eq!(
            without_figures("machine-b: has had no link to it for 3m12s"),
            "machine-b: has had no link to it for #"
        );
        assert_eq!(without_figures("lag of redis-1 is (12 kB)"), "lag of redis-1 is # kB)");
    }
}
