//! Whatever bytes are a file of frames or not; what can be replayed of it are IPv4 packets that fit
//! Ethernet, between the addresses that were asked for, whose checksums are right.
#![no_main]

use etherparse::Ipv4HeaderSlice;
use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;
use tandem_lab::node::traffic::pcap::packets;

const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fuzz_target!(|file: &[u8]| {
    let Ok(all) = packets(file, FROM, TO, 77) else { return };
    for packet in all.packets {
        assert!(packet.bytes.len() <= 1500);
        let ip = Ipv4HeaderSlice::from_slice(&packet.bytes).expect("an IPv4 header");
        assert_eq!((ip.source_addr(), ip.destination_addr(), ip.ttl()), (FROM, TO, 77));
        assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
        assert_eq!(usize::from(ip.total_len()), packet.bytes.len());
    }
});
