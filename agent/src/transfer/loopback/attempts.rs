//! Pulls that are broken off, and go on.

use std::sync::atomic::{AtomicU32, Ordering};

use baton_proto::control::Request;

use super::stage::flip;
use super::*;
use crate::transfer::receiver::WINDOW_CHUNKS;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_the_middle_goes_on_where_it_was() {
    let cuts = AtomicU32::new(0);
    let hooks = Hooks::chunk(move |served, _, chunk| {
        if served > 0 && served % 7 == 0 && cuts.fetch_add(1, Ordering::SeqCst) < 2 {
            Serve::Cut
        } else {
            Serve::Send(chunk)
        }
    });
    let stage = Stage::new(snapshot("REDIS0010", 24 * CHUNK), hooks);
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!(facts.reconnects, 2);
    // Every connection but the last lost at most a window of chunks.
    assert!(stage.source.served() <= 24 + 2 * WINDOW_CHUNKS as u32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pull_goes_on_from_what_the_first_has_written() {
    // From the sixteenth chunk on the source refuses; a window of chunks may still be on its way then.
    let hooks = Hooks::chunk(|served, _, chunk| {
        let refused = Err(Fault::new(FaultKind::Host, "the disk gave up"));
        Serve::Send(if served < 16 { chunk } else { refused })
    });
    let mut stage = Stage::new(snapshot("REDIS0010", 24 * CHUNK), hooks);
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.message, "transfer from machine-b: the disk gave up");
    stage.restart_source().await;
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert!(facts.chunks_resumed > 0, "{facts:?}");
    let served = stage.source.served();
    assert_eq!(served, 24 - facts.chunks_resumed);
    // Once it is whole, a further pull fetches nothing.
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, stage.source.served()), (24, served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_killed_in_the_middle_is_gone_on_with() {
    // The tenth chunk and all behind it are held back, so that the kill is in the middle.
    let mut stage = Stage::new(
        snapshot("REDIS0010", 24 * CHUNK),
        Hooks::chunk(|served, _, chunk| if served < 10 { Serve::Send(chunk) } else { Serve::Hold }),
    );
    let pulling = stage.pulling(stage.order());
    until("ten chunks are recorded", || stage.recorded() >= 10).await;
    pulling.abort();
    assert!(pulling.await.unwrap_err().is_cancelled());
    stage.restart_source().await;
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, stage.source.served()), (10, 14));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_source_seals_what_the_target_holds() {
    let mut stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK));
    stage.pull().await.unwrap();
    stage.source.offers().revoke(&run_id());
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
    stage.restart_source().await;
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, stage.source.served()), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_superseded_is_hung_up_on_and_holds_nothing_back() {
    let stage = Stage::quiet(snapshot("REDIS0010", 20 * CHUNK));
    let dialer = stage.dialer("machine-c");
    let first = dialer.dial(&stage.order().address, &host("machine-b")).await.unwrap();
    first.ask(&Request::Open { ticket: ticket(7), session: 1 }).await.unwrap();
    // A target that died without a word: it has asked for much, and takes none of it.
    let asking: Vec<_> = (0..12)
        .map(|index| {
            let link = first.clone();
            tokio::spawn(async move {
                let mut room = vec![0; CHUNK];
                link.chunk(&ticket(7), (index, 0), |bytes| &mut room[..bytes], |_| ()).await
            })
        })
        .collect();
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    let fault = first.ask(&Request::Seal { ticket: ticket(7) }).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Peer);
    assert!(fault.to_string().contains("another attempt has begun"), "{fault}");
    for asked in asking {
        // Each was either taken before, or is known to be lost.
        let _ = end_of(asked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_of_one_session_do_not_supersede_each_other() {
    let stage = Stage::quiet(snapshot("REDIS0010", CHUNK));
    let dialer = stage.dialer("machine-c");
    let mut links = Vec::new();
    for _ in 0..3 {
        let link = dialer.dial(&stage.order().address, &host("machine-b")).await.unwrap();
        link.ask(&Request::Open { ticket: ticket(7), session: 5 }).await.unwrap();
        links.push(link);
    }
    for link in links {
        let mut room = vec![0; CHUNK];
        link.chunk(&ticket(7), (0, 0), |bytes| &mut room[..bytes], |_| ()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_map_costs_a_second_fetch_of_what_it_lied_about() {
    let stage = Stage::quiet(snapshot("REDIS0010", 4 * CHUNK));
    stage.pull().await.unwrap();
    flip(&stage.part(), 2 * CHUNK_BYTES + 5);
    let served = stage.source.served();
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, stage.source.served() - served), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_loses_its_name_is_sent_to_its_end_and_not_opened_again() {
    let stage = Stage::new(
        snapshot("REDIS0010", 16 * CHUNK),
        Hooks::chunk(|served, _, chunk| if served == 15 { Serve::Hold } else { Serve::Send(chunk) }),
    );
    let pulling = stage.pulling(stage.order());
    until("one chunk is missing", || stage.recorded() >= 15).await;
    // What is open needs no name; but a restarted agent could not find it any more.
    std::fs::remove_file(stage.pin()).unwrap();
    stage.source.cut();
    let fault = end_of(pulling).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Host, "{fault}");
    assert!(fault.hint.is_some_and(|hint| hint.contains("take a new snapshot")));
    assert_eq!(stage.recorded(), 15, "what has come is kept");
}
