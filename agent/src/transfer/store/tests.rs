use baton_proto::data::Packing;

use super::*;

const CHUNK: usize = CHUNK_BYTES as usize;

struct Scene {
    dir: tempfile::TempDir,
    data: Vec<u8>,
    chunking: Chunking,
}

fn id(name: &str) -> SnapshotId {
    SnapshotId(name.into())
}

impl Scene {
    fn new(bytes: usize) -> Scene {
        let mut data = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        Scene { dir: tempfile::tempdir().unwrap(), data, chunking: Chunking::new(bytes as u64).unwrap() }
    }

    fn place(&self) -> Place {
        let at = |name: &str| self.dir.path().join(name);
        Place { part: at("part"), map: at("map"), free_bytes_min: 0, loads: false }
    }

    fn open(&self) -> Opened {
        Store::open(&self.place(), &id("fo-1/0"), self.chunking.extent()).unwrap()
    }

    fn fill(&self, store: &Store, indexes: impl IntoIterator<Item = u32>) {
        for index in indexes.into_iter().map(ChunkIndex) {
            let span = self.chunking.span(index).unwrap();
            let bytes = &self.data[span.offset as usize..][..span.bytes as usize];
            let digest = self.chunking.digest(index, bytes);
            let head =
                FrameHead { packing: Packing::Store, index: index.0, raw_bytes: span.bytes, wire_bytes: 5, digest };
            store.write(&head, span, bytes).unwrap();
        }
    }

    /// The claims that hold.
    fn good(&self, opened: &Opened) -> Vec<u32> {
        let check = |index: &ChunkIndex, digest: &ChunkDigest| {
            opened.store.check(*index, &self.chunking, digest, &mut vec![0; CHUNK]).unwrap().is_some()
        };
        opened.held.iter().filter(|(index, digest)| check(index, digest)).map(|(index, _)| index.0).collect()
    }
}

#[test]
fn what_was_written_is_claimed_and_good_after_a_restart_at_every_size() {
    for bytes in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
        let scene = Scene::new(bytes);
        let last = scene.chunking.count() - 1;
        let opened = scene.open();
        assert_eq!(opened.held, Held::new());
        scene.fill(&opened.store, [last]);
        drop(opened);
        let opened = scene.open();
        assert_eq!(scene.good(&opened), [last], "{bytes} bytes");
        scene.fill(&opened.store, 0..last);
        opened.store.finish(bytes as u64).unwrap();
        assert!(std::fs::read(scene.place().part).unwrap() == scene.data);
        assert_eq!(scene.good(&scene.open()).len(), last as usize + 1);
    }
}

#[test]
fn an_empty_snapshot_has_nothing_to_hold_and_no_end() {
    let scene = Scene::new(0);
    let opened = scene.open();
    assert_eq!((opened.held.len(), opened.store.finish(0).unwrap().len()), (0, 0));
}

#[test]
fn a_snapshot_that_grows_gets_its_length_at_the_end() {
    let scene = Scene::new(2 * CHUNK + 7);
    let growing = Extent { bytes: CHUNK_BYTES + 1, whole: false };
    let opened = Store::open(&scene.place(), &id("fo-1/0"), growing).unwrap();
    scene.fill(&opened.store, 0..3);
    assert_eq!(opened.store.finish(scene.data.len() as u64).unwrap(), scene.data[2 * CHUNK + 7 - TAIL_BYTES..]);
    assert!(std::fs::read(scene.place().part).unwrap() == scene.data);
}

#[test]
fn a_torn_map_is_cut_and_written_on() {
    let scene = Scene::new(4 * CHUNK);
    scene.fill(&scene.open().store, [0, 1]);
    let map = OpenOptions::new().write(true).open(scene.place().map).unwrap();
    map.set_len(map.metadata().unwrap().len() - 7).unwrap();
    let opened = scene.open();
    assert_eq!(scene.good(&opened), [0]);
    scene.fill(&opened.store, [3]);
    let opened = scene.open();
    assert_eq!((scene.good(&opened), opened.wire_bytes), (vec![0, 3], 10));
}

