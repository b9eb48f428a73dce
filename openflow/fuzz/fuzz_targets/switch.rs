//! Whatever two controllers and the network send to a switch, it keeps working: messages of both
//! versions behind a valid header, and packets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Port, Sink, Switch};

struct World;

impl Sink for World {
    fn transmit(&mut self, port: u32, _: u32, _: &[u8]) {
        assert!((1..=3).contains(&port));
    }
    fn send(&mut self, _: ConnId, mut bytes: &[u8]) {
        // The switch sends only whole messages that decode.
        while let Some((message, rest)) = tandem_openflow::framing::next(bytes).expect("framed") {
            tandem_openflow::AnyMessage::decode(message).expect("a good message");
            bytes = rest;
        }
        assert!(bytes.is_empty());
    }
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

fuzz_target!(|input: &[u8]| {
    let mut switch = Switch::new(Config { tables: 3, flows: 20, groups: 5, meters: 3, cache: 8, ..Config::default() });
    let (mut world, mut now) = (World, Time::ZERO);
    for number in 1..=3 {
        let (name, mac, queues) = (format!("p{number}"), [2, 0, 0, 0, 0, 1], Vec::new());
        switch.port(Port { number, name, mac, up: true, speed: None, config: 0, queues }, now, &mut world);
    }
    let conns = [1u8, 4].map(|version| {
        let conn = switch.connected(now, &mut world);
        let hello = [version, 0, 0, 8, 0, 0, 0, 1];
        switch.on_message(conn, &hello, now, &mut world).expect("a session");
        (version, conn)
    });
    // The input is cut into pieces: kind, length, bytes.
    let mut rest = input;
    while let [what, length, after @ ..] = rest {
        let (body, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        now = now + Duration::from_millis(10);
        let (version, conn) = conns[usize::from(what >> 7)];
        if what & 0x40 != 0 {
            switch.on_packet(u32::from(what & 3), &mut body.to_vec(), now, &mut world);
            if let Some(due) = switch.next_deadline() {
                switch.on_deadline(due.max(now).min(now + Duration::from_secs(1)), &mut world);
            }
        } else {
            let size = (body.len() + 8) as u16;
            let head = [version, what & 0x3f, (size >> 8) as u8, size as u8, 0, 0, 0, 2];
            let _ = switch.on_message(conn, &[&head[..], body].concat(), now, &mut world);
        }
    }
});
