//! What the judge goes by: what is seen of the servers at the end, what was seen of them before, what clients were told,
//! and how the commands of `coord` ended.

use std::collections::{BTreeMap, BTreeSet};

use super::story::Verb;
use crate::coord::code;

/// A key, with its database.
pub type Key = (u32, Vec<u8>);
/// Keys with a digest of value and expiry.
pub type Keys = BTreeMap<Key, String>;
/// `CONFIG GET *`.
pub type Settings = BTreeMap<String, String>;

/// What the keys of all clients begin with.
pub const WRITTEN: &str = "written";
/// Whom a fenced server follows: nobody who answers.
pub const FENCE: &str = "127.0.0.1:1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The primary that was lost.
    Lost,
    /// A replica of it.
    Survivor,
    /// The fresh server.
    Target,
}

/// A server that answers.
#[derive(Debug, Clone)]
pub struct Running {
    /// Whom it follows; none is a primary.
    pub follows: Option<String>,
    pub linked: bool,
    pub takes_writes: bool,
    pub keys: Keys,
    pub settings: Settings,
}

/// What is seen of one host's server.
#[derive(Debug, Clone)]
pub struct Seen {
    pub part: Part,
    pub address: String,
    pub running: Option<Running>,
    pub processes: usize,
    /// Of its data directory, with their lengths.
    pub files: BTreeMap<String, u64>,
    /// Before anything happened.
    pub settings_before: Settings,
}

/// How a command of `coord` ended.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    pub command: String,
    /// Of a command that takes up a run.
    pub verb: Option<Verb>,
    pub code: i32,
    /// Whether the drill itself killed it.
    pub killed: bool,
    /// What the run came to by it. Nothing, if it was not even begun or taken up.
    pub outcome: Option<String>,
    /// The primary that its result names.
    pub primary: Option<String>,
    /// What its result says is missing or kept.
    pub names: String,
}

/// What clients of one server were told, and what they read.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub by: String,
    pub keys: BTreeSet<Key>,
    pub misread: Vec<String>,
    /// Nobody can ask for it: the server was killed, and held it in its memory alone.
    pub excused: bool,
}

/// All that the judge goes by.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Every command about the run, in order. The last one that tells an outcome decides.
    pub endings: Vec<Ending>,
    /// By host.
    pub servers: BTreeMap<String, Seen>,
    /// What the freshest survivor held when A was lost.
    pub held: Keys,
    /// By the successor, from the moment in which it was said to serve.
    pub after: Vec<Acknowledged>,
    /// By A, from its return on.
    pub fork: Vec<Acknowledged>,
    /// What was saved aside of A, if its data was replaced.
    pub aside: Option<Keys>,
    /// Processes that ought not to be there.
    pub stray: Vec<String>,
}

/// What an exit code says of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Served {
        whole: bool,
    },
    /// As it was: A is replaced by nobody.
    Unserved,
    HalfWay,
}

/// What a run came to. One that was killed before it told anything is half-way.
pub fn standing(endings: &[Ending]) -> Standing {
    let told = endings.iter().rev().find_map(|ending| Standing::of(ending.outcome.as_deref()?));
    told.unwrap_or(Standing::HalfWay)
}

impl Standing {
    fn of(outcome: &str) -> Option<Self> {
        match outcome {
            "done" => Some(Standing::Served { whole: true }),
            "degraded" => Some(Standing::Served { whole: false }),
            "refused" | "rolled-back" => Some(Standing::Unserved),
            "failed" | "interrupted" => Some(Standing::HalfWay),
            _ => None,
        }
    }
}

impl Ending {
    /// Whether the code is one of the documented ones that go with the outcome, and with what was asked for.
    pub fn is_documented(&self) -> bool {
        let own: &[i32] = match self.outcome.as_deref() {
            Some("done") => &[code::DONE],
            Some("degraded") => &[code::DEGRADED],
            Some("refused") => &[code::PREFLIGHT, code::REFUSED],
            Some("rolled-back") => &[code::ROLLED_BACK, code::VERIFICATION],
            Some("failed") => &[code::STOPPED],
            Some("interrupted") => &[code::INTERRUPTED],
            Some(_) => &[],
            None => &[code::PREFLIGHT, code::REFUSED, code::STOPPED],
        };
        let (rolled_back, served) = (Some("rolled-back"), [Some("done"), Some("degraded")]);
        let asked_for = match self.verb {
            // A run that has ended already is taken up without an error, whatever it came to.
            Some(Verb::Resume) => self.outcome.is_some() && self.code == code::DONE,
            Some(Verb::Abort) if self.outcome.as_deref() == rolled_back => self.code == code::DONE,
            // What serves is not undone.
            Some(Verb::Abort) if served.contains(&self.outcome.as_deref()) => self.code == code::REFUSED,
            _ => false,
        };
        self.killed || asked_for || own.contains(&self.code)
    }
}

impl Evidence {
    pub fn standing(&self) -> Standing {
        standing(&self.endings)
    }

    pub(super) fn of(&self, part: Part) -> impl Iterator<Item = (&String, &Seen)> {
        self.servers.iter().filter(move |(_, seen)| seen.part == part)
    }

    pub(super) fn running(&self, host: &str) -> Option<&Running> {
        self.servers.get(host)?.running.as_ref()
    }

    /// The servers of the group that take writes. A target without any of its data is not of the group.
    pub(super) fn primaries(&self) -> Vec<&String> {
        let of_the_group = |seen: &Seen, running: &Running| {
            let has_some = running.keys.keys().any(|key| self.held.contains_key(key) || is_written(key));
            let is_followed = self.servers.values().filter_map(|other| other.running.as_ref());
            let mut followed = is_followed.filter(|other| other.follows.as_ref() == Some(&seen.address));
            seen.part != Part::Target || has_some || followed.next().is_some()
        };
        let takes = |(_, seen): &(&String, &Seen)| {
            seen.running.as_ref().is_some_and(|running| running.takes_writes && of_the_group(seen, running))
        };
        self.servers.iter().filter(takes).map(|(host, _)| host).collect()
    }
}

pub fn is_written(key: &Key) -> bool {
    key.1.starts_with(WRITTEN.as_bytes())
}
