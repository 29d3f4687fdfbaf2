//! A save that an agent has its server make: followed while it runs, undone when it fails. The orders are given to the
//! agent by hand, as `coord` would give them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use baton_proto::control::{
    Action, Order, Outcome, Progress, Reply, Request, SaveMethod, SnapshotFacts, TaskId, TaskState, TaskStatus,
};
use baton_proto::data::{Budget, TICKET_SECRET_BYTES, Ticket};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceName, RunId};
use baton_tests::host::{AgentToml, Host};
use baton_tests::process::{kill_and_wait, tail};
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::{PATIENCE, wait_for};
use baton_tests::world::{B, C, World};
use baton_wire::{Credentials, Dialer, Link};
use tokio::runtime::Runtime;

use crate::scene::{TURN, blake3_of, claim, files, on_every_server};

on_every_server! {
    a_save_is_ready_before_it_ends
    a_background_save_is_ready_before_it_ends
    a_background_save_that_is_killed_leaves_nothing
}

/// Keys of the server, each of which takes a millisecond to save.
const KEYS: u32 = 3000;
/// Bytes of each value. They compress well.
const VALUE_BYTES: u32 = 1000;

/// A host whose server saves slowly.
struct Slow {
    world: World,
    runtime: Runtime,
    link: Link,
}

impl Slow {
    fn on(server: &str) -> Slow {
        Slow::with(server, |_| {}, |_| {})
    }

    fn with(server: &str, configure: impl FnOnce(&Host), agent: impl FnOnce(&mut AgentToml)) -> Slow {
        let mut world = World::new();
        world.add(B, &ServerProgram::named(server));
        let host = world.b();
        host.configure(|conf| {
            conf.set("rdb-key-save-delay", 1000);
        });
        configure(host);
        host.configure_agent(agent);
        host.start_server();
        let count = [KEYS, VALUE_BYTES].map(|number| number.to_string());
        host.client().call(&["DEBUG", "POPULATE", &count[0], "key", &count[1]]);
        host.start_agent();
        let runtime = Runtime::new().unwrap();
        let link = runtime.block_on(dial(&world));
        Slow { world, runtime, link }
    }

    fn host(&self) -> &Host {
        self.world.b()
    }

