//! Which run may change each instance of this host: durable, so that an agent's restart gives nobody a way in.
//!
//! The rules are `baton_proto::claim`'s; here is where claims are kept, what is refused in whose words, and when a
//! coordinator was last heard of.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use baton_proto::claim::{Claim, Denial, Turn, may_claim, may_order};
use baton_proto::{Fault, FaultKind, HostName, InstanceName, RunId};
use tracing::{info, warn};

use crate::durable;

/// Largest note that is read: a few names and numbers.
const NOTE_BYTES_MAX: u64 = 16 * 1024;

/// The claims on all instances of this host.
pub struct Claims {
    host: HostName,
    state: PathBuf,
    /// Held by whoever changes whose an instance is, from the judgement until it is written down.
    changing: Mutex<()>,
    /// Never held while a disk is waited for.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    held: BTreeMap<InstanceName, Claim>,
    /// Instances whose note cannot be read: nobody knows whose they are.
    unread: BTreeMap<InstanceName, String>,
    heard: HashMap<RunId, Instant>,
}

impl Claims {
    /// Reads the notes of the instances. An instance whose note cannot be read can be had by no run until a person has
    /// looked.
    pub fn load<'a>(host: &HostName, state: &Path, instances: impl Iterator<Item = &'a InstanceName>) -> Claims {
        let mut table = Table::default();
        for instance in instances {
            match read(&path(state, instance)) {
                Ok(None) => {}
                Ok(Some(claim)) => drop(table.held.insert(instance.clone(), claim)),
                Err(error) => {
                    warn!(%instance, "the note of the run that has it cannot be read: {error}");
                    table.unread.insert(instance.clone(), error.to_string());
                }
            }
        }
        Claims { host: host.clone(), state: state.to_owned(), changing: Mutex::default(), table: Mutex::new(table) }
    }

    /// Nothing can panic between two changes of the table, so it is whole even if poisoned.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the instance to a run's turn, if it may have it. This blocks: it is written down.
    pub fn claim(&self, instance: &InstanceName, run: &RunId, turn: Turn, by: &str) -> Result<(), Fault> {
        let _changing = self.changing();
        let since_unix = {
            let mut table = self.table();
            self.readable(&table, instance)?;
            let held = table.held.get(instance);
            may_claim(held, run, turn).map_err(|denial| self.denied(instance, held, denial))?;
            let (has_it, since_unix) = held.map_or((false, None), |held| (held.turn == turn, Some(held.since_unix)));
            table.heard.insert(run.clone(), Instant::now());
            if has_it {
                return Ok(());
            }
            since_unix.unwrap_or_else(unix_now)
        };
        let claim = Claim { run: run.clone(), turn, by: by.to_owned(), since_unix, quiet_ms: None };
        let text = serde_json::to_vec(&claim).map_err(|error| unwritten(&error.into()))?;
        durable::replace_file(&path(&self.state, instance), &text, 0o600).map_err(|error| unwritten(&error))?;
        info!(%instance, %run, epoch = turn.epoch, by, "claimed");
        self.table().held.insert(instance.clone(), claim);
        Ok(())
    }

    /// Gives back what a turn has, on every instance. This blocks.
    pub fn unclaim(&self, run: &RunId, turn: Turn) -> Result<(), Fault> {
        let _changing = self.changing();
        let own: Vec<InstanceName> = self
            .table()
            .held
            .iter()
            .filter(|(_, held)| held.run == *run && held.turn == turn)
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in own {
            durable::remove_file(&path(&self.state, &instance)).map_err(|error| unwritten(&error))?;
            self.table().held.remove(&instance);
            info!(%instance, %run, "given back");
        }
        let mut table = self.table();
        if !table.held.values().any(|held| held.run == *run) {
            table.heard.remove(run);
        }
        Ok(())
    }

    /// Whether the turn may give an order that has just come, by which its coordinator was heard of.
    pub fn admit(&self, instance: &InstanceName, run: &RunId, turn: Turn) -> Result<(), Fault> {
        self.check(instance, run, turn)?;
        self.table().heard.insert(run.clone(), Instant::now());
        Ok(())
    }

    /// Whether the turn may still give orders on the instance.
    pub fn check(&self, instance: &InstanceName, run: &RunId, turn: Turn) -> Result<(), Fault> {
        let table = self.table();
        self.readable(&table, instance)?;
        let held = table.held.get(instance);
        may_order(held, run, turn).map_err(|denial| self.denied(instance, held, denial))
    }

    /// Whether the turn has any instance here: only then is it told of the run, and the run of it.
    pub fn check_any(&self, run: &RunId, turn: Turn) -> Result<(), Fault> {
        let mut table = self.table();
        let of_run = table.held.iter().find(|(_, held)| held.run == *run);
        match of_run {
            Some((_, held)) if held.turn == turn => {}
            Some((instance, held)) => return Err(self.denied(instance, Some(held), Denial::TakenUp)),
            None => {
                return Err(Fault::new(FaultKind::Held, format!("run {run} has no instance of host {}", self.host))
                    .hint(format!("see `coord show {run}`: it has ended, or was never begun here")));
            }
        }
        table.heard.insert(run.clone(), Instant::now());
        Ok(())
    }

    /// The runs that have a server of this host.
    pub fn runs(&self) -> Vec<RunId> {
        self.table().held.values().map(|claim| claim.run.clone()).collect()
    }

    /// Notes that a run's coordinator was heard of, if it was that one: of another turn than the one that has the run it is
    /// not. One that tells no turn is believed.
    pub fn heard(&self, run: &RunId, turn: Option<Turn>) {
        let mut table = self.table();
        let has_it = |turn: Turn| table.held.values().any(|held| held.run == *run && held.turn == turn);
        if !turn.is_none_or(has_it) {
            return;
        }
        if let Some(heard) = table.heard.get_mut(run) {
            *heard = Instant::now();
        }
    }

    /// Whose an instance is.
    pub fn held(&self, instance: &InstanceName) -> Option<Claim> {
        let table = self.table();
        let claim = table.held.get(instance)?;
        let quiet = table.heard.get(&claim.run).map(Instant::elapsed);
        let quiet_ms = quiet.map(|quiet| u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX));
        Some(Claim { quiet_ms, ..claim.clone() })
    }

    fn readable(&self, table: &Table, instance: &InstanceName) -> Result<(), Fault> {
        let Some(error) = table.unread.get(instance) else { return Ok(()) };
        let path = path(&self.state, instance);
        Err(Fault::new(FaultKind::Held, format!("it is not known which run has {}/{instance}", self.host))
            .because(format!("{}: {error}", path.display()))
            .hint(format!(
                "look at `coord runs` and `coord status`; then remove {} and restart the agent",
                path.display()
            )))
    }

    fn denied(&self, instance: &InstanceName, held: Option<&Claim>, denial: Denial) -> Fault {
        let name = format!("{}/{instance}", self.host);
        let Some(held) = held.filter(|_| denial != Denial::Unclaimed) else {
            return Fault::new(FaultKind::Held, format!("{name} is not claimed by this run"))
                .hint("see `coord runs`: the run has ended or was aborted");
        };
        let run = &held.run;
        let since = format!("since {}", humantime::format_rfc3339_seconds(at(held.since_unix)));
        let message = match denial {
            Denial::TakenUp => format!("run {run} was taken up by another coordinator, of operator {}", held.by),
            _ => format!("{name} is held by run {run} of operator {}, {since}", held.by),
        };
        Fault::new(FaultKind::Held, message).hint(format!(
            "watch it with `coord show {run} -f`; if its coordinator is gone, `coord resume {run}` or `coord abort {run}`"
        ))
    }
}

