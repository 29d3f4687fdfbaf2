//! Plays a story: the failover with its faults, what brings it to its end, and what may come after; the judge looks at each
//! end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::evidence::{Acknowledged, Ending, Evidence, Keys, Standing, standing};
use super::faults::Faults;
use super::judge::{Finding, Rule, judge};
use super::stage::{Stage, clients};
use super::story::{Mode, Story, Verb};
use super::witness;
use crate::address;
use crate::coord::{Said, code};
use crate::host::Host;
use crate::process::signal;
use crate::world::{A, C};
use crate::writer::Writers;

/// How long one command of `coord` may take: an agent that is gone is waited for a minute, in a step and in its undo.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a group may take to come to rest: replicas to join, a returned primary to be fenced.
const REST_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between two looks at the events.
const LOOK: Duration = Duration::from_millis(2);
const REST_LOOK: Duration = Duration::from_millis(300);
/// How long clients write to the new primary at the end.
const WRITES_AFTER: Duration = Duration::from_millis(200);
/// Attempts to bring a run to its end, beyond one for each fault that may still come.
const ATTEMPTS: usize = 2;

/// A run in play.
pub struct Play<'a> {
    story: &'a Story,
    pub stage: Stage,
    pub faults: Faults,
    /// The name of the run, once it is known.
    run: Option<String>,
    /// Whether it says that it can be taken up, although the group serves.
    open: bool,
    /// Clients of the successor, and since when.
    of_successor: Option<(String, Writers, Instant)>,
    endings: Vec<Ending>,
    after: Vec<Acknowledged>,
    fork: Vec<Acknowledged>,
    aside: Option<Keys>,
    pub findings: Vec<Finding>,
}

impl<'a> Play<'a> {
    pub fn of(story: &'a Story) -> Self {
        let mut stage = Stage::set(story);
        stage.lose_a(story);
        let mut faults = Faults::of(story);
        let (held, before) = (stage.held.len(), stage.acknowledged_before);
        faults.tell(format!("A is lost, after {before} acknowledged writes; {held} keys survive"));
        Self {
            story,
            stage,
            faults,
            run: None,
            open: false,
            of_successor: None,
            endings: Vec::new(),
            after: Vec::new(),
            fork: Vec::new(),
            aside: None,
            findings: Vec::new(),
        }
    }

    /// Plays it to its end, and says what the run came to.
    pub fn to_its_end(&mut self) -> Standing {
        let command: Vec<String> = self.story.command().into_iter().map(Into::into).collect();
        self.command(&command);
        self.end();
        if let Some(back) = self.story.comeback.clone().filter(|back| back.at.is_none()) {
            self.faults.come_back(&mut self.stage, &back);
        }
        let mut standing = self.rest();
        let begun = self.is_known() || self.has_ended();
        if standing == Standing::HalfWay && begun {
            self.faults.tell("the run stays half-way");
        }
        let is_free = standing == Standing::Unserved && self.story.again || !begun;
        if is_free && !self.faults.a_is_back && self.findings.is_empty() {
            standing = self.once_more(&command);
        }
        if matches!(standing, Standing::Served { .. }) && self.faults.a_is_back && self.story.rejoin {
            self.rejoin();
        }
        standing
    }

    /// Nothing is broken, and nothing in the way of another failover.
    fn once_more(&mut self, command: &[String]) -> Standing {
        self.faults.tell("once more, with nothing in its way");
        self.endings.clear();
        self.run = None;
        self.faults.disarm();
        self.command(command);
        let standing = self.rest();
        // A survivor that was started again may be no source any more: it has forgotten whose replica it was.
        let forgot = self.endings.last().is_some_and(|ending| ending.code == code::PREFLIGHT)
            && self.faults.killed.iter().any(|(host, _)| *host != C);
        if !matches!(standing, Standing::Served { .. }) && !forgot {
            self.found("a failover with nothing in its way does not succeed");
        }
        standing
    }

    /// Joins A again, and reads what was saved aside of it.
    fn rejoin(&mut self) {
        let command = ["rejoin", A, "--yes", "--json"].map(str::to_owned);
        let said = self.command(&command);
        // It is about another run than the failover's.
        self.endings.pop();
        if said.code != code::DONE {
            return self.found(format!("A cannot be joined again\n{said}"));
        }
        match said.result()["aside"]["file"].as_str() {
            Some(file) => self.aside = Some(self.read_snapshot(file)),
            None => self.found(format!("nothing was saved aside of A\n{said}")),
        }
        self.stop_clients();
        self.judge_at_rest();
    }

