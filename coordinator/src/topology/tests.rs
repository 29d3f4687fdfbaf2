use baton_proto::control::ReachVerdict;
use baton_proto::report::{Link, ServerState};
use baton_proto::version::{Product, ServerVersion};
use baton_proto::{Fault, FaultKind, HostPort};

use super::fixture::*;
use super::*;

fn silent() -> ServerState {
    ServerState::Silent { error: "no answer in 3s".into() }
}

fn denied() -> ServerState {
    ServerState::Denied { user: "default".into(), error: "NOAUTH Authentication required.".into() }
}

/// The only group of a world.
fn only(world: &World) -> Group {
    let topology = Topology::of(world);
    assert_eq!(topology.groups.len(), 1, "{topology:#?}");
    topology.groups.into_iter().next().unwrap()
}

fn verdict(world: &World) -> String {
    only(world).verdict.to_string()
}

fn replica_names(group: &Group) -> Vec<String> {
    group.replicas.iter().map(|replica| replica.instance.to_string()).collect()
}

/// A host `name` at 10.0.0.N whose one server follows machine-a.
fn follower(world: World, name: &str, ip: &str, link: Link, offset: u64) -> World {
    let server = instance("default", &format!("{ip}:6379"));
    world.with(name, &format!("{ip}:7400"), vec![server.replica("10.0.0.1:6379", link, lineage('a', offset), 200)])
}

#[test]
fn a_linked_replica_makes_a_group_that_is_ok() {
    let topology = Topology::of(&healthy());
    let [group] = topology.groups.as_slice() else { panic!("{topology:#?}") };
    assert_eq!((group.name.as_str(), &group.verdict), ("machine-a", &Verdict::Ok));
    assert_eq!(group.lineage, Some(id('a')));
    assert_eq!(replica_names(group), ["machine-b"]);
    assert_eq!(group.replicas[0].lag, Lag::Bytes(100));
    assert_eq!(topology.spares, [named("machine-c")]);
    assert!(topology.unreachable.is_empty());
    assert!(topology.questions().is_empty(), "nothing is doubtful");
}

#[test]
fn nothing_observed_is_no_group() {
    assert_eq!(Topology::of(&World::default()), Topology::default());
}

#[test]
fn a_primary_whose_host_is_gone_still_leads_its_group() {
    let world = lost_primary();
    let group = only(&world);
    assert_eq!(group.name, "machine-a");
    assert_eq!(group.primary.place, Place::Host(host("machine-a")));
    assert_eq!(group.primary.address, at("10.0.0.1:6379"));
    assert_eq!(group.verdict, Verdict::PrimaryDead { seconds: Some(192) });
    assert_eq!(group.verdict.to_string(), "degraded: primary dead 3m12s");
    assert_eq!(group.lineage, Some(id('a')), "known from its replica");
    assert_eq!(group.replicas[0].lag, Lag::Frozen);
    let topology = Topology::of(&world);
    assert_eq!(topology.unreachable.len(), 1);
    assert_eq!(topology.led_by(&host("machine-a")).count(), 1);
    assert_eq!(topology.questions(), [(named("machine-b"), at("10.0.0.1:6379"))]);
}

#[test]
fn a_stopped_primary_is_dead_though_its_agent_answers() {
    let world = lost_primary().with("machine-a", "10.0.0.1:7400", vec![instance("default", "10.0.0.1:6379")]);
    let group = only(&world);
    assert_eq!(group.primary.place, Place::Instance(named("machine-a")));
    assert_eq!(group.verdict.to_string(), "degraded: primary dead 3m12s");
    assert_eq!(Topology::of(&world).spares, [named("machine-c")], "a dead primary is no spare");
}

#[test]
fn the_age_of_a_death_is_the_longest_of_its_replicas() {
    let world = follower(lost_primary(), "machine-d", "10.0.0.4", down(200), 1000);
    assert_eq!(only(&world).verdict, Verdict::PrimaryDead { seconds: Some(200) });
    let unknown = Link::Down { since_seconds: None };
    let world = follower(lost_primary(), "machine-b", "10.0.0.2", unknown, 1000);
    assert_eq!(verdict(&world), "degraded: primary dead");
}

