//! Rubbish of every kind, thousands of it: on the UDP port and on that of the pages, from nobody and from peers whose
//! certificate is good. The agent stays the same process, answers its operator, and does not grow.

mod datagrams;
mod messages;
mod pages;
mod streams;

use std::net::SocketAddr;

use baton_proto::control::{Reply, Request};
use baton_tests::host::{Host, quoted};
use baton_tests::rng::Rng;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{B, C, World};
use quinn::Endpoint;
use tokio::runtime::Runtime;

use crate::trespass::strangers::{ask, endpoint, greet};

/// Decides what is sent, and in which order.
const SEED: u64 = 0x0bad_cafe;
const PAGES_PORT: u16 = 9121;

/// Rounds before the first look at memory. In them it grows to what so much at a time takes: buffers of streams, handshakes that
/// are waited for, and what the allocator keeps of either. Some rounds later still a step of that may follow.
const ROUNDS_BEFORE: u32 = 10;
/// And until the second look: some thirty thousand things that are sent.
const ROUNDS: u32 = 15;
/// What the agent may have grown by in those, for each thing sent. Seen are 100 to 260 bytes, in steps of the allocator's that
/// become rare: none at all in the last nine of forty rounds. Whatever is kept of a stream, a task or a connection that is over
/// has up to some kilobytes, and grows with their number.
const GROWTH_MAX_BYTES_EACH: u64 = 512;

struct Scene {
    world: World,
    runtime: Runtime,
    operator: Endpoint,
    agent: Endpoint,
    nobody: Endpoint,
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::new();
        world.add(B, &ServerProgram::named(REDIS_7_0));
        world.issue(C, "machine-c.pem");
        let b = world.b();
        b.configure_agent(|toml| {
            toml.top.set("metrics", quoted(&format!("{}:{PAGES_PORT}", b.ip)));
        });
        b.start_server();
        b.start_agent();
        let runtime = Runtime::new().unwrap();
        let identity = |file: &str| Some(std::fs::read(world.dir().join(file)).unwrap());
        let [operator, agent, nobody] = {
            let _inside = runtime.enter();
            [identity("pki/operator.pem"), identity("machine-c.pem"), None].map(|shown| endpoint(&shown))
        };
        Scene { world, runtime, operator, agent, nobody }
    }

    fn host(&self) -> &Host {
        self.world.b()
    }

    fn pages(&self) -> SocketAddr {
        (self.host().ip, PAGES_PORT).into()
    }

    /// Sends some of everything. Yields how much that was.
    fn round(&self, rng: &mut Rng) -> usize {
        let to = self.host().agent_address();
        let _inside = self.runtime.enter();
        let mut sent = datagrams::noise(to, rng, 600);
        datagrams::negotiate(to, rng);
        sent += datagrams::handshakes(&self.nobody, to, rng, 20);
        sent += datagrams::handshakes(&self.agent, to, rng, 20);
        sent += pages::noise(self.pages(), rng, 80);
        sent + self.runtime.block_on(async {
            let sent = streams::messages(&self.operator, to, rng, 300).await
                + streams::messages(&self.agent, to, rng, 300).await
                + streams::bits(&self.agent, to, rng, 300).await;
            let more =
                streams::greetings(&self.agent, to, rng, 40).await + streams::streams(&self.agent, to, rng).await;
            sent + more
        })
    }

    /// Asserts that the agent answers its operator, and has closed what it had opened for others.
    #[track_caller]
    fn assert_well(&self, pid: u32, files: usize) {
        assert_eq!(self.host().agent_pid(), pid);
        self.runtime.block_on(async {
            let operator = greet(&self.operator, self.host().agent_address()).await.unwrap();
            assert!(matches!(ask(&operator, &Request::Observe).await, Ok(Reply::Observed(_))));
        });
        assert!(pages::serves(self.pages()));
        wait_for("the agent has no more files open than before", || match open_files(pid) {
            now if now <= files => Ok(()),
            now => Err(format!("{now}, and not {files}")),
        });
    }
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A figure of a process's memory, in bytes. `RssAnon` is what it uses of its own, and `VmHWM` the most it ever had in all.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn rubbish_neither_ends_an_agent_nor_makes_it_grow() {
    let scene = Scene::new();
    let pid = scene.host().agent_pid();
    let files = open_files(pid);
    let before = (scene.host().content(), state(scene.host()));
    let mut rng = Rng::new(SEED);
    for _ in 0..ROUNDS_BEFORE {
        scene.round(&mut rng);
    }
    scene.assert_well(pid, files);
    let (used, peak) = (memory(pid, "RssAnon"), memory(pid, "VmHWM"));
    let sent: usize = (0..ROUNDS).map(|_| scene.round(&mut rng)).sum();
    scene.assert_well(pid, files);
    let (used_now, peak_now) = (memory(pid, "RssAnon"), memory(pid, "VmHWM"));
    let told = format!("{sent} things were sent; used {used} -> {used_now}, peak {peak} -> {peak_now}");
    println!("{told}");
    let growth_max = sent as u64 * GROWTH_MAX_BYTES_EACH;
    assert!(used_now.saturating_sub(used) <= growth_max, "{told}; seed {SEED:#x}");
    assert!(peak_now.saturating_sub(peak) <= growth_max, "{told}; seed {SEED:#x}");
    assert_eq!((scene.host().content(), state(scene.host())), before);
}

/// The names in the agent's state directory.
fn state(host: &Host) -> Vec<String> {
    let mut names = crate::scene::files(&host.dir.join("state"));
    names.sort();
    names
}

#[test]
fn who_loiters_is_sent_away() {
    let scene = Scene::new();
    let pid = scene.host().agent_pid();
    let files = open_files(pid);
    scene.runtime.block_on(streams::unfinished(&scene.agent, scene.host().agent_address()));
    pages::loiterers(scene.pages());
    scene.assert_well(pid, files);
}
