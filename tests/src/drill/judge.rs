//! The judge: whether what is there at the end may be there. It knows servers and their data, what clients were told, and
//! the meaning of `coord`'s exit codes; of how Baton works inside it knows nothing. It looks at evidence alone, so made-up
//! worlds show that it finds what it is to find.

use std::collections::BTreeSet;
use std::fmt;

use super::evidence::{Evidence, FENCE, Key, Keys, Part, Standing, is_written};

/// What a file in a data directory begins with that is Baton's, and one that stays for a person.
const OWN_FILE: &str = "baton-";
const ASIDE_FILE: &str = ".diverged.rdb";
/// The settings that change with a server's role.
const ROLE_SETTINGS: [&str; 2] = ["replicaof", "slaveof"];
/// Largest dump of a server that holds nothing, functions included.
const EMPTY_DUMP_BYTES: u64 = 1024;
/// How many keys a finding names.
const NAMED: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    ExitCode,
    Primaries,
    LostKey,
    LostWrite,
    Misread,
    ExtraKey,
    Following,
    LeftOver,
    Setting,
    Process,
    /// The drill found it on its way.
    Course,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    pub says: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.says)
    }
}

/// Whether all is as it may be. Nothing found is the verdict that it is.
pub fn judge(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    found.endings(evidence);
    found.primaries(evidence);
    found.data(evidence);
    found.writes(evidence);
    found.following(evidence);
    found.left_over(evidence);
    found.settings(evidence);
    found.processes(evidence);
    found.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, rule: Rule, says: impl Into<String>) {
        self.0.push(Finding { rule, says: says.into() });
    }

    fn endings(&mut self, evidence: &Evidence) {
        for ending in evidence.endings.iter().filter(|ending| !ending.is_documented()) {
            let outcome = ending.outcome.as_deref().unwrap_or("nothing");
            self.add(
                Rule::ExitCode,
                format!("`{}` ended with {}, and its result says {outcome}", ending.command, ending.code),
            );
        }
    }

    fn primaries(&mut self, evidence: &Evidence) {
        let primaries = evidence.primaries();
        let named = evidence.endings.iter().rev().find_map(|ending| ending.primary.as_deref());
        match evidence.standing() {
            Standing::Served { .. } => {
                if primaries.len() != 1 {
                    self.add(Rule::Primaries, format!("exactly one is to take writes, and these do: {primaries:?}"));
                } else if let Some(named) = named
                    && primaries.iter().all(|host| *host != named)
                {
                    self.add(Rule::Primaries, format!("{named} is said to be the primary, but {primaries:?} is"));
                }
            }
            Standing::Unserved => {
                let others = primaries.iter().filter(|host| evidence.servers[**host].part != Part::Lost);
                for host in others {
                    self.add(Rule::Primaries, format!("{host} takes writes although nobody has replaced A"));
                }
            }
            Standing::HalfWay if primaries.len() > 1 => {
                self.add(Rule::Primaries, format!("more than one takes writes: {primaries:?}"));
            }
            Standing::HalfWay => {}
        }
    }

    /// What the freshest survivor held is where the group's data is to be, and nothing else is there.
    fn data(&mut self, evidence: &Evidence) {
        let hosts = keepers(evidence);
        let best = hosts.iter().filter_map(|host| Some((*host, evidence.running(host)?)));
        let missing = best.map(|(host, running)| (host, differences(&evidence.held, &running.keys)));
        match missing.min_by_key(|(_, missing)| missing.len()) {
            None => self.add(Rule::LostKey, format!("none of {hosts:?} answers, and its data is nowhere")),
            Some((_, missing)) if missing.is_empty() => {}
            Some((host, missing)) => self.add(
                Rule::LostKey,
                format!(
                    "{host} lacks {} of the {} keys that survived A: {}",
                    missing.len(),
                    evidence.held.len(),
                    some(missing)
                ),
            ),
        }
        let Standing::Served { .. } = evidence.standing() else { return };
        for (host, running) in hosts.iter().filter_map(|host| Some((*host, evidence.running(host)?))) {
            let extra: Vec<&Key> =
                running.keys.keys().filter(|key| !evidence.held.contains_key(*key) && !is_written(key)).collect();
            if !extra.is_empty() {
                self.add(Rule::ExtraKey, format!("{host} has keys that nobody wrote: {}", some(extra)));
            }
        }
    }

    /// What was acknowledged after A was lost.
    fn writes(&mut self, evidence: &Evidence) {
        let hosts = keepers(evidence);
        let lacks = |keys: &BTreeSet<Key>, there: &Keys| -> Vec<Key> {
            keys.iter().filter(|key| !there.contains_key(*key)).cloned().collect()
        };
        for after in evidence.after.iter().filter(|after| !after.excused) {
            let missing = hosts.iter().filter_map(|host| Some(lacks(&after.keys, &evidence.running(host)?.keys)));
            let missing = missing.min_by_key(Vec::len).unwrap_or_else(|| after.keys.iter().cloned().collect());
            if !missing.is_empty() {
                let (count, all) = (missing.len(), after.keys.len());
                let says = format!("{count} of {all} writes that {} acknowledged are not on {hosts:?}", after.by);
                self.add(Rule::LostWrite, format!("{says}: {}", some(missing.iter())));
            }
        }
        for fork in &evidence.fork {
            let own = evidence.running(&fork.by).map(|running| &running.keys);
            let places = [own, evidence.aside.as_ref()];
            let missing = places.into_iter().flatten().map(|there| lacks(&fork.keys, there)).min_by_key(Vec::len);
            let missing = missing.unwrap_or_else(|| fork.keys.iter().cloned().collect());
            if !missing.is_empty() {
                let says = format!("{} writes that {} acknowledged alone are gone", missing.len(), fork.by);
                self.add(Rule::LostWrite, format!("{says}: {}", some(missing.iter())));
            }
        }
        for acknowledged in evidence.after.iter().chain(&evidence.fork).filter(|one| !one.excused) {
            if let Some(misread) = acknowledged.misread.first() {
                let count = acknowledged.misread.len();
                self.add(Rule::Misread, format!("{count} reads from {} were wrong: {misread}", acknowledged.by));
            }
        }
    }

    fn following(&mut self, evidence: &Evidence) {
        let Standing::Served { whole } = evidence.standing() else { return };
        let [primary] = evidence.primaries()[..] else { return };
        let (Some(first), Some(leader)) = (evidence.servers.get(primary), evidence.running(primary)) else { return };
        for (host, seen) in evidence.servers.iter().filter(|(host, _)| *host != primary) {
            let Some(running) = &seen.running else {
                if whole && seen.part != Part::Lost {
                    self.add(Rule::Following, format!("the server of {host} does not run, and all is said to be done"));
                }
                continue;
            };
            match running.follows.as_deref() {
                Some(FENCE) | None if seen.part == Part::Lost => {}
                Some(to) if to == first.address => {
                    if !running.linked {
                        self.add(Rule::Following, format!("{host} follows {primary}, and its link is down"));
                    } else if running.keys != leader.keys {
                        let (less, more) =
                            (differences(&leader.keys, &running.keys), differences(&running.keys, &leader.keys));
                        let says = format!("{host} lacks {}, and has {} more", less.len(), more.len());
                        let keys = some(less.into_iter().chain(more));
                        self.add(Rule::Following, format!("{host} does not hold what {primary} holds: {says}: {keys}"));
                    }
                }
                _ if !whole => {
                    // What is missing is told for each, or for the step in which all of them were to be moved.
                    let told = evidence.endings.iter().any(|ending| names_one_left(&ending.names, host));
                    if seen.part == Part::Survivor && !told {
                        let to = &running.follows;
                        self.add(
                            Rule::Following,
                            format!("{host} follows {to:?} and not {primary}, and nobody says so"),
                        );
                    }
                }
                to => self.add(Rule::Following, format!("{host} follows {to:?} and not {primary}")),
            }
        }
    }

    fn left_over(&mut self, evidence: &Evidence) {
        let standing = evidence.standing();
        if standing == Standing::HalfWay {
            return;
        }
        let names: String = evidence.endings.iter().map(|ending| ending.names.as_str()).collect();
        for (host, seen) in &evidence.servers {
            let own = seen.files.keys().filter(|name| name.starts_with(OWN_FILE) && !name.ends_with(ASIDE_FILE));
            for name in own.filter(|name| !names.contains(name.as_str())) {
                self.add(Rule::LeftOver, format!("{name} is left in the data directory of {host}"));
            }
        }
        if standing == Standing::Unserved {
            for (host, seen) in evidence.of(Part::Target) {
                if let Some(running) = &seen.running
                    && running.keys.keys().any(|key| evidence.held.contains_key(key))
                {
                    self.add(Rule::LeftOver, format!("{host} still serves the data, and nothing is said to be done"));
                }
                if let Some(bytes) = seen.files.get("dump.rdb").filter(|bytes| **bytes > EMPTY_DUMP_BYTES) {
                    self.add(Rule::LeftOver, format!("{host} has a dump of {bytes} bytes, which it had not before"));
                }
            }
        }
    }

    fn settings(&mut self, evidence: &Evidence) {
        if evidence.standing() == Standing::HalfWay {
            return;
        }
        for (host, seen) in &evidence.servers {
            let Some(running) = &seen.running else { continue };
            let changed = seen.settings_before.iter().filter(|(name, before)| {
                !ROLE_SETTINGS.contains(&name.as_str()) && running.settings.get(*name) != Some(before)
            });
            for (name, before) in changed {
                let now = running.settings.get(name).map_or("nothing", String::as_str);
                self.add(Rule::Setting, format!("{name} of {host} was `{before}` and is `{now}`"));
            }
        }
    }

    fn processes(&mut self, evidence: &Evidence) {
        for stray in &evidence.stray {
            self.add(Rule::Process, format!("it is left running: {stray}"));
        }
        for (host, seen) in evidence.servers.iter().filter(|(_, seen)| seen.processes > 1) {
            self.add(Rule::Process, format!("{} processes work in the data directory of {host}", seen.processes));
        }
    }
}

