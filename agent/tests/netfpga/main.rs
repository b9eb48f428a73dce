//! Switches with a card, in their agent: a modelled card in its memory (`model`), one behind a
//! socket that dies, hangs and loses its rows (`cosim`), one without CPU ports (`hardware`), and
//! one that hostile frames stop (`faults`). Packets come from namespaces that these tests create,
//! flows from a controller in the test.

mod cosim;
mod faults;
mod hardware;
mod host;
mod model;
mod peer;
#[path = "../support/mod.rs"]
mod support;
mod talk;

/// An LLDP-like frame of 60 bytes.
fn frame(n: u8) -> Vec<u8> {
    let mut frame = vec![1, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, n, 0x88, 0xcc];
    frame.resize(60, n);
    frame
}
