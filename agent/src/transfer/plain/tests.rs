//! What goes in comes out, whatever it is; what servers wrote is recognised; and what a hostile source sends is bounded.

use proptest::prelude::*;

use super::*;

const CHUNK: usize = CHUNK_BYTES as usize;

/// Strings with the packed form that servers have given them (Redis 6.2 and 7.0 and Valkey 9.1, all the same).
fn packed_by_a_server() -> [(Vec<u8>, Vec<u8>); 3] {
    let text = br#"{"id":1,"name":"olga novak","mail":"olga.novak@example.com"},{"id":2,"name":"olga sato","mail":"olga.sato@example.com"}"#;
    let text_packed =
        b"\xc3@Q@w\x1f{\"id\":1,\"name\":\"olga novak\",\"mai\x00l\xa0\x13\x00.`\x13\x0f@example.com\"},{`<\x002\xe0\
        \x05<\x03sato\xe0\x06;@\x12\xe0\x03:\x01\"}";
    let long = [b"ab".repeat(11), b"a".repeat(300), b"the end".to_vec()].concat();
    let long_packed = b"\xc3\x15AI\x02aba\xe0\x0b\x01\xe0\xff\x00\xe0\x1a\x00\x06the end";
    // What is repeated goes beyond where servers begin to look for the end.
    let to_the_end = [b"xyz".to_vec(), b"q".repeat(20)].concat();
    let to_the_end_packed = b"\xc3\x08\x17\x03xyzq\xe0\x0a\x00";
    [(text.to_vec(), text_packed.to_vec()), (long, long_packed.to_vec()), (to_the_end, to_the_end_packed.to_vec())]
}

/// A string as a server writes it, packed.
fn written(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    assert!(Lzf::default().pack(plain, plain.len() - SAVED_MIN, &mut packed));
    let (packed_bytes, bytes) = (Length::of(packed.len()), Length::of(plain.len()));
    [&[MARK], packed_bytes.bytes(), bytes.bytes(), &packed].concat()
}

/// Text of which every server would pack a piece.
fn text(bytes: usize, seed: usize) -> Vec<u8> {
    let words = (0..).flat_map(|number| format!("order {number} of {seed} is shipped, ").into_bytes());
    words.take(bytes).collect()
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// What a server writes: keys, and values that are packed.
fn snapshot(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 1000);
    for number in 0.. {
        if out.len() >= bytes {
            break;
        }
        out.extend(b"\0\x0bkey:");
        out.extend(format!("{number:07}").bytes());
        out.extend(written(&text(60 + number * 37 % 1500, number)));
    }
    out.truncate(bytes);
    out
}

/// Makes the plain form of a chunk, and sees that it leads back.
fn there_and_back(plainer: &mut Plainer, chunk: &[u8]) -> Option<(Undone, Vec<u8>)> {
    let mut plain = vec![0xee; PLAIN_BYTES_MAX];
    let undone = plainer.undo(chunk, &mut plain)?;
    plain.truncate(undone.bytes);
    let mut again = vec![0xdd; chunk.len()];
    assert_eq!(plainer.redo(&plain, &mut again), Ok(()));
    assert!(again == chunk, "a chunk of {} bytes came back otherwise", chunk.len());
    Some((undone, plain))
}

#[test]
fn what_servers_packed_is_undone_and_comes_back() {
    let mut plainer = Plainer::default();
    for (plain, packed) in packed_by_a_server() {
        let chunk = [b"\0\x03key", &packed[..], b"\xff"].concat();
        let (undone, form) = there_and_back(&mut plainer, &chunk).expect("it has a string");
        assert_eq!((undone.strings, undone.string_bytes), (1, packed.len()));
        let length = Length::of(plain.len());
        assert_eq!(form, [b"\x05\0\x03key", length.bytes(), &plain, b"\x01\xff"].concat());
    }
}

#[test]
fn a_snapshot_of_any_size_comes_back_and_its_strings_are_undone() {
    let mut plainer = Plainer::default();
    let whole = snapshot(CHUNK + 1);
    for bytes in [2000, 5000, CHUNK / 3, CHUNK - 1, CHUNK, CHUNK + 1] {
        let (undone, plain) = there_and_back(&mut plainer, &whole[..bytes]).expect("it has strings");
        let as_large_as_may_be = plain.len() > PLAIN_BYTES_MAX - 5000;
        assert!(undone.string_bytes * 2 > bytes || as_large_as_may_be, "{undone:?} of {bytes}");
    }
    for bytes in [0, 1, 2, 10] {
        assert_eq!(there_and_back(&mut plainer, &whole[..bytes]), None);
    }
}