fn at(unix: u64) -> std::time::SystemTime {
    // A clock that is centuries ahead is shown as the beginning of time, and nothing depends on it.
    std::time::UNIX_EPOCH
        .checked_add(std::time::Duration::from_secs(unix.min(CLOCK_MAX)))
        .unwrap_or(std::time::UNIX_EPOCH)
}

/// The end of the year 9999: what can be written as a date.
const CLOCK_MAX: u64 = 253_402_300_799;

fn unix_now() -> u64 {
    crate::host::clock_unix_ms() / 1000
}

fn path(state: &Path, instance: &InstanceName) -> PathBuf {
    state.join(format!("claim-{instance}.json"))
}

fn read(path: &Path) -> io::Result<Option<Claim>> {
    durable::read_note(path, NOTE_BYTES_MAX)
}

fn unwritten(error: &io::Error) -> Fault {
    Fault::new(FaultKind::Host, "write down which run has the instance")
        .because(error)
        .hint("see that the agent's state directory can be written and has space")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<InstanceName> {
        ["default", "cache"].map(|name| InstanceName::new(name).unwrap()).into()
    }

    fn claims(state: &Path) -> Claims {
        Claims::load(&HostName::new("machine-b").unwrap(), state, names().iter())
    }

    fn run(name: &str) -> RunId {
        RunId::new(name).unwrap()
    }

    const FIRST: Turn = Turn { epoch: 1, holder: 7 };
    const SECOND: Turn = Turn { epoch: 2, holder: 8 };

    #[test]
    fn a_claim_outlives_the_agent_and_others_are_told_who_has_it() {
        let state = tempfile::tempdir().unwrap();
        let default = &names()[0];
        claims(state.path()).claim(default, &run("fo-1"), FIRST, "alice").unwrap();
        let claims = claims(state.path());
        let fault = claims.claim(default, &run("fo-2"), FIRST, "bob").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Held);
        assert!(fault.message.contains("held by run fo-1 of operator alice"), "{fault}");
        assert!(fault.hint.unwrap().contains("coord show fo-1 -f"));
        assert_eq!(claims.held(default).unwrap().quiet_ms, None, "nothing was heard since the restart");
        claims.check(default, &run("fo-1"), FIRST).unwrap();
        assert_eq!(claims.held(default).unwrap().quiet_ms, None, "an order that is at work is no sign of life");
        claims.admit(default, &run("fo-1"), FIRST).unwrap();
        assert!(claims.held(default).unwrap().quiet_ms.is_some());
        claims.claim(&names()[1], &run("fo-2"), FIRST, "bob").unwrap();
    }

    #[test]
    fn a_later_turn_takes_the_run_over_and_the_earlier_one_orders_nothing_more() {
        let state = tempfile::tempdir().unwrap();
        let (claims, default) = (claims(state.path()), &names()[0]);
        claims.claim(default, &run("fo-1"), FIRST, "alice").unwrap();
        claims.claim(default, &run("fo-1"), SECOND, "bob").unwrap();
        let fault = claims.check(default, &run("fo-1"), FIRST).unwrap_err();
        assert!(fault.message.contains("taken up by another coordinator, of operator bob"), "{fault}");
        claims.check_any(&run("fo-1"), FIRST).unwrap_err();
        claims.unclaim(&run("fo-1"), FIRST).unwrap();
        claims.check(default, &run("fo-1"), SECOND).unwrap();
        claims.unclaim(&run("fo-1"), SECOND).unwrap();
        assert_eq!(claims.held(default), None);
        assert_eq!(claims.check(default, &run("fo-1"), SECOND).unwrap_err().kind, FaultKind::Held);
        claims.claim(default, &run("fo-2"), FIRST, "alice").unwrap();
    }

    #[test]
    fn a_superseded_coordinator_that_watches_is_no_sign_of_life_of_the_one_that_has_the_run() {
        let state = tempfile::tempdir().unwrap();
        let default = &names()[0];
        claims(state.path()).claim(default, &run("fo-1"), SECOND, "bob").unwrap();
        let claims = claims(state.path());
        claims.check_any(&run("fo-1"), SECOND).unwrap();
        let quiet = || claims.held(default).unwrap().quiet_ms.unwrap();
        let pause = std::time::Duration::from_millis(500);
        std::thread::sleep(pause);
        claims.heard(&run("fo-1"), Some(FIRST));
        claims.heard(&run("fo-2"), Some(SECOND));
        let before = quiet();
        assert!(u128::from(before) >= pause.as_millis(), "nothing was heard meanwhile");
        claims.heard(&run("fo-1"), Some(SECOND));
        assert!(quiet() < before);
    }

    #[test]
    fn an_instance_whose_note_is_torn_is_nobodys_to_take() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("claim-default.json"), "{\"run\":").unwrap();
        let claims = claims(state.path());
        let fault = claims.claim(&names()[0], &run("fo-1"), FIRST, "alice").unwrap_err();
        assert!(fault.hint.unwrap().contains("claim-default.json"));
        claims.claim(&names()[1], &run("fo-1"), FIRST, "alice").unwrap();
    }
}
