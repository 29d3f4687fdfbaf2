//! Servers that are systemd units, by `systemctl`: it needs no bus library, and sudo rules and polkit work on it as
//! administrators expect.
//!
//! For one start the unit gets a runtime drop-in with our arguments (see [`super::dropin`]). It lies in `/run`, so a
//! reboot removes it as well, and it must not outlive the start: a unit that is restarted with `--appendonly no` would
//! load an old dump. [`Unit::settle`] removes it, and is called by every action after a start.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton_proto::{Fault, FaultKind};
use tokio::task::JoinHandle;
use tracing::info;

use super::dropin::{ExecStart, drop_in, parse_exec_start};
use super::program::{self, Finished};
use crate::durable;

/// Where runtime units and drop-ins lie.
const RUNTIME_UNITS: &str = "/run/systemd/system";
const DROP_IN: &str = "50-baton.conf";

/// How long `show` and `daemon-reload` may take on a host with many units.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long `stop` may take: twice systemd's default for a unit's own limit, after which systemd kills it.
const STOP_TIMEOUT: Duration = Duration::from_secs(180);
/// How long `start` may block: a `notify` unit blocks it until the server has loaded. The action has its own limit.
const START_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
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
        let shown = self.ask(&["show", "-p", "ExecStart", &self.name], QUERY_TIMEOUT).await?.stdout;
        parse_exec_start(&shown).map_err(|error| {
            Fault::new(FaultKind::Host, format!("read the command of {}", self.name))
                .because(error)
                .hint(format!("see `systemctl cat {}`, and `systemd =` in agent.toml", self.name))
        })
    }

    pub(super) async fn start(&self, args: &[String]) -> Result<Starting, Fault> {
        // One that a crash left would be taken for the unit's own command.
        self.settle().await?;
        let text = drop_in(&self.exec_start().await?, args);
        let path = self.drop_in();
        write_drop_in(&path, &text).map_err(|error| {
            Fault::new(FaultKind::Host, format!("write {}", path.display())).because(error).hint(
                "only root can give a unit its arguments: let baton-agent run as root, or use a `command` service",
            )
        })?;
        self.ask(&["daemon-reload"], QUERY_TIMEOUT).await?;
        let unit = self.clone();
        let start = tokio::spawn(async move { unit.ask(&["start", &unit.name], START_TIMEOUT).await });
        Ok(Starting { unit: self.clone(), start: Some(start), asked: Instant::now() })
    }

    pub(super) async fn stop(&self) -> Result<(), Fault> {
        self.ask(&["stop", &self.name], STOP_TIMEOUT).await?;
        self.settle().await
    }

    /// Removes the drop-in, if it is there.
    pub(super) async fn settle(&self) -> Result<(), Fault> {
        let path = self.drop_in();
        let removed = durable::remove_if_there(&path).map_err(|error| {
            Fault::new(FaultKind::Host, format!("remove {}", path.display())).because(error).hint(format!(
                "remove it by hand, then `systemctl daemon-reload`: {} would start without its append-only file",
                self.name
            ))
        })?;
        if removed {
            info!(unit = self.name, "removed the drop-in of the start");
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

/// Reads from `systemctl show` that a unit has ended, and how.
fn ended_state(shown: &str) -> Option<String> {
    let field = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let state = field("ActiveState")?;
    matches!(state, "failed" | "inactive").then(|| {
        format!(
            "{state}, result {}, exit status {}",
            field("Result").unwrap_or("?"),
            field("ExecMainStatus").unwrap_or("?")
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A `systemctl` that writes down what it was asked, and the drop-in at that moment.
    struct Fake {
        dir: tempfile::TempDir,
        unit: Unit,
    }

    impl Fake {
        fn new(body: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let script = dir.path().join("systemctl");
            let at = dir.path().display();
            let text = format!(
                "#!/bin/sh\nshift 2\necho \"$@\" >> {at}/asked\ncat {at}/units/cache.service.d/50-baton.conf >> {at}/asked 2>/dev/null\n\
                 if [ \"$1$3\" = showExecStart ]; then echo 'ExecStart={{ path=/usr/bin/redis-server ; argv[]=/usr/bin/redis-server /etc/r.conf ; ignore_errors=no ; pid=0 }}'; exit; fi\n{body}\n"
            );
            std::fs::write(&script, text).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            let runtime_units = dir.path().join("units");
            std::fs::create_dir(&runtime_units).unwrap();
            let systemctl = script.to_str().unwrap().to_owned();
            let unit = Unit { name: "cache.service".into(), systemctl, runtime_units };
            Self { dir, unit }
        }

        fn asked(&self) -> String {
            std::fs::read_to_string(self.dir.path().join("asked")).unwrap()
        }

        async fn end(&self, starting: &mut Starting) -> Fault {
            loop {
                if let Some(fault) = starting.ended().await {
                    return fault;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn args() -> Vec<String> {
        vec!["--appendonly".into(), "no".into()]
    }

    #[tokio::test]
    async fn a_start_has_its_arguments_and_leaves_no_trace() {
        let fake = Fake::new("exit 0");
        let mut starting = fake.unit.start(&args()).await.unwrap();
        while starting.start.is_some() {
            assert_eq!(starting.ended().await, None);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fake.unit.settle().await.unwrap();
        let asked = fake.asked();
        let start = asked.split("start cache.service\n").nth(1).unwrap();
        assert!(start.contains("ExecStart=/usr/bin/redis-server /etc/r.conf --appendonly no\n"), "{asked}");
        assert!(start.ends_with("daemon-reload\n"), "{asked}");
        assert_eq!(std::fs::read_dir(fake.dir.path().join("units")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_drop_in_that_a_crash_left_is_removed_before_the_command_is_read() {
        let fake = Fake::new("exit 0");
        write_drop_in(&fake.unit.drop_in(), "[Service]\nExecStart=\nExecStart=/left/by/a/crash\n").unwrap();
        fake.unit.start(&args()).await.unwrap();
        let asked = fake.asked();
        assert!(asked.starts_with("daemon-reload\nshow -p ExecStart"), "{asked}");
        assert!(!asked.contains("/left/by/a/crash"), "{asked}");
    }

    #[tokio::test]
    async fn a_failed_start_quotes_systemctl_and_names_the_remedy() {
        let fake =
            Fake::new("if [ $1 = start ]; then echo 'Failed to start cache.service: Access denied' >&2; exit 4; fi");
        let mut starting = fake.unit.start(&args()).await.unwrap();
        let fault = fake.end(&mut starting).await;
        assert_eq!(fault.message, "`systemctl start cache.service` exited with status 4");
        assert_eq!(fault.causes, ["Failed to start cache.service: Access denied"]);
        assert!(fault.hint.unwrap().contains("polkit"));
    }

    #[tokio::test]
    async fn a_unit_that_ends_after_its_start_is_noticed() {
        let fake = Fake::new(
            "if [ $1 = show ]; then printf 'ActiveState=failed\\nResult=exit-code\\nExecMainStatus=1\\n'; fi",
        );
        let mut starting = fake.unit.start(&args()).await.unwrap();
        let fault = fake.end(&mut starting).await;
        assert_eq!(fault.to_string(), "cache.service ended while starting: failed, result exit-code, exit status 1");
    }

    #[test]
    fn only_a_unit_that_is_down_has_ended() {
        for state in ["active", "activating", "reloading", "deactivating"] {
            assert_eq!(ended_state(&format!("ActiveState={state}\nResult=success\n")), None);
        }
        assert!(ended_state("ActiveState=inactive\n").is_some());
        assert_eq!(ended_state(""), None);
    }

    #[tokio::test]
    async fn an_absent_systemctl_is_a_fault() {
        let mut fake = Fake::new("");
        fake.unit.systemctl = "/nowhere/systemctl".into();
        assert!(fake.unit.stop().await.unwrap_err().to_string().contains("/nowhere/systemctl"));
    }
}
