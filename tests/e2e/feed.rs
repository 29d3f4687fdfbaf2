//! A snapshot that lands in C's running, empty server while it arrives, by orders to the agents: `coord` has no part in it.

mod broken;
mod source;
mod undone;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use baton_proto::control::{
    Action, Durability, FeedFacts, Landing, Order, Outcome, Reply, Request, SaveMethod, SnapshotFacts, TaskId,
    TaskStatus, TransferFacts,
};
use baton_proto::data::{Budget, TICKET_SECRET_BYTES, Ticket};
use baton_proto::{Fault, HostName, HostPort, InstanceName, RunId};
use baton_tests::conf::Conf;
use baton_tests::content::Content;
use baton_tests::dataset::Dataset;
use baton_tests::host::{Host, SERVER_PORT};
use baton_tests::servers::ServerProgram;
use baton_tests::wait::wait_for;
use baton_tests::world::{B, C, World};
use baton_wire::{Credentials, Dialer};
use tokio::runtime::Runtime;

use crate::scene::{
    LITTLE_BYTES, Lost, MIXED_BYTES, TURN, assert_no_leftovers, blake3_of, claim, counts, files, on_every_server,
    resyncs,
};

/// An order whose end is not waited for yet.
type Ordered = tokio::task::JoinHandle<Result<Outcome, Fault>>;

/// How long a feed may load; nothing here takes seconds.
const TIMEOUT_SECONDS: u32 = 60;
/// Settings that a feed changes for a while.
const BORROWED: [&str; 5] = ["masterauth", "repl-timeout", "repl-diskless-load", "slave-read-only", "save"];

/// A has been lost, B is frozen and has written a snapshot, C runs empty.
struct Story {
    lost: Lost,
    runtime: Runtime,
    snapshot: SnapshotFacts,
    /// C's settings before anything was done to it.
    settings: Vec<String>,
}

impl Story {
    fn on(server: &str, dataset: Dataset, configure: impl FnOnce(&mut Conf)) -> Story {
        let world = World::of_three(&ServerProgram::named(server));
        world.c().configure(configure);
        Self::of(Lost::with(world, dataset))
    }

    fn of(lost: Lost) -> Story {
        lost.world.c().start_server();
        let runtime = Runtime::new().unwrap();
        let settings = settings(lost.world.c());
        let taken = runtime.block_on(order(&lost.world, B, Action::Snapshot { method: SaveMethod::Save })).unwrap();
        let Outcome::Snapshot(snapshot) = taken else { panic!("{taken:?}") };
        Story { lost, runtime, snapshot, settings }
    }

    fn c(&self) -> &Host {
        self.lost.world.c()
    }

    fn order(&self, host: &str, action: Action) -> Result<Outcome, Fault> {
        self.runtime.block_on(order(&self.lost.world, host, action))
    }

    /// Offers the snapshot, as slowly as is said.
    fn offer(&self, max_rate: Option<u64>) {
        let to = HostName::new(C).unwrap();
        let budget = Budget { max_rate, cpu: None };
        self.order(B, Action::Offer { ticket: ticket(), to, budget }).unwrap();
    }

    fn pull(&self, follow: Option<HostPort>) -> Action {
        let agent = self.lost.world.b().agent_via();
        Action::Pull {
            from: HostName::new(B).unwrap(),
            address: HostPort::new(agent.ip().to_string(), agent.port()),
            ticket: ticket(),
            landing: Landing::Live { follow, timeout_seconds: TIMEOUT_SECONDS },
        }
    }

    /// Begins to land the snapshot, and does not wait for it.
    fn begin_pull(&self) -> Ordered {
        let (world, pull) = (self.lost.world.dir().to_owned(), self.pull(None));
        let agent = self.c().agent_address();
        self.runtime.spawn(async move {
            let identity = Credentials::load(&world.join("pki/operator.pem")).unwrap();
            begin(&identity, agent, C, pull).await
        })
    }

    #[track_caller]
    fn land(&self) -> (TransferFacts, FeedFacts) {
        landed(self.order(C, self.pull(None)))
    }

    /// Asserts that C is a primary that holds what B holds and remembers where it stands, with its own settings.
    #[track_caller]
    fn assert_landed(&self) {
        let c = self.c();
        let mut info = c.client().info();
        let mut field = |name: &str| info.remove(name).unwrap_or_default();
        let lineage = &self.snapshot.lineage;
        assert_eq!(field("role"), "master");
        assert_eq!(field("master_replid2"), lineage.id.as_str());
        assert_eq!(field("second_repl_offset"), (lineage.offset + 1).to_string());
        assert_eq!(field("repl_backlog_active"), "1");
        assert_eq!(c.content(), self.lost.before);
        assert_eq!(settings(c), self.settings);
    }