#[test]
fn a_string_that_the_ends_of_a_chunk_cut_is_left_as_it_is() {
    let mut plainer = Plainer::default();
    let string = written(&text(400, 1));
    let chunk = string.repeat(3);
    for cut in 1..string.len() {
        let (undone, _) = there_and_back(&mut plainer, &chunk[cut..]).expect("two are whole");
        assert_eq!(undone.strings, 2, "cut {cut} at the front");
        let (undone, _) = there_and_back(&mut plainer, &chunk[..chunk.len() - cut]).expect("two are whole");
        assert_eq!(undone.strings, 2, "cut {cut} at the back");
    }
}

#[test]
fn a_string_that_was_packed_otherwise_is_left_as_it_is() {
    let mut plainer = Plainer::default();
    // All literal bytes, which no server would have kept; then with a repetition that servers would have made longer.
    let literal = b"\xc3\x16\x15\x0aaaaaaaaaaaa\x09aaaaaaaaaa";
    let shorter = b"\xc3\x0d\x17\x02xyz\x00q\x20\x00\x20\x00\x20\x00\x20\x00\x20\x00";
    for odd in [&literal[..], shorter] {
        assert_eq!(there_and_back(&mut plainer, odd), None);
        let beside = [odd, &written(&text(400, 1)), odd].concat();
        assert_eq!(there_and_back(&mut plainer, &beside).expect("one is").0.strings, 1);
    }
}

#[test]
fn lengths_have_the_form_that_servers_write_and_no_other_is_taken() {
    for (length, form) in
        [(0, &[0][..]), (63, &[63]), (64, &[0x40, 64]), (16383, &[0x7f, 0xff]), (16384, &[0x80, 0, 0, 64, 0])]
    {
        assert_eq!(Length::of(length).bytes(), form);
        let mut rest = form;
        assert_eq!((take_length(&mut rest), rest.len()), (Some(length), 0));
    }
    for other in
        [&[0x40, 63][..], &[0x80, 0, 0, 63, 255], &[0x81, 0, 0, 0, 0, 0, 0, 64, 0], &[0xc0, 1], &[0x80, 0], &[]]
    {
        assert_eq!(take_length(&mut &*other), None, "{other:?}");
    }
}

#[test]
fn strings_that_lead_beyond_the_bound_are_left_packed() {
    // Each stands for eighty times what it takes.
    let string = written(&vec![b'a'; 100_000]);
    let chunk = string.repeat(CHUNK / string.len());
    let (undone, plain) = there_and_back(&mut Plainer::default(), &chunk).expect("some fit");
    assert!(plain.len() <= PLAIN_BYTES_MAX && plain.len() > PLAIN_BYTES_MAX - 200_000, "{undone:?}");
    assert!(undone.strings < CHUNK / string.len());
}

#[test]
fn noise_has_no_strings_and_chunks_made_to_cost_are_given_up() {
    let mut plainer = Plainer::default();
    assert_eq!(there_and_back(&mut plainer, &noise(CHUNK, 1)), None);
    // Every one of them unpacks, to something that packs otherwise.
    let trap = [b"\xc3\x40\x44\x40\x5e\x00a".to_vec(), b"\x20\x00".repeat(30), b"\x00b".repeat(3)].concat();
    let chunk = trap.repeat(CHUNK / trap.len());
    let began = plainer.lzf.place();
    assert_eq!(there_and_back(&mut plainer, &chunk), None);
    assert!((plainer.lzf.place() - began) as usize <= VAIN_BYTES_MAX + PLAIN_BYTES_MAX);
    // What follows the noise is still found.
    let late = [noise(CHUNK / 2, 2), snapshot(CHUNK / 2)].concat();
    let (undone, _) = there_and_back(&mut plainer, &late).expect("its second half has strings");
    assert!(undone.string_bytes > CHUNK / 8, "{undone:?}");
}

