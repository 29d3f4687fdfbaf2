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
            "#!/bin/sh\nshift 2\necho \"$@\" >> {at}/asked\ncat {at}/units/cache.service.d/{DROP_IN} >> {at}/asked 2>/dev/null\n\
             if [ \"$1$3\" = showExecStart ]; then\n\
             echo 'ExecStart={{ path=/usr/bin/redis-server ; argv[]=/usr/bin/redis-server /etc/r.conf ; ignore_errors=no ; pid=0 }}'\n\
             printf 'TimeoutStartUSec=2min\\nLoadState=loaded\\nNeedDaemonReload=no\\n'; exit; fi\n{body}\n"
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
    let mut starting = fake.unit.start(&args(), 1).await.unwrap();
    while starting.start.is_some() {
        assert_eq!(starting.ended().await, None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fake.unit.settle().await.unwrap();
    let asked = fake.asked();
    let start = asked.split("start cache.service\n").nth(1).unwrap();
    assert!(start.contains("ExecStart=/usr/bin/redis-server /etc/r.conf --appendonly no\n"), "{asked}");
    assert!(start.contains("TimeoutStartSec=120\nRestart=no\n"), "{asked}");
    assert!(start.ends_with("daemon-reload\n"), "{asked}");
    assert_eq!(std::fs::read_dir(fake.dir.path().join("units")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_drop_in_that_a_crash_left_is_removed_before_the_command_is_read() {
    let fake = Fake::new("exit 0");
    write_drop_in(&fake.unit.drop_in(), "[Service]\nExecStart=\nExecStart=/left/by/a/crash\n").unwrap();
    fake.unit.start(&args(), 1).await.unwrap();
    let asked = fake.asked();
    // It is asked again, of a unit that is held and has its own command.
    let again = asked.split("show -p ExecStart").nth(2).unwrap();
    assert!(again.contains("AssertPathExists=") && !again.contains("/left/by/a/crash"), "{asked}");
}

#[tokio::test]
async fn a_unit_is_held_from_before_its_stop_until_its_start_has_its_arguments() {
    // The first stop meets somebody's start.
    let fake = Fake::new(
        "if [ $1 = stop ] && [ $(grep -c ^stop $(dirname $0)/asked) = 1 ]; then\n\
         echo 'Job for cache.service canceled.' >&2; exit 1; fi",
    );
    fake.unit.stop(true).await.unwrap();
    let held = fake.asked();
    assert_eq!(held.matches("stop cache.service\n# Written by baton-agent while").count(), 2, "{held}");
    assert!(!fake.unit.is_left(), "a hold is no start's");
    fake.unit.clear_up().await.unwrap();
    fake.unit.start(&args(), 1).await.unwrap();
    let started = fake.asked();
    let started = started.strip_prefix(&held).unwrap();
    assert!(started.contains("/held-by-baton"), "the command is read of the held unit: {started}");
    assert_eq!(started.lines().filter(|line| *line == "daemon-reload").count(), 1, "{started}");
    fake.unit.settle().await.unwrap();
    assert_eq!(std::fs::read_dir(fake.dir.path().join("units")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_start_that_goes_on_keeps_its_limit_and_is_cleared_up_after_it() {
    let fake =
        Fake::new("if [ $1 = show ]; then printf 'ActiveState=%s\\nSubState=start\\n' $(cat $(dirname $0)/state); fi");
    let state = |now: &str| std::fs::write(fake.dir.path().join("state"), now).unwrap();
    state("activating");
    fake.unit.start(&args(), 1).await.unwrap();
    fake.unit.settle().await.unwrap();
    assert!(fake.unit.is_left() && fake.unit.is_loading().await.unwrap());
    assert!(fake.unit.clear_up().await.unwrap_err().to_string().contains("starting"));
    // An agent that comes after the one that has started it sees how it ends.
    let mut joined = fake.unit.join().unwrap();
    assert_eq!(joined.ended().await, None);
    state("failed");
    assert!(fake.end(&mut joined).await.to_string().contains("cache.service ended while starting: failed"));
    fake.unit.clear_up().await.unwrap();
    assert!(!fake.unit.is_left() && fake.unit.join().is_none());
}

#[tokio::test]
async fn what_systemd_does_not_take_up_is_not_left_for_a_later_reload() {
    let fake = Fake::new("if [ $1 = daemon-reload ]; then echo 'Access denied' >&2; exit 1; fi");
    assert!(fake.unit.stop(true).await.unwrap_err().hint.unwrap().contains("polkit"));
    assert_eq!(fake.unit.text(), None);
    assert!(!fake.asked().contains("stop cache.service"));
}

#[tokio::test]
async fn a_failed_start_quotes_systemctl_and_names_the_remedy() {
    let fake = Fake::new("if [ $1 = start ]; then echo 'Failed to start cache.service: Access denied' >&2; exit 4; fi");
    let mut starting = fake.unit.start(&args(), 1).await.unwrap();
    let fault = fake.end(&mut starting).await;
    assert_eq!(fault.message, "`systemctl start cache.service` exited with status 4");
    assert_eq!(fault.causes, ["Failed to start cache.service: Access denied"]);
    assert!(fault.hint.unwrap().contains("polkit"));
}

#[tokio::test]
async fn a_unit_that_ends_after_its_start_is_noticed() {
    let fake =
        Fake::new("if [ $1 = show ]; then printf 'ActiveState=failed\\nResult=exit-code\\nExecMainStatus=1\\n'; fi");
    let mut starting = fake.unit.start(&args(), 1).await.unwrap();
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
    assert!(fake.unit.stop(false).await.unwrap_err().to_string().contains("/nowhere/systemctl"));
}
