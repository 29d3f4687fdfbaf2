//! The world changes between the plan and the act: what was true when the plan was made is looked at again.

use baton_proto::control::{Action, Order, Request, TaskId, TaskState, TaskStatus};
use baton_proto::{FaultKind, HostName, HostPort, InstanceName, Lineage, RunId};
use baton_tests::coord::code;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{B, C, World};
use baton_wire::{Credentials, Dialer};

use crate::runs::{in_the_middle, in_the_middle_of};
use crate::scene::{Lost, TURN, claim};

#[test]
fn what_was_written_to_an_empty_c_meanwhile_is_not_thrown_away() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    world.c().start_server();
    let (lost, relay, running) = in_the_middle_of(world, &[]);
    for number in 0..500 {
        lost.world.c().client().call(&["SET", &format!("written-{number}"), "by a client"]);
    }
    relay.limit(0);
    running.wait().ends_with(code::REFUSED).says(&["500 keys", "stop"]);
    assert_eq!(lost.world.c().client().call(&["DBSIZE"]), baton_tests::resp::Value::Int(500));
    lost.assert_b_is_untouched();
}

#[test]
fn a_c_that_is_another_runs_primary_by_now_is_not_stopped() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    world.c().start_server();
    let (lost, relay, running) = in_the_middle_of(world, &[]);
    // Somebody else lets another server follow C, which is still empty.
    lost.world.a().start_server();
    let c = lost.world.c();
    lost.world.a().client().call(&["REPLICAOF", &c.ip.to_string(), "6379"]);
    wait_for("A follows C", || {
        let replicas = c.info("connected_slaves");
        if replicas == "1" { Ok(()) } else { Err(replicas) }
    });
    relay.limit(0);
    running.wait().ends_with(code::REFUSED).says(&["1 replicas follow", "stop"]);
    assert_eq!(c.info("role"), "master");
}

#[test]
fn a_replica_that_moved_since_the_plan_is_not_fenced() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let b = lost.world.b();
    let id = b.info("master_replid").parse().unwrap();
    let offset = b.info("slave_repl_offset").parse::<u64>().unwrap();
    let order = Order {
        task: TaskId { run: RunId::new("fo-late").unwrap(), name: "fence".into() },
        turn: TURN,
        instance: InstanceName::new("default").unwrap(),
        action: Action::Fence { expect: Lineage { id, offset: offset + 14 } },
    };
    let identity = Credentials::load(&lost.world.dir().join("pki/operator.pem")).unwrap();
    let address = HostPort::new(b.agent_address().ip().to_string(), b.agent_address().port());
    let state = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let link = Dialer::new(&identity, "a test").unwrap().dial(&address, &HostName::new(B).unwrap()).await.unwrap();
        claim(&link, &order.task.run).await;
        link.ask(&Request::Begin(order)).await.unwrap()
    });
    let baton_proto::control::Reply::Task(TaskState { status: TaskStatus::Failed(fault), .. }) = state else {
        panic!("{state:?}")
    };
    assert_eq!(fault.kind, FaultKind::Refused);
    assert_eq!(b.info("master_host"), lost.world.a().ip.to_string());
}

#[test]
fn a_copy_onto_an_address_that_a_replica_follows_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.a().start_agent();
    let said = lost.world.coord(&["copy", C, baton_tests::world::A, "--start", "--snapshot", "existing", "--yes"]);
    said.ends_with(code::REFUSED).says(&[B, "follows", "target-followed"]);
    lost.assert_b_is_untouched();
}

#[test]
fn an_a_that_comes_back_in_mid_run_does_not_touch_b() {
    let (lost, relay, running) = in_the_middle();
    lost.world.a().start_server();
    relay.limit(0);
    running.wait().ends_with(code::DONE);
    lost.assert_replaced();
}
