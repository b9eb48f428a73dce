//! Files of frames: files of other tools are read, written ones are read back, and no file makes
//! the reader panic.

use proptest::prelude::*;
use std::time::Duration;
use tandem_fpga_card::pcap::{FRAMES, FileError, Writer, read};
use tandem_fpga_config::generator::Timed;

/// A file in the documented format: magic, version 2.4, snap length 65535, link type, then the
/// records.
fn file(magic: u32, link: u32, records: &[(u32, u32, u32, &[u8])], big: bool) -> Vec<u8> {
    let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let half = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut file =
        [&word(magic)[..], &half(2), &half(4), &word(0), &word(0), &word(65_535), &word(link)].concat();
    for (seconds, fraction, length, bytes) in records {
        let there = u32::try_from(bytes.len()).expect("short");
        for value in [*seconds, *fraction, there, *length] {
            file.extend(word(value));
        }
        file.extend(*bytes);
    }
    file
}

#[test]
fn both_byte_orders_and_both_units_of_time_are_read() {
    for (magic, nanoseconds) in [(0xa1b2_c3d4, 5_000), (0xa1b2_3c4d, 5)] {
        for big in [false, true] {
            let frames = read(&file(magic, 1, &[(7, 5, 3, b"abc"), (8, 0, 0, b"")], big)[..]).expect("read");
            let first = Timed { at: Duration::new(7, nanoseconds), bytes: b"abc".to_vec() };
            let second = Timed { at: Duration::new(8, 0), bytes: Vec::new() };
            assert_eq!(frames, [first, second]);
        }
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_the_frame() {
    let with = |records: &[_]| read(&file(0xa1b2_c3d4, 1, records, false)[..]);
    assert!(matches!(read(&b"short"[..]), Err(FileError::Form(_))));
    // The beginning of a pcapng file.
    assert!(matches!(read(&[0x0a, 0x0d, 0x0d, 0x0a].repeat(10)[..]), Err(FileError::Form(_))));
    assert!(matches!(read(&file(0xa1b2_c3d4, 113, &[], false)[..]), Err(FileError::Link(_))));
    let fine = (1, 2, 3, &b"abc"[..]);
    assert!(matches!(
        with(&[fine, (1, 2, 1_500, b"abc")]),
        Err(FileError::CutOff { frame: 2, there: 3, of: 1_500 })
    ));
    let longest = [0; 65_536];
    let longer = with(&[fine, (1, 2, 65_536, &longest[..])]);
    assert!(matches!(longer, Err(FileError::Long { frame: 2, bytes: 65_536 })));
    with(&[(1, 2, 65_535, &longest[1..])]).expect("so long may be");
    for fraction in [1_000_000, u32::MAX] {
        assert!(matches!(with(&[fine, fine, (1, fraction, 1, b"a")]), Err(FileError::Time { frame: 3, .. })));
    }
    let mut whole = file(0xa1b2_c3d4, 1, &[fine, fine], false);
    whole.pop();
    assert!(matches!(read(&whole[..]), Err(FileError::Frame { frame: 2, .. })));
    // A length beyond the limits is refused.
    whole.truncate(24);
    whole.extend([0xff; 16]);
    assert!(matches!(read(&whole[..]), Err(FileError::Frame { frame: 1, .. })));
    let many = file(0xa1b2_c3d4, 1, &vec![(0, 0, 0, &b""[..]); FRAMES + 1], false);
    assert!(matches!(read(&many[..]), Err(FileError::TooMuch)));
    read(&many[..many.len() - 16]).expect("as many as there may be");
    // A file without an end.
    let endless = std::io::Read::chain(&many[..24], std::io::repeat(0x01));
    assert!(read(endless).is_err());
    let long = [0; 60_000];
    let large = file(0xa1b2_c3d4, 1, &vec![(0, 0, 60_000, &long[..]); 1_200], false);
    assert!(matches!(read(&large[..]), Err(FileError::TooMuch | FileError::Frame { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(
        frames in prop::collection::vec((any::<u32>(), 0u32..1_000_000_000, prop::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let frames: Vec<Timed> = frames
            .into_iter()
            .map(|(s, n, bytes)| Timed { at: Duration::new(s.into(), n), bytes })
            .collect();
        let mut writer = Writer::new(Vec::new()).expect("begun");
        for frame in &frames {
            writer.frame(frame.at, &frame.bytes).expect("written");
        }
        prop_assert_eq!(read(&writer.into_inner()[..]).expect("read"), frames);
    }

    /// Random bytes behind a valid header, or a valid file with a changed byte, give frames or an
    /// error.
    #[test]
    fn no_file_stops_the_reader(
        rest in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..100, to: u8, nanoseconds: bool, big: bool,
    ) {
        let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let _ = read(&[file(magic, 1, &[], big), rest.clone()].concat()[..]);
        let _ = read(&rest[..]);
        let mut changed = file(magic, 1, &[(1, 2, 20, &[7; 20]), (2, 3, 9, &[8; 9])], big);
        if let Some(byte) = changed.get_mut(at) {
            *byte = to;
        }
        if let Ok(frames) = read(&changed[..]) {
            prop_assert!(frames.iter().map(|f| f.bytes.len()).sum::<usize>() <= changed.len());
        }
    }
}
