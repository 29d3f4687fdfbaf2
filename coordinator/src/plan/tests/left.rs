//! Replicas that cannot be moved along: hosts that do not answer, and what is known of them.

use baton_proto::deposed::{Deposition, Held, Standing};

use super::*;
use crate::plan::left::{Follows, Unseen, follows, missing_of};
use crate::topology::fixture::{FENCE, at, id};
use crate::topology::remembered::{Membership, Remembered};

const DAY: u64 = 24 * 3600;
const SEEN: u64 = 1_700_000_000;

/// D's agent does not answer, `age` after this machine has last seen it, with replicas of these primaries.
fn silent_d(world: &mut World, age: u64, members: &[(&str, char)]) {
    *world = std::mem::take(world).without("d", AGENT_D, "no agent listens");
    world.observed_unix = SEEN + age;
    let member = |(primary, history): &(&str, char)| Membership {
        instance: named("d").instance,
        primary: at(primary),
        history: Some(id(*history)),
    };
    let members = members.iter().map(member).collect();
    world.remembered.insert(host("d"), Remembered { seen_unix: SEEN, members });
}

/// What the plan of a failover says of D, and which hosts its last step looks at.
fn said_of_d(goal: Goal, spoil: fn(&mut World)) -> (Level, String, Vec<(String, bool)>) {
    let mut case = Case::new(goal);
    case.spoil_world = spoil;
    let plan = case.plan();
    assert_eq!(plan.refusals().count(), 0, "{:?}", plan.checks);
    let check = plan.checks.iter().find(|check| check.id == "siblings").expect("D is named");
    let remedy = check.remedy.clone().unwrap_or_default();
    let looked = plan.steps.iter().find_map(|step| match step {
        Step::LeftBehind { hosts, .. } => Some(hosts.clone()),
        _ => None,
    });
    let looked = looked.into_iter().flatten().map(|unseen| (unseen.host.to_string(), unseen.known)).collect();
    (check.level, format!("{}; {remedy}", check.says), looked)
}

#[test]
fn a_replica_on_a_host_that_does_not_answer_is_named_with_the_command_that_moves_it() {
    for goal in [Goal::Failover(Mode::Replace), Goal::Failover(Mode::Promote)] {
        let (level, says, looked) = said_of_d(goal, |world| silent_d(world, 2 * DAY, &[(A, 'f')]));
        assert_eq!((level, looked), (Level::Warn, vec![("d".into(), true)]), "{says}");
        for part in
            ["d, a replica of this group", "2d00h ago", "left behind", "more than the source", "`coord rejoin d`"]
        {
            assert!(says.contains(part), "{part}: {says}");
        }
        // Of a long time ago, and under another address of its primary.
        let (.., looked) = said_of_d(goal, |world| silent_d(world, 99 * DAY, &[("a.example:6379", 'a')]));
        assert_eq!(looked, [("d".to_owned(), true)]);
    }
}

#[test]
fn a_host_of_which_nothing_is_known_is_named_and_looked_at_and_one_of_another_group_is_only_named() {
    let goal = Goal::Failover(Mode::Replace);
    let (level, says, looked) = said_of_d(goal, |world| {
        *world = std::mem::take(world).without("d", AGENT_D, "no agent listens");
    });
    assert_eq!((level, looked), (Level::Warn, vec![("d".into(), false)]));
    assert!(says.contains("if there is a replica of a, it is left behind"), "{says}");
    // It was seen lately, with nothing of this group.
    for members in [
        |world: &mut World| silent_d(world, DAY, &[]),
        |world: &mut World| silent_d(world, DAY, &[("10.0.0.9:6379", 'e')]),
    ] {
        let (level, says, looked) = said_of_d(goal, members);
        assert_eq!((level, looked), (Level::Ok, Vec::new()), "{says}");
    }
    // That was long ago: it may have become one since.
    let (level, _, looked) = said_of_d(goal, |world| silent_d(world, 30 * DAY, &[]));
    assert_eq!((level, looked), (Level::Warn, vec![("d".into(), false)]));
    // Nobody remembers it, but a server of another group follows it.
    let (level, says, looked) = said_of_d(goal, |world| {
        let other = instance("default", "10.0.0.5:6379").replica(D, down(1), lineage('e', 5), 1);
        *world = std::mem::take(world).without("d", AGENT_D, "no agent").with("e", "10.0.0.5:7400", vec![other]);
    });
    assert_eq!((level, looked), (Level::Ok, Vec::new()));
    assert!(says.contains("belongs to e"), "{says}");
}