#[test]
fn a_primary_that_only_we_cannot_see_is_not_dead() {
    let world = follower(lost_primary(), "machine-b", "10.0.0.2", up(), 1000);
    assert_eq!(verdict(&world), "degraded: primary unreachable from here but 1 replica is linked");
    let world = follower(world, "machine-d", "10.0.0.4", Link::Syncing, 0);
    let world = follower(world, "machine-e", "10.0.0.5", down(5), 1000);
    assert_eq!(verdict(&world), "degraded: primary unreachable from here but 2 replicas are linked");
    let group = only(&world);
    assert_eq!(group.replicas[2].lag, Lag::Unknown, "the data flows on elsewhere");
}

#[test]
fn a_primary_that_answers_its_replica_host_is_not_dead() {
    for verdict in [ReachVerdict::Open, ReachVerdict::Busy, ReachVerdict::Denied, ReachVerdict::Unauthorised] {
        let world = lost_primary().probe("machine-b", "10.0.0.1:6379", verdict);
        assert_eq!(only(&world).verdict, Verdict::PrimaryAnswers { to: vec![host("machine-b")] });
    }
    for verdict in [ReachVerdict::Refused, ReachVerdict::Silent, ReachVerdict::Unreachable, ReachVerdict::Rehearsal] {
        let world = lost_primary().probe("machine-b", "10.0.0.1:6379", verdict);
        assert_eq!(only(&world).verdict, Verdict::PrimaryDead { seconds: Some(192) });
    }
    // A probe of something else, or one that could not be made, says nothing.
    let world = lost_primary().probe("machine-b", "10.0.0.3:6379", ReachVerdict::Open).probe_failed(
        "machine-b",
        "10.0.0.1:6379",
        Fault::new(FaultKind::Peer, "gone"),
    );
    assert_eq!(only(&world).verdict, Verdict::PrimaryDead { seconds: Some(192) });
}

#[test]
fn a_primary_that_does_not_answer_or_refuses_or_loads_is_not_dead() {
    let primary = |server| {
        lost_primary().with("machine-a", "10.0.0.1:7400", vec![instance("default", "10.0.0.1:6379").state(server)])
    };
    assert_eq!(verdict(&primary(silent())), "degraded: primary runs but does not answer");
    assert_eq!(verdict(&primary(denied())), "degraded: primary refuses its agent (user default)");
    let loading = instance("default", "10.0.0.1:6379").primary(lineage('b', 0), 10).loading();
    assert_eq!(
        verdict(&lost_primary().with("machine-a", "10.0.0.1:7400", vec![loading])),
        "degraded: primary is loading"
    );
}

#[test]
fn neither_primary_nor_replica_is_lost() {
    let stopped = instance("default", "10.0.0.2:6379").configured_after("10.0.0.1:6379");
    let world = lost_primary().with("machine-b", "10.0.0.2:7400", vec![stopped]);
    let group = only(&world);
    assert_eq!(group.verdict, Verdict::Lost);
    assert_eq!(group.verdict.to_string(), "lost: neither the primary nor a replica answers");
    assert_eq!(group.verdict.health(), Health::Lost);
    assert_eq!(group.lineage, None);
}

#[test]
fn a_primary_alone_has_no_replica() {
    let alone = instance("default", "10.0.0.1:6379").primary(lineage('a', 0), 1);
    let world = World::default().with("machine-a", "10.0.0.1:7400", vec![alone]);
    assert_eq!(verdict(&world), "degraded: no replica");
}

#[test]
fn each_trouble_of_a_replica_is_named_and_the_worst_comes_first() {
    let with = |server| healthy().with("machine-b", "10.0.0.2:7400", vec![server]);
    let replica =
        |link, keys| instance("default", "10.0.0.2:6379").replica("10.0.0.1:6379", link, lineage('a', 900), keys);
    let stopped = || instance("default", "10.0.0.2:6379").configured_after("10.0.0.1:6379");
    for (server, expected) in [
        (replica(down(12), 199), "link down 12s"),
        (replica(Link::Down { since_seconds: None }, 199), "link down"),
        (replica(Link::Syncing, 0), "is syncing"),
        (replica(down(1), 0).loading(), "is loading"),
        (stopped(), "is stopped"),
        (stopped().state(silent()), "runs but does not answer"),
        (stopped().state(denied()), "refuses its agent"),
    ] {
        assert_eq!(verdict(&with(server)), format!("degraded: replica machine-b {expected}"));
    }
    let world = follower(with(replica(Link::Syncing, 0)), "machine-d", "10.0.0.4", down(12), 900);
    let world = follower(world, "machine-e", "10.0.0.5", up(), 1000);
    assert_eq!(verdict(&world), "degraded: replica machine-d link down 12s (and 1 more)");
}