    /// Asserts that C is what it was before: empty, a primary, with its own settings.
    #[track_caller]
    fn assert_c_is_empty(&self) {
        let c = self.c();
        wait_for("C is an empty primary", || {
            let mut info = c.try_client()?.try_info()?;
            let state = ["role", "loading", "db0", "db3", "db9"].map(|name| info.remove(name).unwrap_or_default());
            if state == ["master", "0", "", "", ""] { Ok(()) } else { Err(format!("{state:?}")) }
        });
        assert_eq!(settings(c), self.settings);
        assert!(c.client().try_call(&["SET", "probe", "1"]).is_ok(), "it takes writes");
        c.client().call(&["DEL", "probe"]);
        assert_eq!(feed_note(c), None);
    }

    /// Has B follow C, and asserts that it did so with what it had, and holds the same.
    #[track_caller]
    fn assert_b_joins_partially(&self) {
        self.join_partially();
        let c = self.c();
        c.client().call(&["SET", "written-afterwards", "yes"]);
        self.lost.world.b().await_in_sync_with(c);
        assert_eq!(self.lost.world.b().content(), c.content());
        c.client().call(&["DEL", "written-afterwards"]);
    }

    #[track_caller]
    fn join_partially(&self) {
        let c = self.c();
        let to = HostPort::new(c.ip.to_string(), SERVER_PORT);
        let expect = Some(self.snapshot.lineage.clone());
        let before = resyncs(c);
        assert_eq!(before, counts(0, 0));
        self.order(B, Action::Follow { to, expect, timeout_seconds: TIMEOUT_SECONDS }).unwrap();
        assert_eq!(resyncs(c), counts(0, 1));
    }

    /// Ends the run on both hosts.
    #[track_caller]
    fn release(&self) {
        for host in [B, C] {
            self.order(host, Action::Release { keep_old: false }).unwrap();
        }
        assert_no_leftovers(&self.lost.world);
        assert_eq!(feed_note(self.c()), None);
    }

    /// Kills C's server, starts it by its configuration, and asserts that it has the data.
    #[track_caller]
    fn assert_survives_a_kill(&self) {
        let held = self.c().content();
        self.c().kill_server();
        self.c().start_server();
        assert_eq!(self.c().content(), held);
    }
}

fn ticket() -> Ticket {
    Ticket { run: RunId::new("fo-feed").unwrap(), secret: vec![7; TICKET_SECRET_BYTES] }
}

async fn order(world: &World, host: &str, action: Action) -> Result<Outcome, Fault> {
    let identity = Credentials::load(&world.dir().join("pki/operator.pem")).unwrap();
    begin(&identity, world.host(host).agent_address(), host, action).await
}

/// Gives an order and waits for its end. Each is a task of its own.
async fn begin(identity: &Credentials, agent: SocketAddr, host: &str, action: Action) -> Result<Outcome, Fault> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let address = HostPort::new(agent.ip().to_string(), agent.port());
    let dialer = Dialer::new(identity, "a test").unwrap();
    let link = dialer.dial(&address, &HostName::new(host).unwrap()).await?;
    let name = format!("order-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let task = TaskId { run: ticket().run, name };
    let instance = InstanceName::new("default").unwrap();
    claim(&link, &task.run).await;
    let order = Order { task: task.clone(), turn: TURN, instance, action };
    let mut reply = link.ask(&Request::Begin(order)).await?;
    loop {
        let Reply::Task(state) = reply else { panic!("{reply:?}") };
        match state.status {
            TaskStatus::Running(_) => {}
            TaskStatus::Done(outcome) => return Ok(outcome),
            TaskStatus::Failed(fault) => return Err(fault),
        }
        reply = link.ask(&Request::Watch { task: task.clone(), seen: state.seq, turn: None }).await?;
    }
}

#[track_caller]
fn landed(outcome: Result<Outcome, Fault>) -> (TransferFacts, FeedFacts) {
    match outcome {
        Ok(Outcome::Landed { transfer, feed }) => (transfer, *feed),
        other => panic!("{other:?}"),
    }
}

fn settings(host: &Host) -> Vec<String> {
    let mut client = host.client();
    BORROWED.iter().map(|name| format!("{name} {}", client.config(name))).collect()
}

/// The note that C's agent keeps of a feed.
fn feed_note(host: &Host) -> Option<String> {
    std::fs::read_to_string(host.dir.join("state/feed-default.json")).ok()
}

