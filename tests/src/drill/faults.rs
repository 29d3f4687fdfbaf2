//! Breaks and mends what a story says, at its moments. A moment comes when its step is seen in the events of whichever
//! `coord` runs, and then some time passes; each fault comes to pass once, or never.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::stage::{Stage, clients};
use super::story::{BEGIN, Comeback, Fault, Moment, Story, Victim, What};
use crate::coord::Running;
use crate::process::{is_running, signal, working_below};
use crate::relay::Passing;
use crate::world::{A, C};
use crate::writer::Writers;

/// Something that is to happen at a time.
#[derive(Debug, Clone)]
enum Act {
    Break(Fault),
    Mend(What),
    ComeBack(Comeback),
}

/// What of a story is still to come, and what came to pass.
pub struct Faults {
    begun: Instant,
    armed: Vec<(Moment, Act)>,
    due: Vec<(Instant, Act)>,
    /// Servers of survivors that were killed, for a person to start.
    down: Vec<&'static str>,
    /// Servers that were killed, and when.
    pub killed: Vec<(&'static str, Instant)>,
    /// Whether the drill killed the `coord` that runs.
    pub killed_coord: bool,
    /// Whether it interrupted it.
    pub interrupted_coord: bool,
    /// Clients of an A that came back.
    pub of_a: Option<Writers>,
    pub a_is_back: bool,
    /// What happened, with the seconds at which it did.
    pub told: Vec<String>,
}

impl Faults {
    pub fn of(story: &Story) -> Self {
        let faults = story.faults.iter().map(|fault| (fault.at.clone(), Act::Break(fault.clone())));
        let back = story.comeback.iter().filter_map(|back| Some((back.at.clone()?, Act::ComeBack(back.clone()))));
        Self {
            begun: Instant::now(),
            armed: faults.chain(back).collect(),
            due: Vec::new(),
            down: Vec::new(),
            killed: Vec::new(),
            killed_coord: false,
            interrupted_coord: false,
            of_a: None,
            a_is_back: false,
            told: Vec::new(),
        }
    }

    /// What did not come to pass so far will not.
    pub fn disarm(&mut self) {
        self.armed.clear();
        self.due.clear();
    }

    pub fn tell(&mut self, what: impl AsRef<str>) {
        self.told.push(format!("{:6.2} s  {}", self.begun.elapsed().as_secs_f64(), what.as_ref()));
    }

    /// A `coord` was started.
    pub fn on_start(&mut self) {
        (self.killed_coord, self.interrupted_coord) = (false, false);
        self.arm(|moment| moment.step == BEGIN);
    }

    /// `coord` said that a step began or ended.
    pub fn on_event(&mut self, event: &Value) {
        let (step, state) = (event["step"].as_str().unwrap_or_default(), event["state"].as_str().unwrap_or_default());
        if event["event"] == "step" && state != "progress" {
            self.tell(format!("coord: {step} {state}"));
            self.arm(|moment| moment.step == step && state == if moment.done { "done" } else { "started" });
        } else if event["event"] == "undo" {
            self.tell(format!("coord: undo {step} {state}"));
        }
    }

    fn arm(&mut self, comes: impl Fn(&Moment) -> bool) {
        let now = Instant::now();
        let (come, armed): (Vec<_>, Vec<_>) = self.armed.drain(..).partition(|(moment, _)| comes(moment));
        self.armed = armed;
        self.due.extend(come.into_iter().map(|(moment, act)| (now + moment.delay, act)));
    }

    /// Does what is due, while `coord` runs.
    pub fn tick(&mut self, stage: &mut Stage, coord: &Running) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = self.due.drain(..).partition(|(at, _)| *at <= now);
        self.due = later;
        for (_, act) in due {
            match act {
                Act::Break(fault) => self.inflict(stage, coord, fault),
                Act::Mend(what) => self.mend(stage, Some(coord), what),
                Act::ComeBack(back) => self.come_back(stage, &back),
            }
        }
    }

