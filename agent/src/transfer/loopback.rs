//! Offers and pull over real connections on loopback, with throw-away certificates.

mod attempts;
mod growing;
mod lies;
mod source;
mod stage;
mod streaming;

use std::sync::Arc;

use baton_proto::chunk::CHUNK_BYTES;
use baton_proto::data::Budget;
use baton_proto::{Fault, FaultKind};

use crate::transfer::PullOrder;
use source::{Authority, Hooks, Serve};
use stage::{Stage, end_of, host, run_id, snapshot, ticket, until};

const CHUNK: usize = CHUNK_BYTES as usize;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_arrives_whole_and_packed_at_every_size() {
    for bytes in [18, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77] {
        let stage = Stage::quiet(snapshot("REDIS0010", bytes));
        let facts = stage.pull().await.unwrap();
        stage.expect_whole(&facts);
        assert_eq!((facts.chunks_resumed, facts.reconnects), (0, 0));
        assert_eq!(facts.packing.chunks as usize, bytes.div_ceil(CHUNK));
        if bytes > 1000 {
            assert!(facts.bytes_wire < facts.bytes_raw * 2 / 3, "{facts:?}");
            assert!(facts.packing.mean_level.is_some() && !facts.packing.why.is_empty(), "{facts:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_lanes_bring_chunks_of_one_snapshot() {
    let stage = Stage::quiet(snapshot("REDIS0010", 12 * CHUNK + 5));
    let facts = stage.pull_as("machine-c", PullOrder { lanes: 3, ..stage.order() }).await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((stage.source.askers(), stage.source.served(), facts.reconnects), (3, 13, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_cut_costs_one_reconnect_of_all() {
    let stage = Stage::new(
        snapshot("REDIS0010", 12 * CHUNK),
        Hooks::chunk(|served, _, chunk| if served == 5 { Serve::HangUp } else { Serve::Send(chunk) }),
    );
    let facts = stage.pull_as("machine-c", PullOrder { lanes: 2, ..stage.order() }).await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!(facts.reconnects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_and_a_new_one_counts_while_the_snapshot_is_sent() {
    let stage = Stage::unoffered(snapshot("REDIS0010", 8 * CHUNK), Hooks::default());
    // At this rate it would take an hour.
    stage.offer(Budget { max_rate: Some(5000), cpu: Some(1) }).unwrap();
    let pulling = stage.pulling(stage.order());
    until("chunks are asked for", || stage.source.served() > 0).await;
    let limited = |max_rate| stage.source.offers().limit(&run_id(), max_rate);
    let was = limited(Some(6000)).unwrap();
    assert_eq!(was, baton_proto::control::Reply::Limited { was: vec![Some(5000)] });
    assert_eq!(stage.recorded(), 0);
    assert!(!pulling.is_finished());
    limited(None).unwrap();
    let facts = end_of(pulling).await.unwrap();
    stage.expect_whole(&facts);
    let other = baton_proto::RunId::new("fo-other").unwrap();
    assert_eq!(stage.source.offers().limit(&other, None).unwrap_err().kind, FaultKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_byte_without_the_ticket_of_the_run() {
    let stage = Stage::quiet(snapshot("REDIS0010", 2 * CHUNK));
    let wrong = PullOrder { ticket: ticket(8), ..stage.order() };
    let fault = stage.pull_as("machine-c", wrong).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotAllowed, "{fault}");
    // The right ticket in the hands of another host.
    let fault = stage.pull_as("machine-d", stage.order()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotAllowed, "{fault}");
    assert_eq!(stage.source.served(), 0);
    assert!(!stage.part().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_not_served_on_a_connection_that_has_not_opened_the_snapshot() {
    let stage = Stage::quiet(snapshot("REDIS0010", CHUNK));
    let dialer = stage.dialer("machine-c");
    let link = dialer.dial(&stage.order().address, &host("machine-b")).await.unwrap();
    let mut room = vec![0; CHUNK];
    let fault = link.chunk(&ticket(7), (0, 0), |bytes| &mut room[..bytes], |_| ()).await.unwrap_err();
    assert!(fault.to_string().contains("has not opened the snapshot"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_host_is_not_pulled_from() {
    let stage = Stage::quiet(snapshot("REDIS0010", 100));
    let order = PullOrder { from: host("machine-x"), ..stage.order() };
    let fault = stage.pull_as("machine-c", order).await.unwrap_err();
    assert!(fault.message.starts_with("transfer from machine-x:"), "{fault}");
    assert_eq!(stage.source.served(), 0);
    let stranger = Stage { authority: Authority::new(), ..stage };
    let fault = stranger.pull().await.unwrap_err();
    assert!(fault.to_string().contains("certificate"), "{fault}");
    assert!(!stranger.part().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_answer_is_named() {
    let mut stage = Stage::quiet(snapshot("REDIS0010", 100));
    stage.source.stop().await;
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Peer);
    assert!(fault.message.starts_with("transfer from machine-b:"), "{fault}");
    assert!(fault.hint.is_some_and(|hint| hint.contains("agent of machine-b runs")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_that_the_server_cannot_read_is_refused_before_a_byte_is_sent() {
    let stage = Stage::quiet(snapshot("REDIS0012", 2 * CHUNK));
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.to_string().contains("REDIS0012") && fault.to_string().contains("REDIS0010"), "{fault}");
    assert_eq!(stage.source.served(), 0);
    assert!(!stage.part().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_is_told_before_a_byte_is_sent() {
    let stage = Stage::quiet(snapshot("REDIS0010", 2 * CHUNK));
    let mut order = stage.order();
    order.place.free_bytes_min = 1 << 60;
    let fault = stage.pull_as("machine-c", order).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Host);
    assert!(fault.to_string().contains("bytes are missing"), "{fault}");
    assert_eq!(stage.source.served(), 0);
}
