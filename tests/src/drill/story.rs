//! The story of one run, all of it a function of its seed: which world, how A is lost, what breaks and when, and how the run
//! is brought to an end. Nothing here acts.

use std::fmt;
use std::time::Duration;

use crate::dataset::{Dataset, Mix};
use crate::relay::Passing;
use crate::rng::Rng;
use crate::servers::{REDIS_6_2, REDIS_7_0, VALKEY_9_1};
use crate::world::{A, B, C, D};

/// The moment at which `coord` was started, as a step.
pub const BEGIN: &str = "begin";

const DATA_BYTES: (u64, u64) = (300 << 10, 12 << 20);
/// Bytes a second that the source's agent can send: a transfer then takes from nothing to some seconds.
const RATES: [u64; 4] = [0, 2_000_000, 4_000_000, 8_000_000];
const FAULTS_MAX: u64 = 3;

/// Steps in which something may break, the long ones several times. Those that a run has not got, it does not reach.
const REPLACE: [&str; 20] = [
    BEGIN, "fence", "depose", "boot", "snapshot", "snapshot", "transfer", "transfer", "transfer", "transfer", "stop",
    "install", "load", "gate", "aof", "attach", "attach", "persist", "canary", "release",
];
const PROMOTE: [&str; 18] = [
    BEGIN, "fence", "depose", "promote", "promote", "backlog", "snapshot", "transfer", "transfer", "transfer",
    "transfer", "install", "load", "gate", "aof", "persist", "canary", "release",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Replace,
    Promote,
}

/// A moment of the run: so long after a step was seen to begin or to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub step: &'static str,
    pub done: bool,
    pub delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Coord,
    Agent(&'static str),
    Server(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// SIGKILL.
    Kill(Victim),
    /// SIGSTOP.
    Freeze(Victim),
    /// SIGINT to `coord`.
    Interrupt,
    /// Datagrams to and from a host's agent are lost.
    Cut(&'static str, Passing),
    /// The disk of a host's server is full.
    FillDisk(&'static str),
}

/// Something that breaks. What can be undone is undone after a while, or else once `coord` has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub at: Moment,
    pub what: What,
    pub lasts: Option<Duration>,
}

/// A's server comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comeback {
    /// In the middle of the run; none: after it.
    pub at: Option<Moment>,
    /// Its agent comes with it. Else it comes last of all.
    pub with_agent: bool,
    /// Clients that never heard of its loss write to it.
    pub with_clients: bool,
}

/// What takes up a run that stopped half-way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Resume,
    Abort,
}

#[derive(Debug, Clone)]
pub struct Story {
    pub seed: u64,
    pub server: &'static str,
    pub data: Dataset,
    /// D, a second replica.
    pub sibling: bool,
    /// Of A: whether it would come back with what it had.
    pub a_keeps: bool,
    /// The append-only file of C's server.
    pub appendonly: bool,
    /// C's server runs, empty.
    pub c_runs: bool,
    pub mode: Mode,
    pub landing: &'static str,
    pub snapshot: &'static str,
    /// Bytes a second that survivors can send; 0 is no limit.
    pub rate: u64,
    /// Only A's server is lost.
    pub a_agent_lives: bool,
    pub comeback: Option<Comeback>,
    pub faults: Vec<Fault>,
    /// How a run that did not end is brought to its end.
    pub ending: Verb,
    /// A failover that was rolled back is tried once more, with nothing in its way.
    pub again: bool,
    /// A, if it came back and was replaced, is joined again.
    pub rejoin: bool,
}

impl Verb {
    pub fn word(self) -> &'static str {
        match self {
            Verb::Resume => "resume",
            Verb::Abort => "abort",
        }
    }

    /// The one that a command line begins with.
    pub fn of(command: &[&str]) -> Option<Self> {
        [Verb::Resume, Verb::Abort].into_iter().find(|verb| command.first() == Some(&verb.word()))
    }
}

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + rng.below(to - from))
}

