use baton_proto::control::ReachVerdict;
use baton_proto::report::{Link, ServerState};
use baton_proto::{Fault, FaultKind};

use super::*;
use crate::topology::HostView;
use crate::topology::fixture::*;

/// Everything that `coord status` shows of a world.
fn shown(world: &World) -> String {
    let topology = Topology::of(world);
    let mut out = Vec::new();
    for shown in &topology.groups {
        group(&mut out, shown, &topology, world).unwrap();
    }
    if !topology.spares.is_empty() {
        spares(&mut out, &topology.spares, world).unwrap();
    }
    let lost: Vec<_> = world
        .hosts
        .iter()
        .filter_map(|(name, host)| match &host.view {
            HostView::Unreachable { error } => Some((name, host, error.as_str())),
            HostView::Answered { .. } => None,
        })
        .collect();
    if !lost.is_empty() {
        unreachable(&mut out, &lost).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line == line.trim_end()), "no line ends in spaces:\n{text}");
    text
}

/// A host whose one server is at its address.
fn serving(world: World, name: &str, ip: &str, server: baton_proto::report::InstanceReport) -> World {
    world.with(name, &format!("{ip}:7400"), vec![server])
}

#[test]
fn a_healthy_group_is_a_header_and_a_row_for_each_instance() {
    assert_eq!(
        shown(&healthy()),
        "\
group machine-a  lineage aaaaaaaa  verdict: ok
    NODE       ADDRESS        ROLE     FOLLOWS    STATE    LINK  OFFSET    LAG  KEYS  VERSION
 *  machine-a  10.0.0.1:6379  primary  -          running  -       1000      -   200  redis 7.0.15
 *  machine-b  10.0.0.2:6379  replica  machine-a  running  up       900  100 B   199  redis 7.0.15
spares
    NODE       ADDRESS        STATE    DUMP  FREE     VERSION
 -  machine-c  10.0.0.3:6379  stopped  -     61.0 GB  redis 7.0.15
"
    );
}

#[test]
fn a_dead_primary_has_its_row_the_evidence_and_the_next_command() {
    let world = lost_primary().probe("machine-b", "10.0.0.1:6379", ReachVerdict::Refused);
    assert_eq!(
        shown(&world),
        "\
group machine-a  lineage aaaaaaaa  verdict: degraded: primary dead 3m12s
    NODE       ADDRESS        ROLE     FOLLOWS    STATE        LINK        OFFSET     LAG  KEYS  VERSION
 ?  machine-a  10.0.0.1:6379  primary  -          unreachable  -                -       -     -  -
 !  machine-b  10.0.0.2:6379  replica  machine-a  running      down 3m12s    1000  frozen   200  redis 7.0.15
ISSUES
  machine-a cannot be asked: no agent listens at 10.0.0.1:7400: Connection refused
  tried from machine-b, 10.0.0.1:6379 has nobody listening
NEXT
  coord failover machine-a --to machine-c --dry-run
spares
    NODE       ADDRESS        STATE    DUMP  FREE     VERSION
 -  machine-c  10.0.0.3:6379  stopped  -     61.0 GB  redis 7.0.15
unreachable hosts
    HOST       AGENT          ERROR
 ?  machine-a  10.0.0.1:7400  no agent listens at 10.0.0.1:7400: Connection refused
"
    );
}

#[test]
fn a_fence_names_its_run_and_the_run_comes_first() {
    let fenced = instance("default", "10.0.0.2:6379").replica(FENCE, down(1), lineage('a', 1000), 200);
    let world = serving(lost_primary(), "machine-b", "10.0.0.2", fenced.fenced("10.0.0.1:6379", 40));
    let text = shown(&world);
    let from = text.find("machine-b  10.0.0.2").unwrap();
    assert!(
        text[from..].starts_with(
            "\
machine-b  10.0.0.2:6379  replica  machine-a  running      fenced fo-7k2m    1000  frozen   200  redis 7.0.15
ISSUES
  machine-a cannot be asked: no agent listens at 10.0.0.1:7400: Connection refused
  machine-b was taken off its primary by run fo-7k2m
NEXT
  coord show fo-7k2m
  coord failover machine-a --to machine-c --dry-run
"
        ),
        "{text}"
    );
}

