use super::*;

fn places() -> Places {
    Places { home: Some("/home/op".into()), ..Places::default() }
}

fn parsed(text: &str) -> Result<Inventory, InventoryError> {
    Inventory::parse(text, Path::new("/etc/baton/coord.toml"), &places())
}

fn refused(text: &str) -> String {
    parsed(text).unwrap_err().to_string()
}

const THREE: &str = r#"
identity = "pki/operator.pem"
[hosts.machine-a]
agent = "10.77.0.1:7400"
[hosts.machine-b]
agent = "10.77.0.2:7400"
addresses = ["10.0.0.2", "redis-b.example.net", "fd00::2"]
[hosts.machine-c]
agent = "[fd00::3]:7400"
"#;

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

#[test]
fn paths_are_taken_from_the_directory_of_the_file() {
    let inventory = parsed(THREE).unwrap();
    assert_eq!(inventory.identity, Path::new("/etc/baton/pki/operator.pem"));
    assert_eq!(inventory.state, Path::new("/home/op/.local/state/baton"));
    let relative = Inventory::parse(&format!("state = \"runs\"{THREE}"), Path::new("coord.toml"), &places()).unwrap();
    assert_eq!(relative.identity, Path::new("pki/operator.pem"));
    assert_eq!(relative.state, Path::new("runs"));
    let absolute = parsed(&THREE.replace("pki/operator.pem", "/root/op.pem")).unwrap();
    assert_eq!(absolute.identity, Path::new("/root/op.pem"));
}

#[test]
fn hosts_keep_their_agents_and_addresses() {
    let inventory = parsed(THREE).unwrap();
    assert_eq!(inventory.names(), ["machine-a", "machine-b", "machine-c"].map(host));
    let b = inventory.host(&host("machine-b")).unwrap();
    assert_eq!(b.agent.to_string(), "10.77.0.2:7400");
    assert_eq!(b.addresses, ["10.0.0.2", "redis-b.example.net", "fd00::2"]);
    assert_eq!(inventory.host(&host("machine-c")).unwrap().agent.host, "fd00::3");
}

#[test]
fn an_unknown_key_is_named_with_line_and_column_and_what_was_expected() {
    let error = refused("identity = \"op.pem\"\n[hosts.a]\nagnet = \"10.0.0.1:7400\"\n");
    assert_eq!(error, "/etc/baton/coord.toml:3:1: unknown field `agnet`, expected `agent` or `addresses`");
    let error = refused("identity = \"op.pem\"\nhost = 1\n");
    assert_eq!(error, "/etc/baton/coord.toml:2:1: unknown field `host`, expected one of `identity`, `state`, `hosts`");
}

#[test]
fn wrong_values_are_named_with_their_place() {
    for (text, expected) in [
        ("identity = \"op.pem\"\n[hosts.a]\nagent = \"10.0.0.1\"\n", ":3:9: address `10.0.0.1` is not HOST:PORT"),
        ("identity = 7\n", ":1:12: invalid type: integer `7`, expected path string"),
        ("identity = \"op.pem\n", ":1:"),
        ("[hosts.a]\nagent = \"10.0.0.1:1\"\n", "missing field `identity`"),
        ("identity = \"a\"\n[hosts.A]\nagent = \"10.0.0.1:1\"\n", "host name `A` may hold only"),
    ] {
        let error = refused(text);
        assert!(error.starts_with("/etc/baton/coord.toml:") && error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn a_file_that_cannot_work_as_a_whole_is_refused() {
    for (text, expected) in [
        ("identity = \"op.pem\"\n", "lists no host"),
        (
            "identity = \"op.pem\"\n[hosts.a]\nagent = \"10.0.0.1:1\"\n[hosts.b]\nagent = \"10.0.0.1:1\"\n",
            "hosts a and b have the same agent 10.0.0.1:1",
        ),
        ("identity = \"op.pem\"\n[hosts.a]\nagent = \"10.0.0.1:1\"\naddresses = [\"10.0.0.1:6379\"]", "no address"),
    ] {
        let error = refused(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let homeless = Inventory::parse(THREE, Path::new("coord.toml"), &Places::default());
    assert!(homeless.unwrap_err().to_string().contains("add `state = DIRECTORY`"));
}

#[test]
fn the_search_goes_from_here_to_the_user_to_the_system_and_says_where_it_looked() {
    let shown = |places: &Places| {
        places.config_files().iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&places()), "coord.toml /home/op/.config/baton/coord.toml /etc/baton/coord.toml");
    let xdg = Places { xdg_config: Some("/x".into()), ..places() };
    assert_eq!(shown(&xdg), "coord.toml /x/baton/coord.toml /etc/baton/coord.toml");
    assert_eq!(shown(&Places::default()), "coord.toml /etc/baton/coord.toml");

    let missing = InventoryError::Missing { looked: places().config_files() };
    let text = CoordError::from(missing);
    assert_eq!(
        text.message,
        "no coord.toml found; looked for `coord.toml`, `/home/op/.config/baton/coord.toml`, `/etc/baton/coord.toml`"
    );
    assert!(text.hint.unwrap().contains("--config FILE"));
}

#[test]
fn a_named_file_that_is_missing_is_not_replaced_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.toml");
    let error = Inventory::find(Some(&path), &places()).unwrap_err();
    assert!(matches!(error, InventoryError::Read { .. }), "{error}");
    std::fs::write(&path, THREE).unwrap();
    assert_eq!(Inventory::find(Some(&path), &places()).unwrap().hosts.len(), 3);
}

#[test]
fn words_name_hosts_and_instances() {
    let inventory = parsed(THREE).unwrap();
    assert_eq!(inventory.word("machine-b").unwrap(), Word { host: host("machine-b"), instance: None });
    let cache = inventory.word("machine-b/cache").unwrap();
    assert_eq!(cache.instance, Some(InstanceName::new("cache").unwrap()));
    assert_eq!(cache.to_string(), "machine-b/cache");
    assert!(inventory.word("machine-b/").is_err());
    assert!(inventory.word("").is_err());
}

#[test]
fn an_unknown_host_is_answered_with_near_names() {
    let inventory = parsed(THREE).unwrap();
    let hint = |word: &str| inventory.word(word).unwrap_err().hint().unwrap();
    assert_eq!(hint("machin-b"), "did you mean `machine-b`?");
    assert_eq!(hint("MACHINE-B"), "did you mean `machine-b`?");
    assert_eq!(hint("10.0.0.2"), "did you mean `machine-b`?");
    assert_eq!(hint("10.77.0.1:6379"), "did you mean `machine-a`?");
    assert_eq!(hint("zebra"), "the hosts are `machine-a` or `machine-b` or `machine-c`");
    assert_eq!(inventory.word("zebra").unwrap_err().to_string(), "host `zebra` is not in /etc/baton/coord.toml");
}

#[test]
fn typos_are_counted_in_letters() {
    assert_eq!([typos("", ""), typos("", "abc"), typos("abc", ""), typos("abc", "abc")], [0, 3, 3, 0]);
    assert_eq!([typos("kitten", "sitting"), typos("ab", "ba"), typos("machine-a", "machin-a")], [3, 2, 1]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = parsed(&text);
    }

    #[test]
    fn no_word_makes_the_lookup_panic(text in "\\PC{0,60}") {
        let _ = parsed(THREE).unwrap().word(&text);
    }
}
