//! A disk that fills while what is written meanwhile is spooled on it.

use baton_tests::coord::{Running, code};
use baton_tests::drill::disk::Disk;
use baton_tests::host::quoted;
use baton_tests::servers::{REDIS_6_2, REDIS_7_0, VALKEY_9_1};
use baton_tests::wait::wait_until;
use baton_tests::world::C;

use super::{DATA_BYTES, assert_cloned, assert_nothing_is_left, await_step, begin, laid_out, loaded, nameless};
use crate::resume::assert_nobody_holds;
use crate::scene::files;

/// What C has received so far, on the network.
fn sent(running: &Running) -> u64 {
    let of_c = |event: &serde_json::Value| (event["on"] == C).then(|| event["bytes_wire"].as_u64())?;
    running.events().iter().filter_map(of_c).max().unwrap_or(0)
}

#[test]
fn a_disk_that_fills_while_it_is_spooled_ends_the_run_and_what_is_missing_is_said() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: no disk can be made here");
        return;
    }
    // Before the snapshot is sent, and while it is.
    for (server, sent_bytes) in [(REDIS_6_2, 0), (REDIS_7_0, 1 << 20), (VALKEY_9_1, 1 << 20)] {
        let world = laid_out(server, |_| {});
        let disk = Disk::under(&world.a().data_dir(), DATA_BYTES).expect("a disk can be mounted");
        world.a().configure_agent(|toml| {
            toml.top.set("disk_reserve", quoted("1MiB"));
        });
        let world = loaded(world);
        world.c().start_server();
        let pids = world.c().server_pids();
        let (writer, running) = begin(&world);
        await_step(&running, "transfer");
        wait_until("the spool has begun to fill", || !nameless(world.a()).is_empty());
        wait_until("the snapshot is there", || {
            files(&world.a().data_dir()).iter().all(|name| !name.starts_with("temp-"))
        });
        wait_until("so much was sent", || sent_bytes == 0 || sent(&running) >= sent_bytes);
        disk.fill();
        let said = running.wait().ends_with(code::ROLLED_BACK);
        let said = said.says(&["no room for what is written meanwhile", "are missing", "hint:", "free more than"]);
        assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
        let crossed = said.result()["bytes_wire"].as_u64();
        assert_eq!(crossed, None, "it was not sent to its end: {said}");
        disk.empty();
        // The source serves as before, and nothing is kept of it; the target is as empty as it was.
        world.a().await_info("connected_slaves", "0");
        assert!(!writer.acknowledged().is_empty());
        assert_eq!((world.a().info("role"), world.c().info("role")), ("master".to_owned(), "master".to_owned()));
        assert_eq!((world.c().server_pids(), world.c().client().call(&["DBSIZE"]).int()), (pids, 0));
        assert_eq!(world.c().client().config("masterauth"), "");
        assert_nothing_is_left(&world);
        assert_nobody_holds(&world);
        assert_eq!(files(&world.c().data_dir()), Vec::<String>::new());
        // With room, it is done.
        let (writer, running) = begin(&world);
        let said = running.wait().ends_with(code::DONE);
        assert_cloned(&world, &said, &writer.acknowledged());
        world.host(C).lose();
        drop(world);
        drop(disk);
    }
}
