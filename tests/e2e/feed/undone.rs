//! Landings that are taken back: `Restore` brings C back to running and empty, with its old dump, and loses nothing that
//! was written since.

use baton_proto::control::{Action, Outcome};
use baton_tests::dataset::Dataset;

use super::{C, Story};
use crate::scene::{LITTLE_BYTES, assert_no_leftovers, files, on_every_server};

on_every_server! {
    a_landing_is_taken_back
    what_was_written_since_is_set_aside
}

fn a_landing_is_taken_back(server: &str) {
    let story = Story::on(server, Dataset::mixed(7, LITTLE_BYTES), |conf| {
        conf.set("save", "3600 100000");
    });
    story.c().client().call(&["SAVE"]);
    let old = std::fs::read(story.c().dump_path()).unwrap();
    story.offer(None);
    story.land();
    let Ok(Outcome::Restored { put_back, set_aside }) = story.order(C, Action::Restore) else { panic!() };
    assert_eq!((put_back, set_aside), (vec!["dump.rdb".to_owned()], vec![]));
    assert_eq!(std::fs::read(story.c().dump_path()).unwrap(), old);
    story.assert_c_is_empty();
    // Again, and from where nothing is to be undone.
    story.order(C, Action::Restore).unwrap();
    story.land();
    story.assert_landed();
}

fn what_was_written_since_is_set_aside(server: &str) {
    let story = Story::on(server, Dataset::mixed(7, LITTLE_BYTES), |_| {});
    story.offer(None);
    story.land();
    story.c().client().call(&["SET", "somebodys", "data"]);
    let held = story.c().content();
    let Ok(Outcome::Restored { set_aside, .. }) = story.order(C, Action::Restore) else { panic!() };
    let [aside] = &set_aside[..] else { panic!("{set_aside:?}") };
    story.assert_c_is_empty();
    assert!(!story.c().dump_path().exists(), "none stood there before");
    // It is a snapshot of all that C held.
    let aside = story.c().data_dir().join(aside);
    story.c().kill_server();
    std::fs::rename(&aside, story.c().dump_path()).unwrap();
    story.c().start_server();
    assert_eq!(story.c().content(), held);
    story.order(super::B, Action::Release { keep_old: false }).unwrap();
    assert_no_leftovers(&story.lost.world);
    assert!(!files(&story.c().data_dir()).iter().any(|name| name.contains(".before-")));
}