#[test]
fn a_host_whose_server_was_deposed_before_is_no_replica_that_is_left_behind() {
    // D led before A did, and was never seen again.
    let goal = Goal::Failover(Mode::Replace);
    let (level, says, looked) = said_of_d(goal, |world| {
        silent_d(world, 9 * DAY, &[(D, 'a')]);
        let held = deposition("d", D, "a", A);
        if let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host("b")).map(|host| &mut host.view) {
            report.depositions.push(held);
        }
    });
    assert_eq!((level, looked), (Level::Ok, Vec::new()), "{says}");
    assert!(says.contains("run fo-1 deposed its server"), "{says}");
}

#[test]
fn where_everybody_answers_and_is_moved_nobody_is_looked_for() {
    let mut case = Case::replace();
    case.d = Some(replica(D, 900));
    assert!(!names(&case.plan()).contains(&"left-behind"));
    // The lost primary's own host is told of elsewhere; and one that is stopped is not moved.
    let stopped = instance("default", D).configured_after(A);
    case.d = Some(stopped);
    let plan = case.plan();
    assert_eq!(names(&plan).last(), Some(&"left-behind"), "after the release: nothing is kept because of it");
    let title = plan.steps.last().unwrap().title();
    assert!(title.contains("whether d was left behind"), "{title}");
}

#[test]
fn whether_one_was_left_behind_is_told_by_whom_it_follows() {
    let (from, to) = ([at(A)], at(C));
    let said = |report: &InstanceReport| follows(report, &from, &to);
    assert_eq!(said(&replica(D, 900)), Follows::Old { runs: true });
    assert_eq!(said(&instance("default", D).configured_after(A)), Follows::Old { runs: false });
    let fenced = instance("default", D).replica(FENCE, down(1), lineage('a', 900), 5).fenced(A, 9);
    assert_eq!(said(&fenced), Follows::Old { runs: true });
    assert_eq!(said(&instance("default", D).replica(C, up(), lineage('c', 1), 5)), Follows::New);
    assert_eq!(said(&instance("default", D).replica(B, up(), lineage('a', 1), 5)), Follows::Other, "it comes along");
    assert_eq!(said(&instance("default", D).primary(lineage('e', 1), 5)), Follows::Other);
}

#[test]
fn what_is_missing_of_a_silent_host_depends_on_what_it_says_at_the_end() {
    let unseen = |known| Unseen { host: host("d"), known, command: "`coord rejoin d`".into() };
    let world = |report| World::default().with("d", AGENT_D, vec![report]);
    let at_the_end = |known, report: Result<InstanceReport, String>| {
        let report = report.map(world);
        let now = report.as_ref().map(|world| world.report(&host("d")).unwrap()).map_err(Clone::clone);
        missing_of(&unseen(known), now, &[at(A)], &at(C))
    };
    let [missing] = &at_the_end(true, Err("no agent listens".into()))[..] else { panic!("one is missing") };
    assert!(missing.contains("d was left behind") && missing.contains("`coord rejoin d`"), "{missing}");
    assert_eq!(at_the_end(false, Err("no agent listens".into())), Vec::<String>::new());
    for known in [true, false] {
        let [missing] = &at_the_end(known, Ok(replica(D, 900)))[..] else { panic!("one is missing") };
        assert!(missing.contains("d was left behind") && missing.contains("`coord rejoin d`"), "{missing}");
        let moved = instance("default", D).replica(C, up(), lineage('c', 1), 5);
        assert_eq!(at_the_end(known, Ok(moved)), Vec::<String>::new());
    }
}