#[test]
fn a_fenced_replica_belongs_where_it_was_and_stands_still() {
    let fenced = instance("default", "10.0.0.2:6379").replica(FENCE, down(1), lineage('a', 1000), 200);
    let world = lost_primary().with("machine-b", "10.0.0.2:7400", vec![fenced.fenced("10.0.0.1:6379", 40)]);
    let group = only(&world);
    assert_eq!(group.name, "machine-a");
    assert_eq!(group.verdict, Verdict::PrimaryDead { seconds: Some(40) });
    let replica = &group.replicas[0];
    assert_eq!(replica.link, ReplicaLink::Fenced { run: RunId::new("fo-7k2m").ok(), since_seconds: Some(40) });
    assert_eq!((replica.lag, replica.follows.clone()), (Lag::Frozen, Some(at("10.0.0.1:6379"))));
    // Its former primary is back with all its data.
    let fenced = world.instance(&named("machine-b")).unwrap().clone();
    let world = healthy().with("machine-b", "10.0.0.2:7400", vec![fenced]);
    assert_eq!(verdict(&world), "degraded: replica machine-b is fenced by run fo-7k2m");
}

#[test]
fn a_fence_without_a_note_is_known_by_its_lineage() {
    let orphan = instance("default", "10.0.0.4:6379").replica(FENCE, down(1), lineage('a', 1000), 200);
    let world = lost_primary().with("machine-d", "10.0.0.4:7400", vec![orphan.clone()]);
    let group = only(&world);
    assert_eq!(replica_names(&group), ["machine-b", "machine-d"]);
    assert_eq!(group.replicas[1].follows, None);
    // Without kin it stands alone, and is not taken for a server at that address.
    let world = World::default().with("machine-d", "10.0.0.4:7400", vec![orphan.clone()]);
    let group = only(&world);
    assert_eq!((group.name.as_str(), &group.primary.place), ("machine-d", &Place::Unknown));
    assert_eq!(replica_names(&group), ["machine-d"]);
    assert_eq!(group.verdict.to_string(), "degraded: fenced off a primary that is no longer known");
    assert!(Topology::of(&world).questions().is_empty(), "nothing listens behind a fence");
    // Two of one lineage are of one group.
    let world = world.with("machine-e", "10.0.0.5:7400", vec![orphan]);
    assert_eq!(replica_names(&only(&world)), ["machine-d", "machine-e"]);
}

#[test]
fn a_fence_note_that_the_server_contradicts_is_out_of_date() {
    let repointed = instance("default", "10.0.0.2:6379").replica("10.0.0.1:6379", up(), lineage('a', 900), 199);
    let world = healthy().with("machine-b", "10.0.0.2:7400", vec![repointed.fenced("10.0.0.9:6379", 40)]);
    assert_eq!(only(&world).verdict, Verdict::Ok);
    let promoted = instance("default", "10.0.0.2:6379").primary(lineage('b', 900), 199);
    let world = World::default().with("machine-b", "10.0.0.2:7400", vec![promoted.fenced("10.0.0.9:6379", 40)]);
    assert_eq!(only(&world).name, "machine-b");
}

