use super::*;
use crate::config::{AgentConfig, ServiceConfig};

fn words(text: &str) -> Vec<String> {
    text.split('\t').map(str::to_owned).collect()
}

fn process(pid: u32, argv: &str, unit: Option<&str>) -> Process {
    Process {
        pid,
        program: "/usr/bin/redis-server".into(),
        argv: words(argv),
        unit: unit.map(Into::into),
        ..Process::default()
    }
}

fn unit(name: &str, config: &str) -> Unit {
    Unit { name: name.into(), config: config.into() }
}

fn file(path: &str, port: u16) -> ConfFile {
    ConfFile { path: path.into(), port, dir: "/var/lib/redis".into(), ..ConfFile::default() }
}

fn found(seen: &Seen) -> Findings {
    find(seen, &BTreeMap::new())
}

#[test]
fn servers_are_told_from_their_children_and_from_sentinels() {
    let server = |argv: &str, program: &str| is_server(&words(argv), Path::new(program));
    assert!(server("/usr/bin/redis-server 127.0.0.1:6379", "/usr/bin/redis-check-rdb"));
    assert!(server("/usr/bin/valkey-server\t/etc/valkey/valkey.conf", ""));
    assert!(server("cache of the shop", "/opt/redis-server"));
    assert!(!server("redis-rdb-bgsave 127.0.0.1:6379", "/usr/bin/redis-server"));
    assert!(!server("/usr/bin/redis-server *:26379 [sentinel]", "/usr/bin/redis-server"));
    assert!(!server("redis-server\t/etc/s.conf\t--sentinel", "/usr/bin/redis-server"));
    assert!(!server("/usr/bin/redis-sentinel *:26379 [sentinel]", "/usr/bin/redis-server"));
    assert!(!server("vim\tredis-server", "/usr/bin/vim"));
}

#[test]
fn a_file_is_known_by_the_first_of_four_ways() {
    let titled = "/usr/bin/redis-server *:6379";
    let cases: [(&str, Process, &str); 4] = [
        ("tells", Process { told: Some("/srv/told.conf".into()), ..process(1, titled, None) }, "/srv/told.conf"),
        ("command line", process(1, "/usr/bin/redis-server\t/srv/argument.conf", None), "/srv/argument.conf"),
        ("unit", process(1, titled, Some("redis-server.service")), "/etc/redis/redis.conf"),
        ("only one", Process { cwd: "/var/lib/redis".into(), ..process(1, titled, None) }, "/etc/redis/other.conf"),
    ];
    for (how, process, config) in cases {
        let units = vec![unit("redis-server.service", "/etc/redis/redis.conf")];
        let seen = Seen { processes: vec![process], units, files: vec![file("/etc/redis/other.conf", 6379)] };
        let findings = found(&seen);
        assert_eq!(findings.instances[0].config, Path::new(config), "{how}");
        assert!(findings.instances[0].because.contains(how), "{findings:?}");
        assert_eq!(findings.unclear, Vec::<String>::new());
    }
}

#[test]
fn a_server_whose_file_could_be_two_is_named_and_not_guessed() {
    let seen = Seen {
        processes: vec![Process { cwd: "/var/lib/redis".into(), ..process(7, "redis-server *:6379", None) }],
        files: vec![file("/etc/redis/a.conf", 6379), file("/etc/redis/b.conf", 6379)],
        ..Seen::default()
    };
    let findings = found(&seen);
    assert_eq!(findings.instances, []);
    assert!(findings.unclear[0].contains("process 7"), "{findings:?}");
    assert!(tables(&findings).trim().lines().all(|line| line.starts_with('#')));
}

#[test]
fn a_unit_that_does_not_run_is_listed_once_its_file_is_there() {
    let units =
        vec![unit("redis-server.service", "/etc/redis/redis.conf"), unit("valkey@.service", "/etc/valkey/none.conf")];
    let seen = Seen { units, files: vec![file("/etc/redis/redis.conf", 6379)], ..Seen::default() };
    let [only] = &found(&seen).instances[..] else { panic!() };
    assert_eq!((only.name.as_str(), &only.service), ("default", &Service::Systemd("redis-server.service".into())));
}

