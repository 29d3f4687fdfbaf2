use proptest::prelude::*;

use super::*;

const HEAD: &str = "listen = \"10.77.0.2:7400\"\nidentity = \"machine-b.pem\"\n";
const INSTANCE: &str =
    "[[instance]]\nconfig = \"redis.conf\"\nservice = { exec = [\"redis-server\", \"redis.conf\"] }\n";

fn parse(text: &str) -> Result<AgentConfig, Mistake> {
    AgentConfig::parse(text, Path::new("/etc/baton"), None)
}

/// The error as `load` shows it, less the file's name.
fn mistake(text: &str) -> String {
    let mistake = parse(text).unwrap_err();
    let (line, column) = mistake.line_and_column(text);
    format!("{line}:{column}: {}", mistake.message)
}

#[test]
fn a_short_file_gets_its_defaults() {
    let config = parse(&format!("{HEAD}{INSTANCE}")).unwrap();
    assert_eq!(config.identity, Path::new("/etc/baton/machine-b.pem"));
    assert_eq!(config.state, Path::new("/etc/baton/state-machine-b"));
    let [instance] = config.instances.as_slice() else { panic!("one instance, not {:?}", config.instances) };
    assert_eq!(instance.name.as_str(), "default");
    assert_eq!(instance.config, Path::new("/etc/baton/redis.conf"));
    assert_eq!(instance.service, ServiceConfig::Exec(vec!["redis-server".into(), "redis.conf".into()]));
}

#[test]
fn a_full_file_is_read() {
    let text = r#"
        listen = "[::1]:7400"
        identity = "/keys/b.pem"
        state = "state"
        disk_reserve = "10GB"
        memory_reserve = 4096
        lanes = 3
        [[instance]]
        name = "cache"
        config = "./cache.conf"
        address = "db1.example.net:6379"
        user = "baton"
        password_file = "/run/secrets/cache"
        service = { systemd = "redis-server" }
        [[instance]]
        name = "queue"
        config = "/q/redis.conf"
        service = { command = { start = ["./up", "{args}"], stop = ["down"], status = ["/bin/ask"] } }
    "#;
    let config = parse(text).unwrap();
    assert_eq!((config.disk_reserve_bytes, config.memory_reserve_bytes, config.lanes), (10_000_000_000, 4096, 3));
    assert_eq!(config.state, Path::new("/etc/baton/state"));
    let [cache, queue] = config.instances.as_slice() else { panic!("two instances") };
    assert_eq!(cache.config, Path::new("/etc/baton/cache.conf"));
    assert_eq!(cache.address, Some(HostPort::new("db1.example.net", 6379)));
    assert_eq!(
        (cache.user.as_deref(), cache.service.clone()),
        (Some("baton"), ServiceConfig::Systemd("redis-server.service".into()))
    );
    let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        queue.service,
        ServiceConfig::Command {
            start: words(&["/etc/baton/up", "{args}"]),
            stop: words(&["down"]),
            status: words(&["/bin/ask"]),
        }
    );
}

#[test]
fn the_state_directory_of_systemd_is_used_when_the_file_names_none() {
    let text = format!("{HEAD}{INSTANCE}");
    let config = AgentConfig::parse(&text, Path::new("/etc/baton"), Some(Path::new("/var/lib/baton:/x"))).unwrap();
    assert_eq!(config.state, Path::new("/var/lib/baton"));
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_known_ones() {
    assert_eq!(
        mistake(&format!("{HEAD}lissen = 1\n{INSTANCE}")),
        "3:1: unknown field `lissen`, expected one of `listen`, `identity`, `state`, `disk_reserve`, `memory_reserve`, \
         `lanes`, `metrics`, `log`, `instance`"
    );
    assert_eq!(
        mistake(&format!("{HEAD}{INSTANCE}  pasword_file = \"x\"\n")),
        "6:3: unknown field `pasword_file`, expected one of `name`, `config`, `address`, `user`, `password_file`, `tls_ca`, `service`"
    );
    assert_eq!(
        mistake(&format!("{HEAD}{}", INSTANCE.replace("exec", "exce"))),
        "5:13: unknown variant `exce`, expected one of `exec`, `systemd`, `command`"
    );
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let cases = [
        ("listen = \"here\"\n", "1:10: invalid socket address syntax"),
        ("listen = \n", "1:10: string values must be quoted, expected literal string"),
        (HEAD, "3:1: no instance; add an `[[instance]]` with `config` and `service`"),
        (
            &format!("{HEAD}disk_reserve = \"ten\"\n{INSTANCE}"),
            "3:16: invalid value: string \"ten\", expected a number of bytes, or a text like \"10GB\" or \"512MiB\"",
        ),
        (
            &format!("{HEAD}{}", INSTANCE.replace("[\"redis-server\", \"redis.conf\"]", "[]")),
            "5:11: an empty list; it needs the program, then its arguments",
        ),
        (
            &format!("{HEAD}{}", INSTANCE.replace("exec = [\"redis-server\", \"redis.conf\"]", "systemd = \"../x\"")),
            "5:11: `../x` is not the name of a systemd unit",
        ),
        (&format!("{HEAD}{INSTANCE}{INSTANCE}"), "6:1: a second instance `default`; give each its own `name`"),
        (
            &format!("{HEAD}{INSTANCE}{INSTANCE}name = \"b\"\n"),
            "7:10: instance `default` has this `config` already; each server has its own",
        ),
        (
            &format!("{HEAD}{INSTANCE}name = \"../b\"\n"),
            "6:8: instance name `../b` may hold only a-z, 0-9, `-`, `_` and `.`, and starts with a letter or digit",
        ),
        (
            &format!("{HEAD}{INSTANCE}user = \"baton\"\n"),
            "6:8: `user` needs `password_file`: a password is not written into this file",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(mistake(text), expected, "for:\n{text}");
    }
}

#[test]
fn load_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    let missing = AgentConfig::load(&path).unwrap_err();
    assert_eq!(missing.to_string(), format!("read {}", path.display()));
    std::fs::write(&path, format!("{HEAD}x = 1\n")).unwrap();
    let text = AgentConfig::load(&path).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}:3:1: unknown field `x`", path.display())), "{text}");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", tail in "\\PC{0,40}") {
        let _ = parse(&text).map_err(|mistake| mistake.line_and_column(&text));
        let text = format!("{HEAD}{INSTANCE}{tail}");
        let _ = parse(&text).map_err(|mistake| mistake.line_and_column(&text));
    }
}
