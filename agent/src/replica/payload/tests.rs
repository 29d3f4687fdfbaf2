//! Streams that are cut into reads at every byte, cut short, and damaged.

use proptest::prelude::*;

use super::*;

const MARK: [u8; MARK_BYTES] = *b"c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";

/// A snapshot from the outside: magic, bytes, end mark, checksum.
fn snapshot(bytes: usize) -> Vec<u8> {
    let mut file = b"REDIS0010".to_vec();
    file.extend((0..bytes - 18).map(|at| (at % 251) as u8));
    file.push(0xff);
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
    crc.update(&file);
    file.extend(crc.finalize().to_le_bytes());
    file
}

/// What comes out when the stream comes in these pieces; each is cut where the payload wants no more.
fn received(ending: Ending, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, PayloadError> {
    let mut payload = Payload::new(ending, Vec::new());
    let mut chunks = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(payload.wants().min(rest.len()));
            assert!(!now.is_empty(), "it wants nothing, and has not ended");
            payload.buffer().extend_from_slice(now);
            rest = later;
            loop {
                match payload.poll()? {
                    Next::More => break,
                    Next::Cut => {
                        chunks.push(payload.cut());
                        payload.refill(vec![7; 5]);
                    }
                    Next::End => {
                        let (last, bytes) = payload.finish();
                        chunks.push(last);
                        assert_eq!(bytes, chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
                        return Ok(chunks);
                    }
                }
            }
        }
    }
    Err(payload.ended())
}

/// The same, with a mark behind the snapshot.
fn marked(file: &[u8], at: &[usize]) -> Result<Vec<Vec<u8>>, PayloadError> {
    let stream = [file, &MARK].concat();
    let mut edges: Vec<_> = at.iter().copied().chain([0, stream.len()]).collect();
    edges.sort_unstable();
    let pieces: Vec<_> = edges.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
    received(Ending::Mark(MARK), &pieces)
}

#[test]
fn the_mark_may_be_split_at_every_byte() {
    let file = snapshot(200);
    for at in 0..=file.len() + MARK_BYTES {
        assert_eq!(marked(&file, &[at]), Ok(vec![file.clone()]), "split at {at}");
    }
    let every: Vec<_> = (0..file.len() + MARK_BYTES).collect();
    assert_eq!(marked(&file, &every), Ok(vec![file]));
}

#[test]
fn a_long_snapshot_is_cut_into_chunks_at_every_edge() {
    for bytes in [CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 8, CHUNK + TAIL_BYTES, CHUNK + MARK_BYTES, 2 * CHUNK + 77] {
        let file = snapshot(bytes);
        for at in [0, bytes - 3, bytes, bytes + 1, bytes + MARK_BYTES - 1] {
            let chunks = marked(&file, &[at]).unwrap();
            assert!(chunks.concat() == file, "{bytes} bytes, split at {at}");
            let (last, whole) = chunks.split_last().unwrap();
            assert!(whole.iter().all(|chunk| chunk.len() == CHUNK) && (1..=CHUNK).contains(&last.len()));
        }
        let chunks = received(Ending::Length(bytes as u64), &[&file]).unwrap();
        assert!(chunks.concat() == file && chunks.len() == bytes.div_ceil(CHUNK), "{bytes} bytes of a known length");
    }
}

#[test]
fn a_mark_among_the_bytes_is_not_the_end() {
    let mut file = snapshot(300);
    file.splice(100..100, MARK);
    let at = file.len() - 8;
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
    crc.update(&file[..at]);
    file.truncate(at);
    file.extend(crc.finalize().to_le_bytes());
    // It is the last that was read when the stream pauses right behind it.
    assert_eq!(marked(&file, &[100 + MARK_BYTES]), Ok(vec![file]));
}

#[test]
fn a_stream_that_is_cut_short_is_told_wherever_it_is_cut() {
    let file = snapshot(200);
    let stream = [&file[..], &MARK].concat();
    for length in 0..stream.len() {
        assert_eq!(received(Ending::Mark(MARK), &[&stream[..length]]), Err(PayloadError::Short(length as u64)));
    }
    for length in 0..file.len() {
        let cut = received(Ending::Length(file.len() as u64), &[&file[..length]]);
        assert_eq!(cut, Err(PayloadError::Short(length as u64)));
    }
}

#[test]
fn a_damaged_snapshot_is_told_in_either_form() {
    let good = snapshot(200);
    for at in [0, 9, 100, good.len() - 9, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(matches!(marked(&bad, &[]), Err(PayloadError::Damaged(_))), "byte {at}");
        let measured = received(Ending::Length(bad.len() as u64), &[&bad]);
        assert!(matches!(measured, Err(PayloadError::Damaged(_))), "byte {at}");
    }
    // An end with nothing before it.
    assert!(matches!(marked(&[], &[]), Err(PayloadError::Damaged(RdbError::Short(0)))));
}

#[test]
fn what_follows_a_snapshot_of_known_length_is_not_read() {
    let file = snapshot(200);
    let mut payload = Payload::new(Ending::Length(200), Vec::new());
    assert_eq!(payload.wants(), 200);
    payload.buffer().extend_from_slice(&file[..150]);
    assert_eq!((payload.poll(), payload.wants()), (Ok(Next::More), 50));
    payload.buffer().extend_from_slice(&file[150..]);
    assert_eq!((payload.poll(), payload.wants()), (Ok(Next::End), 0));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), length in any::<u64>()) {
        let _ = received(Ending::Mark(MARK), &[&bytes]);
        let _ = received(Ending::Length(length.max(bytes.len() as u64 + 1)), &[&bytes]);
    }
}