    fn inflict(&mut self, stage: &mut Stage, coord: &Running, fault: Fault) {
        let came = match fault.what {
            What::Kill(Victim::Coord) => {
                self.killed_coord = true;
                signal(coord.pid(), Signal::KILL);
                true
            }
            What::Kill(Victim::Agent(host)) => stage.kill_agent(host),
            What::Kill(Victim::Server(host)) => {
                let host_of = stage.world.host(host);
                let ran = !host_of.server_pids().is_empty();
                host_of.kill_server();
                if ran {
                    self.killed.push((host, Instant::now()));
                    self.down.push(host);
                }
                ran
            }
            What::Freeze(victim) => {
                let pids = pids(stage, Some(coord), victim);
                pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
                !pids.is_empty()
            }
            What::Interrupt => {
                self.interrupted_coord = true;
                signal(coord.pid(), Signal::INT);
                true
            }
            What::Cut(host, passing) => {
                stage.pass(host, passing);
                true
            }
            What::FillDisk(host) => stage.disk(host).map(|disk| disk.fill()).is_some(),
        };
        let missed = if came { "" } else { " (there is nothing to be had)" };
        self.tell(format!("** {}{missed}", fault.what));
        if came {
            let far = Duration::from_secs(3600);
            self.due.push((Instant::now() + fault.lasts.unwrap_or(far), Act::Mend(fault.what)));
        }
    }

    fn mend(&mut self, stage: &mut Stage, coord: Option<&Running>, what: What) {
        match what {
            What::Kill(Victim::Agent(host)) => {
                stage.start_agent(host);
                self.tell(format!("** the agent of {host} is started"));
            }
            What::Freeze(victim) => {
                pids(stage, coord, victim).iter().for_each(|pid| signal(*pid, Signal::CONT));
                self.tell(format!("** {victim} goes on"));
            }
            What::Cut(host, _) => {
                stage.pass(host, Passing::Everything);
                self.tell(format!("** the agent of {host} is reached again"));
            }
            What::FillDisk(host) => {
                if let Some(disk) = stage.disk(host) {
                    disk.empty();
                    // A server ends by itself when it cannot write its append-only file: then somebody starts it again.
                    if stage.world.host(host).server_pids().is_empty() && !self.down.contains(&host) {
                        self.down.push(host);
                    }
                }
                self.tell(format!("** the disk of {host} has room again"));
            }
            What::Kill(Victim::Coord | Victim::Server(_)) | What::Interrupt => {}
        }
    }

    /// `coord` has ended: what is still broken is mended, and a person starts what servers of survivors were killed. C's is
    /// for the next `coord` to start.
    pub fn mend_all(&mut self, stage: &mut Stage) {
        for pid in working_below(stage.world.dir()) {
            signal(pid, Signal::CONT);
        }
        for (_, act) in std::mem::take(&mut self.due) {
            match act {
                Act::Mend(what) => self.mend(stage, None, what),
                Act::ComeBack(back) => self.come_back(stage, &back),
                // What was to break in a moment finds no `coord` to disturb.
                Act::Break(fault) => self.armed.push((fault.at.clone(), Act::Break(fault))),
            }
        }
        let (of_the_run, down) = std::mem::take(&mut self.down).into_iter().partition(|host| *host == C);
        self.down = of_the_run;
        self.start_by_hand(stage, down);
    }

    /// The run is over, and C serves or is a replica: from now on it is started like any other.
    pub fn start_target(&mut self, stage: &Stage) {
        let down = std::mem::take(&mut self.down);
        self.start_by_hand(stage, down);
    }

    fn start_by_hand(&mut self, stage: &Stage, down: Vec<&'static str>) {
        for host in down.into_iter().filter(|host| stage.world.host(host).server_pids().is_empty()) {
            stage.world.host(host).start_server();
            self.tell(format!("** the server of {host} is started by hand"));
        }
    }

    pub fn come_back(&mut self, stage: &mut Stage, back: &Comeback) {
        stage.world.a().start_server();
        self.a_is_back = true;
        self.tell("** the server of A is back");
        if back.with_clients {
            self.of_a = Some(clients("written-fork", stage.world.a()));
        }
        if back.with_agent {
            stage.start_agent(A);
            self.tell("** the agent of A is back");
        }
    }
}

fn pids(stage: &Stage, coord: Option<&Running>, victim: Victim) -> Vec<u32> {
    let pids = match victim {
        Victim::Coord => coord.map(Running::pid).into_iter().collect(),
        Victim::Agent(host) => stage.agent_pid(host).into_iter().collect(),
        Victim::Server(host) => stage.world.host(host).server_pids(),
    };
    pids.into_iter().filter(|pid| is_running(*pid)).collect()
}