    fn read_snapshot(&self, file: &str) -> Keys {
        let host = Host::new(self.stage.world.dir(), "reader", address::fresh(), self.stage.world.a().program.clone());
        std::fs::copy(file, host.dump_path()).unwrap_or_else(|error| panic!("copy {file}: {error}"));
        host.start_server();
        let keys = witness::keys(&mut host.client());
        host.kill_server();
        keys.unwrap_or_else(|error| panic!("read {file}: {error}"))
    }

    /// Brings a run that did not end to its end.
    fn end(&mut self) {
        if !self.is_known() {
            // It was lost before it began, if at all: what it may have of the servers is given back.
            if self.run.is_some() && !self.has_ended() {
                self.take_up(Verb::Abort);
                self.endings.pop();
            }
            return;
        }
        let (attempts, mut verb) = (self.story.faults.len() + ATTEMPTS, self.story.ending);
        for _ in 0..attempts {
            if self.has_ended() {
                break;
            }
            let said = self.take_up(verb);
            let refused = said.code == code::REFUSED && !self.has_ended();
            if refused && verb == Verb::Resume {
                if !self.a_leads() {
                    self.found(format!("a run cannot be taken up, and A is not back as a primary\n{said}"));
                }
                verb = Verb::Abort;
            }
        }
        // To take up a run that has ended changes nothing, and is no error.
        if self.has_ended() && self.story.ending == Verb::Resume {
            let said = self.take_up(Verb::Resume);
            if said.code != code::DONE {
                self.found(format!("a run that has ended cannot be taken up without an error\n{said}"));
            }
        }
    }

    fn take_up(&mut self, verb: Verb) -> Said {
        let run = self.run.clone().unwrap_or_default();
        self.command(&[verb.word().to_owned(), run, "--yes".into(), "--json".into()])
    }

    fn a_leads(&self) -> bool {
        let info = self.stage.world.a().try_client().and_then(|mut client| client.try_info());
        info.is_ok_and(|info| info.get("role").is_some_and(|role| role == "master"))
    }

    fn has_ended(&self) -> bool {
        let last = self.endings.iter().rev().find_map(|ending| ending.outcome.as_deref());
        !self.open && last.is_some_and(|outcome| !matches!(outcome, "failed" | "interrupted"))
    }

    /// Whether the run was begun at all: before, there is nothing to take up.
    fn is_known(&self) -> bool {
        let Some(run) = &self.run else { return false };
        self.stage.world.coord(&["runs", "--json"]).events().iter().any(|known| known["run"] == run.as_str())
    }

    /// Runs `coord`, with what the story has happen meanwhile; afterwards everything is mended.
    fn command(&mut self, args: &[String]) -> Said {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.faults.tell(format!("$ coord {}", args.join(" ")));
        let begun = Instant::now();
        let mut coord = self.stage.world.start_coord(&args);
        self.faults.on_start();
        let (mut seen, mut late) = (0, false);
        let said = loop {
            // First whether it has ended, so that nothing of what it said is missed.
            let ended = coord.ended();
            let events = coord.events();
            for event in events.iter().skip(seen) {
                self.run = event["run"].as_str().map(ToOwned::to_owned).or(self.run.take());
                self.faults.on_event(event);
                self.serve_clients(event);
            }
            seen = events.len();
            if let Some(said) = ended {
                break said;
            }
            self.faults.tick(&mut self.stage, &coord);
            if begun.elapsed() > COMMAND_TIMEOUT && !late {
                self.found(format!("coord has not ended within {} s", COMMAND_TIMEOUT.as_secs()));
                (late, self.faults.killed_coord) = (true, true);
                signal(coord.pid(), rustix::process::Signal::KILL);
            }
            std::thread::sleep(LOOK);
        };
        let ending = self.ending(&args, &said);
        if let Some(result) = said.events().into_iter().rfind(|event| event["event"] == "result") {
            self.open = result["open"] == true;
        }
        let outcome = ending.outcome.as_deref().unwrap_or("nothing");
        self.faults.tell(format!("coord ended with {}: {outcome}", said.code));
        self.endings.push(ending);
        self.faults.mend_all(&mut self.stage);
        said
    }