    #[track_caller]
    fn ask(&self, request: &Request) -> TaskState {
        match self.runtime.block_on(self.link.ask(request)) {
            Ok(Reply::Task(state)) => state,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn begin(&self, name: &str, action: Action) -> TaskState {
        let instance = InstanceName::new("default").unwrap();
        self.runtime.block_on(claim(&self.link, &task(name).run));
        self.ask(&Request::Begin(Order { task: task(name), turn: TURN, instance, action }))
    }

    /// Watches a task until this is seen in it, and yields what is then there.
    #[track_caller]
    fn watch<T>(&self, name: &str, mut state: TaskState, mut seen: impl FnMut(&TaskStatus) -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        loop {
            if let Some(seen) = seen(&state.status) {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "task {name} says {:?}", state.status);
            state = self.ask(&Request::Watch { task: task(name), seen: state.seq, turn: None });
        }
    }

    /// Has a snapshot taken, and waits until it can be offered. The save still runs then.
    #[track_caller]
    fn snapshot_until_ready(&self, method: SaveMethod) -> TaskState {
        let begun = self.begin("snapshot", Action::Snapshot { method });
        self.watch("snapshot", begun, |status| match status {
            TaskStatus::Running(Progress { ready: true, .. }) => Some(()),
            TaskStatus::Running(_) => None,
            other => panic!("it ended before it was ready: {other:?}"),
        });
        self.ask(&Request::Watch { task: task("snapshot"), seen: 0, turn: None })
    }

    /// Waits for the end of the snapshot. What was ready stays so.
    #[track_caller]
    fn end(&self, state: TaskState) -> Result<SnapshotFacts, Fault> {
        let mut was_ready = false;
        self.watch("snapshot", state, |status| match status {
            TaskStatus::Running(progress) => {
                assert!(progress.ready || !was_ready, "no longer ready: {progress:?}");
                was_ready = progress.ready;
                None
            }
            TaskStatus::Done(Outcome::Snapshot(facts)) => Some(Ok(facts.clone())),
            TaskStatus::Done(other) => panic!("{other:?}"),
            TaskStatus::Failed(fault) => Some(Err(fault.clone())),
        })
    }

    fn offer(&self, name: &str) -> Result<Outcome, Fault> {
        let ticket = Ticket { run: run(), secret: vec![7; TICKET_SECRET_BYTES] };
        let to = HostName::new(C).unwrap();
        let begun = self.begin(name, Action::Offer { ticket, to, budget: Budget::default() });
        self.watch(name, begun, |status| match status {
            TaskStatus::Running(_) => None,
            TaskStatus::Done(outcome) => Some(Ok(outcome.clone())),
            TaskStatus::Failed(fault) => Some(Err(fault.clone())),
        })
    }

    fn pin(&self) -> std::path::PathBuf {
        self.host().data_dir().join(format!("baton-{}.pin.rdb", run()))
    }

    /// Asserts that nothing of a save is left but the dump, and no setting changed.
    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let of_a_save = |name: &String| name.starts_with("baton-") || name.starts_with("temp-");
        let left: Vec<_> = files(&self.host().data_dir()).into_iter().filter(of_a_save).collect();
        assert!(left.is_empty(), "left in the data directory: {left:?}");
        self.assert_no_notes();
        assert_eq!(self.compression(), "yes");
    }

    #[track_caller]
    fn assert_no_notes(&self) {
        let of_a_save = |name: &String| name.starts_with("following-") || name.starts_with("borrowed-");
        let notes: Vec<_> = files(&self.host().dir.join("state")).into_iter().filter(of_a_save).collect();
        assert!(notes.is_empty(), "left in the state directory: {notes:?}");
    }

    fn compression(&self) -> String {
        self.host().client().call(&["CONFIG", "GET", "rdbcompression"]).list().pop().unwrap().text()
    }

    /// The process that saves in the background.
    fn child(&self) -> u32 {
        let server = self.host().info("process_id");
        let mut children = self.host().server_pids().into_iter().filter(|pid| pid.to_string() != server);
        children.next_back().expect("a child saves")
    }
}

fn run() -> RunId {
    RunId::new("cp-save").unwrap()
}

fn task(name: &str) -> TaskId {
    TaskId { run: run(), name: name.into() }
}

async fn dial(world: &World) -> Link {
    let identity = Credentials::load(&world.dir().join("pki/operator.pem")).unwrap();
    let to = world.b().agent_address();
    let address = HostPort::new(to.ip().to_string(), to.port());
    Dialer::new(&identity, "a test").unwrap().dial(&address, &HostName::new(B).unwrap()).await.unwrap()
}

fn is_ready_before_it_ends(server: &str, method: SaveMethod) {
    let slow = Slow::on(server);
    let state = slow.snapshot_until_ready(method);
    assert!(slow.pin().exists());
    // A server that is in the middle of a SAVE answers nobody, and is not needed for an offer.
    slow.offer("offer").unwrap();
    let now = slow.ask(&Request::Watch { task: task("snapshot"), seen: 0, turn: None });
    assert!(matches!(now.status, TaskStatus::Running(_)), "{now:?}");
    let facts = slow.end(state).unwrap();
    assert_eq!(facts.bytes, fs::metadata(slow.pin()).unwrap().len());
    assert!(facts.bytes > u64::from(KEYS * VALUE_BYTES), "{} bytes are compressed", facts.bytes);
    assert_eq!(blake3_of(&slow.pin()), blake3_of(&slow.host().dump_path()));
    let inode = |path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(slow.pin()), inode(slow.host().dump_path()));
    assert_eq!(slow.compression(), "yes");
    slow.assert_no_notes();
}

fn a_save_is_ready_before_it_ends(server: &str) {
    is_ready_before_it_ends(server, SaveMethod::Save);
}

fn a_background_save_is_ready_before_it_ends(server: &str) {
    is_ready_before_it_ends(server, SaveMethod::Bgsave);
}

fn a_background_save_that_is_killed_leaves_nothing(server: &str) {
    let slow = Slow::on(server);
    let state = slow.snapshot_until_ready(SaveMethod::Bgsave);
    // The setting is the child's own since it was forked.
    assert_eq!(slow.compression(), "yes");
    kill_and_wait(slow.child());
    let fault = slow.end(state).unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Server, "BGSAVE failed"), "{fault}");
    assert!(fault.to_string().contains("signal 9"), "{fault}");
    slow.assert_nothing_is_left();
    assert_eq!(slow.offer("offer").unwrap_err().kind, FaultKind::NotFound);
    slow.host().client().call(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    let again = slow.begin("snapshot", Action::Snapshot { method: SaveMethod::Bgsave });
    slow.end(again).unwrap();
}