impl Moment {
    fn draw(rng: &mut Rng, mode: Mode) -> Self {
        let steps: &[&'static str] = if mode == Mode::Replace { &REPLACE } else { &PROMOTE };
        let step = rng.pick(steps);
        // Most steps take some milliseconds.
        let delay = match step {
            BEGIN => millis(rng, 0, 600),
            "transfer" | "load" => millis(rng, 0, 1500),
            _ => millis(rng, 0, 40),
        };
        Self { step, done: step != BEGIN && rng.chance(250), delay }
    }
}

impl Fault {
    fn draw(rng: &mut Rng, mode: Mode, survivors: &[&'static str]) -> Self {
        let hosts = [survivors, &[B, C, C]].concat();
        let at = Moment::draw(rng, mode);
        let mut short = Some(millis(rng, 100, 4000));
        let what = match rng.below(100) {
            0..22 => What::Kill(Victim::Coord),
            22..27 => What::Interrupt,
            27..45 => What::Kill(Victim::Agent(rng.pick(&hosts))),
            45..57 => What::Kill(Victim::Server(rng.pick(&hosts))),
            57..62 => What::Freeze(Victim::Coord),
            62..70 => What::Freeze(Victim::Agent(rng.pick(&hosts))),
            70..77 => What::Freeze(Victim::Server(rng.pick(&hosts))),
            77..94 => {
                let ways =
                    [Passing::Nothing, Passing::Nothing, Passing::OnlyTo, Passing::OnlyFrom, Passing::ExceptBulk];
                What::Cut(rng.pick(&hosts), ways[rng.below(5) as usize])
            }
            _ => What::FillDisk(rng.pick(&[B, C])),
        };
        let until_the_end = rng.chance(120);
        match what {
            What::Kill(Victim::Coord) | What::Interrupt => short = None,
            // A server is brought up by a person, who comes late; C's is for the run to start.
            What::Kill(Victim::Server(_)) => short = None,
            // Frozen for good is as good as killed, but for what still connects to it.
            What::Freeze(_) => {}
            _ if until_the_end => short = None,
            _ => {}
        }
        Self { at, what, lasts: short }
    }
}

impl Comeback {
    fn draw(rng: &mut Rng, mode: Mode) -> Self {
        let step =
            if mode == Mode::Replace { ["fence", "transfer", "attach"] } else { ["fence", "promote", "transfer"] };
        // Never before the fence: a survivor that still follows A is A's, and takes over whatever A comes back with.
        let step = rng.pick(&step);
        let at = Moment { step, done: step == "fence" || rng.chance(500), delay: millis(rng, 0, 1000) };
        let at = rng.chance(700).then_some(at);
        Self { at, with_agent: rng.chance(500), with_clients: rng.chance(600) }
    }
}

impl Story {
    pub fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0xd411_0000);
        let server = rng.pick(&[REDIS_6_2, REDIS_7_0, VALKEY_9_1]);
        let bytes = DATA_BYTES.0 + rng.below(DATA_BYTES.1 - DATA_BYTES.0);
        let mix = [Mix::Mixed, Mix::Mixed, Mix::Json, Mix::Random][rng.below(4) as usize];
        let sibling = rng.chance(300);
        let mode = if rng.chance(600) { Mode::Replace } else { Mode::Promote };
        let survivors: &[&'static str] = if sibling { &[B, D] } else { &[B] };
        let count = 1 + rng.below(FAULTS_MAX);
        Self {
            seed,
            server,
            data: Dataset { seed, bytes, mix },
            sibling,
            a_keeps: rng.chance(700),
            appendonly: rng.chance(300),
            c_runs: rng.chance(500),
            mode,
            landing: rng.pick(&["auto", "live", "file", "file"]),
            snapshot: rng.pick(&["auto", "auto", "auto", "bgsave", "stream"]),
            rate: RATES[rng.below(4) as usize],
            a_agent_lives: rng.chance(150),
            comeback: rng.chance(400).then(|| Comeback::draw(rng, mode)),
            faults: (0..count).map(|_| Fault::draw(rng, mode, survivors)).collect(),
            ending: if rng.chance(650) { Verb::Resume } else { Verb::Abort },
            again: rng.chance(500),
            rejoin: rng.chance(600),
        }
    }

    /// What an operator types.
    pub fn command(&self) -> Vec<&'static str> {
        let mode = if self.mode == Mode::Replace { "replace" } else { "promote" };
        let landing = ["--landing", self.landing, "--snapshot", self.snapshot];
        [&["failover", A, "--to", C, "--mode", mode][..], &landing, &["--yes", "--json"]].concat()
    }

    /// Whether a host's server is killed. One that holds the last copy in its memory alone would take it along, and no
    /// program could help that; so those that are to die have an append-only file.
    pub fn kills_server_of(&self, host: &str) -> bool {
        self.faults.iter().any(|fault| matches!(fault.what, What::Kill(Victim::Server(name)) if name == host))
    }

