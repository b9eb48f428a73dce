//! How long the hot messages take to read and write, both versions.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::Ipv4Addr;
use tandem_model::Mac;
use tandem_openflow::wire::{Bytes, Pad};
use tandem_openflow::{of10, of13};

const DATA: [u8; 128] = [0x5a; 128];

fn bytes10(message: &of10::Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(7, &mut out).expect("fits");
    out
}

fn bytes13(message: &of13::Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(7, &mut out).expect("fits");
    out
}

fn v10(c: &mut Criterion) {
    let packet_in = bytes10(&of10::Message::PacketIn(of10::PacketIn {
        buffer_id: u32::MAX,
        total_len: 128,
        in_port: 3,
        reason: 0,
        pad: Pad::default(),
        data: Bytes(DATA.to_vec()),
    }));
    c.bench_function("of10/packet_in/view", |b| b.iter(|| of10::PacketInView::new(black_box(&packet_in))));
    c.bench_function("of10/packet_in/decode", |b| b.iter(|| of10::Message::decode(black_box(&packet_in))));

    let actions = vec![
        of10::Action::SetDlDst(Mac([2; 6]), Pad::default()),
        of10::Action::Output { port: 4, max_len: 0 },
    ];
    let flow_mod = of10::Message::FlowMod(of10::FlowMod {
        matching: of10::Match { wildcards: 0, dl_type: 0x0800, ..of10::Match::any() },
        cookie: 1,
        command: of10::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 10,
        buffer_id: of10::flow::NO_BUFFER,
        out_port: of10::port::NONE,
        flags: 0,
        actions: actions.clone(),
    });
    let packet_out = of10::Message::PacketOut(of10::PacketOut {
        buffer_id: u32::MAX,
        in_port: of10::port::NONE,
        actions,
        data: Bytes(DATA.to_vec()),
    });
    let mut out = Vec::with_capacity(4096);
    for (name, message) in [("of10/flow_mod/encode", flow_mod), ("of10/packet_out/encode", packet_out)] {
        c.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&message).encode(7, black_box(&mut out))
            });
        });
    }
}

fn v13(c: &mut Criterion) {
    use of13::{Field, Masked};
    let packet_in = bytes13(&of13::Message::PacketIn(of13::PacketIn {
        buffer_id: u32::MAX,
        total_len: 128,
        reason: 0,
        table_id: 0,
        cookie: 9,
        matching: of13::Match { fields: vec![Field::InPort(3)] },
        pad: Pad::default(),
        data: Bytes(DATA.to_vec()),
    }));
    c.bench_function("of13/packet_in/view", |b| b.iter(|| of13::PacketInView::new(black_box(&packet_in))));
    c.bench_function("of13/packet_in/decode", |b| b.iter(|| of13::Message::decode(black_box(&packet_in))));

    let actions =
        vec![of13::Action::SetField(Field::EthDst(Masked::exact(Mac([2; 6])))), of13::Action::output(4)];
    let flow_mod = of13::Message::FlowMod(of13::FlowMod {
        cookie: 1,
        cookie_mask: 0,
        table_id: 0,
        command: of13::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 10,
        buffer_id: of13::flow::NO_BUFFER,
        out_port: of13::port::ANY,
        out_group: of13::group::ANY,
        flags: 0,
        pad: Pad::default(),
        matching: of13::Match {
            fields: vec![
                Field::InPort(3),
                Field::EthType(0x0800),
                Field::Ipv4Dst(Masked::exact(Ipv4Addr::new(10, 0, 0, 1))),
            ],
        },
        instructions: vec![of13::Instruction::ApplyActions(Pad::default(), actions.clone())],
    });
    let packet_out = of13::Message::PacketOut(of13::PacketOut {
        buffer_id: u32::MAX,
        in_port: of13::port::CONTROLLER,
        pad: Pad::default(),
        actions,
        data: Bytes(DATA.to_vec()),
    });
    let mut out = Vec::with_capacity(4096);
    for (name, message) in [("of13/flow_mod/encode", flow_mod), ("of13/packet_out/encode", packet_out)] {
        c.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&message).encode(7, black_box(&mut out))
            });
        });
    }
}

criterion_group!(benches, v10, v13);
criterion_main!(benches);
