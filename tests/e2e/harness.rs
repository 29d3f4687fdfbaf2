//! The harness itself: a fault in it must not be able to hide one in Baton.

use std::net::UdpSocket;

use baton_tests::address;
use baton_tests::dataset::Dataset;
use baton_tests::host::Host;
use baton_tests::process::working_below;
use baton_tests::relay::{Passing, Relay};
use baton_tests::servers::{REDIS_6_2, REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::wait::wait_for;

fn a_pair_holds_the_same_data(server: &str) {
    let dir = tempfile::tempdir().unwrap();
    let program = ServerProgram::named(server);
    let [primary, replica] = ["p", "r"].map(|name| Host::new(dir.path(), name, address::fresh(), program.clone()));
    replica.configure(|conf| {
        conf.set("replicaof", format!("{} 6379", primary.ip));
    });
    primary.start_server();
    let keys = Dataset::mixed(1, 3 << 20).load(&mut primary.client());
    assert_eq!(keys.keys().collect::<Vec<_>>(), [&0, &3, &9]);
    replica.start_server();
    replica.await_in_sync_with(&primary);
    assert_eq!(primary.content(), replica.content());
    assert_eq!(primary.content().functions.is_some(), program.is_7_or_later());
    let types = ["string", "hash", "zset", "list", "set", "stream"];
    let mut client = replica.client();
    for kind in types {
        let found = client.call(&["SCAN", "0", "COUNT", "100000", "TYPE", kind]).list().pop().unwrap().list();
        assert!(!found.is_empty(), "no {kind} in the data set");
    }
    primary.client().call(&["HSET", "h:other", "field", "value"]);
    replica.await_in_sync_with(&primary);
    let changed = primary.content();
    assert_eq!(changed, replica.content());
    primary.client().call(&["HSET", "h:other", "field", "other"]);
    assert_ne!(changed.digest, primary.content().digest, "the digest sees a changed field");
    [primary, replica].iter().for_each(Host::lose);
    assert_eq!(working_below(dir.path()), Vec::<u32>::new());
}

#[test]
fn a_pair_of_redis_6_2_holds_the_same_data() {
    a_pair_holds_the_same_data(REDIS_6_2);
}

#[test]
fn a_pair_of_redis_7_0_holds_the_same_data() {
    a_pair_holds_the_same_data(REDIS_7_0);
}

#[test]
fn a_pair_of_valkey_9_1_holds_the_same_data() {
    a_pair_holds_the_same_data(VALKEY_9_1);
}

#[test]
fn a_relay_carries_both_ways_and_can_be_cut() {
    let server = UdpSocket::bind((address::fresh(), 7400)).unwrap();
    let relay = Relay::to(server.local_addr().unwrap());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut buffer = [0; 100];
    client.send_to(b"there", relay.address).unwrap();
    let (length, flow) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"there");
    server.send_to(b"and back", flow).unwrap();
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (b"and back".as_slice(), relay.address));
    relay.pass(Passing::Nothing);
    client.send_to(b"\xc3 as a QUIC Initial begins", relay.address).unwrap();
    wait_for("the relay sees that a connection is begun", || match relay.begun_while_cut() {
        1 => Ok(()),
        other => Err(other.to_string()),
    });
    relay.pass(Passing::Everything);
    client.send_to(b"again", relay.address).unwrap();
    let (length, _) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"again", "what was sent while it was cut is lost");
}
