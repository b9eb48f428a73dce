//! `tandem-fpga`: looks into a card, loads it, tests it.

fn main() {}