fn deposition(of: &str, address: &str, successor: &str, successor_address: &str) -> Held {
    let deposition = Deposition {
        run: RunId::new("fo-1").unwrap(),
        host: host(of),
        instance: None,
        agent: at(AGENT_A),
        address: at(address),
        fork: lineage('a', 900),
        successor: named(successor),
        successor_address: at(successor_address),
        standing: Standing::Deposed,
        since_unix: 9,
        seal: None,
    };
    Held { deposition, told: false, untold: None, fenced: false, firsthand: false }
}

/// D follows A, which was replaced by C; B and C know of it.
fn stray(link: baton_proto::report::Link) -> World {
    let held = deposition("a", A, "c", C);
    let d = instance("default", D).replica(A, link, lineage('a', 920), 50);
    let c = instance("default", C).primary(lineage('c', 950), 50).second(lineage('a', 901)).serving(&[B]);
    let b = instance("default", B).replica(C, up(), lineage('c', 950), 50);
    let world = World::default().without("a", AGENT_A, "no agent listens");
    let mut world = world.with("b", AGENT_B, vec![b]).with("c", AGENT_C, vec![c]).with("d", AGENT_D, vec![d]);
    if let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host("b")).map(|host| &mut host.view) {
        report.depositions.push(held);
    }
    world.probe("d", C, ReachVerdict::Open)
}

fn rejoined(world: &World) -> Plan {
    let cast =
        Cast { group: None, source: named("c"), target: named("d"), siblings: Vec::new(), passed_over: Vec::new() };
    let (run, intent) = (RunId::new("re-test").unwrap(), Intent::of(Goal::Rejoin));
    let nobody = std::collections::BTreeMap::new();
    let scene = cast.scene(world, &intent, &nobody, &run).unwrap();
    Plan::build(None, &scene)
}

#[test]
fn one_that_was_left_behind_is_fenced_saved_aside_and_joined_and_the_note_of_its_primary_stands() {
    let world = stray(down(5));
    assert_eq!(world.stray(&named("d")).map(|held| held.deposition.run.as_str()), Some("fo-1"));
    assert_eq!(world.deposed(&named("d")), None);
    assert_eq!(world.stray(&named("b")), None, "it was moved along");
    let plan = rejoined(&world);
    assert_eq!(plan.refusals().collect::<Vec<_>>(), Vec::<&Check>::new());
    assert_eq!(names(&plan), ["fence", "save-aside", "attach", "persist", "canary"]);
    let check = plan.checks.iter().find(|check| check.id == "deposed").unwrap();
    assert!(check.says.contains("20 B past the fork"), "what A wrote last, it alone may have: {}", check.says);
    assert_eq!(plan.forecasts[0].resync, Resync::Full);
    // Linked to A again, it gets what that gets.
    let plan = rejoined(&stray(up()));
    let refusal = plan.refusals().next().unwrap();
    assert_eq!(refusal.remedy.as_deref().map(|remedy| remedy.contains("`coord rejoin a`")), Some(true), "{refusal:?}");
}

#[test]
fn status_tells_of_one_that_was_left_behind_and_of_the_command() {
    let shown = |world: &World| {
        let topology = Topology::of(world);
        let group = topology.group_of(&named("d")).expect("it is of a group").clone();
        let issues = crate::report::table::issues(&group, world);
        (issues.join("\n"), crate::report::table::next(&group, &topology, world))
    };
    let (issues, next) = shown(&stray(down(5)));
    assert!(issues.contains("d was left behind when run fo-1 replaced a"), "{issues}");
    assert_eq!(next, ["coord rejoin d"]);
    let (issues, next) = shown(&stray(up()));
    assert!(!issues.contains("left behind"), "{issues}");
    assert_eq!(next, Vec::<String>::new());
}