#[test]
fn servers_that_do_not_answer_have_their_reasons_on_one_line() {
    let denied = ServerState::Denied { user: "default".into(), error: "NOAUTH\r\n\u{1b}[31mrequired".into() };
    let replica = instance("default", "10.0.0.2:6379").configured_after("10.0.0.1:6379").state(denied);
    let world = serving(healthy(), "machine-b", "10.0.0.2", replica);
    let text = shown(&world);
    assert!(text.contains("\n  machine-b refuses its agent (user default): NOAUTH [31mrequired\n"), "{text}");
    assert!(
        text.contains(
            " !  machine-b  10.0.0.2:6379  replica  machine-a  denied   -          -    -     -  redis 7.0.15\n"
        ),
        "{text}"
    );
}

#[test]
fn a_living_primary_is_never_proposed_for_failover() {
    let linked = instance("default", "10.0.0.2:6379").replica("10.0.0.1:6379", up(), lineage('a', 1000), 200);
    let unseen = serving(lost_primary(), "machine-b", "10.0.0.2", linked);
    let answers = lost_primary().probe("machine-b", "10.0.0.1:6379", ReachVerdict::Unauthorised);
    for world in [unseen, answers] {
        let text = shown(&world);
        assert!(text.contains("  do not fail over: the primary lives"), "{text}");
        assert!(!text.contains("NEXT"), "{text}");
    }
}

#[test]
fn rivals_and_replicas_of_others_are_said_in_sentences() {
    let promoted = instance("default", "10.0.0.2:6379").primary(lineage('b', 1100), 210).second(lineage('a', 1000));
    let text = shown(&serving(healthy(), "machine-b", "10.0.0.2", promoted.serving(&["10.9.9.9:6379"])));
    assert!(text.contains("verdict: degraded: two primaries, also machine-a\n"), "{text}");
    assert!(text.contains("\n !  machine-a  10.0.0.1:6379  primary  -  "), "{text}");
    assert!(text.contains("  each of machine-b, machine-a takes writes that the others do not get\n"), "{text}");
    assert!(text.contains("  its replica 10.9.9.9:6379 is reported by no agent\n"), "{text}");
}

#[test]
fn an_address_that_nobody_has_leads_to_the_inventory_and_not_to_a_command() {
    let orphan = instance("default", "10.0.0.2:6379").replica("10.9.9.9:6379", down(5), lineage('a', 1), 1);
    let world = serving(World::default(), "machine-b", "10.0.0.2", orphan).probe_failed(
        "machine-b",
        "10.9.9.9:6379",
        Fault::new(FaultKind::Peer, "the agent is gone"),
    );
    assert_eq!(shown(&world), "\
group 10.9.9.9:6379  lineage aaaaaaaa  verdict: degraded: primary dead 5s
    NODE       ADDRESS        ROLE     FOLLOWS        STATE    LINK     OFFSET     LAG  KEYS  VERSION
 ?  -          10.9.9.9:6379  primary  -              unknown  -             -       -     -  -
 !  machine-b  10.0.0.2:6379  replica  10.9.9.9:6379  running  down 5s       1  frozen     1  redis 7.0.15
ISSUES
  no host of the inventory has the address 10.9.9.9; if it is another address of one, add it to that host's `addresses` in coord.toml
  machine-b could not try 10.9.9.9:6379: the agent is gone
");
}

#[test]
fn without_a_spare_the_command_is_the_one_that_needs_none() {
    let mut world = lost_primary();
    world.hosts.remove(&host("machine-c"));
    let text = shown(&world);
    assert!(text.contains("  coord failover machine-a --dry-run   (in place: no spare is known)"), "{text}");
}

#[test]
fn a_chain_shows_whom_each_replica_follows() {
    let chained = instance("default", "10.0.0.4:6379").replica("10.0.0.2:6379", Link::Syncing, lineage('a', 0), 0);
    let text = shown(&serving(healthy(), "machine-d", "10.0.0.4", chained));
    assert!(text.contains("\n !  machine-d  10.0.0.4:6379  replica  machine-b  running  syncing "), "{text}");
}
