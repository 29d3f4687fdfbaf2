use std::cell::Cell;
use std::collections::BTreeMap;

use baton_proto::digest::FileDigest;

use super::*;

thread_local! {
    /// Changes that are still allowed before the simulated crash.
    static ALLOWED: Cell<Option<u32>> = const { Cell::new(None) };
}

pub(super) fn crash_point() -> io::Result<()> {
    ALLOWED.with(|allowed| match allowed.get() {
        Some(0) => Err(io::Error::other("simulated crash")),
        Some(left) => {
            allowed.set(Some(left - 1));
            Ok(())
        }
        None => Ok(()),
    })
}

/// Runs with a crash after that many changes; tells whether it came to the crash.
fn crashing_after<T>(changes: u32, work: impl FnOnce() -> Result<T, Fault>) -> bool {
    ALLOWED.set(Some(changes));
    let result = work();
    ALLOWED.set(None);
    match result {
        Ok(_) => false,
        Err(fault) if fault.to_string().contains("simulated crash") => true,
        Err(fault) => panic!("after {changes} changes: {fault}"),
    }
}

struct Host {
    _root: tempfile::TempDir,
    site: Site,
}

impl Host {
    /// A data directory with a pulled snapshot, and with or without a dump and append-only files.
    fn new(old: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (dir, state) = (root.path().join("data"), root.path().join("state"));
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(&state).unwrap();
        let site = Site {
            run: RunId::new("fo-1").unwrap(),
            dir,
            dump: "dump.rdb".into(),
            aof: vec!["appendonlydir".into(), "appendonly.aof".into()],
            note: state.join("install.json"),
            pulled: state.join("pulled.json"),
        };
        fs::write(site.part(), "snapshot of the run").unwrap();
        fs::write(site.map(), "map").unwrap();
        pulled::finish(&site, FileDigest([7; 32])).unwrap();
        if old {
            fs::write(site.at("dump.rdb"), "old dump").unwrap();
            fs::write(site.at("appendonly.aof"), "old log").unwrap();
            fs::create_dir(site.at("appendonlydir")).unwrap();
            fs::write(site.at("appendonlydir/appendonly.aof.1.base.rdb"), "old base").unwrap();
        }
        Self { _root: root, site }
    }

    fn tree(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![self.site.dir.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let name = path.strip_prefix(&self.site.dir).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, fs::read_to_string(path).unwrap());
                }
            }
        }
        found
    }

    fn write_as_server(&self, name: &str, content: &str) {
        fs::write(self.site.at("temp-1.rdb"), content).unwrap();
        fs::rename(self.site.at("temp-1.rdb"), self.site.at(name)).unwrap();
    }
}

fn tree(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|&(name, content)| (name.to_owned(), content.to_owned())).collect()
}

const OLD: &[(&str, &str)] =
    &[("dump.rdb", "old dump"), ("appendonly.aof", "old log"), ("appendonlydir/appendonly.aof.1.base.rdb", "old base")];
const INSTALLED: &[(&str, &str)] = &[
    ("dump.rdb", "snapshot of the run"),
    ("baton-fo-1.map", "map"),
    ("dump.rdb.before-fo-1", "old dump"),
    ("appendonly.aof.before-fo-1", "old log"),
    ("appendonlydir.before-fo-1/appendonly.aof.1.base.rdb", "old base"),
];

#[test]
fn the_snapshot_takes_the_place_of_the_dump_and_the_old_files_are_kept() {
    let host = Host::new(true);
    let kept = install(&host.site).unwrap();
    assert_eq!(kept, ["dump.rdb.before-fo-1", "appendonlydir.before-fo-1", "appendonly.aof.before-fo-1"]);
    assert_eq!(host.tree(), tree(INSTALLED));
    assert_eq!(install(&host.site).unwrap(), kept, "and again");
    assert_eq!(host.tree(), tree(INSTALLED));
}

#[test]
fn an_installation_that_crashed_anywhere_is_completed_by_repeating_it() {
    for changes in 0.. {
        let host = Host::new(true);
        let crashed = crashing_after(changes, || install(&host.site));
        install(&host.site).unwrap();
        assert_eq!(host.tree(), tree(INSTALLED), "crash after {changes} changes");
        if !crashed {
            assert_eq!(changes, 6, "the changes of an installation");
            break;
        }
    }
}