#[test]
fn a_primary_that_came_back_with_less_is_told_apart() {
    let fenced = || instance("default", "10.0.0.2:6379").replica(FENCE, down(1), lineage('a', 1000), 200);
    let back = |primary| {
        World::default().with("machine-a", "10.0.0.1:7400", vec![primary]).with(
            "machine-b",
            "10.0.0.2:7400",
            vec![fenced().fenced("10.0.0.1:6379", 9)],
        )
    };
    let primary = || instance("default", "10.0.0.1:6379");
    let differs = "degraded: primary has another history than replica machine-b";
    assert_eq!(verdict(&back(primary().primary(lineage('b', 0), 0))), differs, "empty");
    let old = primary().primary(lineage('b', 500), 180).second(lineage('a', 500));
    assert_eq!(verdict(&back(old)), differs, "with its last dump");
    let same = primary().primary(lineage('b', 1200), 200).second(lineage('a', 1001));
    assert_ne!(verdict(&back(same)), differs, "it holds all that the replica does");
}

#[test]
fn a_replica_that_never_had_data_is_only_down() {
    let fresh = instance("default", "10.0.0.2:6379").replica("10.0.0.1:6379", down(3), lineage('f', 0), 0);
    let world = healthy().with("machine-b", "10.0.0.2:7400", vec![fresh]);
    assert_eq!(verdict(&world), "degraded: replica machine-b link down 3s");
}

#[test]
fn a_promoted_replica_and_its_returned_primary_are_two_primaries() {
    let promoted = instance("default", "10.0.0.2:6379").primary(lineage('b', 1100), 210).second(lineage('a', 1000));
    let world = World::default()
        .with("machine-a", "10.0.0.1:7400", vec![instance("default", "10.0.0.1:6379").primary(lineage('a', 1050), 200)])
        .with("machine-b", "10.0.0.2:7400", vec![promoted]);
    let group = only(&world);
    assert_eq!(group.name, "machine-b", "the promoted one goes on from the other's data");
    assert_eq!(group.rivals, [named("machine-a")]);
    assert_eq!(group.verdict.to_string(), "degraded: two primaries, also machine-a");
    let topology = Topology::of(&world);
    assert_eq!(topology.group_of(&named("machine-a")).map(|group| group.name.as_str()), Some("machine-b"));
    assert_eq!(topology.on_host(&host("machine-a")).count(), 1);
}

#[test]
fn the_rival_with_linked_replicas_leads() {
    let sibling = |name: &str, port: u16, digit| {
        instance(name, &format!("10.0.0.3:{port}")).primary(lineage(digit, 1100), 500).second(lineage('a', 1000))
    };
    let world = World::default()
        .with("machine-c", "10.0.0.3:7400", vec![sibling("one", 6379, 'c'), sibling("two", 6380, 'd')])
        .with(
            "machine-b",
            "10.0.0.2:7400",
            vec![instance("default", "10.0.0.2:6379").replica("10.0.0.3:6380", up(), lineage('d', 1100), 500)],
        );
    let group = only(&world);
    assert_eq!(group.name, "machine-c/two");
    assert_eq!(group.verdict.to_string(), "degraded: two primaries, also machine-c/one");
    assert_eq!(replica_names(&group), ["machine-b"]);
}

#[test]
fn primaries_without_common_history_are_separate_groups() {
    let alone = |name: &str, digit| instance(name, "10.0.0.1:6379").primary(lineage(digit, 5), 5);
    let mut second = alone("two", 'b');
    second.address.port = 6380;
    let world = World::default().with("machine-a", "10.0.0.1:7400", vec![alone("one", 'a'), second]);
    let names: Vec<_> = Topology::of(&world).groups.into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["machine-a/one", "machine-a/two"]);
}

#[test]
fn a_dead_primary_whose_data_another_primary_holds_is_not_to_be_replaced_again() {
    let successor = instance("default", "10.0.0.3:6379").primary(lineage('c', 1001), 200).second(lineage('a', 1001));
    let world = lost_primary().with("machine-c", "10.0.0.3:7400", vec![successor]);
    let topology = Topology::of(&world);
    let group = topology.group("machine-a").unwrap();
    assert_eq!(group.verdict.to_string(), "degraded: primary dead 3m12s, but its data is on primary machine-c");
    assert!(group.members().all(|member| *member != named("machine-c")));
    assert_eq!(topology.group_of(&named("machine-c")).map(|group| group.name.as_str()), Some("machine-c"));
}

