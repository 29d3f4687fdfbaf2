use std::path::Path;

use serde_json::json;

use super::*;
use crate::error::Exit;
use crate::inventory::Places;
use crate::topology::fixture::*;

fn inventory() -> Inventory {
    let text = "identity = \"op.pem\"\nstate = \"runs\"\n\
        [hosts.machine-a]\nagent = \"10.0.0.1:7400\"\n\
        [hosts.machine-b]\nagent = \"10.0.0.2:7400\"\n\
        [hosts.machine-c]\nagent = \"10.0.0.3:7400\"\n";
    Inventory::parse(text, Path::new("coord.toml"), &Places::default()).unwrap()
}

fn text(selection: &Selection, topology: &Topology, world: &World) -> String {
    let mut out = Vec::new();
    write(&mut out, selection, topology, world).unwrap();
    String::from_utf8(out).unwrap()
}

/// The first words of each part that is shown for a word.
fn parts(word: &str, world: &World) -> Vec<String> {
    let topology = Topology::of(world);
    let selection = Selection::only(word, world, &topology, &inventory()).unwrap();
    let text = text(&selection, &topology, world);
    let titles = text
        .lines()
        .filter(|line| line.starts_with("group") || line.starts_with("spares") || line.starts_with("unreachable"));
    titles.map(|line| line.split("  ").next().unwrap().to_owned()).collect()
}

#[test]
fn parts_are_set_apart_by_an_empty_line() {
    let world = lost_primary();
    let topology = Topology::of(&world);
    let text = text(&Selection::all(&world, &topology), &topology, &world);
    assert!(text.contains("--dry-run\n\nspares\n"), "{text}");
    assert!(text.contains("redis 7.0.15\n\nunreachable hosts\n"), "{text}");
}

#[test]
fn a_word_selects_what_it_names() {
    let world = lost_primary();
    assert_eq!(parts("machine-a", &world), ["group machine-a", "unreachable hosts"]);
    assert_eq!(parts("machine-b", &world), ["group machine-a"]);
    assert_eq!(parts("machine-b/default", &world), ["group machine-a"]);
    assert_eq!(parts("machine-c", &world), ["spares"]);
    assert_eq!(parts("machine-c/default", &world), ["spares"]);
}

#[test]
fn a_group_that_is_named_by_an_address_can_be_selected() {
    let orphan = instance("default", "10.0.0.2:6379").replica("10.9.9.9:6379", down(5), lineage('a', 1), 1);
    let world = World::default().with("machine-b", "10.0.0.2:7400", vec![orphan]);
    assert_eq!(parts("10.9.9.9:6379", &world), ["group 10.9.9.9:6379"]);
}

#[test]
fn a_word_that_names_nothing_is_a_mistake_of_usage() {
    let world = lost_primary();
    let topology = Topology::of(&world);
    let error = |word: &str| Selection::only(word, &world, &topology, &inventory()).err().unwrap();
    let unknown = error("machin-b");
    assert_eq!((unknown.exit, unknown.message.as_str()), (Exit::Usage, "host `machin-b` is not in coord.toml"));
    assert_eq!(unknown.causes, ["the groups are `machine-a`"]);
    assert_eq!(unknown.hint.as_deref(), Some("did you mean `machine-b`?"));
    assert_eq!(error("machine-b/cache").message, "host machine-b has no instance `cache`; it has default");
}

#[test]
fn agents_without_instances_are_no_empty_page() {
    let world = World::default().with("machine-a", "10.0.0.1:7400", Vec::new());
    let topology = Topology::of(&world);
    let text = text(&Selection::all(&world, &topology), &topology, &world);
    assert_eq!(text, "no instance: the agents that answered have none in their agent.toml\n");
}

#[test]
fn programs_get_a_line_for_each_host_group_and_spare() {
    let world = lost_primary();
    let topology = Topology::of(&world);
    let lines = lines::lines(&Selection::all(&world, &topology), &topology, &world);
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["host", "host", "host", "group", "spare"]);
    assert_eq!(
        lines[0],
        json!({
            "event": "host", "host": "machine-a", "agent": "10.0.0.1:7400", "answers": false,
            "error": "no agent listens at 10.0.0.1:7400: Connection refused",
        })
    );
    assert_eq!(lines[1]["instances"], json!(["default"]));
    assert_eq!(
        lines[4],
        json!({
            "event": "spare", "instance": "machine-c", "host": "machine-c", "address": "10.0.0.3:6379", "state": "stopped",
            "dump_bytes": null, "free_bytes": 61_000_000_000u64, "version": "redis 7.0.15",
        })
    );
    for line in &lines {
        assert!(!line.to_string().contains('\n'));
    }
}

#[test]
fn the_group_line_carries_the_verdict_in_words_and_as_a_code() {
    let world = lost_primary();
    let topology = Topology::of(&world);
    let lines = lines::lines(&Selection::all(&world, &topology), &topology, &world);
    assert_eq!(
        lines[3],
        json!({
            "event": "group", "group": "machine-a", "lineage": "a".repeat(40),
            "verdict": "degraded: primary dead 3m12s", "health": "degraded", "reason": "primary_dead", "dead_seconds": 192,
            "death": "unreachable from here", "expect_primary": "10.0.0.1:6379", "expect_lineage": "aaaaaaaa:1000",
            "testimony": [
                "coord: its agent does not answer: no agent listens at 10.0.0.1:7400: Connection refused",
                "machine-b: has had no link to it for 3m12s",
            ],
            "primary": "machine-a", "primary_address": "10.0.0.1:6379",
            "replicas": ["machine-b"], "rivals": [], "unreported_replicas": [],
            "instances": [
                {
                    "instance": "machine-a", "host": "machine-a", "address": "10.0.0.1:6379", "role": "primary",
                    "state": "unreachable", "follows": null, "lineage": null, "offset": null, "keys": null,
                    "keyspace": null, "version": null, "error": "no agent listens at 10.0.0.1:7400: Connection refused",
                },
                {
                    "instance": "machine-b", "host": "machine-b", "address": "10.0.0.2:6379", "role": "replica",
                    "state": "running", "follows": "machine-a", "lineage": "a".repeat(40), "offset": 1000, "keys": 200,
                    "keyspace": { "0": { "keys": 200, "expires": 0 } }, "version": "redis 7.0.15", "error": null,
                    "link": "down", "link_down_seconds": 192, "run": null, "lag_bytes": null, "frozen": true,
                },
            ],
            "issues": ["machine-a cannot be asked: no agent listens at 10.0.0.1:7400: Connection refused"],
            "next": ["coord failover machine-a --to machine-c --dry-run"],
        })
    );
}