#[test]
fn a_save_whose_file_is_removed_leaves_nothing() {
    let slow = Slow::on(REDIS_7_0);
    let server = slow.host().info("process_id");
    let state = slow.snapshot_until_ready(SaveMethod::Save);
    fs::remove_file(slow.host().data_dir().join(format!("temp-{server}.rdb"))).unwrap();
    let fault = slow.end(state).unwrap_err();
    assert!(fault.to_string().contains("No such file"), "{fault}");
    slow.assert_nothing_is_left();
}

#[test]
fn what_an_agent_leaves_that_is_killed_during_a_save_is_cleared_up_by_the_next_one() {
    let mut slow = Slow::on(REDIS_7_0);
    slow.snapshot_until_ready(SaveMethod::Save);
    slow.host().kill_agent();
    assert!(slow.pin().exists());
    slow.host().start_agent();
    slow.link = slow.runtime.block_on(dial(&slow.world));
    let fault = slow.offer("offer").unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound, "half a snapshot is not offered: {fault}");
    wait_for("the setting is put back", || {
        let mut client = slow.host().try_client()?;
        let value = client.try_call(&["CONFIG", "GET", "rdbcompression"])?.list().pop().unwrap().text();
        if value == "yes" { Ok(()) } else { Err(value) }
    });
    wait_for("the note is removed", || {
        let state = files(&slow.host().dir.join("state"));
        if state.iter().any(|name| name.starts_with("borrowed-")) { Err(state.join(" ")) } else { Ok(()) }
    });
    slow.assert_nothing_is_left();
}

#[test]
fn a_snapshot_that_is_ordered_again_of_an_agent_that_was_killed_waits_for_the_save_to_end() {
    let mut slow = Slow::on(REDIS_7_0);
    slow.snapshot_until_ready(SaveMethod::Save);
    slow.host().restart_agent();
    slow.link = slow.runtime.block_on(dial(&slow.world));
    let state = slow.begin("snapshot", Action::Snapshot { method: SaveMethod::Save });
    let facts = slow.end(state).unwrap();
    assert_eq!(facts.bytes, fs::metadata(slow.pin()).unwrap().len());
    assert_eq!(slow.compression(), "yes");
    slow.assert_no_notes();
}

#[test]
fn a_save_point_that_fires_meanwhile_does_not_disturb_the_snapshot() {
    let slow = Slow::with(
        REDIS_7_0,
        |host| {
            host.configure(|conf| {
                conf.set("save", "1 1");
            });
        },
        |_| {},
    );
    // What was loaded would be saved at once otherwise.
    slow.host().await_info("rdb_changes_since_last_save", "0");
    slow.host().await_info("rdb_bgsave_in_progress", "0");
    let saves = |host: &Host| fs::metadata(host.dump_path()).map(|found| found.ino()).unwrap_or_default();
    let state = slow.snapshot_until_ready(SaveMethod::Bgsave);
    slow.host().client().call(&["SET", "written-meanwhile", "1"]);
    let facts = slow.end(state).unwrap();
    let (pinned, hash) = (fs::metadata(slow.pin()).unwrap().ino(), blake3_of(&slow.pin()));
    wait_for("the next save takes the dump's name", || {
        let dump = saves(slow.host());
        if dump == pinned { Err("it is still the pin's".to_owned()) } else { Ok(()) }
    });
    assert_eq!((fs::metadata(slow.pin()).unwrap().len(), blake3_of(&slow.pin())), (facts.bytes, hash));
    assert_eq!(slow.compression(), "yes");
    slow.assert_no_notes();
}

#[test]
fn without_room_a_save_keeps_its_compression_and_the_log_says_why() {
    let slow = Slow::with(
        REDIS_7_0,
        |_| {},
        |toml| {
            toml.top.set("disk_reserve", "\"1000TiB\"");
        },
    );
    let state = slow.snapshot_until_ready(SaveMethod::Bgsave);
    let facts = slow.end(state).unwrap();
    assert!(facts.bytes < u64::from(KEYS * VALUE_BYTES) / 2, "{} bytes are not compressed", facts.bytes);
    let log = tail(&slow.host().agent_log(), 100);
    assert!(log.contains("keeps the server's compression"), "{log}");
}

#[test]
fn a_server_that_takes_no_settings_is_saved_with_its_own() {
    let slow = Slow::with(
        REDIS_7_0,
        |host| {
            host.configure(|conf| {
                conf.set("rename-command", "CONFIG \"\"");
            });
        },
        |_| {},
    );
    let state = slow.snapshot_until_ready(SaveMethod::Save);
    slow.end(state).unwrap();
    slow.assert_no_notes();
}