    pub fn fills_disk_of(&self, host: &str) -> bool {
        self.faults.iter().any(|fault| matches!(fault.what, What::FillDisk(name) if name == host))
    }

    /// The hosts that follow A.
    pub fn survivors(&self) -> &'static [&'static str] {
        if self.sibling { &[B, D] } else { &[B] }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.done { "done" } else { "begun" };
        write!(f, "{} ms after `{}` is {what}", self.delay.as_millis(), self.step)
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Victim::Coord => f.write_str("coord"),
            Victim::Agent(host) => write!(f, "the agent of {host}"),
            Victim::Server(host) => write!(f, "the server of {host}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Kill(victim) => write!(f, "{victim} is killed"),
            What::Freeze(victim) => write!(f, "{victim} is frozen"),
            What::Interrupt => f.write_str("coord is interrupted"),
            What::Cut(host, Passing::OnlyTo) => write!(f, "nothing comes from the agent of {host} any more"),
            What::Cut(host, Passing::OnlyFrom) => write!(f, "nothing reaches the agent of {host} any more"),
            What::Cut(host, Passing::ExceptBulk) => write!(f, "the agent of {host} can send no snapshot any more"),
            What::Cut(host, _) => write!(f, "the agent of {host} is cut off"),
            What::FillDisk(host) => write!(f, "the disk of {host} is full"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)?;
        match (self.lasts, self.what) {
            (Some(lasts), _) => write!(f, ", for {} ms", lasts.as_millis()),
            (None, What::Kill(Victim::Coord) | What::Interrupt) => Ok(()),
            (None, _) => f.write_str(", until coord has ended"),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |so: bool, text: &'static str| if so { text } else { "" };
        let sibling = yes(self.sibling, ", D is a second replica");
        let keeps = if self.a_keeps { "A keeps its data" } else { "A keeps nothing" };
        writeln!(f, "  world: {}, {} bytes ({:?}){sibling}; {keeps}", self.server, self.data.bytes, self.data.mix)?;
        let c = if self.c_runs { "runs empty" } else { "is stopped" };
        writeln!(
            f,
            "  C {c}, appendonly {}; survivors send {} B/s",
            if self.appendonly { "yes" } else { "no" },
            self.rate
        )?;
        writeln!(f, "  lost: A's server{}", if self.a_agent_lives { " alone" } else { " and agent" })?;
        writeln!(f, "  $ coord {}", self.command().join(" "))?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        if let Some(back) = &self.comeback {
            let at = back.at.as_ref().map_or("after the run".to_owned(), Moment::to_string);
            let agent = if back.with_agent { " with its agent" } else { ", its agent last of all" };
            writeln!(f, "  {at}: A comes back{agent}{}", yes(back.with_clients, ", and clients write to it"))?;
        }
        let again = yes(self.again, "; what was rolled back is tried again");
        write!(f, "  then: {}{again}{}", self.ending.word(), yes(self.rejoin, "; A is joined again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_one_story_and_another_seed_another() {
        let told = |seed| Story::draw(seed).to_string();
        assert_eq!(told(7), told(7));
        assert_ne!(told(7), told(8));
    }

    #[test]
    fn everything_there_is_to_draw_is_drawn() {
        let stories: Vec<Story> = (0..400).map(Story::draw).collect();
        let all = stories.iter().map(Story::to_string).collect::<String>();
        let words = [
            REDIS_6_2,
            REDIS_7_0,
            VALKEY_9_1,
            "promote",
            "replace",
            "live",
            "stream",
            "second replica",
            "A comes back",
            "coord is killed",
            "coord is frozen",
            "coord is interrupted",
            "the server of machine-b is killed",
            "the server of machine-c is killed",
            "the agent of machine-c is killed",
            "the agent of machine-d",
            "cut off",
            "is full",
            "nothing reaches",
            "nothing comes from",
            "can send no snapshot",
            "then: abort",
            "then: resume",
        ];
        for word in words {
            assert!(all.contains(word), "`{word}` is never drawn");
        }
        assert!(stories.iter().all(|story| (1..=FAULTS_MAX as usize).contains(&story.faults.len())));
    }

    #[test]
    fn a_comes_back_only_once_the_survivors_are_fenced() {
        let backs = (0..400).filter_map(|seed| Story::draw(seed).comeback?.at);
        assert!(backs.into_iter().all(|at| at.done || at.step != "fence"));
    }
}
