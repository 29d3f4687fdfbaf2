//! How long a plan says that it takes, on what that rests, and when that has the source stream by itself.

use baton_proto::speeds::{Speed, Speeds, Transferred};

use super::*;
use crate::plan::pace::{self, Basis, Expected};

const MB: u64 = 1_000_000;
/// The snapshot of every case here.
const DUMP: u64 = 900 * MB;

fn speed(megabytes_a_second: f64) -> Option<Speed> {
    Some(Speed { bytes: 100 * MB, seconds: 100.0 / megabytes_a_second, age_seconds: 7200 })
}

fn transferred(megabytes_a_second: f64, share: f64) -> Transferred {
    let speed = speed(megabytes_a_second).unwrap();
    Transferred { speed, bytes_wire: (speed.bytes as f64 * share) as u64 }
}

/// B is frozen and has saved 900 MB before; C runs empty, and lands live.
fn case() -> Case {
    let mut case = Case::replace();
    case.intent.landing = None;
    case.b.files.dump_bytes = Some(DUMP);
    case.b = with_running(case.b, |running| running.memory.used_bytes = 1300 * MB);
    case.c = instance("default", C).primary(lineage('c', 0), 0);
    case.spoil_world = |world| {
        for host in world.hosts.values_mut() {
            if let HostView::Answered { report, .. } = &mut host.view {
                report.memory_available_bytes = 64_000 * MB;
            }
        }
    };
    case
}

fn expected(case: &Case) -> Expected {
    case.plan().expected.expect("the target is to load it")
}

fn with_scene<T>(case: &Case, world: &World, cast: &Cast, look: impl FnOnce(&Scene) -> T) -> T {
    let run = RunId::new("fo-1").unwrap();
    look(&cast.scene(world, &case.intent, &BTreeMap::new(), &run).unwrap())
}

/// Within a hundredth, and the half second that orders and starts are given.
#[track_caller]
fn assert_about(seconds: f64, wanted: f64) {
    assert!((seconds - wanted).abs() <= wanted / 100.0 + 0.5, "{seconds}, not {wanted}");
}

#[test]
fn what_nobody_has_seen_is_assumed_and_said_to_be() {
    let case = case();
    let expected = expected(&case);
    assert_eq!(expected.save.unwrap().basis, Basis::Assumed);
    assert_eq!((expected.transfer.basis, expected.load.basis), (Basis::Assumed, Basis::Assumed));
    // The save is the slowest; by file, the load comes after.
    assert_about(expected.live, 6.0);
    assert_about(expected.file, 6.0 + 5.0);
    assert_eq!(expected.seconds(), expected.live);
    let plan = case.plan();
    let line = plan.checks.iter().find(|check| check.id == "expected-time").unwrap();
    assert_eq!(line.says.matches("(assumed)").count(), 3, "{}", line.says);
}

#[test]
fn what_was_seen_counts_and_the_slowest_stage_decides() {
    let mut case = case();
    case.b.speeds = Speeds { save: speed(300.0), work: speed(310.0), ..Speeds::default() };
    case.c.speeds = Speeds { load: speed(90.0), ..Speeds::default() };
    case.c.speeds.transfers.insert(host("b"), transferred(20.0, 0.4));
    let seen = expected(&case);
    assert_about(seen.live, 45.0);
    assert_about(seen.file, 45.0 + 10.0);
    let measured = Basis::Measured { bytes: 100 * MB, age_seconds: 7200 };
    assert_eq!((seen.save.unwrap().basis, seen.transfer.basis, seen.load.basis), (measured, measured, measured));
    let says = seen.to_string();
    assert!(says.contains("transfer 20.0 MB/s (measured 2h00m ago on 100.0 MB)"), "{says}");
    // A limit is in bytes on the wire, of which a snapshot has fewer.
    case.intent.budget.max_rate = Some(4 * MB);
    let limited = expected(&case);
    assert_eq!(limited.transfer.basis, Basis::Limit);
    assert_about(limited.live, 90.0);
    case.intent.budget.max_rate = Some(400 * MB);
    assert_eq!(expected(&case).transfer.basis, measured, "a limit above what the way carries is none");
}

#[test]
fn the_way_between_two_hosts_is_known_by_any_instance_of_the_target() {
    let case = case();
    let mut world = case.world();
    let cast = case.cast(&world).unwrap();
    let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host("c")).map(|host| &mut host.view) else {
        panic!("c answers")
    };
    let mut other = instance("other", D);
    other.speeds.transfers.insert(host("b"), transferred(20.0, 1.0));
    report.instances.push(other);
    with_scene(&case, &world, &cast, |scene| assert_about(pace::expected(scene).unwrap().live, 45.0));
}

#[test]
fn a_server_that_was_never_saved_by_an_agent_tells_of_its_own_last_save() {
    let mut case = case();
    case.b.files.dump_modified_unix = Some(5_000);
    let saved = |seconds, ok| {
        move |running: &mut Running| {
            let state = &mut running.persistence;
            (state.last_save_unix, state.last_save_seconds, state.last_save_ok) = (5_001, Some(seconds), ok);
        }
    };
    case.b = with_running(case.b, saved(30, true));
    assert_eq!(expected(&case).save.unwrap().basis, Basis::OwnSave { bytes: DUMP });
    assert_about(expected(&case).live, 30.0);
    for strange in [saved(1, true), saved(30, false)] {
        case.b = with_running(case.b, strange);
        assert_eq!(expected(&case).save.unwrap().basis, Basis::Assumed);
    }
    // The dump is not that of the save.
    case.b = with_running(case.b, saved(30, true));
    case.b.files.dump_modified_unix = Some(9_000);
    assert_eq!(expected(&case).save.unwrap().basis, Basis::Assumed);
}

