//! PURE: what was found so far: counts, and a few names.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use baton_proto::HostPort;
use baton_proto::compared::{Comparison, DATABASES_MAX, Differences, EXAMPLES_MAX, Example, Examples};

use super::show;
use super::verdict::Verdict;

/// Most keys of a database that are remembered as counted, some 4 MiB of their hashes. A server whose table grows while it
/// is read through may tell a key twice; beyond this many differences such a key may be counted twice.
const COUNTED_MAX: usize = 1 << 18;

#[derive(Default)]
pub(super) struct Tallies {
    db: u32,
    all: Differences,
    databases: BTreeMap<u32, Differences>,
    examples: Examples,
    counted: HashSet<u64>,
    hasher: RandomState,
}

impl Tallies {
    /// What comes is of this database.
    pub(super) fn enter(&mut self, db: u32) {
        self.db = db;
        self.counted.clear();
        if self.databases.len() < DATABASES_MAX {
            self.databases.insert(db, Differences::default());
        }
    }

    pub(super) fn nothing_seen(&self) -> bool {
        self.all.seen == 0 && self.all.seen_successor == 0
    }

    /// Keys of either side that were looked at.
    pub(super) fn seen(&self) -> u64 {
        self.all.seen + self.all.seen_successor
    }

    pub(super) fn saw_here(&mut self, keys: usize) {
        self.add(|found| found.seen += keys as u64);
    }

    pub(super) fn saw_there(&mut self, keys: usize) {
        self.add(|found| found.seen_successor += keys as u64);
    }

    /// Keys with names too long to ask the other side for.
    pub(super) fn unread(&mut self, keys: usize) {
        self.add(|found| found.unread += keys as u64);
    }

    /// Counts a key, once.
    pub(super) fn count(&mut self, key: &[u8], verdict: Verdict) {
        if matches!(verdict, Verdict::Absent | Verdict::Same) || !self.is_new(key) {
            return;
        }
        self.add(|found| match &verdict {
            Verdict::Absent | Verdict::Same => {}
            Verdict::OnlyHere => found.only_deposed += 1,
            Verdict::OnlyThere => found.only_successor += 1,
            Verdict::Differs { by_form, .. } => {
                found.differing += 1;
                found.by_form += u64::from(*by_form);
            }
            Verdict::Unread => found.unread += 1,
        });
        let (names, types) = match verdict {
            Verdict::OnlyHere => (&mut self.examples.only_deposed, None),
            Verdict::OnlyThere => (&mut self.examples.only_successor, None),
            Verdict::Differs { types, .. } => (&mut self.examples.differing, types),
            Verdict::Absent | Verdict::Same | Verdict::Unread => return,
        };
        if names.len() < EXAMPLES_MAX {
            let types = types.map(|types| types.map(|kind| show::escaped(kind.as_bytes(), show::NAME)));
            names.push(Example { db: self.db, key: show::escaped(key, show::NAME), types });
        }
    }

    fn is_new(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        if self.counted.len() < COUNTED_MAX { self.counted.insert(hash) } else { !self.counted.contains(&hash) }
    }

    fn add(&mut self, change: impl Fn(&mut Differences)) {
        change(&mut self.all);
        if let Some(found) = self.databases.get_mut(&self.db) {
            change(found);
        }
    }

    pub(super) fn into_comparison(self, with: HostPort, seconds: f64, stopped: Option<String>) -> Comparison {
        Comparison { with, seconds, stopped, all: self.all, databases: self.databases, examples: self.examples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tallies: Tallies) -> Comparison {
        tallies.into_comparison(HostPort::new("c", 6379), 1.0, None)
    }

    #[test]
    fn each_database_has_its_counts_and_all_have_the_sum() {
        let mut tallies = Tallies::default();
        tallies.enter(0);
        tallies.saw_here(3);
        tallies.count(b"a", Verdict::OnlyHere);
        tallies.count(b"s", Verdict::Differs { types: None, by_form: true });
        tallies.count(b"same", Verdict::Same);
        tallies.enter(9);
        tallies.saw_there(2);
        tallies.unread(1);
        tallies.count(b"a", Verdict::OnlyThere);
        tallies.count(b"big", Verdict::Unread);
        let comparison = told(tallies);
        let zero = Differences { seen: 3, only_deposed: 1, differing: 1, by_form: 1, ..Differences::default() };
        let nine = Differences { seen_successor: 2, only_successor: 1, unread: 2, ..Differences::default() };
        assert_eq!(comparison.databases, BTreeMap::from([(0, zero), (9, nine)]));
        let all = Differences { seen_successor: 2, only_successor: 1, unread: 2, ..zero };
        assert_eq!(comparison.all, all);
        assert_eq!(comparison.examples.only_successor, [Example { db: 9, key: "a".into(), types: None }]);
    }

    #[test]
    fn a_key_that_is_told_twice_counts_once_in_its_database() {
        let mut tallies = Tallies::default();
        for db in [0, 1] {
            tallies.enter(db);
            for _ in 0..3 {
                tallies.count(b"again", Verdict::OnlyHere);
            }
        }
        assert_eq!(told(tallies).all.only_deposed, 2);
    }

    #[test]
    fn the_report_is_bounded_whatever_is_found() {
        let mut tallies = Tallies::default();
        for db in 0..200 {
            tallies.enter(db);
            for number in 0..50u32 {
                let mut key = vec![0x1b; 60_000];
                key.extend(number.to_be_bytes());
                tallies.saw_here(1);
                tallies
                    .count(&key, Verdict::Differs { types: Some(["\x1b".repeat(9000), "set".into()]), by_form: false });
                key.push(1);
                tallies.count(&key, Verdict::OnlyHere);
                key.push(2);
                tallies.count(&key, Verdict::OnlyThere);
            }
        }
        let comparison = told(tallies);
        assert_eq!(
            (comparison.all.seen, comparison.all.differing, comparison.all.only_successor),
            (10_000, 10_000, 10_000)
        );
        assert_eq!(comparison.databases.len(), DATABASES_MAX);
        let examples = &comparison.examples;
        for names in [&examples.only_deposed, &examples.only_successor, &examples.differing] {
            assert_eq!(names.len(), EXAMPLES_MAX);
        }
        let bytes = serde_json::to_vec(&comparison).unwrap();
        assert!(bytes.len() < 64 * 1024, "{} bytes", bytes.len());
        assert!(!bytes.contains(&0x1b));
    }
}