#[test]
fn whatever_is_wrong_with_a_plain_form_has_a_name() {
    let mut plainer = Plainer::default();
    let chunk = [b"key".to_vec(), written(&text(400, 1)), b"end".to_vec()].concat();
    let (_, plain) = there_and_back(&mut plainer, &chunk).expect("it has a string");
    let mut judge = |plain: &[u8], room: usize| plainer.redo(plain, &mut vec![0; room]);
    assert_eq!(judge(&plain, chunk.len() - 1), Err(PlainError::TooLong));
    assert_eq!(judge(&plain, chunk.len() + 9), Err(PlainError::TooShort { missing: 9 }));
    for cut in 0..plain.len() - 1 {
        let error = judge(&plain[..cut], chunk.len()).unwrap_err();
        assert!(matches!(error, PlainError::Torn | PlainError::TooShort { .. }), "{cut}: {error}");
    }
    // Strings that no server packs: empty ones would cost nothing to send, and noise does not shrink.
    assert_eq!(judge(&[0; 100], 100), Err(PlainError::String(0)));
    assert_eq!(judge(&[&[0, 20][..], &[b'a'; 20], &[0]].concat(), 100), Err(PlainError::String(20)));
    assert_eq!(judge(&[&[0, 60][..], &noise(60, 3), &[0]].concat(), 100), Err(PlainError::String(60)));
    // Lengths that nothing stands behind.
    assert_eq!(judge(&[0x80, 0xff, 0xff, 0xff, 0xff], 100), Err(PlainError::Torn));
    assert_eq!(judge(&[0, 0x80, 0xff, 0xff, 0xff, 0xff, 1], 100), Err(PlainError::Torn));
}

#[test]
fn the_table_is_cleared_when_its_places_run_out() {
    let string = text(300, 1);
    let (mut fresh, mut old) = (Vec::new(), Vec::new());
    assert!(Lzf::default().pack(&string, 300, &mut fresh));
    for before in [1, 299, 300, 301] {
        let mut lzf = Lzf::aged(u32::MAX - before);
        for _ in 0..3 {
            assert!(lzf.pack(&string, 300, &mut old));
            assert_eq!(old, fresh);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_come_back(pieces in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..50),
            proptest::collection::vec(prop_oneof![Just(MARK), Just(0), 0x14..0x30u8], 0..50),
            (21..900usize, 1..50usize).prop_map(|(bytes, seed)| text(bytes, seed)),
            (60..900usize, 1..50usize).prop_map(|(bytes, seed)| written(&text(bytes, seed))),
        ], 0..12,
    )) {
        there_and_back(&mut Plainer::default(), &pieces.concat());
    }

    #[test]
    fn any_string_that_packs_unpacks(string in proptest::collection::vec(0..4u8, 1..2000)) {
        let (mut lzf, mut packed) = (Lzf::default(), Vec::new());
        if lzf.pack(&string, string.len(), &mut packed) {
            let mut again = vec![0xee; string.len()];
            prop_assert_eq!(lzf::unpack(&packed, &mut again), Ok(()));
            prop_assert!(lzf.makes(&packed, &again));
            prop_assert_eq!(again, string);
        }
    }

    #[test]
    fn what_is_said_to_be_made_is_what_is_made(
        string in proptest::collection::vec(0..3u8, 1..200),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..64u8), 0..4),
    ) {
        let (mut lzf, mut packed, mut again) = (Lzf::default(), Vec::new(), Vec::new());
        prop_assume!(lzf.pack(&string, usize::MAX, &mut packed));
        for (at, byte) in damage {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        // What the damaged one stands for may have another length.
        for bytes in 1..400 {
            let mut plain = vec![0; bytes];
            if lzf::unpack(&packed, &mut plain).is_ok() {
                let made = lzf.pack(&plain, usize::MAX, &mut again) && again == packed;
                prop_assert_eq!(lzf.makes(&packed, &plain), made);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_target_panic(plain in proptest::collection::vec(any::<u8>(), 0..300), room in 0..400usize) {
        let _ = Plainer::default().redo(&plain, &mut vec![0; room]);
    }

    #[test]
    fn no_bytes_make_unpacking_panic(packed in proptest::collection::vec(any::<u8>(), 0..60), room in 0..400usize) {
        let _ = lzf::unpack(&packed, &mut vec![0; room]);
    }
}