#[test]
fn a_replica_of_a_replica_belongs_to_the_same_group() {
    let world = healthy().with(
        "machine-d",
        "10.0.0.4:7400",
        vec![instance("default", "10.0.0.4:6379").replica("10.0.0.2:6379", up(), lineage('a', 800), 199)],
    );
    let group = only(&world);
    assert_eq!(replica_names(&group), ["machine-b", "machine-d"]);
    assert_eq!([group.replicas[0].chained, group.replicas[1].chained], [false, true]);
    assert_eq!(group.replicas[1].lag, Lag::Bytes(200));
    assert_eq!(group.verdict, Verdict::Ok);
    // The chain holds when its middle is stopped, if its file tells whom it followed.
    let middle = instance("default", "10.0.0.2:6379").configured_after("10.0.0.1:6379");
    let group = only(&world.with("machine-b", "10.0.0.2:7400", vec![middle]));
    assert_eq!((group.name.as_str(), group.replicas.len()), ("machine-a", 2));
    assert_eq!(group.verdict.to_string(), "degraded: replica machine-b is stopped");
}

#[test]
fn replicas_that_follow_each_other_have_no_primary() {
    let replica =
        |ip: &str, of: &str| instance("default", &format!("{ip}:6379")).replica(of, down(3), lineage('a', 7), 7);
    let world = World::default()
        .with("machine-a", "10.0.0.1:7400", vec![replica("10.0.0.1", "10.0.0.2:6379")])
        .with("machine-b", "10.0.0.2:7400", vec![replica("10.0.0.2", "10.0.0.1:6379")])
        .with("machine-c", "10.0.0.3:7400", vec![replica("10.0.0.3", "10.0.0.2:6379")]);
    let group = only(&world);
    assert_eq!((group.name.as_str(), &group.verdict), ("machine-a", &Verdict::Circle));
    assert_eq!(replica_names(&group), ["machine-b", "machine-c"]);
    assert!(Topology::of(&world).questions().is_empty());
    // A server that follows itself is a circle of one.
    let own = World::default().with("machine-a", "10.0.0.1:7400", vec![replica("10.0.0.1", "10.0.0.1:6379")]);
    assert_eq!(only(&own).verdict, Verdict::Circle);
}

#[test]
fn an_old_file_of_a_dead_primary_does_not_make_it_a_replica() {
    for old in ["10.0.0.2:6379", "10.9.9.9:6379"] {
        let dead = instance("default", "10.0.0.1:6379").configured_after(old);
        let world = lost_primary().with("machine-a", "10.0.0.1:7400", vec![dead]);
        let group = only(&world);
        assert_eq!((group.name.as_str(), replica_names(&group).len()), ("machine-a", 1), "{old}");
        assert_eq!(group.verdict, Verdict::PrimaryDead { seconds: Some(192) });
    }
}

#[test]
fn a_primary_outside_the_inventory_is_shown_by_its_address() {
    let replica = |link| {
        World::default().with(
            "machine-b",
            "10.0.0.2:7400",
            vec![instance("default", "10.0.0.2:6379").replica("10.9.9.9:6380", link, lineage('a', 7), 7)],
        )
    };
    let group = only(&replica(up()));
    assert_eq!((group.name.as_str(), &group.primary.place), ("10.9.9.9:6380", &Place::Unknown));
    assert_eq!(group.verdict.to_string(), "degraded: primary is on no host of the inventory");
    assert_eq!(verdict(&replica(down(12))), "degraded: primary dead 12s");
}

#[test]
fn spares_are_stopped_or_empty_and_follow_nobody() {
    let port = |name: &str, port: u16| instance(name, &format!("10.0.0.3:{port}"));
    let mut with_dump = port("dump", 4);
    with_dump.files.dump_bytes = Some(5);
    let world = World::default().with(
        "machine-c",
        "10.0.0.3:7400",
        vec![
            port("stopped", 1),
            port("empty", 2).primary(lineage('e', 0), 0),
            with_dump,
            port("used", 5).primary(lineage('f', 0), 1),
            port("silent", 6).state(silent()),
            port("denied", 7).state(denied()),
            port("loading", 8).primary(lineage('1', 0), 0).loading(),
            port("replica", 9).configured_after("10.0.0.3:5"),
        ],
    );
    let topology = Topology::of(&world);
    assert_eq!(topology.spares, ["machine-c/dump", "machine-c/empty", "machine-c/stopped"].map(named));
    let verdicts: Vec<_> = topology.groups.iter().map(|group| format!("{}: {}", group.name, group.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            "machine-c/denied: degraded: primary refuses its agent (user default)",
            "machine-c/loading: degraded: primary is loading",
            "machine-c/silent: degraded: primary runs but does not answer",
            "machine-c/used: degraded: replica machine-c/replica is stopped",
        ]
    );
}

