use std::path::Path;

use baton_proto::control::{Reach, ReachVerdict, Reply, Request};
use baton_wire::{Credentials, Dialer, Listener};

use super::*;
use crate::inventory::Places;
use crate::pki;
use crate::topology::Verdict;
use crate::topology::fixture::*;

#[test]
fn a_clock_is_compared_with_the_middle_of_question_and_answer() {
    assert_eq!(clock_offset(1000, 1100, 1050), ClockOffset { offset_ms: 0, uncertainty_ms: 50 });
    assert_eq!(clock_offset(1000, 1000, 4000), ClockOffset { offset_ms: 3000, uncertainty_ms: 0 });
    assert_eq!(clock_offset(5000, 5003, 1), ClockOffset { offset_ms: -5000, uncertainty_ms: 2 });
}

#[test]
fn clocks_that_jumped_or_lie_are_no_panic() {
    assert_eq!(clock_offset(1100, 1000, 1100).uncertainty_ms, 0);
    assert_eq!(clock_offset(0, 0, u64::MAX).offset_ms, i64::MAX);
    assert_eq!(clock_offset(u64::MAX, u64::MAX, 0).offset_ms, i64::MIN);
}

#[tokio::test]
async fn futures_run_together_and_keep_their_order() {
    let barrier = tokio::sync::Barrier::new(3);
    let barrier = &barrier;
    // Each waits for the others: one after the other they would never end.
    let all = together([3, 1, 2], |n| async move {
        barrier.wait().await;
        n
    });
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), all).await.unwrap(), [3, 1, 2]);
    assert!(together(Vec::<u8>::new(), |n| async move { n }).await.is_empty());
}

/// Answers as an agent would, with what a world says of a host. Everything that is tried from it is refused.
fn agent(dir: &Path, name: &str, report: HostReport) -> HostPort {
    let bundle = dir.join(format!("{name}.pem"));
    pki::issue(&host(name), dir, &bundle).unwrap();
    let listener = Listener::bind(&Credentials::load(&bundle).unwrap(), ([127, 0, 0, 1], 0).into(), "fake").unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Some(arrival) = listener.accept().await {
            let peer = arrival.greet().await.unwrap();
            while let Some(asking) = peer.next().await {
                let Some((request, responder)) = asking.read().await else { continue };
                let reply = match request {
                    Request::Observe => Reply::Observed(Box::new(report.clone())),
                    Request::Reach { to, .. } => Reply::Reached(Reach {
                        verdict: ReachVerdict::Refused,
                        detail: to.to_string(),
                        hung: false,
                        tls: false,
                    }),
                    Request::Knock { host, .. } => {
                        Reply::Knocked { shut: Some(Fault::new(FaultKind::Peer, format!("{host} does not answer"))) }
                    }
                    other => panic!("an observer asked {other:?}"),
                };
                responder.answer(&Ok(reply)).await;
            }
        }
    });
    HostPort::new("127.0.0.1", port)
}

/// A port where nobody listens.
fn nobody() -> HostPort {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    HostPort::new("127.0.0.1", socket.local_addr().unwrap().port())
}

#[tokio::test]
async fn a_survey_asks_every_agent_and_has_the_silent_primary_tried() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("pki");
    let operator = pki::init(&dir, "ada").unwrap().operator;
    let fixture = lost_primary();
    let report = |name: &str| fixture.report(&host(name)).unwrap().clone();
    let (a, b) = (nobody(), agent(&dir, "machine-b", report("machine-b")));
    // This agent's configuration says that it is another host than its certificate and the inventory do.
    let c = agent(&dir, "machine-c", HostReport { host: host("machine-x"), ..report("machine-c") });
    let text = format!(
        "identity = \"pki/operator.pem\"\nstate = \"runs\"\n\
        [hosts.machine-a]\nagent = \"{a}\"\naddresses = [\"10.0.0.1\"]\n\
        [hosts.machine-b]\nagent = \"{b}\"\n[hosts.machine-c]\nagent = \"{c}\"\n"
    );
    let inventory = Inventory::parse(&text, &temp.path().join("coord.toml"), &Places::default()).unwrap();
    let credentials = Credentials::load(&operator).unwrap();
    let agents = Agents::new(Dialer::new(&credentials, "coord test").unwrap(), credentials, &inventory);

    let (world, topology) = survey(&inventory, &agents).await;

    assert!(world.report(&host("machine-b")).is_some());
    let error = |name: &str| match &world.hosts[&host(name)].view {
        HostView::Unreachable { error } => error.clone(),
        HostView::Answered { .. } => panic!("{name} answered"),
    };
    assert!(error("machine-a").starts_with("no agent listens at "), "{}", error("machine-a"));
    assert_eq!(error("machine-c"), "its report is of another host, machine-x");
    let [knock] = world.knocks.as_slice() else { panic!("{:?}", world.knocks) };
    assert_eq!((&knock.from, &knock.to), (&host("machine-b"), &host("machine-a")));
    assert!(matches!(knock.door, Door::Shut(_)), "{knock:?}");
    let [probe] = world.probes.as_slice() else { panic!("{:?}", world.probes) };
    assert_eq!((&probe.from, &probe.to), (&named("machine-b"), &at("10.0.0.1:6379")));
    assert_eq!(probe.answer.as_ref().map(|reach| reach.verdict), Ok(ReachVerdict::Refused));
    assert_eq!(topology.group("machine-a").unwrap().verdict, Verdict::PrimaryDead { seconds: Some(192) });
}

#[test]
fn only_names_are_resolved_and_each_once() {
    let replica = instance("default", "redis-b.lan:6379").replica("redis-a.lan:6379", down(1), lineage('a', 1), 1);
    let mut fenced = instance("other", "10.0.0.2:6380").configured_after("redis-a.lan:6379");
    fenced = fenced.fenced("redis-z.lan:1", 1);
    let mut world = World::default().with("machine-b", "agent-b.lan:7400", vec![replica, fenced]);
    world.hosts.get_mut(&host("machine-b")).unwrap().addresses = vec!["10.0.0.2".into(), "fd00::2".into()];
    let found: Vec<_> = names(&world).into_iter().collect();
    assert_eq!(found, ["agent-b.lan", "redis-a.lan", "redis-b.lan", "redis-z.lan"]);
}

#[tokio::test]
async fn names_that_are_unknown_are_left_out() {
    let resolved = resolve(["localhost".to_owned(), "no-such-host.invalid".to_owned()].into()).await;
    assert!(resolved["localhost"].iter().all(IpAddr::is_loopback));
    assert!(!resolved.contains_key("no-such-host.invalid"));
}
