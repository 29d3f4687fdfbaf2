//! What the suites have in common: how a story begins, and what must hold at its end.

use std::fs;
use std::path::Path;

use baton_proto::claim::Turn;
use baton_proto::control::{Reply, Request};
use baton_proto::{InstanceName, RunId};
use baton_tests::conf::directives;
use baton_tests::content::Content;
use baton_tests::coord::{Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::host::Host;
use baton_tests::process::signal;
use baton_tests::servers::ServerProgram;
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, D, World};
use baton_wire::Link;
use rustix::process::Signal;

/// Most stories land by file; those of `live` and `feed` have a server that loads while the bytes arrive.
pub(crate) const FAILOVER: [&str; 6] = ["failover", A, "--to", C, "--landing", "file"];

/// Enough data for every type, several databases and more than one chunk.
pub(crate) const MIXED_BYTES: u64 = 6 << 20;
/// Enough for a story that is not about the data.
pub(crate) const LITTLE_BYTES: u64 = 200 << 10;

/// Makes one test for each of the three servers out of a function that takes a server's name.
macro_rules! on_every_server {
    ($($name:ident)*) => {
        mod redis_6_2 { $(#[test] fn $name() { super::$name(baton_tests::servers::REDIS_6_2); })* }
        mod redis_7_0 { $(#[test] fn $name() { super::$name(baton_tests::servers::REDIS_7_0); })* }
        mod valkey_9_1 { $(#[test] fn $name() { super::$name(baton_tests::servers::VALKEY_9_1); })* }
    };
}
pub(crate) use on_every_server;

/// A world in which A has been lost. B is frozen, C waits.
pub(crate) struct Lost {
    pub(crate) world: World,
    /// What B held when A was lost.
    pub(crate) before: Content,
}

impl Lost {
    /// With a mixed data set.
    pub(crate) fn on(server: &str) -> Self {
        Self::with(World::of_three(&ServerProgram::named(server)), Dataset::mixed(7, MIXED_BYTES))
    }

    /// With a few keys.
    pub(crate) fn with_little_on(server: &str) -> Self {
        Self::with_little_in(World::of_three(&ServerProgram::named(server)))
    }

    pub(crate) fn with_little_in(world: World) -> Self {
        Self::with(world, Dataset::mixed(7, LITTLE_BYTES))
    }

    /// In a world that has been configured and in which nothing runs yet.
    pub(crate) fn with(world: World, dataset: Dataset) -> Self {
        world.start();
        dataset.load(&mut world.a().client());
        Self::after(world)
    }

    /// In a world that runs, and holds its data.
    pub(crate) fn after(world: World) -> Self {
        let is_replica = |host: &&Host| host.try_client().is_ok_and(|mut client| client.field("role") == "slave");
        world.hosts().iter().filter(is_replica).for_each(|replica| replica.await_in_sync_with(world.a()));
        let before = world.b().content();
        assert_eq!(before, world.a().content());
        world.lose_a();
        Self { world, before }
    }

    /// `coord failover machine-a --to machine-c --yes --json`, and more.
    #[track_caller]
    pub(crate) fn failover(&self, more: &[&str]) -> Said {
        self.world.coord(&[&FAILOVER[..], &["--yes", "--json"], more].concat())
    }

    /// The same, which is to be done.
    #[track_caller]
    pub(crate) fn failover_done(&self, more: &[&str]) -> Said {
        let said = self.failover(more).ends_with(code::DONE);
        assert_eq!(said.result()["outcome"], "done", "{said}");
        said
    }

    /// Asserts that C is the primary of B, and that both hold what B held.
    #[track_caller]
    pub(crate) fn assert_replaced(&self) {
        assert_serves(&self.world, C, &[B], &self.before);
    }

    /// Asserts that B is the primary of C, and that both hold what B held.
    #[track_caller]
    pub(crate) fn assert_promoted(&self) {
        assert_serves(&self.world, B, &[C], &self.before);
    }

    /// Asserts that B stands where it stood: it holds what it held, is nobody's primary, and C does not serve.
    #[track_caller]
    pub(crate) fn assert_b_is_untouched(&self) {
        assert_eq!(self.world.b().content(), self.before);
        assert_eq!(self.world.b().info("role"), "slave");
        assert_no_leftovers(&self.world);
    }
}

/// Asserts that a primary serves, that its replicas follow it and would do so after a restart, that all hold the data,
/// and that the run left nothing behind.
#[track_caller]
pub(crate) fn assert_serves(world: &World, primary: &str, replicas: &[&str], before: &Content) {
    let first = world.host(primary);
    assert_eq!(first.info("role"), "master");
    assert_eq!(configured_primary(first), None, "{primary} would come back as a replica");
    assert_eq!(&first.content(), before, "what {primary} holds");
    let replicas: Vec<_> = replicas.iter().map(|name| world.host(name)).collect();
    for replica in &replicas {
        replica.await_in_sync_with(first);
        let address = format!("{} {}", first.ip, baton_tests::host::SERVER_PORT);
        assert_eq!(configured_primary(replica), Some(address), "whom {} would follow after a restart", replica.name);
        assert_eq!(&replica.content(), before, "what {} holds", replica.name);
    }
    // They really follow: what is written on the primary arrives.
    first.client().call(&["SET", "written-afterwards", primary]);
    for replica in &replicas {
        wait_for("a write on the new primary arrives", || {
            let seen = replica.try_client()?.try_call(&["GET", "written-afterwards"])?.text();
            if seen == primary { Ok(()) } else { Err(seen) }
        });
    }
    first.client().call(&["DEL", "written-afterwards"]);
    replicas.iter().for_each(|replica| replica.await_in_sync_with(first));
    assert_no_leftovers(world);
}

/// The `replicaof` of a host's redis.conf, as it stands on disk.
pub(crate) fn configured_primary(host: &Host) -> Option<String> {
    let all = directives(&host.conf_path());
    all.into_iter().rfind(|(name, _)| name == "replicaof" || name == "slaveof").map(|(_, value)| value)
}

/// The turn of orders that a test gives by itself.
pub(crate) const TURN: Turn = Turn { epoch: 1, holder: 7 };

/// Has a host's one instance for a run of a test's own, as every order needs.
pub(crate) async fn claim(link: &Link, run: &RunId) {
    let instance = InstanceName::new("default").unwrap();
    let claimed = link.ask(&Request::Claim { instance, run: run.clone(), turn: TURN }).await;
    assert_eq!(claimed, Ok(Reply::Claimed));
}

/// Asserts that no pin, partial file or map is left in any data directory.
#[track_caller]
pub(crate) fn assert_no_leftovers(world: &World) {
    for host in world.hosts() {
        let left: Vec<_> = files(&host.data_dir()).into_iter().filter(|name| name.starts_with("baton-")).collect();
        assert!(left.is_empty(), "left in the data directory of {}: {left:?}", host.name);
    }
}

/// Names in a directory.
pub(crate) fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// BLAKE3 of a file, as `b3sum` prints it.
pub(crate) fn blake3_of(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

/// A world of A, B and D, which follow A, and C, in which D lags when A is lost.
pub(crate) fn lagging_sibling(server: &str) -> Lost {
    let mut world = World::of_three(&ServerProgram::named(server));
    let program = world.c().program.clone();
    world.add(D, &program);
    world.replicate(D, A);
    world.start();
    Dataset::mixed(5, LITTLE_BYTES).load(&mut world.a().client());
    let d = world.host(D);
    d.await_in_sync_with(world.a());
    // While D sleeps, A drops its link: what A writes then is for B alone.
    d.server_pids().into_iter().for_each(|pid| signal(pid, Signal::STOP));
    let mut client = world.a().client();
    let link = client.call(&["CLIENT", "LIST", "TYPE", "replica"]).text();
    let link = link.lines().find(|line| line.contains(&format!("addr={}:", d.ip)));
    let link = link.and_then(|line| line.split(' ').find_map(|field| field.strip_prefix("addr=")));
    client.call(&["CLIENT", "KILL", "ADDR", link.expect("A lists its link to D")]);
    client.call(&["SET", "late", "seen by B alone"]);
    world.b().await_in_sync_with(world.a());
    let before = world.b().content();
    world.a().lose();
    d.server_pids().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    for host in [B, D] {
        world.host(host).await_info("master_link_status", "down");
    }
    let offset = |host: &str| world.host(host).info("slave_repl_offset").parse::<u64>().unwrap();
    assert!(offset(D) < offset(B), "D lags");
    Lost { world, before }
}

/// The resyncs that a primary has served: full and partial.
pub(crate) fn resyncs(primary: &Host) -> (String, String) {
    let mut info = primary.client().info();
    let mut field = |name: &str| info.remove(name).unwrap_or_default();
    (field("sync_full"), field("sync_partial_ok"))
}

pub(crate) fn counts(full: u32, partial: u32) -> (String, String) {
    (full.to_string(), partial.to_string())
}