#[test]
fn what_the_agent_started_is_started_by_its_own_unit_or_program_and_never_by_the_agents() {
    let own = process(1, "/usr/bin/redis-server\t/etc/redis/redis.conf", Some("baton-agent.service"));
    let with = Seen {
        processes: vec![own.clone()],
        units: vec![unit("redis-server.service", "/etc/redis/redis.conf")],
        ..Seen::default()
    };
    assert_eq!(found(&with).instances[0].service, Service::Systemd("redis-server.service".into()));
    let without = Seen { processes: vec![own], ..Seen::default() };
    assert_eq!(found(&without).instances[0].service, Service::Exec("/usr/bin/redis-server".into()));
}

#[test]
fn several_are_named_by_their_ports_and_agent_toml_takes_them() {
    let seen = Seen {
        processes: vec![
            process(1, "/usr/bin/redis-server\t/etc/redis/6379.conf", None),
            process(2, "/usr/bin/redis-server\t/etc/redis/6380.conf", None),
            process(3, "/usr/bin/redis-server\t/srv/\"odd\\name.conf", None),
        ],
        units: vec![unit("valkey@a.service", "/etc/valkey/a.conf")],
        files: vec![
            file("/etc/redis/6379.conf", 6379),
            file("/etc/redis/6380.conf", 6380),
            file("/etc/valkey/a.conf", 6379),
        ],
    };
    let text = merge::merged(None, &found(&seen), Path::new("/etc/baton")).unwrap();
    let config = AgentConfig::parse(&text, Path::new("/etc/baton"), None).unwrap();
    let names: Vec<_> = config.instances.iter().map(|instance| instance.name.as_str()).collect();
    assert_eq!(names, ["redis-6379", "redis-6380", "redis-socket", "valkey-6379"]);
    assert_eq!(config.instances[2].config, Path::new("/srv/\"odd\\name.conf"));
    assert_eq!(config.instances[3].service, ServiceConfig::Systemd("valkey@a.service".into()));
}

#[test]
fn what_stands_in_the_file_stays_and_is_not_added_again() {
    let text = "listen = \"127.0.0.1:7400\" # mine\nidentity = \"a.pem\"\n[[instance]]\nconfig = \"../redis/6379.conf\"\nservice = { systemd = \"r\" }";
    let base = Path::new("/etc/baton");
    let mut known = merge::known(text, base).unwrap();
    assert_eq!(known.values().collect::<Vec<_>>(), ["default"]);
    known.insert("/etc/redis/6379.conf".into(), "default".into());
    let seen = Seen {
        processes: vec![
            process(1, "/usr/bin/redis-server\t/etc/redis/6379.conf", None),
            process(2, "/usr/bin/redis-server\t/etc/redis/6380.conf", None),
        ],
        files: vec![file("/etc/redis/6380.conf", 6380)],
        ..Seen::default()
    };
    let merged = merge::merged(Some(text), &find(&seen, &known), base).unwrap();
    assert!(merged.starts_with(text));
    assert_eq!(merged.matches("[[instance]]").count(), 2, "{merged}");
    assert!(merged.contains("name = \"redis-6380\""), "{merged}");
    let again = merge::known(&merged, base).unwrap();
    assert!(again.contains_key(Path::new("/etc/redis/6380.conf")));
}

#[test]
fn a_result_that_no_agent_would_take_is_not_written() {
    let said = merge::merged(Some("listen = 7\n"), &Findings::default(), Path::new("/etc/baton")).unwrap_err();
    assert!(said.contains("line 1"), "{said}");
}

#[test]
fn a_path_with_a_newline_cannot_end_its_comment() {
    let seen = Seen { processes: vec![process(1, "redis-server\t/a\nlisten = \"x\"", None)], ..Seen::default() };
    let text = tables(&found(&seen));
    assert!(text.lines().all(|line| !line.starts_with("listen")), "{text}");
}
