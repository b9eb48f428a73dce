//! Complete and damaged bitfiles. Real ones may not be distributed; these have the format of 23
//! public files.

use proptest::prelude::*;
use tandem_fpga_config::bitfile::{Bitfile, BitfileError, Header, SYNC, write};
use tandem_fpga_config::profile::{BusFpga, UserFpga, builtin};

fn fpgas() -> (UserFpga, BusFpga) {
    let board = builtin::named("openflow-switch").expect("a profile").board;
    (board.user_fpga.expect("known"), board.bus_fpga.expect("known"))
}

fn header(part: &str) -> Header {
    Header {
        design: "nf2_top_par.ncd".into(),
        part: part.into(),
        date: "2009/ 7/ 4".into(),
        time: "12:34:56".into(),
    }
}

fn data(bytes: usize) -> Vec<u8> {
    let mut data = SYNC.to_vec();
    data.resize(bytes, 0x5a);
    data
}

/// A complete file for the user FPGA, written byte by byte after the format's description.
fn whole() -> Vec<u8> {
    let mut file = vec![0x00, 0x09, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x00, 0x00, 0x01];
    for (letter, text) in
        [(b'a', "nf2_top_par.ncd"), (b'b', "2vp50ff1152"), (b'c', "2009/ 7/ 4"), (b'd', "12:34:56")]
    {
        file.push(letter);
        file.extend([0, u8::try_from(text.len() + 1).expect("short")]);
        file.extend(text.bytes());
        file.push(0);
    }
    file.push(b'e');
    file.extend(2_377_668u32.to_be_bytes());
    file.extend(data(2_377_668));
    file
}

#[test]
fn a_bit_file_of_the_form_that_public_ones_have_is_read() {
    let file = whole();
    let bitfile = Bitfile::parse(&file).expect("whole");
    assert_eq!(bitfile.header(), Some(header("2vp50ff1152")));
    assert_eq!(bitfile.data.len(), 2_377_668);
    assert_eq!(write(&header("2vp50ff1152"), bitfile.data).expect("short enough"), file, "and written again");
    let (user, bus) = fpgas();
    assert_eq!(bitfile.for_user(&user), Ok(()));
    assert!(matches!(bitfile.for_bus(&bus), Err(BitfileError::Part { .. })));
    assert_eq!(bitfile.words().len(), 594_417);
    assert_eq!(
        bitfile.words().take(3).collect::<Vec<_>>(),
        [0xffff_ffff, 0x6655_99aa, 0x5a5a_5a5a],
        "little-endian"
    );
}

#[test]
fn a_raw_bin_is_read_and_has_only_its_length_to_be_known_by() {
    let file = data(2_377_668);
    let bitfile = Bitfile::parse(&file).expect("whole");
    assert_eq!(bitfile.header(), None);
    assert_eq!(bitfile.for_user(&fpgas().0), Ok(()));
    let short = data(2_377_664);
    let error = Bitfile::parse(&short).expect("it starts right").for_user(&fpgas().0).expect_err("too short");
    assert!(matches!(error, BitfileError::Length { length: 2_377_664, wanted: 2_377_668, .. }), "{error}");
}

#[test]
fn one_for_another_part_is_refused_and_says_which() {
    let (user, bus) = fpgas();
    let cpci = write(&header("2s200fg456"), &data(166_980)).expect("written");
    let cpci = Bitfile::parse(&cpci).expect("a whole bitfile");
    assert_eq!(cpci.for_bus(&bus), Ok(()));
    let error = cpci.for_user(&user).expect_err("another part").to_string();
    assert!(
        error.contains("2s200fg456 (the bus FPGA of a NetFPGA-1G)") && error.contains("2vp50ff1152"),
        "{error}"
    );
    let other = write(&header("2vp30ff1152"), &data(2_377_668)).expect("written");
    assert!(matches!(Bitfile::parse(&other).expect("whole").for_user(&user), Err(BitfileError::Part { .. })));
}

#[test]
fn a_truncated_one_is_refused_wherever_it_was_cut() {
    let file = write(&header("2vp50ff1152"), &data(64)).expect("written");
    for length in 0..file.len() {
        let error = Bitfile::parse(&file[..length]).expect_err("cut off");
        assert!(matches!(error, BitfileError::CutOff { .. }), "at {length}: {error}");
    }
    assert!(Bitfile::parse(&file).is_ok());
}

#[test]
fn damaged_and_foreign_files_say_what_is_wrong() {
    let file = write(&header("2vp50ff1152"), &data(64)).expect("written");
    let mut trailing = file.clone();
    trailing.push(0);
    assert_eq!(Bitfile::parse(&trailing), Err(BitfileError::Trailing(1)));
    let mut swapped = file.clone();
    let at = file.len() - 64;
    swapped[at + 4] = 0x55;
    assert!(matches!(Bitfile::parse(&swapped), Err(BitfileError::NoSync(_))));
    let mut letter = file.clone();
    letter[13] = b'x';
    assert_eq!(Bitfile::parse(&letter), Err(BitfileError::Section { at: 13, wanted: "section a, a string" }));
    assert_eq!(Bitfile::parse(b"\x1f\x8b\x08 gzip"), Err(BitfileError::NotOne));
    assert_eq!(Bitfile::parse(b"#!/bin/sh\n"), Err(BitfileError::NotOne));
}

proptest! {
    #[test]
    fn what_was_written_is_read(design in "[ -~]{0,80}", part in "[a-z0-9]{0,20}", bytes in 8usize..4096) {
        let header = Header { design, part, date: String::new(), time: "1".into() };
        let data = data(bytes);
        let file = write(&header, &data).expect("short enough");
        let bitfile = Bitfile::parse(&file).expect("whole");
        prop_assert_eq!(bitfile.header(), Some(header));
        prop_assert_eq!(bitfile.data, &data[..]);
    }

    #[test]
    fn no_bytes_whatever_make_it_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut damaged = whole_small();
        for (to, from) in damaged.iter_mut().zip(&file) {
            *to ^= from & 0x11;
        }
        let _ = Bitfile::parse(&file);
        let _ = Bitfile::parse(&damaged);
    }
}

fn whole_small() -> Vec<u8> {
    write(&header("2vp50ff1152"), &data(64)).expect("written")
}
