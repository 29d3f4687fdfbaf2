use std::cell::Cell;

use proptest::prelude::*;

use super::*;

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

fn read(text: &str) -> RedisConf {
    let none = &mut |path: &Path| Err(format!("{} is not there", path.display()));
    parse(&source("/etc/redis.conf", text), Path::new("/etc"), none).unwrap()
}

#[test]
fn an_empty_file_has_the_defaults_of_the_server() {
    let conf = read("# nothing\n\n   \r\n");
    assert_eq!((conf.port(), conf.bind(), conf.protected_mode()), (6379, vec![], true));
    assert_eq!((conf.dir(), conf.dbfilename()), ("/etc".into(), "dump.rdb".into()));
    assert_eq!((conf.appendonly(), conf.appenddirname()), (false, "appendonlydir".into()));
    assert_eq!((conf.maxmemory_bytes(), conf.maxmemory_policy()), (0, "noeviction".into()));
    assert_eq!((conf.replica_of(), conf.requirepass(), conf.requires_password()), (None, None, false));
    assert!(conf.serve_stale_data() && conf.unix_socket().is_none() && conf.renames().is_empty());
}

#[test]
fn the_last_directive_wins_whatever_its_case_and_age() {
    let conf =
        read("PORT 1\nport 2\nslaveof a 1\nreplicaof b 2\nslave-serve-stale-data no\nprimaryauth x\nbind a -b\n");
    assert_eq!((conf.port(), conf.replica_of()), (2, Some(HostPort::new("b", 2))));
    assert_eq!((conf.serve_stale_data(), conf.masterauth()), (false, Some("x")));
    assert_eq!(conf.bind(), ["a", "-b"]);
    assert_eq!(read("replicaof b 2\nreplicaof NO ONE\n").replica_of(), None);
    assert_eq!(read("requirepass x\nrequirepass \"\"\n").requirepass(), None);
}

#[test]
fn directives_that_add_up_are_all_kept() {
    let conf = read("loadmodule /a.so x y\nloadmodule /b.so\nrename-command CONFIG \"\"\nrename-command Save hidden\n");
    assert_eq!(conf.load_modules(), ["/a.so", "/b.so"]);
    let renames: Vec<_> = conf.renames().into_iter().collect();
    assert_eq!(renames, [("CONFIG".into(), String::new()), ("SAVE".into(), "hidden".into())]);
}

#[test]
fn the_default_user_needs_a_password_if_its_rules_say_so() {
    for (text, required) in [
        ("user default on nopass ~* +@all", false),
        ("user default on >secret ~* +@all", true),
        ("user default off", true),
        ("requirepass x\nuser default on nopass", false),
        ("user repl on >secret +psync", false),
    ] {
        assert_eq!(read(text).requires_password(), required, "{text}");
    }
}

#[test]
fn memory_units_are_those_of_the_server() {
    for (text, bytes) in
        [("0", 0), ("1k", 1000), ("1KB", 1024), ("100mb", 100 << 20), ("2GB", 2 << 30), ("1g", 1_000_000_000), ("x", 0)]
    {
        assert_eq!(read(&format!("maxmemory {text}")).maxmemory_bytes(), bytes, "{text}");
    }
}

#[test]
fn paths_are_relative_to_the_directory_that_the_server_has_changed_to() {
    let conf = read("dir data\ndir ../more\nunixsocket redis.sock\nlogfile /var/log/redis.log\n");
    assert_eq!(conf.dir(), Path::new("/etc/data/../more"));
    assert_eq!(conf.unix_socket().unwrap(), Path::new("/etc/data/../more/redis.sock"));
    assert_eq!(conf.logfile().unwrap(), Path::new("/var/log/redis.log"));
}

#[test]
fn includes_stand_in_the_place_of_their_line() {
    let mut asked = Vec::new();
    let text = "port 1\ninclude a.conf\nport 3\ndir data\ninclude conf.d/*.conf\n";
    let include = &mut |path: &Path| {
        asked.push(path.to_owned());
        match path.to_str() {
            Some("/etc/a.conf") => Ok(vec![source("a.conf", "port 2\nappendonly yes")]),
            _ => Ok(vec![source("x.conf", "maxmemory 1\n"), source("y.conf", "maxmemory 2\n")]),
        }
    };
    let conf = parse(&source("/etc/redis.conf", text), Path::new("/etc"), include).unwrap();
    assert_eq!((conf.port(), conf.appendonly(), conf.maxmemory_bytes()), (3, true, 2));
    assert_eq!(asked, [Path::new("/etc/a.conf"), Path::new("/etc/data/conf.d/*.conf")]);
}

#[test]
fn mistakes_name_file_and_line() {
    let none = &mut |_: &Path| Err("no such file".to_owned());
    let mut told = |text: &str| parse(&source("/r.conf", text), Path::new("/"), none).unwrap_err().to_string();
    assert_eq!(told("port 1\ndir \"x\n"), "/r.conf:2: unbalanced quotes");
    assert_eq!(told("\n\ninclude x.conf\n"), "/r.conf:3: include /x.conf: no such file");
}

#[test]
fn a_file_that_includes_itself_is_refused() {
    let count = Cell::new(0);
    let itself = &mut |path: &Path| {
        count.set(count.get() + 1);
        Ok(vec![Source { path: path.to_owned(), text: "include r.conf\n".into() }])
    };
    let error = parse(&source("/r.conf", "include r.conf\n"), Path::new("/"), itself).unwrap_err();
    assert_eq!(error.mistake, Mistake::Depth);
    assert!(count.get() < 20, "{} files were read", count.get());
}

#[test]
fn a_flood_of_includes_and_of_directives_is_refused() {
    let many = &mut |path: &Path| Ok(vec![Source { path: path.to_owned(), text: String::new() }; 600]);
    let error = parse(&source("/r.conf", "include a\ninclude b\n"), Path::new("/"), many).unwrap_err();
    assert_eq!((error.line, error.mistake), (2, Mistake::Files));
    let error = parse(&source("/r.conf", &"port 1\n".repeat(100_001)), Path::new("/"), many).unwrap_err();
    assert_eq!(error.mistake, Mistake::Directives);
}

#[test]
fn arguments_of_the_command_line_come_last() {
    let mut conf = read("port 1\nappendonly yes\n");
    let words =
        ["redis-server", "/etc/redis.conf", "--port", "2", "--save", "", "--bind", "a", "b", "--daemonize", "no"];
    conf.push_arguments(&words.map(String::from));
    assert_eq!((conf.port(), conf.bind(), conf.appendonly()), (2, vec!["a".into(), "b".into()], true));
}

#[test]
fn debugging_shows_no_password() {
    let shown = format!("{:?}", read("requirepass hunter2\n"));
    assert!(shown.contains("requirepass") && !shown.contains("hunter2"), "{shown}");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\PC{0,20}[ \"'\\\\\n]){0,20}") {
        let none = &mut |_: &Path| Err(String::new());
        let _ = parse(&source("/r", &text), Path::new("/"), none);
    }

    #[test]
    fn no_value_makes_an_accessor_panic(value in "\\PC{0,20}") {
        let names = ["port", "bind", "maxmemory", "replicaof x", "dir", "user default", "rename-command A", "replicaof"];
        let text: String = names.iter().map(|name| format!("{name} {}\n", value.replace(['"', '\''], ""))).collect();
        let conf = read(&text);
        let _ = (conf.port(), conf.bind(), conf.maxmemory_bytes(), conf.replica_of(), conf.dir(), conf.renames());
        let _ = (conf.requires_password(), conf.unix_socket(), conf.announced());
    }
}
