//! The pages for monitoring: what a balancer is told before, while and after a primary is lost, and what Prometheus reads.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use baton_tests::host::{Host, quoted};
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, World};

use crate::scene::{LITTLE_BYTES, Lost};

const PORT: u16 = 9121;

/// Asks for a page: its status, and its text.
fn page(host: &Host, path: &str) -> (u16, String) {
    // An agent answers its peers a moment before it serves these pages.
    let connect = || TcpStream::connect((host.ip, PORT)).map_err(|error| error.to_string());
    let mut stream = wait_for("the pages are served", connect);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn status(host: &Host, path: &str) -> u16 {
    page(host, path).0
}

fn world() -> World {
    world_on(REDIS_7_0)
}

/// A, B and C, whose agents serve the pages.
pub(crate) fn world_on(server: &str) -> World {
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        host.configure_agent(|toml| {
            toml.top.set("metrics", quoted(&format!("{}:{PORT}", host.ip)));
        });
    }
    world
}

/// A sample of the metrics.
pub(crate) fn metric(host: &Host, name: &str) -> Option<String> {
    let (_, text) = page(host, "/metrics");
    let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']))?;
    line.rsplit_once(' ').map(|(_, value)| value.to_owned())
}

#[test]
fn balancers_follow_a_failover_and_a_deposed_primary_gets_no_clients() {
    let world = world();
    world.start();
    baton_tests::dataset::Dataset::mixed(3, LITTLE_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    assert_eq!([A, B, C].map(|host| status(world.host(host), "/primary")), [200, 503, 503]);
    assert_eq!([A, B, C].map(|host| status(world.host(host), "/replica")), [503, 200, 503]);
    wait_for("B is close behind", || match page(world.b(), "/replica?max_lag=1kB") {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let lost = Lost::after(world);
    assert_eq!(status(lost.world.b(), "/replica"), 503, "its primary is gone");
    lost.failover_done(&[]);
    assert_eq!([B, C].map(|host| status(lost.world.host(host), "/primary")), [503, 200]);
    assert_eq!(status(lost.world.b(), "/replica/default?max_lag=10MB"), 200);
    lost.world.a().start_server();
    lost.world.a().start_agent();
    wait_for("A gets no clients", || match page(lost.world.a(), "/primary") {
        (503, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_primary_that_was_replaced_is_never_said_to_lead_and_a_restarted_agent_soon_says_so_again() {
    let world = world();
    world.start();
    // Whoever looks tells the agents of a group of each other.
    world.coord(&["status"]);
    world.a().restart_agent();
    wait_for("A leads on", || match page(world.a(), "/primary") {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let log = || fs::read_to_string(world.a().agent_log()).unwrap();
    assert!(
        log().contains("peers were asked whether servers of this host were replaced peers=1 all=true"),
        "{}",
        log()
    );
    let lost = Lost::after(world);
    lost.failover_done(&[]);
    let a = lost.world.a();
    a.start_server();
    a.start_agent();
    let mut told = Vec::new();
    wait_for("A is fenced", || {
        told.push(page(a, "/primary"));
        if a.info("role") == "slave" { Ok(()) } else { Err(format!("{told:?}")) }
    });
    assert!(told.iter().all(|(status, _)| *status == 503), "{told:?}");
}

/// A whole site was without power, and who would know does not come back.
#[test]
fn a_primary_whose_peers_are_gone_leads_after_a_while() {
    let world = world();
    world.start();
    world.coord(&["status"]);
    world.b().lose();
    let a = world.a();
    a.lose();
    a.start_server();
    a.start_agent();
    let (status, why) = page(a, "/primary");
    assert!(status == 503 && why.contains("not yet known whether it was replaced"), "{status} {why}");
    wait_for("nobody is waited for any more", || match page(a, "/primary") {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn metrics_tell_what_stands_and_what_is_asked_wrongly_gets_an_answer() {
    let world = world();
    world.start();
    let b = world.b();
    assert_eq!(metric(b, "baton_instance_up").as_deref(), Some("1"));
    assert_eq!(metric(b, "baton_instance_primary").as_deref(), Some("0"));
    assert_eq!(metric(b, "baton_instance_link_up").as_deref(), Some("1"));
    assert!(metric(b, "baton_certificate_expiry_timestamp_seconds").unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(metric(world.c(), "baton_instance_up").as_deref(), Some("0"));
    let (code, text) = page(b, "/metrics");
    assert_eq!(code, 200);
    for line in text.lines() {
        let fits = line.starts_with("# HELP baton_") || line.starts_with("# TYPE baton_") || line.starts_with("baton_");
        assert!(fits, "{line}");
    }
    for (path, code) in [("/", 404), ("/primary/none", 404), ("/replica?max_lag=ten", 400), ("/health", 200)] {
        assert_eq!(status(b, path), code, "{path}");
    }
    let lost = Lost::after(world);
    lost.failover_done(&[]);
    assert!(metric(lost.world.b(), "baton_sent_bytes_total").unwrap().parse::<u64>().unwrap() > 0);
}

/// The names of metrics in a text: words that begin as ours do.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("baton_")).collect()
}

/// `tests/promtool` has the page written to a file, and has promtool read it as well.
#[test]
fn every_metric_that_alerts_and_dashboard_name_is_served() {
    let world = world();
    world.start();
    let (code, page) = page(world.b(), "/metrics");
    assert_eq!(code, 200);
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let alerts = names(include_str!("../../packaging/monitoring/alerts.yml"));
    let dashboard = names(include_str!("../../packaging/monitoring/dashboard.json"));
    let tests = names(include_str!("../monitoring/alerts.yml"));
    assert!(!alerts.is_empty() && !dashboard.is_empty() && !tests.is_empty());
    for (file, named) in [("the alerts", &alerts), ("the dashboard", &dashboard), ("the tests of the alerts", &tests)] {
        let missing: Vec<_> = named.difference(&served).collect();
        assert!(missing.is_empty(), "{file} name {missing:?}, and there is only {served:?}");
    }
    let told: BTreeSet<&str> = names(include_str!("../../docs/monitoring.md"));
    let untold: Vec<_> = served.difference(&told).collect();
    assert!(untold.is_empty(), "docs/monitoring.md does not tell of {untold:?}");
    if let Some(file) = std::env::var_os("BATON_METRICS_PAGE") {
        std::fs::write(file, page).expect("the page can be written");
    }
}