    fn ending(&self, args: &[&str], said: &Said) -> Ending {
        let result = said.events().into_iter().rfind(|event| event["event"] == "result").unwrap_or_default();
        let text = |name: &str| result[name].as_str().map(ToOwned::to_owned);
        let verb = Verb::of(args);
        // A run's own result tells how long it took. Else it is the command that was refused, and the run is as it was.
        let of_the_run = verb.is_none() || result["seconds"].is_object() || result["outcome"] == "rolled-back";
        Ending {
            command: said.command.clone(),
            verb,
            code: said.code,
            // Before it listens, and before it has taken up anything, an interrupt ends it like any other program.
            killed: self.faults.killed_coord || self.faults.interrupted_coord && said.code == -1,
            outcome: text("outcome").filter(|_| of_the_run),
            primary: text("primary"),
            names: format!("{} {}", result["missing"], result["kept"]),
        }
    }

    /// Clients go to the successor as soon as it is said that it serves.
    fn serve_clients(&mut self, event: &serde_json::Value) {
        let serves = if self.story.mode == Mode::Replace { "attach" } else { "promote" };
        if event["event"] != "step"
            || event["step"] != serves
            || event["state"] != "done"
            || self.of_successor.is_some()
        {
            return;
        }
        let is_primary = |host: &&&str| {
            self.stage
                .world
                .host(host)
                .try_client()
                .and_then(|mut client| client.try_info())
                .is_ok_and(|info| info.get("role").is_some_and(|role| role == "master"))
        };
        let successor = match self.story.mode {
            Mode::Replace => Some(C),
            Mode::Promote => self.story.survivors().iter().find(is_primary).copied(),
        };
        // One that was killed in this very moment serves nobody.
        let Some(successor) = successor else { return };
        let writers = clients("written-after", self.stage.world.host(successor));
        self.of_successor = Some((successor.to_owned(), writers, Instant::now()));
    }

    /// Lets everything come to rest, and has the judge look.
    fn rest(&mut self) -> Standing {
        if self.faults.a_is_back {
            // Its agent comes last of all, if it did not come before.
            self.stage.start_agent(A);
        }
        if let Standing::Served { .. } = standing(&self.endings) {
            self.faults.start_target(&self.stage);
            std::thread::sleep(WRITES_AFTER);
        }
        self.stop_clients();
        self.judge_at_rest()
    }

    fn stop_clients(&mut self) {
        if let Some((host, writers, since)) = self.of_successor.take() {
            let was_killed = self.faults.killed.iter().any(|(killed, at)| *killed == host && *at > since);
            let in_memory_alone = host == C && !self.story.appendonly;
            self.after.push(told(&host, writers, was_killed && in_memory_alone));
        }
        if let Some(writers) = self.faults.of_a.take() {
            self.fork.push(told(A, writers, false));
        }
    }

    /// Looks until nothing is found any more, or until there was time enough.
    fn judge_at_rest(&mut self) -> Standing {
        let begun = Instant::now();
        loop {
            let evidence = self.evidence();
            let found = judge(&evidence);
            if found.is_empty() || begun.elapsed() > REST_TIMEOUT {
                found.iter().for_each(|finding| self.faults.tell(format!("!! {finding}")));
                self.findings.extend(found);
                return evidence.standing();
            }
            std::thread::sleep(REST_LOOK);
        }
    }

    fn evidence(&self) -> Evidence {
        let hosts = self.stage.world.hosts().iter();
        let seen = |host: &Host| {
            witness::seen(host, Stage::part(&host.name), &self.stage.held, self.stage.settings(&host.name))
        };
        let agents = self.stage.agent_pids();
        Evidence {
            endings: self.endings.clone(),
            servers: hosts.map(|host| (host.name.clone(), seen(host))).collect(),
            held: self.stage.held.clone(),
            after: self.after.clone(),
            fork: self.fork.clone(),
            aside: self.aside.clone(),
            stray: witness::stray(&self.stage.world, &agents),
        }
    }

    fn found(&mut self, says: impl Into<String>) {
        let finding = Finding { rule: Rule::Course, says: says.into() };
        self.faults.tell(format!("!! {finding}"));
        self.findings.push(finding);
    }
}

fn told(host: &str, writers: Writers, excused: bool) -> Acknowledged {
    let written = writers.stop();
    let keys: BTreeSet<_> = written.keys.iter().map(|name| witness::key(name)).collect();
    Acknowledged { by: host.to_owned(), keys, misread: written.misread, excused }
}