#[test]
fn a_map_that_outlived_its_chunks_is_not_believed() {
    let scene = Scene::new(4 * CHUNK);
    scene.fill(&scene.open().store, 0..4);
    // A power cut: the records were on disk, some of the chunks were not.
    let part = OpenOptions::new().write(true).open(scene.place().part).unwrap();
    part.write_all_at(&[0; 4096], CHUNK_BYTES).unwrap();
    assert_eq!(scene.good(&scene.open()), [0, 2, 3]);
    part.set_len(2 * CHUNK_BYTES + 1).unwrap();
    let opened = scene.open();
    assert_eq!((scene.good(&opened), opened.held.len()), (vec![0], 3), "a record beyond the file ends the map");
}

#[test]
fn after_a_failed_sync_nothing_is_claimed() {
    let scene = Scene::new(2 * CHUNK);
    for at_the_end in [false, true] {
        let mut opened = scene.open();
        assert_eq!(opened.held, Held::new());
        scene.fill(&opened.store, [0, 1]);
        // What cannot be synced at all.
        opened.store.part = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let synced = if at_the_end { opened.store.finish(0).map(drop) } else { opened.store.sync() };
        assert!(synced.unwrap_err().hint.is_some());
        assert!(!scene.place().map.exists());
    }
    assert_eq!(scene.open().held, Held::new());
}

#[test]
fn another_snapshot_begins_afresh() {
    let scene = Scene::new(2 * CHUNK);
    scene.fill(&scene.open().store, [0]);
    let other = Store::open(&scene.place(), &id("fo-1/1"), scene.chunking.extent()).unwrap();
    assert_eq!(other.held, Held::new());
    assert_eq!(std::fs::metadata(scene.place().part).unwrap().len(), 2 * CHUNK_BYTES);
}

#[test]
fn a_map_without_its_file_claims_nothing() {
    let scene = Scene::new(2 * CHUNK);
    scene.fill(&scene.open().store, [0, 1]);
    std::fs::remove_file(scene.place().part).unwrap();
    assert_eq!(scene.open().held, Held::new());
}

#[test]
fn only_the_agent_may_read_the_files_and_links_are_not_followed() {
    let scene = Scene::new(CHUNK);
    let (place, victim) = (scene.place(), scene.dir.path().join("victim"));
    std::fs::write(&victim, b"precious").unwrap();
    std::os::unix::fs::symlink(&victim, &place.part).unwrap();
    drop(scene.open());
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    for path in [place.part, place.map] {
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "{path:?}");
    }
}

#[test]
fn a_file_that_is_whole_needs_no_more_room() {
    let scene = Scene::new(CHUNK);
    scene.fill(&scene.open().store, [0]);
    let full = Place { free_bytes_min: 1 << 60, ..scene.place() };
    let opened = Store::open(&full, &id("fo-1/0"), scene.chunking.extent()).unwrap();
    assert_eq!(scene.good(&opened), [0]);
}

#[test]
fn a_full_disk_is_told_with_what_is_missing() {
    let scene = Scene::new(CHUNK);
    let open = |free_bytes_min, bytes| {
        let place = Place { free_bytes_min, ..scene.place() };
        Store::open(&place, &id("fo-1/0"), Extent { bytes, whole: true }).map(|_| ()).unwrap_err()
    };
    let fault = open(1 << 60, CHUNK_BYTES);
    assert_eq!(fault.kind, FaultKind::Host);
    assert!(fault.to_string().contains("bytes are missing"), "{fault}");
    assert!(!scene.place().part.exists());
    let fault = open(0, 1 << 45);
    assert!(fault.to_string().contains("35184372088832 bytes are needed"), "{fault}");
}
