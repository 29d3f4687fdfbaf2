//! A comes back while the run is on: B, which no longer follows it, keeps everything.

use baton_tests::dataset::Dataset;
use baton_tests::relay::Relay;
use baton_tests::servers::ServerProgram;
use baton_tests::wait::wait_for;
use baton_tests::world::{C, World};

use crate::scene::{FAILOVER, Lost, on_every_server};

on_every_server! {
    an_a_that_comes_back_with_old_data_does_not_touch_b
    an_a_that_comes_back_with_no_data_does_not_touch_b
}

fn an_a_that_comes_back_with_old_data_does_not_touch_b(server: &str) {
    comes_back(server, true);
}

fn an_a_that_comes_back_with_no_data_does_not_touch_b(server: &str) {
    comes_back(server, false);
}

fn comes_back(server: &str, with_old_data: bool) {
    let world = World::in_sync(&ServerProgram::named(server));
    Dataset::mixed(1, 200 << 10).load(&mut world.a().client());
    let mut client = world.a().client();
    // The one for B's full resync may not have ended.
    world.a().await_info("rdb_bgsave_in_progress", "0");
    client.call(&["SAVE"]);
    Dataset::random(2, 8 << 20).load(&mut client);
    let lost = Lost::after(world);
    let relay = Relay::to(lost.world.b().agent_address());
    relay.limit(1_000_000);
    lost.world.b().reach_agent_via(relay.address);
    lost.world.write_coord_toml();

    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    wait_for("B is fenced", || {
        let fenced = running.events().iter().any(|event| event["step"] == "fence" && event["state"] == "done");
        if fenced { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    let a = lost.world.a();
    if !with_old_data {
        std::fs::remove_file(a.dump_path()).unwrap();
    }
    a.start_server();
    let returned = a.content();
    assert_eq!(returned.total() > 0, with_old_data);
    assert!(returned.total() < lost.before.total());
    // The snapshot is still on its way: all of it crosses while A is there.
    let at_return = relay.brought();
    assert!(at_return < 8 << 20, "A came back before the transfer ended");
    relay.limit(0);
    running.wait().ends_with(0);
    assert_eq!(a.info("connected_slaves"), "0", "nobody follows A");
    assert_eq!(a.content(), returned);
    lost.assert_replaced();
    assert_eq!(lost.world.c().info("connected_slaves"), "1", "B follows {C}");
}
