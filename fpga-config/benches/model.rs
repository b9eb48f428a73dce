//! The card in memory: a packet through the last of 32 rows, through an exact entry among 10,000,
//! and a register read.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use tandem_fpga_config::codec::{Action, Exact, Field, Key, Mask, Pattern, Row};
use tandem_fpga_config::model::{CLEARING, Model};
use tandem_fpga_config::profile::builtin;
use tandem_fpga_config::registers::Registers;
use tandem_model::Time;

fn model(c: &mut Criterion) {
    let profile = builtin::named("openflow-switch").expect("a profile");
    let map = profile.flow_table.expect("a flow table");
    let mut card = Model::new(profile, Time::ZERO);
    let now = Time::ZERO + CLEARING;
    card.set_time(now);
    let mut frame =
        vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x03, 0xe8, 0x07, 0xd0, 0, 26, 0, 0]);
    frame.resize(64, 0);
    let key = Key::of_frame(&frame, 0);
    for row in 0..32 {
        let mut pattern = Pattern { key: Key::default(), mask: Mask::ANY };
        if row < 31 {
            // The row differs in the last word that is compared.
            pattern = pattern.with(Field::VLAN, 5, 0xfff);
        }
        Row { pattern, action: Action::to(1 << 2) }.commit(&map, row, &mut card).expect("committed");
    }
    c.bench_function("a packet through the last of 32 rows", |b| {
        b.iter(|| card.packet(0, black_box(&frame), now))
    });
    for n in 0..10_000 {
        let mut key = key;
        key.set(Field::TP_SRC, n + 2_000);
        let entry = Exact { key, action: Action::to(1 << 4) };
        entry.write(&map, entry.rows()[0], &mut card).expect("written");
    }
    let entry = Exact { key, action: Action::to(1 << 4) };
    entry.write(&map, entry.rows()[1], &mut card).expect("written");
    c.bench_function("a packet through an exact entry among 10,000", |b| {
        b.iter(|| card.packet(0, black_box(&frame), now));
    });
    c.bench_function("a register read", |b| b.iter(|| card.read32(black_box(0x60_001c)).expect("read")));
}

criterion_group!(benches, model);
criterion_main!(benches);
