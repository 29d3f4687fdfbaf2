//! Servers that are systemd units, by `systemctl`: it needs no bus library, and sudo rules and polkit work on it as
//! administrators expect.
//!
//! A unit has one runtime drop-in of ours at most (see [`super::dropin`]). One that *holds* it refuses everybody's start,
//! from before it is stopped until its data has been replaced. One that *starts* it has our arguments and takes the hold's
//! place in one step, so that nobody starts the unit without them; it must not outlive the start: a unit that is
//! restarted with `--appendonly no` would load an old dump. Both lie in `/run`, so a reboot removes them as well.
//! [`Unit::settle`] removes them, and is called by every action after a start; [`Unit::clear_up`] by an agent that finds
//! a start's.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton_proto::{Fault, FaultKind};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::dropin::{ExecStart, HOLD, StartLimit, drop_in, parse_exec_start};
use super::program::{self, Finished};
use crate::durable;

/// Where runtime units and drop-ins lie.
const RUNTIME_UNITS: &str = "/run/systemd/system";
/// After those of others: systemd reads them by name, and `systemctl edit` calls its own `override.conf`.
const DROP_IN: &str = "zzz-baton.conf";

/// How long `show` and `daemon-reload` may take on a host with many units.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long `stop` may take: twice systemd's default for a unit's own limit, after which systemd kills it.
const STOP_TIMEOUT: Duration = Duration::from_secs(180);
/// How long `start` may block: a `notify` unit blocks it until the server has loaded. The action has its own limit.
const START_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How often a stop is asked for that others' orders to start the unit cancel. They stop nothing while it is held.
const STOP_TRIES: u32 = 20;
/// How often the unit's state is asked while its server does not answer yet.
const STATE_INTERVAL: Duration = Duration::from_millis(500);

/// A unit, and where to find what controls it. Tests put a script in the place of `systemctl`.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    name: String,
    systemctl: String,
    runtime_units: PathBuf,
}