/// Who is to hold the group's data, each of them all of it if it is the only one: the primary; where there is none, one of
/// the survivors, and half-way also the target.
fn keepers(evidence: &Evidence) -> Vec<&String> {
    let primaries = evidence.primaries();
    let of_the_run: Vec<_> = primaries.into_iter().filter(|host| evidence.servers[*host].part != Part::Lost).collect();
    if !of_the_run.is_empty() {
        return of_the_run;
    }
    let survivors = evidence.of(Part::Survivor).map(|(host, _)| host);
    match evidence.standing() {
        Standing::HalfWay => survivors.chain(evidence.of(Part::Target).map(|(host, _)| host)).collect(),
        _ => survivors.collect(),
    }
}

/// Whether what is said to be missing tells of a host, or of a step that concerns all survivors.
fn names_one_left(missing: &str, host: &str) -> bool {
    missing.contains(host) || ["siblings:", "attach:"].iter().any(|step| missing.contains(step))
}

/// The keys that are not there, or are others.
fn differences<'a>(held: &'a Keys, there: &Keys) -> Vec<&'a Key> {
    held.iter().filter(|(key, digest)| there.get(*key) != Some(digest)).map(|(key, _)| key).collect()
}

fn some<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    let names = keys.into_iter().take(NAMED);
    names.map(|(db, key)| format!("{db}/{}", key.escape_ascii())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