#[test]
fn an_installation_that_crashed_anywhere_is_undone_even_if_the_undoing_crashes_anywhere() {
    for old in [true, false] {
        for changes in 0..8 {
            for undone in 0.. {
                let host = Host::new(old);
                crashing_after(changes, || install(&host.site));
                let crashed = crashing_after(undone, || restore(&host.site));
                restore(&host.site).unwrap();
                let expected = if old { tree(OLD) } else { tree(&[]) };
                assert_eq!(host.tree(), expected, "crashes after {changes} and {undone} changes, old files: {old}");
                assert!(!host.site.note.exists());
                if !crashed {
                    break;
                }
            }
        }
    }
}

#[test]
fn restoring_without_an_installation_removes_the_part_alone() {
    let host = Host::new(true);
    assert_eq!(restore(&host.site).unwrap(), Vec::<String>::new());
    assert_eq!(host.tree(), tree(OLD));
    assert_eq!(restore(&host.site).unwrap(), Vec::<String>::new());
}

#[test]
fn what_a_server_wrote_after_the_installation_is_kept_aside_by_an_undoing_that_may_crash() {
    for old in [true, false] {
        for changes in 0.. {
            let host = Host::new(old);
            install(&host.site).unwrap();
            host.write_as_server("dump.rdb", "newer dump");
            host.write_as_server("appendonly.aof", "newer log");
            let crashed = crashing_after(changes, || restore(&host.site));
            restore(&host.site).unwrap();
            let mut expected = if old { tree(OLD) } else { tree(&[]) };
            expected.extend(tree(&[("dump.rdb.after-fo-1", "newer dump"), ("appendonly.aof.after-fo-1", "newer log")]));
            assert_eq!(host.tree(), expected, "crash after {changes} changes, old files: {old}");
            if !crashed {
                break;
            }
        }
    }
}

#[test]
fn a_newer_dump_of_the_server_is_never_installed_over() {
    let host = Host::new(true);
    install(&host.site).unwrap();
    host.write_as_server("dump.rdb", "newer dump");
    let fault = install(&host.site).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert_eq!(host.tree()["dump.rdb"], "newer dump");
}

#[test]
fn a_part_that_changed_after_the_note_is_not_placed() {
    let host = Host::new(true);
    assert!(crashing_after(3, || install(&host.site)));
    fs::write(host.site.part(), "another snapshot altogether").unwrap();
    assert_eq!(install(&host.site).unwrap_err().kind, FaultKind::Verification);
    restore(&host.site).unwrap();
    assert_eq!(host.tree(), tree(OLD));
}

#[test]
fn only_what_a_pull_has_finished_and_nobody_changed_is_placed() {
    let refuse = |spoil: &dyn Fn(&Site)| {
        let host = Host::new(true);
        spoil(&host.site);
        let fault = install(&host.site).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Verification, "{fault}");
        assert!(!host.site.note.exists() && fault.hint.is_some());
        assert_eq!(host.tree()["dump.rdb"], "old dump");
        fault.causes.concat()
    };
    let unfinished = "no pull of it was finished";
    assert_eq!(refuse(&|site| fs::remove_file(&site.pulled).unwrap()), unfinished);
    assert_eq!(refuse(&|site| pulled::begin(site).unwrap()), unfinished, "another pull has begun");
    let changed = "it was changed or replaced since it was pulled";
    assert_eq!(refuse(&|site| fs::write(site.part(), "snapshot of another ").unwrap()), changed);
    let replace = |site: &Site| {
        fs::write(site.at("other"), "snapshot of the run").unwrap();
        fs::rename(site.at("other"), site.part()).unwrap();
    };
    assert_eq!(refuse(&replace), changed);
    for torn in ["", "{", "{}"] {
        assert_eq!(refuse(&|site| fs::write(&site.pulled, torn).unwrap()), "the note of its pull is no note");
    }
}

#[test]
fn without_a_part_nothing_is_touched() {
    let host = Host::new(true);
    fs::remove_file(host.site.part()).unwrap();
    assert_eq!(install(&host.site).unwrap_err().kind, FaultKind::NotFound);
    assert!(!host.site.note.exists());
    assert_eq!(host.tree()["dump.rdb"], "old dump");
}

#[test]
fn a_kept_file_of_unknown_origin_is_never_overwritten() {
    let host = Host::new(true);
    fs::write(host.site.kept("dump.rdb"), "precious").unwrap();
    assert_eq!(install(&host.site).unwrap_err().kind, FaultKind::Refused);
    assert_eq!(host.tree()["dump.rdb"], "old dump");
    assert_eq!(host.tree()["dump.rdb.before-fo-1"], "precious");
}