#[test]
fn replicas_that_no_agent_reports_are_named_once() {
    let primary = |lines: &[&str]| {
        healthy().with(
            "machine-a",
            "10.0.0.1:7400",
            vec![instance("default", "10.0.0.1:6379").primary(lineage('a', 1000), 200).serving(lines)],
        )
    };
    // It sees machine-b under another address, as servers on loopback do: counted, it is the one that is known.
    assert!(only(&primary(&["127.0.0.1:6379"])).strangers.is_empty());
    let world = primary(&["127.0.0.1:6379", "10.9.9.9:6379"]);
    assert_eq!(only(&world).strangers.len(), 1);
    let alone = instance("default", "10.0.0.1:6379").primary(lineage('a', 9), 9).serving(&["10.9.9.9:6379"]);
    let group = only(&World::default().with("machine-a", "10.0.0.1:7400", vec![alone]));
    assert_eq!((group.strangers, group.verdict), (vec![at("10.9.9.9:6379")], Verdict::Ok));
}

#[test]
fn addresses_are_matched_in_all_their_forms() {
    let mut world = healthy();
    let entry = world.hosts.get_mut(&host("machine-a")).unwrap();
    entry.addresses = vec!["192.168.7.1".into(), "redis-a.example.net".into(), "fd00::1".into()];
    world.resolved.insert("redis-a.lan".into(), vec!["10.0.0.1".parse().unwrap()]);
    let place = |world: &World, address: HostPort| world.place(&address, &host("machine-b"));
    let a = Place::Instance(named("machine-a"));
    for address in ["10.0.0.1", "192.168.7.1", "redis-a.example.net", "REDIS-A.example.net", "redis-a.lan", "fd00::1"] {
        assert_eq!(place(&world, HostPort::new(address, 6379)), a, "{address}");
    }
    assert_eq!(place(&world, HostPort::new("::ffff:10.0.0.1", 6379)), a, "an IPv4 address in IPv6 clothes");
    assert_eq!(place(&world, HostPort::new("fd00:0::0001", 6379)), a);
    assert_eq!(place(&world, HostPort::new("10.0.0.1", 6380)), Place::Host(host("machine-a")));
    assert_eq!(place(&world, HostPort::new("10.0.0.9", 6379)), Place::Unknown);
    assert_eq!(place(&world, HostPort::new("redis-x.lan", 6379)), Place::Unknown);
}

#[test]
fn a_translated_port_is_matched_by_what_the_server_listens_on() {
    let mut world = healthy();
    let HostView::Answered { report, .. } = &mut world.hosts.get_mut(&host("machine-a")).unwrap().view else {
        panic!()
    };
    report.instances[0].address = at("203.0.113.7:30001");
    for address in ["203.0.113.7:30001", "10.0.0.1:6379", "10.0.0.1:30001"] {
        assert_eq!(world.place(&at(address), &host("machine-b")), Place::Instance(named("machine-a")), "{address}");
    }
}

#[test]
fn loopback_is_the_own_host_first() {
    let world = World::default()
        .with("machine-a", "127.0.0.1:7400", vec![instance("default", "127.0.0.1:6379")])
        .with("machine-b", "127.0.0.1:7401", vec![instance("default", "127.0.0.1:6380")])
        .without("machine-c", "127.0.0.1:7402", "gone");
    let place = |address: &str| world.place(&at(address), &host("machine-b"));
    assert_eq!(place("127.0.0.1:6380"), Place::Instance(named("machine-b")));
    assert_eq!(place("localhost:6380"), Place::Instance(named("machine-b")));
    assert_eq!(place("127.0.0.1:6379"), Place::Instance(named("machine-a")), "all hosts share the address");
    assert_eq!(place("127.0.0.1:6381"), Place::Host(host("machine-c")), "the one that does not say what it has");
}