impl Unit {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), systemctl: "systemctl".into(), runtime_units: RUNTIME_UNITS.into() }
    }

    fn drop_in(&self) -> PathBuf {
        self.runtime_units.join(format!("{}.d", self.name)).join(DROP_IN)
    }

    /// Reads the unit's own command.
    pub(super) async fn exec_start(&self) -> Result<ExecStart, Fault> {
        let shown = self.ask(&["show", "-p", "ExecStart", "-p", "LoadState", &self.name], QUERY_TIMEOUT).await?.stdout;
        self.command(&shown)
    }

    fn command(&self, shown: &str) -> Result<ExecStart, Fault> {
        if field(shown, "LoadState") == Some("masked") {
            return Err(Fault::new(FaultKind::Refused, format!("{} is masked", self.name))
                .because("somebody has decided that it does not start")
                .hint(format!("`systemctl unmask {}`, if it may", self.name)));
        }
        parse_exec_start(shown).map_err(|error| {
            Fault::new(FaultKind::Host, format!("read the command of {}", self.name))
                .because(error)
                .hint(format!("see `systemctl cat {}`, and `systemd =` in agent.toml", self.name))
        })
    }

    /// Has systemd refuse to start the unit until it is started here, or settled.
    pub(super) async fn hold(&self) -> Result<(), Fault> {
        self.put(HOLD).await
    }

    /// Starts the unit on a dump of so many bytes.
    pub(super) async fn start(&self, args: &[String], dump_bytes: u64) -> Result<Starting, Fault> {
        let starting = self.try_start(args, dump_bytes).await;
        if starting.is_err()
            && let Err(fault) = self.settle().await
        {
            warn!(unit = self.name, "left by a start that was not given: {fault}");
        }
        starting
    }

    async fn try_start(&self, args: &[String], dump_bytes: u64) -> Result<Starting, Fault> {
        let query = ["ExecStart", "TimeoutStartUSec", "LoadState", "NeedDaemonReload"].map(|name| ["-p", name]);
        let query: Vec<&str> = ["show"].into_iter().chain(query.into_iter().flatten()).chain([&*self.name]).collect();
        let mut shown = self.ask(&query, QUERY_TIMEOUT).await?.stdout;
        // A drop-in that a crash left would be taken for the unit's own command.
        if self.text() != Some(HOLD.into()) || field(&shown, "NeedDaemonReload") != Some("no") {
            self.hold().await?;
            shown = self.ask(&query, QUERY_TIMEOUT).await?.stdout;
        }
        let limit = StartLimit::fitting(field(&shown, "TimeoutStartUSec").unwrap_or_default(), dump_bytes);
        self.put(&drop_in(&self.command(&shown)?, args, limit)).await?;
        let unit = self.clone();
        let start = tokio::spawn(async move { unit.ask(&["start", &unit.name], START_TIMEOUT).await });
        Ok(Starting { unit: self.clone(), start: Some(start), asked: Instant::now() })
    }

    /// Watches a start that an agent which died had given, if there is one.
    pub(super) fn join(&self) -> Option<Starting> {
        self.is_left().then(|| Starting { unit: self.clone(), start: None, asked: Instant::now() })
    }

    /// Whether a start of ours goes on: the server has not loaded yet, and so holds nothing but what it was started on.
    pub(super) async fn is_loading(&self) -> Result<bool, Fault> {
        Ok(self.is_left() && self.is_starting().await?)
    }

    /// Stops the unit, and holds it from then on, or leaves nothing behind.
    pub(super) async fn stop(&self, hold: bool) -> Result<(), Fault> {
        if hold {
            self.hold().await?;
        }
        let mut tries = 1;
        while let Err(fault) = self.ask(&["stop", &self.name], STOP_TIMEOUT).await {
            // An order to start that comes while it stops takes the place of ours.
            if tries >= STOP_TRIES || !fault.causes.iter().any(|line| line.contains("canceled")) {
                return Err(fault);
            }
            tries += 1;
        }
        if hold { Ok(()) } else { self.settle().await }
    }

    /// Removes the drop-in, if it is there. That of a start which goes on in systemd's eyes stays: without it the unit's
    /// own limit would count, from the start's beginning on. It is removed by [`Unit::clear_up`].
    pub(super) async fn settle(&self) -> Result<(), Fault> {
        match self.text() {
            None => Ok(()),
            Some(text) if text != HOLD && self.is_starting().await? => Ok(()),
            Some(_) => self.remove().await,
        }
    }

    /// Whether a start's drop-in is there.
    pub(super) fn is_left(&self) -> bool {
        self.text().is_some_and(|text| text != HOLD)
    }

    /// Removes what a start has left, once it is over. A hold is its run's.
    pub(super) async fn clear_up(&self) -> Result<(), Fault> {
        if !self.is_left() {
            return Ok(());
        }
        if self.is_starting().await? {
            return Err(Fault::new(FaultKind::Host, format!("{} is still starting", self.name)));
        }
        self.remove().await
    }

    async fn is_starting(&self) -> Result<bool, Fault> {
        let query = ["show", "-p", "ActiveState", "-p", "SubState", &self.name];
        let shown = self.ask(&query, QUERY_TIMEOUT).await?.stdout;
        Ok(field(&shown, "ActiveState") == Some("activating") && field(&shown, "SubState") != Some("auto-restart"))
    }

    fn text(&self) -> Option<String> {
        // What cannot be read is removed like one that can.
        match std::fs::read_to_string(self.drop_in()) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(_) => Some(String::new()),
        }
    }

    async fn put(&self, text: &str) -> Result<(), Fault> {
        let path = self.drop_in();
        write_drop_in(&path, text).map_err(|error| {
            Fault::new(FaultKind::Host, format!("write {}", path.display())).because(error).hint(
                "only root can give a unit its arguments: let baton-agent run as root, or use a `command` service",
            )
        })?;
        if let Err(fault) = self.ask(&["daemon-reload"], QUERY_TIMEOUT).await {
            // Else the next reload, by whomever, would bring it into force.
            let _ = durable::remove_if_there(&path);
            return Err(fault);
        }
        Ok(())
    }

    async fn remove(&self) -> Result<(), Fault> {
        let path = self.drop_in();
        let removed = durable::remove_if_there(&path).map_err(|error| {
            Fault::new(FaultKind::Host, format!("remove {}", path.display())).because(error).hint(format!(
                "remove it by hand, then `systemctl daemon-reload`: {} would start without its append-only file",
                self.name
            ))
        })?;
        if removed {
            info!(unit = self.name, "removed the drop-in");
            // Other drop-ins may lie there; then the directory stays.
            let _ = path.parent().map(std::fs::remove_dir);
            self.ask(&["daemon-reload"], QUERY_TIMEOUT).await?;
        }
        Ok(())
    }

    async fn ask(&self, words: &[&str], limit: Duration) -> Result<Finished, Fault> {
        let fixed = [self.systemctl.as_str(), "--no-ask-password", "--no-pager"];
        let argv: Vec<String> = fixed.iter().chain(words).map(|&word| word.to_owned()).collect();
        let finished = program::run(&argv, limit, None).await?;
        if finished.status.success() {
            return Ok(finished);
        }
        let said = finished.stderr.lines().filter(|line| !line.trim().is_empty());
        let mut fault = Fault::new(
            FaultKind::Host,
            format!("`systemctl {}` {}", words.join(" "), program::outcome(finished.status)),
        );
        for line in said.take(4) {
            fault = fault.because(line.trim());
        }
        Err(match hint(&finished.stderr) {
            Some(hint) => fault.hint(hint),
            None => fault,
        })
    }
}