#[test]
fn the_end_of_a_run_drops_its_files_and_keeps_the_old_ones_if_told_so() {
    for keep_old in [true, false] {
        for changes in 0.. {
            let host = Host::new(true);
            install(&host.site).unwrap();
            fs::hard_link(host.site.at("dump.rdb"), host.site.pin()).unwrap();
            let crashed = crashing_after(changes, || release(&host.site, keep_old));
            let kept = release(&host.site, keep_old).unwrap();
            let mut expected = tree(INSTALLED);
            expected.retain(|name, _| name == "dump.rdb" || keep_old && name.contains("before"));
            assert_eq!(host.tree(), expected, "crash after {changes} changes, keep: {keep_old}");
            assert_eq!(kept.len(), if keep_old { 3 } else { 0 });
            if !crashed {
                break;
            }
        }
    }
}

#[test]
fn the_only_data_left_is_not_dropped() {
    let host = Host::new(true);
    assert!(crashing_after(2, || install(&host.site)));
    assert_eq!(release(&host.site, false).unwrap_err().kind, FaultKind::Refused);
    assert_eq!(host.tree()["dump.rdb.before-fo-1"], "old dump");
    restore(&host.site).unwrap();
    assert_eq!(host.tree(), tree(OLD));
}

#[test]
fn undoing_goes_by_the_note_even_if_the_configuration_changed() {
    let host = Host::new(true);
    install(&host.site).unwrap();
    let elsewhere = Site { dump: "other.rdb".into(), ..host.site.clone() };
    fs::write(host.site.at("other.rdb"), "not of the run").unwrap();
    assert_eq!(install(&elsewhere).unwrap_err().kind, FaultKind::Refused);
    restore(&elsewhere).unwrap();
    let mut expected = tree(OLD);
    expected.extend(tree(&[("other.rdb", "not of the run")]));
    assert_eq!(host.tree(), expected);
}

#[test]
fn the_snapshot_gets_the_mode_of_the_old_dump_or_a_private_one() {
    for (old, expected) in [(true, 0o604), (false, DUMP_MODE)] {
        let host = Host::new(old);
        let dump = host.site.at("dump.rdb");
        if old {
            fs::set_permissions(&dump, fs::Permissions::from_mode(0o604)).unwrap();
        }
        install(&host.site).unwrap();
        assert_eq!(fs::metadata(&dump).unwrap().permissions().mode() & 0o777, expected);
    }
}

#[test]
fn a_snapshot_that_is_taken_back_is_the_part_again_from_wherever_a_crash_left_it() {
    for old in [true, false] {
        for installed in 0.. {
            let host = Host::new(old);
            let before = host.tree();
            let whole = !crashing_after(installed, || install(&host.site));
            for taken in 0.. {
                if !crashing_after(taken, || take_back(&host.site)) {
                    break;
                }
            }
            assert_eq!(host.tree(), before, "old {old}, after {installed} changes");
            assert!(!host.site.note.exists());
            // Nothing is left to be taken back, and it can be placed again.
            take_back(&host.site).unwrap();
            assert_eq!(host.tree(), before);
            install(&host.site).unwrap();
            assert_eq!(host.tree()["dump.rdb"], "snapshot of the run");
            if whole {
                break;
            }
        }
    }
}

#[test]
fn the_copy_of_a_server_that_was_fed_goes_only_if_it_can_be_one() {
    let host = Host::new(false);
    let bytes = "snapshot of the run".len() as u64;
    drop_servers_copy(&host.site, bytes).unwrap();
    assert!(!dump_stands(&host.site).unwrap());
    fs::write(host.site.at("dump.rdb"), "somebody's dump").unwrap();
    assert_eq!(drop_servers_copy(&host.site, bytes).unwrap_err().kind, FaultKind::Refused);
    assert!(dump_stands(&host.site).unwrap());
    fs::write(host.site.at("dump.rdb"), "snapshot of the run").unwrap();
    drop_servers_copy(&host.site, bytes).unwrap();
    assert!(!dump_stands(&host.site).unwrap());
}

#[test]
fn an_append_only_file_is_set_aside_under_the_name_of_what_came_later() {
    let host = Host::new(true);
    set_aof_aside(&host.site).unwrap();
    set_aof_aside(&host.site).unwrap();
    let tree = host.tree();
    assert_eq!(tree["appendonly.aof.after-fo-1"], "old log");
    assert!(!tree.contains_key("appendonly.aof") && tree.contains_key("dump.rdb"));
    assert_eq!(set_aside_later(&host.site).unwrap(), ["appendonlydir.after-fo-1", "appendonly.aof.after-fo-1"]);
}
