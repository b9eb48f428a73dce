//! The two possible rows of an exact entry, each the low 15 bits of a CRC over the key. The card
//! looks up both.

use super::key::Key;

/// The two polynomials, most significant bit first. The CRC is not reflected, starts at 0 and is
/// not inverted at the end.
pub const POLYNOMIALS: [u32; 2] = [0x04c1_1db7, 0x1edc_6f41];

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = (at as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            value = if value >> 31 == 1 { value << 1 ^ polynomial } else { value << 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

static TABLES: [[u32; 256]; 2] = [table(POLYNOMIALS[0]), table(POLYNOMIALS[1])];

/// The rows of a key, in the order of the card's look-up. The byte with the valid bit counts as
/// zero.
pub fn rows(key: &Key) -> [u16; 2] {
    let mut bytes = key.bytes();
    bytes[31] = 0;
    TABLES.each_ref().map(|table| {
        let crc = bytes.iter().fold(0u32, |crc, b| crc << 8 ^ table[usize::from((crc >> 24) as u8 ^ b)]);
        (crc & 0x7fff) as u16
    })
}
