//! Files of frames, good and bad, and what becomes of their packets.

use super::*;
use etherparse::{Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice, UdpHeaderSlice};
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use proptest::prelude::*;

const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn build(step: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    step(&mut frame);
    frame
}

fn udp(payload: &[u8]) -> Vec<u8> {
    build(|frame| {
        let ip = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 168, 0, 1], [8, 8, 8, 8], 64);
        ip.udp(5000, 53).write(frame, payload).expect("a frame");
    })
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    build(|frame| {
        let ip = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 168, 0, 1], [8, 8, 8, 8], 64);
        ip.tcp(5000, 80, 7, 1024).write(frame, payload).expect("a frame");
    })
}

fn arp() -> Vec<u8> {
    [&[0xff; 6][..], &[1; 6], &[0x08, 0x06], &[0; 28]].concat()
}

/// A file of these frames, ten milliseconds apart, of which `cut` bytes were captured at most.
fn pcap(frames: &[Vec<u8>], cut: usize) -> Vec<u8> {
    let mut writer = PcapWriter::with_header(Vec::new(), PcapHeader::default()).expect("a file");
    for (n, frame) in frames.iter().enumerate() {
        let at = Duration::from_millis(1000 + 10 * n as u64);
        let there = &frame[..frame.len().min(cut)];
        writer.write_packet(&PcapPacket::new(at, frame.len() as u32, there)).expect("a frame");
    }
    writer.into_writer()
}

fn pcapng(frames: &[Vec<u8>], link: DataLink) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).expect("a file");
    writer.write_pcapng_block(InterfaceDescriptionBlock::new(link, 65_535)).expect("an interface");
    for (n, frame) in frames.iter().enumerate() {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_millis(10 * n as u64),
            original_len: frame.len() as u32,
            data: frame.into(),
            options: Vec::new(),
        };
        writer.write_pcapng_block(block).expect("a frame");
    }
    writer.into_inner()
}

/// Addresses and checksums of a packet are right, and say what was captured.
fn check_packet(bytes: &[u8], payload: &[u8]) {
    let ip = Ipv4HeaderSlice::from_slice(bytes).expect("an IPv4 header");
    assert_eq!((ip.source_addr(), ip.destination_addr(), ip.ttl()), (FROM, TO, 77));
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    let rest = &bytes[ip.slice().len()..];
    if ip.protocol().0 == 6 {
        let tcp = TcpHeaderSlice::from_slice(rest).expect("a TCP header");
        let sum = tcp.to_header().calc_checksum_ipv4(&ip.to_header(), payload).expect("a sum");
        assert_eq!(tcp.checksum(), sum);
        assert_eq!(&rest[tcp.slice().len()..], payload);
    } else {
        let udp = UdpHeaderSlice::from_slice(rest).expect("a UDP header");
        let sum = udp.to_header().calc_checksum_ipv4(&ip.to_header(), payload).expect("a sum");
        assert_eq!(udp.checksum(), sum);
        assert_eq!(&rest[8..], payload);
    }
}

#[test]
fn packets_have_new_addresses_and_checksums_that_are_right_in_both_kinds_of_files() {
    let frames = [udp(b"a name"), tcp(b"an odd page"), udp(b"")];
    for file in [pcap(&frames, 65_535), pcapng(&frames, DataLink::ETHERNET)] {
        let all = packets(&file, FROM, TO, 77).expect("packets");
        assert_eq!((all.packets.len(), all.left_out.as_str()), (3, ""));
        check_packet(&all.packets[0].bytes, b"a name");
        check_packet(&all.packets[1].bytes, b"an odd page");
        check_packet(&all.packets[2].bytes, b"");
        let at: Vec<u128> = all.packets.iter().map(|p| p.at.as_millis()).collect();
        assert_eq!(at, [0, 10, 20]);
    }
}

#[test]
fn what_was_cut_off_is_filled_and_tags_are_taken_off() {
    let whole = tcp(&[9; 900]);
    let all = packets(&pcap(std::slice::from_ref(&whole), 96), FROM, TO, 77).expect("packets");
    // 96 bytes less the headers of Ethernet, IPv4 and TCP.
    let payload = [[9u8; 42].to_vec(), vec![0; 858]].concat();
    check_packet(&all.packets[0].bytes, &payload);
    let tagged = [&whole[..12], &[0x81, 0x00, 0x00, 0x05], &whole[12..]].concat();
    let all = packets(&pcap(&[tagged], 65_535), FROM, TO, 77).expect("packets");
    check_packet(&all.packets[0].bytes, &[9; 900]);
}