fn hint(stderr: &str) -> Option<&'static str> {
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.to_lowercase().contains(text));
    if says(&["access denied", "authentication", "permission denied", "not authorized"]) {
        Some(
            "let baton-agent run as root, or allow its user to manage this unit by a polkit rule (action org.freedesktop.systemd1.manage-units)",
        )
    } else if says(&["not found", "not loaded", "no such unit"]) {
        Some("correct `systemd =` in agent.toml: no unit has that name")
    } else if says(&["failed to connect to bus", "has not been booted with systemd"]) {
        Some("systemd does not run here: use an `exec` or `command` service in agent.toml")
    } else {
        None
    }
}

fn write_drop_in(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    durable::replace_file(path, text.as_bytes(), 0o644)
}

/// A start that is watched until the server answers.
#[derive(Debug)]
pub(super) struct Starting {
    unit: Unit,
    start: Option<JoinHandle<Result<Finished, Fault>>>,
    asked: Instant,
}

impl Starting {
    /// Says how the start failed, if it has.
    pub(super) async fn ended(&mut self) -> Option<Fault> {
        if let Some(start) = self.start.take_if(|start| start.is_finished()) {
            let result = start.await.ok()?;
            return result.err();
        }
        if self.start.is_some() || self.asked.elapsed() < STATE_INTERVAL {
            return None;
        }
        self.asked = Instant::now();
        let shown = self
            .unit
            .ask(&["show", "-p", "ActiveState", "-p", "Result", "-p", "ExecMainStatus", &self.unit.name], QUERY_TIMEOUT)
            .await;
        let state = ended_state(&shown.ok()?.stdout)?;
        Some(Fault::new(FaultKind::Server, format!("{} ended while starting", self.unit.name)).because(state))
    }
}

/// One property out of what `systemctl show` prints.
fn field<'a>(shown: &'a str, name: &str) -> Option<&'a str> {
    shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// Reads from `systemctl show` that a unit has ended, and how.
fn ended_state(shown: &str) -> Option<String> {
    let state = field(shown, "ActiveState")?;
    matches!(state, "failed" | "inactive").then(|| {
        format!(
            "{state}, result {}, exit status {}",
            field(shown, "Result").unwrap_or("?"),
            field(shown, "ExecMainStatus").unwrap_or("?")
        )
    })
}

#[cfg(test)]
mod tests;