on_every_server! {
    it_lands_and_b_joins_with_what_it_has
    with_an_append_only_file_it_lands_and_lasts
    keys_that_expire_meanwhile_expire_everywhere
    a_replica_of_a_promoted_b_is_fed_and_joins_it
    settings_and_an_old_dump_are_kept
}

fn it_lands_and_b_joins_with_what_it_has(server: &str) {
    let story = Story::on(server, Dataset::mixed(7, MIXED_BYTES), |_| {});
    story.offer(None);
    let (transfer, feed) = story.land();
    assert_eq!((&feed.lineage, feed.overlapped, feed.durable), (&story.snapshot.lineage, true, Durability::Dump));
    assert_eq!(transfer.bytes_raw, story.snapshot.bytes);
    assert_eq!(feed.kept, [""; 0]);
    story.assert_landed();
    assert_eq!(blake3_of(&story.c().dump_path()), transfer.digest.to_string());
    // What is done is found done.
    assert_eq!(story.land().1, feed);
    story.assert_b_joins_partially();
    story.release();
    story.assert_survives_a_kill();
}

fn with_an_append_only_file_it_lands_and_lasts(server: &str) {
    let story = Story::on(server, Dataset::mixed(7, LITTLE_BYTES), |conf| {
        conf.set("appendonly", "yes");
    });
    story.offer(None);
    let (_, feed) = story.land();
    assert_eq!(feed.durable, Durability::AppendOnly);
    story.assert_landed();
    story.assert_b_joins_partially();
    story.release();
    story.assert_survives_a_kill();
}

fn keys_that_expire_meanwhile_expire_everywhere(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    world.start();
    Dataset::mixed(7, LITTLE_BYTES).load(&mut world.a().client());
    let mut client = world.a().client();
    client.call(&["SELECT", "5"]);
    for key in 0..20 {
        client.call(&["SET", &format!("short-{key}"), "x", "PX", "1500"]);
    }
    client.call(&["SET", "long", "x"]);
    let story = Story::of(Lost::after(world));
    // On B they are there, but past their time.
    wait_for("the time of the short keys is over", || {
        let left = story.lost.world.b().client().field("db5");
        let mut client = story.lost.world.b().client();
        client.try_call(&["SELECT", "5"])?;
        let gone = client.try_call(&["GET", "short-0"])?.text() == "(nil)";
        if gone { Ok(()) } else { Err(left) }
    });
    story.offer(None);
    story.land();
    // Meanwhile C drops what has expired: what both hold is compared when it is done.
    story.join_partially();
    wait_for("the short keys are gone on both", || {
        let of = |host: &Host| host.client().field("db5").split(',').next().unwrap_or_default().to_owned();
        let both = [of(story.c()), of(story.lost.world.b())];
        if both == ["keys=1", "keys=1"] { Ok(()) } else { Err(format!("{both:?}")) }
    });
    story.lost.world.b().await_in_sync_with(story.c());
    assert_eq!(Content::of(&mut story.c().client()), story.lost.world.b().content());
}

fn a_replica_of_a_promoted_b_is_fed_and_joins_it(server: &str) {
    let story = Story::on(server, Dataset::mixed(7, LITTLE_BYTES), |_| {});
    story.order(B, Action::Promote).unwrap();
    story.offer(None);
    let b = story.lost.world.b();
    b.client().call(&["SET", "written-afterwards", "yes"]);
    let to = HostPort::new(b.ip.to_string(), SERVER_PORT);
    landed(story.order(C, story.pull(Some(to))));
    story.c().await_in_sync_with(b);
    assert_eq!(resyncs(b), counts(0, 1));
    assert_eq!(story.c().content(), b.content());
    assert_eq!(settings(story.c()), story.settings);
    story.release();
}

fn settings_and_an_old_dump_are_kept(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    world.c().configure(|conf| {
        conf.set("save", "3600 100000").add("save", "7200 200000").set("masterauth", "old").set("requirepass", "own");
        conf.set("repl-timeout", 7).set("replica-read-only", "no");
    });
    let story = Story::of(Lost::with(world, Dataset::mixed(7, LITTLE_BYTES)));
    story.c().client().call(&["SAVE"]);
    let old = std::fs::read(story.c().dump_path()).unwrap();
    story.offer(None);
    let (_, feed) = story.land();
    story.assert_landed();
    let [kept] = &feed.kept[..] else { panic!("{feed:?}") };
    assert_eq!(std::fs::read(story.c().data_dir().join(kept)).unwrap(), old);
    story.release();
    assert!(!files(&story.c().data_dir()).contains(kept), "dropped at the end of a good run");
    let log = std::fs::read_to_string(story.c().agent_log()).unwrap();
    assert!(log.contains("masterauth") && !log.contains("value=\"old\""), "no password is logged");
}