#[test]
fn what_cannot_be_sent_is_left_out_and_counted() {
    let mut fragment = udp(b"part");
    fragment[14 + 6] = 0x20;
    let short = udp(b"gone");
    let frames = [udp(b"good"), arp(), fragment, short[..40].to_vec()];
    let all = packets(&pcap(&frames, 65_535), FROM, TO, 77).expect("packets");
    assert_eq!(all.packets.len(), 1);
    assert_eq!(all.left_out, "1 that are fragments, 1 that are not IPv4, 1 with a bad IPv4 header");
    let nothing = packets(&pcap(&[arp(), arp()], 65_535), FROM, TO, 77).expect_err("nothing");
    assert_eq!(nothing.to_string(), "none of its 2 frames can be replayed: 2 that are not IPv4");
    assert!(packets(&pcap(&[], 65_535), FROM, TO, 77).is_err());
}

#[test]
fn a_file_that_is_cut_off_or_not_of_ethernet_says_at_which_byte() {
    let file = pcap(&[udp(b"one"), udp(b"two")], 65_535);
    let second = 24 + 16 + udp(b"one").len();
    for end in [second + 3, second + 16, file.len() - 1] {
        match read(&file[..end]) {
            Err(FileError::Truncated { offset, frame: 2 }) => assert_eq!(offset, second),
            other => panic!("{end}: {other:?}"),
        }
    }
    assert_eq!(read(&file[..second]).expect("one frame").len(), 1);
    let header = PcapHeader { datalink: DataLink::IEEE802_11, ..PcapHeader::default() };
    let wireless = PcapWriter::with_header(Vec::new(), header).expect("a file").into_writer();
    assert!(matches!(read(&wireless), Err(FileError::Link { offset: 20, link: DataLink::IEEE802_11 })));
    let raw = pcapng(&[udp(b"one")], DataLink::RAW);
    assert!(matches!(read(&raw), Err(FileError::Link { offset, link: DataLink::RAW }) if offset > 0));
    let next = pcapng(&[udp(b"one")], DataLink::ETHERNET);
    assert!(matches!(read(&next[..next.len() - 5]), Err(FileError::Truncated { frame: 1, .. })));
    assert!(matches!(read(b"GIF89a, and so on, and so on"), Err(FileError::Form(_))));
    assert!(matches!(read(b""), Err(FileError::Form(_))));
}

/// The whole file takes as long as its frames take at the flow's rate, and gaps keep their
/// proportion.
#[test]
fn a_file_is_replayed_at_the_flows_rate() {
    let frames = [udp(&[0; 458]), udp(&[0; 458]), udp(&[0; 458])];
    let all = packets(&pcap(&frames, 65_535), FROM, TO, 77).expect("packets");
    // Three frames of 500 bytes at 12 kbit/s are a second.
    let table = Timetable::new(&all.packets, 12_000);
    assert_eq!(table.round, Duration::from_secs(1));
    let due: Vec<u128> = table.due.iter().map(|d| d.as_millis()).collect();
    assert_eq!(due, [0, 333, 666]);
    // Captured at one moment: at the rate.
    let at_once: Vec<Packet> =
        all.packets.iter().map(|p| Packet { at: Duration::ZERO, ..p.clone() }).collect();
    let due: Vec<u128> = Timetable::new(&at_once, 12_000).due.iter().map(|d| d.as_millis()).collect();
    assert_eq!(due, [0, 333, 666]);
}

#[test]
fn options_that_cannot_be_are_said_by_their_key() {
    use tandem_model::ToolOption;
    let file = |path: &str| ToolOptions::from([("file".to_owned(), ToolOption::Text(path.to_owned()))]);
    assert!(Pcap.check(&ToolOptions::new()).is_ok(), "it has packets of its own");
    let own = file_of(&ToolOptions::new(), (FROM, TO), 77).expect("packets");
    assert_eq!(own.packets.len(), 100);
    check_packet(&own.packets[99].bytes, &[0; 1372]);
    let why = Pcap.check(&file("/nowhere.pcap")).expect_err("no such file");
    assert!(why.key == "file" && why.problem.contains("/nowhere.pcap"), "{why}");
    assert!(Pcap.check(&file("/proc")).is_err(), "a folder is no file");
}

proptest! {
    /// Whatever is in a file: packets or an error, and what is said of a place is in the file.
    #[test]
    fn any_file_is_packets_or_an_error(
        next in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let frames = [udp(&payload), tcp(&payload), arp()];
        let mut file = if next { pcapng(&frames, DataLink::ETHERNET) } else { pcap(&frames, 50) };
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file.truncate(cut.index(file.len()) + 1);
        match packets(&file, FROM, TO, 77) {
            Ok(all) => for packet in all.packets {
                prop_assert!(packet.bytes.len() <= 1500);
                let ip = Ipv4HeaderSlice::from_slice(&packet.bytes).expect("an IPv4 header");
                prop_assert_eq!((ip.source_addr(), ip.destination_addr()), (FROM, TO));
                prop_assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
            },
            Err(
                FileError::Truncated { offset, .. }
                | FileError::Frame { offset, .. }
                | FileError::TooMany { offset },
            ) => prop_assert!(offset < file.len()),
            Err(FileError::Link { offset, .. }) => prop_assert!(offset <= file.len()),
            Err(FileError::Form(_) | FileError::Nothing { .. }) => {}
        }
    }
}
