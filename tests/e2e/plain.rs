//! Strings that servers have packed: every version's are recognised, and travel plain where the line is slow.

use baton_agent::transfer::plain::{PLAIN_BYTES_MAX, Plainer};
use baton_proto::chunk::CHUNK_BYTES;
use baton_tests::address;
use baton_tests::coord::code;
use baton_tests::dataset::Dataset;
use baton_tests::host::Host;
use baton_tests::servers::{REDIS_6_2, REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::world::{A, C, World};

use crate::scene::{assert_no_leftovers, blake3_of};

/// Some chunks of every version's data.
const DATA_BYTES: u64 = 20 << 20;
/// So many that the first, which nothing is known of yet, are few of them.
const SENT_BYTES: u64 = 80 << 20;

/// What the server saves of what it could pack shows in the sizes of two dumps: so much is found again, string by string.
fn the_strings_of_a_dump_are_undone_and_come_back(server: &str) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path(), "machine-b", address::fresh(), ServerProgram::named(server));
    host.configure(|conf| {
        // Inner nodes of lists are packed in memory, by another way through the server.
        conf.set("list-compress-depth", 1);
    });
    host.start_server();
    let mut client = host.client();
    Dataset::mixed(11, DATA_BYTES).load(&mut client);
    client.call(&["CONFIG", "SET", "rdbcompression", "no"]);
    client.call(&["SAVE"]);
    let plain_bytes = std::fs::metadata(host.dump_path()).unwrap().len();
    client.call(&["CONFIG", "SET", "rdbcompression", "yes"]);
    client.call(&["SAVE"]);
    let dump = std::fs::read(host.dump_path()).unwrap();
    let saved = plain_bytes - dump.len() as u64;
    assert!(saved * 30 > plain_bytes, "{server} packs: {saved} of {plain_bytes}");
    let (mut plainer, mut form, mut again) = (Plainer::default(), vec![0; PLAIN_BYTES_MAX], Vec::new());
    let (mut found, mut strings) = (0, 0);
    for chunk in dump.chunks(CHUNK_BYTES as usize) {
        let undone = plainer.undo(chunk, &mut form).expect("every chunk has strings");
        again.resize(chunk.len(), 0);
        plainer.redo(&form[..undone.bytes], &mut again).expect("what was undone can be redone");
        assert!(again == chunk, "{server}: a chunk came back otherwise");
        found += (undone.plain_bytes - undone.string_bytes) as u64;
        strings += undone.strings;
    }
    assert!(found * 100 >= saved * 95, "{server}: {found} of {saved} bytes are found again, in {strings} strings");
    assert!(found <= saved, "{server}: no more than was saved");
    host.lose();
}

#[test]
fn the_strings_of_a_dump_of_redis_6_2_are_undone_and_come_back() {
    the_strings_of_a_dump_are_undone_and_come_back(REDIS_6_2);
}

#[test]
fn the_strings_of_a_dump_of_redis_7_0_are_undone_and_come_back() {
    the_strings_of_a_dump_are_undone_and_come_back(REDIS_7_0);
}

#[test]
fn the_strings_of_a_dump_of_valkey_9_1_are_undone_and_come_back() {
    the_strings_of_a_dump_are_undone_and_come_back(VALKEY_9_1);
}

#[test]
fn an_existing_dump_travels_plain_over_a_slow_line_and_arrives_as_it_was() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    let mut client = world.a().client();
    Dataset::mixed(12, SENT_BYTES).load(&mut client);
    client.call(&["SAVE"]);
    let dump = blake3_of(&world.a().dump_path());
    let args = ["copy", A, C, "--snapshot", "existing", "--max-rate", "2MB/s", "--yes", "--json"];
    let said = world.coord(&args).ends_with(code::DONE);
    let result = said.result();
    assert!(result["plain_chunks"].as_u64().is_some_and(|chunks| chunks > 0), "{said}");
    assert_eq!(result["blake3"], dump.as_str(), "{said}");
    assert_eq!(blake3_of(&world.c().dump_path()), dump);
    assert_no_leftovers(&world);
}