#[test]
fn a_dump_of_other_days_does_not_tell_how_large_the_snapshot_will_be() {
    let mut case = case();
    case.b.files.dump_bytes = Some(175);
    let bytes = expected(&case).bytes;
    assert!((DUMP / 2..DUMP * 2).contains(&bytes), "{bytes} of 1300 MB in memory");
}

/// How B is saved by, and why.
fn method(case: &Case) -> (SaveMethod, String) {
    let plan = case.plan();
    let method = plan.steps.iter().find_map(|step| match step {
        Step::Snapshot { method, .. } => Some(*method),
        _ => None,
    });
    let said = plan.checks.iter().find(|check| check.id == "source-save").map(|check| check.says.clone());
    (method.expect("a snapshot is taken"), said.unwrap_or_default())
}

/// Speeds of the save, of its work, of the transfer and of the load, in MB/s, and whether B streams by itself.
#[test]
fn a_source_whose_disk_holds_the_transfer_up_streams_by_itself() {
    let table = [
        // The disk takes less than the network, and a core would do more.
        ((20.0, 200.0, 100.0, 300.0), true),
        // The network is slower than the disk.
        ((20.0, 200.0, 10.0, 300.0), false),
        // So is the load, which goes on meanwhile.
        ((20.0, 200.0, 100.0, 15.0), false),
        // It is the packing of the dump that takes the time, and a stream is packed as well.
        ((20.0, 22.0, 100.0, 300.0), false),
        // The time that is won is worth no file: less than two seconds.
        ((500.0, 4000.0, 5000.0, 5000.0), false),
        // A fifth is not enough, and more than that is.
        ((80.0, 300.0, 95.0, 300.0), false),
        ((70.0, 300.0, 95.0, 300.0), true),
    ];
    for (speeds, streams) in table {
        let (save, work, transfer, load) = speeds;
        let mut case = case();
        case.b.speeds = Speeds { save: speed(save), work: speed(work), ..Speeds::default() };
        case.c.speeds = Speeds { load: speed(load), ..Speeds::default() };
        case.c.speeds.transfers.insert(host("b"), transferred(transfer, 0.5));
        let (method, says) = method(&case);
        assert_eq!(method == SaveMethod::Stream, streams, "{speeds:?}: {says}");
        assert_eq!(says.contains("its disk takes"), streams, "{says}");
    }
}

#[test]
fn a_guess_or_what_forbids_a_stream_has_the_source_write_its_file() {
    let slow = || {
        let mut case = case();
        case.b.speeds = Speeds { save: speed(10.0), work: speed(200.0), ..Speeds::default() };
        case
    };
    assert_eq!(method(&slow()).0, SaveMethod::Stream, "the network is assumed to be faster");
    let mut unknown = slow();
    unknown.b.speeds.work = None;
    assert_eq!(method(&unknown).0, SaveMethod::Save, "it may be the core that takes the time");
    let mut asked = slow();
    asked.intent.snapshot = Some(SaveMethod::Bgsave);
    assert_eq!(method(&asked).0, SaveMethod::Bgsave);
    // Its agent would stand in for its primary, and does not speak TLS there.
    let mut tls = slow();
    tls.b.settings.tls_replication = true;
    assert_eq!(method(&tls).0, SaveMethod::Save);
    let mut short = slow();
    short.spoil_world = |world| {
        if let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host("b")).map(|host| &mut host.view) {
            report.memory_available_bytes = 100 * MB;
        }
    };
    assert_eq!(method(&short).0, SaveMethod::Save, "there is no memory for a fork");
    // A replica that nobody fences is left as it is.
    let mut copied = slow();
    copied.intent.goal = Goal::Copy { start: true };
    assert_ne!(method(&copied).0, SaveMethod::Stream);
}

/// A promise, as of a backlog that suffices, rests on the slower of what was seen and what is assumed.
#[test]
fn what_was_seen_makes_a_promise_more_cautious_and_never_less() {
    let wanted = |change: fn(&mut Case)| {
        let mut case = case();
        case.intent.goal = Goal::Failover(Mode::Promote);
        change(&mut case);
        let world = case.world();
        let cast = case.cast(&world).unwrap();
        with_scene(&case, &world, &cast, |scene| (pace::cautious_seconds(scene).unwrap(), pace::cautious_wire(scene)))
    };
    let (assumed, wire) = wanted(|_| {});
    let faster = wanted(|case| {
        case.b.speeds.save = speed(900.0);
        case.c.speeds.load = speed(900.0);
        case.c.speeds.transfers.insert(host("b"), transferred(900.0, 0.1));
    });
    assert_eq!(faster, (assumed, wire));
    let (slower, narrower) = wanted(|case| case.c.speeds.transfers = [(host("b"), transferred(10.0, 0.1))].into());
    assert_about(slower, 130.0);
    assert_about(narrower, 10e6);
}