#[test]
fn two_lost_groups_of_one_host_keep_different_names() {
    let replica = |name: &str, port: u16, of: &str| {
        instance(name, &format!("10.0.0.2:{port}")).replica(of, down(9), lineage('a', 7), 7)
    };
    let world = World::default().without("machine-a", "10.0.0.1:7400", "gone").with(
        "machine-b",
        "10.0.0.2:7400",
        vec![replica("one", 6379, "10.0.0.1:6379"), replica("two", 6380, "10.0.0.1:6380")],
    );
    let topology = Topology::of(&world);
    let names: Vec<_> = topology.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["machine-a:6379", "machine-a:6380"]);
    let found = |text: &str| topology.named_or_at(text).map(|group| group.primary.address.port);
    assert_eq!([found("machine-a:6380"), found("machine-a:6381"), found("machine-a")], [Some(6380), None, None]);
    // When it is the last one its name is that of the host; its address finds it as before.
    let last = lost_primary();
    let of = |text: &str| Topology::of(&last).named_or_at(text).map(|group| group.name.clone());
    assert_eq!(of("machine-a:6379"), of("machine-a"));
    assert_eq!(topology.led_by(&host("machine-a")).count(), 2);
}

#[test]
fn words_name_instances_or_say_why_not() {
    let world = healthy().without("machine-d", "10.0.0.4:7400", "gone").with(
        "machine-e",
        "10.0.0.5:7400",
        vec![instance("one", "10.0.0.5:1"), instance("two", "10.0.0.5:2")],
    );
    let world = world.with("machine-f", "10.0.0.6:7400", Vec::new());
    let find = |word: &str| {
        let (name, instance) = word.split_once('/').unwrap_or((word, ""));
        world.named(&host(name), InstanceName::new(instance).ok().as_ref())
    };
    assert_eq!(find("machine-b"), Ok(named("machine-b")));
    assert_eq!(find("machine-b/default"), Ok(named("machine-b")));
    assert_eq!(find("machine-e/two"), Ok(named("machine-e/two")));
    let says = |word: &str| find(word).unwrap_err().to_string();
    assert_eq!(says("machine-e"), "host machine-e has 2 instances; name one of `machine-e/one`, `machine-e/two`");
    assert_eq!(says("machine-e/three"), "host machine-e has no instance `three`; it has one, two");
    assert_eq!(says("machine-d"), "the agent of machine-d does not answer: gone");
    assert_eq!(says("machine-f"), "host machine-f has no instance in its agent.toml");
    assert_eq!(says("machine-x"), "host machine-x is not among the observed hosts");
}

#[test]
fn the_spare_to_propose_can_read_the_data_and_has_none_of_its_own() {
    let spare = |world: World, name: &str, ip: &str, version: &str, dump| {
        let mut server = instance("default", &format!("{ip}:6379"));
        server.binary = ServerVersion::new(Product::Redis, version).ok();
        server.files.dump_bytes = dump;
        world.with(name, &format!("{ip}:7400"), vec![server])
    };
    let proposed = |world: &World| Topology::of(world).spare_for(&only(world), world).map(|name| name.to_string());
    assert_eq!(proposed(&lost_primary()).as_deref(), Some("machine-c"));
    let old = spare(lost_primary(), "machine-c", "10.0.0.3", "6.2.14", None);
    assert_eq!(proposed(&old), None, "it cannot read the data");
    let world = spare(lost_primary(), "machine-c", "10.0.0.3", "7.0.15", Some(5));
    assert_eq!(proposed(&world).as_deref(), Some("machine-c"), "better than none");
    let world = spare(world, "machine-d", "10.0.0.4", "7.2.6", None);
    assert_eq!(proposed(&world).as_deref(), Some("machine-d"), "it has no data that would be replaced");
    let world = spare(world, "machine-e", "10.0.0.5", "7.0.15", None);
    assert_eq!(proposed(&world).as_deref(), Some("machine-e"), "it is of the same version");
}
